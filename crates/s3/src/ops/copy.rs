//! CopyObject and UploadPartCopy.

use std::ops;

use http::{HeaderMap, HeaderValue};
use muonic_services::Buckets;
use muonic_services::buckets::{Conditions, Copy, PartCopy, Source};
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::drafted;
use super::uploads::part_number;
use crate::dates::{from_dto, to_dto};
use crate::draft::{algorithm, changes_more, etag_match};
use crate::errors::{answer, not_implemented};
use crate::facts::{Head, split};
use crate::render::{checksum_type, set_encryption, set_sum, version, version_of};
use crate::sse::{SSE, customer_key, encryption};

const SOURCE_SSE: &str = "x-amz-copy-source-server-side-encryption";

macro_rules! source {
    ($head:expr, $input:ident) => {
        source(
            &$head,
            $input.copy_source,
            Conditions {
                if_match: $input.copy_source_if_match.map(etag_match),
                if_none_match: $input.copy_source_if_none_match.map(etag_match),
                if_modified_since: $input.copy_source_if_modified_since.as_ref().map(from_dto).transpose()?,
                if_unmodified_since: $input.copy_source_if_unmodified_since.as_ref().map(from_dto).transpose()?,
            },
        )?
    };
}

fn source(head: &Head, source: CopySource, conditions: Conditions) -> S3Result<Source> {
    let (bucket, key, version) = match source {
        CopySource::Bucket { bucket, key, version_id } => (bucket.into(), key.into(), version_id.map(Into::into)),
        CopySource::AccessPoint { .. } => return Err(not_implemented("access points as x-amz-copy-source")),
        CopySource::Outpost { .. } => return Err(not_implemented("outposts as x-amz-copy-source")),
    };
    Ok(Source {
        bucket,
        key,
        version: version_of(version),
        conditions,
        customer_key: customer_key(&head.headers, SOURCE_SSE)?.map(|sent| sent.key),
        expected_owner: head.text("x-amz-source-expected-bucket-owner").map(str::to_owned),
    })
}

fn replaces(directive: Option<&str>, header: &str) -> S3Result<bool> {
    match directive {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(_) => Err(s3_error!(InvalidArgument, "{header} is COPY or REPLACE")),
    }
}

pub(super) async fn object(
    service: &Buckets,
    req: S3Request<CopyObjectInput>,
) -> S3Result<S3Response<CopyObjectOutput>> {
    let (head, input, _) = split(req);
    let of = (input.bucket.as_str(), input.key.as_str());
    let mut draft = drafted(service, &head, of).await?;
    draft.new.algorithm = algorithm(&head.headers, "x-amz-checksum-algorithm")?;
    let metadata = input.metadata_directive.as_ref().map(MetadataDirective::as_str);
    let tagging = input.tagging_directive.as_ref().map(TaggingDirective::as_str);
    let copy = Copy {
        draft,
        replaces_headers: replaces(metadata, "x-amz-metadata-directive")?,
        replaces_tags: replaces(tagging, "x-amz-tagging-directive")?,
        changes_more: changes_more(&head.headers),
        condition: conditions_of(&head.headers)?,
        source: source!(head, input),
    };
    let (from, object) = service.copy_object(head.call(), of, copy).await.map_err(answer)?;
    let mut result = CopyObjectResult {
        e_tag: Some(ETag::Strong(object.etag)),
        last_modified: Some(to_dto(object.modified_at)),
        checksum_type: object.sum.as_ref().map(|(_, kind, _)| checksum_type(*kind)),
        ..Default::default()
    };
    set_sum!(result, object.sum.map(|(algorithm, _, value)| (algorithm, value)));
    let mut output = CopyObjectOutput {
        copy_object_result: Some(result),
        copy_source_version_id: version(from),
        version_id: version(object.version),
        ..Default::default()
    };
    set_encryption!(output, &object.encryption);
    Ok(S3Response::new(output))
}

/// s3s does not read these of a copy.
fn conditions_of(headers: &HeaderMap) -> S3Result<muonic_ports::object_store::Precondition> {
    let read = |name: &str| {
        let parse = |value: &HeaderValue| ETagCondition::parse_http_header(value.as_bytes());
        let bad = |_| s3_error!(InvalidArgument, "{name} is no ETag and not *");
        headers.get(name).map(parse).transpose().map_err(bad)
    };
    Ok(crate::draft::precondition(read("if-match")?, read("if-none-match")?))
}

pub(super) async fn part(
    service: &Buckets,
    req: S3Request<UploadPartCopyInput>,
) -> S3Result<S3Response<UploadPartCopyOutput>> {
    let (head, input, _) = split(req);
    // What else is said about encryption, the upload has said before.
    encryption(&head.headers)?;
    let copy = PartCopy {
        range: input.copy_source_range.as_deref().map(range).transpose()?,
        upload: input.upload_id,
        number: part_number(input.part_number)?,
        customer_key: customer_key(&head.headers, SSE)?.map(|sent| sent.key),
        source: source!(head, input),
    };
    let of = (input.bucket.as_str(), input.key.as_str());
    let (from, upload, part) = service.copy_part(head.call(), of, copy).await.map_err(answer)?;
    let mut result = CopyPartResult {
        e_tag: Some(ETag::Strong(part.etag)),
        last_modified: Some(to_dto(part.modified_at)),
        ..Default::default()
    };
    set_sum!(result, part.sum);
    let mut output = UploadPartCopyOutput {
        copy_part_result: Some(result),
        copy_source_version_id: version(from),
        ..Default::default()
    };
    set_encryption!(output, &upload.encryption);
    Ok(S3Response::new(output))
}

/// `bytes=first-last`, both of them, the last included.
fn range(text: &str) -> S3Result<ops::Range<u64>> {
    let read = || {
        let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
        let number = |text: &str| if text.bytes().all(|c| c.is_ascii_digit()) { text.parse().ok() } else { None };
        let (first, last): (u64, u64) = (number(first)?, number(last)?);
        (first <= last).then_some(first..last.checked_add(1)?)
    };
    read().ok_or_else(|| s3_error!(InvalidArgument, "x-amz-copy-source-range must be bytes=first-last"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_sources_have_both_ends() {
        assert_eq!(range("bytes=0-2").unwrap(), 0..3);
        for bad in
            ["0-2", "bytes=0", "bytes=hello-", "bytes=0-2,3-4", "bytes=-2", "bytes=2-", "bytes=3-2", "bytes=+1-2"]
        {
            assert!(range(bad).is_err(), "{bad}");
        }
        assert!(range(&format!("bytes=0-{}", u64::MAX)).is_err());
    }

    #[test]
    fn directives_are_known() {
        assert!(!replaces(None, "x").unwrap());
        assert!(replaces(Some("REPLACE"), "x").unwrap());
        assert!(replaces(Some("replace"), "x").is_err());
    }
}
