//! ListObjects, both versions. Keys come in byte order.

use data_encoding::BASE64URL_NOPAD;
use muonic_ports::metastore::{Listing, ObjectRecord};
use muonic_services::Buckets;
use muonic_services::buckets::{PAGE_MAX, Page};
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::{owner, refuse, time};
use crate::access::caller;
use crate::errors::from_service;

pub(super) async fn v1(service: &Buckets, req: S3Request<ListObjectsInput>) -> S3Result<S3Response<ListObjectsOutput>> {
    let caller = caller(&req)?;
    let input = req.input;
    refuse(&[owner(input.expected_bucket_owner.as_ref())])?;
    let encoder = Encoder::new(input.encoding_type.as_ref())?;
    let max = page_size(input.max_keys)?;
    let page = Page {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone(),
        after: input.marker.clone().filter(|marker| !marker.is_empty()),
        max,
    };
    let listing = service.objects(&caller, &input.bucket, &page).await.map_err(from_service)?;
    let Listing { objects, prefixes, next_after } = listing;
    Ok(S3Response::new(ListObjectsOutput {
        name: Some(input.bucket),
        prefix: Some(encoder.text(page.prefix)),
        marker: Some(encoder.text(input.marker.unwrap_or_default())),
        max_keys: Some(input.max_keys.unwrap_or(max as i32).min(max as i32)),
        is_truncated: Some(next_after.is_some()),
        contents: Some(objects.into_iter().map(|o| entry(o, &encoder, None)).collect()),
        common_prefixes: Some(encoder.prefixes(prefixes)),
        delimiter: input.delimiter.map(|d| encoder.text(d)),
        next_marker: next_after.map(|next| encoder.text(next)),
        encoding_type: input.encoding_type,
        ..Default::default()
    }))
}

pub(super) async fn v2(
    service: &Buckets,
    req: S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let caller = caller(&req)?;
    let input = req.input;
    refuse(&[owner(input.expected_bucket_owner.as_ref())])?;
    let encoder = Encoder::new(input.encoding_type.as_ref())?;
    let max = page_size(input.max_keys)?;
    let after = match &input.continuation_token {
        Some(token) => Some(after_token(token)?),
        None => input.start_after.clone().filter(|after| !after.is_empty()),
    };
    let page =
        Page { prefix: input.prefix.clone().unwrap_or_default(), delimiter: input.delimiter.clone(), after, max };
    let listing = service.objects(&caller, &input.bucket, &page).await.map_err(from_service)?;
    let Listing { objects, prefixes, next_after } = listing;
    let project = input.fetch_owner.unwrap_or_default().then(|| caller.project.to_string());
    let shown = Owner { id: project.clone(), display_name: project.clone() };
    let shown = project.is_some().then_some(&shown);
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(encoder.text(page.prefix)),
        max_keys: Some(max as i32),
        key_count: Some((objects.len() + prefixes.len()) as i32),
        continuation_token: input.continuation_token,
        is_truncated: Some(next_after.is_some()),
        next_continuation_token: next_after.map(|next| BASE64URL_NOPAD.encode(next.as_bytes())),
        contents: Some(objects.into_iter().map(|o| entry(o, &encoder, shown)).collect()),
        common_prefixes: Some(encoder.prefixes(prefixes)),
        delimiter: input.delimiter.map(|d| encoder.text(d)),
        encoding_type: input.encoding_type,
        start_after: input.start_after.map(|after| encoder.text(after)),
        ..Default::default()
    }))
}

fn page_size(max_keys: Option<i32>) -> S3Result<u32> {
    match max_keys.map(u32::try_from) {
        None => Ok(PAGE_MAX),
        Some(Ok(max)) => Ok(max.min(PAGE_MAX)),
        Some(Err(_)) => Err(s3_error!(InvalidArgument, "max-keys must not be negative")),
    }
}

fn after_token(token: &str) -> S3Result<String> {
    let key = BASE64URL_NOPAD.decode(token.as_bytes()).ok().and_then(|key| String::from_utf8(key).ok());
    key.ok_or_else(|| s3_error!(InvalidArgument, "the continuation token is not one of this server's"))
}

fn entry(object: ObjectRecord, encoder: &Encoder, owner: Option<&Owner>) -> Object {
    Object {
        e_tag: Some(ETag::Strong(object.etag)),
        key: Some(encoder.text(object.key)),
        last_modified: Some(time(object.modified_at)),
        owner: owner.cloned(),
        size: i64::try_from(object.size).ok(),
        storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
        ..Default::default()
    }
}

/// XML cannot carry every key: with `encoding-type=url` keys are escaped.
struct Encoder {
    is_url: bool,
}

impl Encoder {
    fn new(asked: Option<&EncodingType>) -> S3Result<Self> {
        match asked.map(EncodingType::as_str) {
            None => Ok(Self { is_url: false }),
            Some(EncodingType::URL) => Ok(Self { is_url: true }),
            Some(_) => Err(s3_error!(InvalidArgument, "encoding-type must be url")),
        }
    }

    fn text(&self, text: String) -> String {
        if !self.is_url {
            return text;
        }
        let mut escaped = String::with_capacity(text.len());
        for byte in text.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => escaped.push(byte.into()),
                _ => escaped.push_str(&format!("%{byte:02X}")),
            }
        }
        escaped
    }

    fn prefixes(&self, prefixes: Vec<String>) -> Vec<CommonPrefix> {
        prefixes.into_iter().map(|prefix| CommonPrefix { prefix: Some(self.text(prefix)) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn escaped_keys_are_plain_and_decode_to_the_same(key in ".*") {
            let escaped = Encoder { is_url: true }.text(key.clone());
            prop_assert!(escaped.bytes().all(|b| b.is_ascii_graphic()));
            let (decoded, _) = form_urlencoded::parse(escaped.as_bytes()).next().unwrap_or_default();
            prop_assert_eq!(decoded.into_owned(), key);
        }

        #[test]
        fn tokens_name_the_key_they_were_made_from(key in ".*", noise in ".*") {
            prop_assert_eq!(after_token(&BASE64URL_NOPAD.encode(key.as_bytes())).unwrap(), key);
            let _ = after_token(&noise);
        }
    }
}
