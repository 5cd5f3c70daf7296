//! PutObject.

use std::collections::BTreeMap;

use muonic_services::Buckets;
use muonic_services::buckets::{NewObject, Sums};
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::{owner, refuse};
use crate::access::caller;
use crate::errors::from_service;
use crate::sums::{Declared, verified};

/// S3's limit for one put; larger objects go in parts.
const OBJECT_BYTES_MAX: u64 = 5 << 30;
/// As in S3, for metadata and for content headers. A listing reads all of
/// them, a thousand objects at a time.
const METADATA_BYTES_MAX: usize = 2 << 10;
pub(super) const META: &str = "x-amz-meta-";

pub(super) async fn put(service: &Buckets, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
    let caller = caller(&req)?;
    check_asked(&req.input)?;
    let declared = Declared::from_headers(&req.headers)?.trailer(req.trailing_headers);
    let input = req.input;
    let headers = kept_headers(&input)?;
    let length = match input.content_length.map(u64::try_from) {
        Some(Ok(length)) if length <= OBJECT_BYTES_MAX => length,
        Some(Ok(_)) => return Err(s3_error!(EntityTooLarge, "one put takes at most 5 GiB")),
        _ => return Err(s3_error!(MissingContentLength, "the request must say its Content-Length")),
    };
    let body = input.body.unwrap_or_else(|| s3s::Body::empty().into());
    let (body, verdict) = verified(body, declared.length(length));
    let new = NewObject { bucket: input.bucket, key: input.key, headers };
    let sums = {
        let verdict = verdict.clone();
        move || {
            // Asked only after the body has ended well, so it is there.
            let found = verdict.take().and_then(Result::ok).unwrap_or_default();
            Sums { etag: found.etag, headers: found.sums.into_iter().collect() }
        }
    };
    let object = service.put_object(&caller, new, body, sums).await.map_err(|e| match verdict.take() {
        // What was wrong with the body is known here better than in the store.
        Some(Err(refused)) => refused,
        _ => from_service(e),
    })?;
    let sum = |name: &str| object.headers.get(&format!("x-amz-checksum-{name}")).cloned();
    let output = PutObjectOutput {
        e_tag: Some(ETag::Strong(object.etag.clone())),
        checksum_crc32: sum("crc32"),
        checksum_crc32c: sum("crc32c"),
        checksum_crc64nvme: sum("crc64nvme"),
        checksum_sha1: sum("sha1"),
        checksum_sha256: sum("sha256"),
        ..Default::default()
    };
    Ok(S3Response::new(output))
}

/// What S3 would act on and this door does not.
fn check_asked(input: &PutObjectInput) -> S3Result<()> {
    let acl = input.acl.as_ref().is_some_and(|acl| acl.as_str() != ObjectCannedACL::PRIVATE);
    let grants = [&input.grant_full_control, &input.grant_read, &input.grant_read_acp, &input.grant_write_acp];
    let sse_c = input.sse_customer_algorithm.is_some()
        || input.sse_customer_key.is_some()
        || input.sse_customer_key_md5.is_some();
    let kms = input.ssekms_key_id.is_some() || input.ssekms_encryption_context.is_some();
    let lock = input.object_lock_mode.is_some()
        || input.object_lock_retain_until_date.is_some()
        || input.object_lock_legal_hold_status.is_some();
    let class = input.storage_class.as_ref().is_some_and(|class| class.as_str() != StorageClass::STANDARD);
    refuse(&[
        (acl, "x-amz-acl other than private"),
        (grants.iter().any(|grant| grant.is_some()), "x-amz-grant- headers"),
        (sse_c, "encryption with a key of the customer (SSE-C)"),
        (input.server_side_encryption.is_some() || kms, "x-amz-server-side-encryption"),
        (input.bucket_key_enabled == Some(true), "x-amz-server-side-encryption-bucket-key-enabled"),
        (lock, "object lock (retention and legal hold)"),
        (class, "x-amz-storage-class other than STANDARD"),
        (input.tagging.is_some(), "x-amz-tagging"),
        (input.website_redirect_location.is_some(), "x-amz-website-redirect-location"),
        (input.write_offset_bytes.is_some(), "x-amz-write-offset-bytes"),
        (input.if_none_match.is_some(), "If-None-Match on PutObject"),
        (input.if_match.is_some(), "If-Match on PutObject"),
        owner(input.expected_bucket_owner.as_ref()),
    ])
}

fn kept_headers(input: &PutObjectInput) -> S3Result<BTreeMap<String, String>> {
    let mut kept = BTreeMap::new();
    let mut keep = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            kept.insert(name.to_owned(), value);
        }
    };
    keep("cache-control", input.cache_control.clone());
    keep("content-disposition", input.content_disposition.clone());
    keep("content-encoding", input.content_encoding.as_deref().map(without_aws_chunked));
    keep("content-language", input.content_language.clone());
    keep("content-type", input.content_type.clone());
    if let Some(expires) = &input.expires {
        let mut text = Vec::new();
        let formatted = expires.format(TimestampFormat::HttpDate, &mut text);
        formatted.map_err(|_| s3_error!(InvalidArgument, "Expires is not a date"))?;
        keep("expires", String::from_utf8(text).ok());
    }
    if kept.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > METADATA_BYTES_MAX {
        return Err(s3_error!(MetadataTooLarge, "content headers have at most 2 KiB together"));
    }
    let metadata = input.metadata.iter().flatten();
    if metadata.clone().map(|(name, value)| name.len() + value.len()).sum::<usize>() > METADATA_BYTES_MAX {
        return Err(s3_error!(MetadataTooLarge, "names and values of metadata have at most 2 KiB together"));
    }
    for (name, value) in metadata {
        kept.insert(format!("{META}{name}"), value.clone());
    }
    Ok(kept)
}

/// How the body travelled is not part of the object.
fn without_aws_chunked(encoding: &str) -> String {
    let kept = encoding.split(',').map(str::trim).filter(|e| !e.eq_ignore_ascii_case("aws-chunked"));
    kept.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::without_aws_chunked;

    #[test]
    fn framing_is_not_kept() {
        for (sent, kept) in
            [("aws-chunked", ""), ("gzip", "gzip"), ("gzip, aws-chunked", "gzip"), ("AWS-Chunked,br", "br")]
        {
            assert_eq!(without_aws_chunked(sent), kept);
        }
    }
}
