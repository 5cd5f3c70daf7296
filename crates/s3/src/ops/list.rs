//! ListObjects, both versions. Keys come in byte order.

use data_encoding::BASE64URL_NOPAD;
use muonic_ports::object_store::{After, ListQuery, Listing, ObjectVersion};
use muonic_services::Buckets;
use muonic_services::buckets::PAGE_MAX;
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use crate::dates::to_dto;
use crate::errors::answer;
use crate::facts::split;
use crate::render::{Owners, checksum_algorithm, checksum_type};

pub(super) async fn v1(service: &Buckets, req: S3Request<ListObjectsInput>) -> S3Result<S3Response<ListObjectsOutput>> {
    let (head, input, _) = split(req);
    let encoder = Encoder::new(input.encoding_type.as_ref())?;
    let max = page_size(input.max_keys)?;
    let query = ListQuery {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone(),
        after: after(input.marker.clone()),
        max,
        versions: false,
    };
    let Listing { objects, prefixes, next } =
        service.objects(head.call(), &input.bucket, query).await.map_err(answer)?;
    let is_truncated = Some(next.is_some());
    let delimiter = input.delimiter.filter(|delimiter| !delimiter.is_empty());
    // S3 says it only where the client could not tell it from the last key.
    let next_marker = next.and_then(key_of).filter(|_| delimiter.is_some());
    let mut owners = Owners::default();
    Ok(S3Response::new(ListObjectsOutput {
        name: Some(input.bucket),
        prefix: Some(encoder.lightly(input.prefix.unwrap_or_default())),
        marker: Some(encoder.text(input.marker.unwrap_or_default())),
        max_keys: Some(max as i32),
        is_truncated,
        contents: Some(objects.into_iter().map(|o| entry(o, &encoder, Some(&mut owners))).collect()),
        common_prefixes: Some(encoder.prefixes(prefixes)),
        delimiter: delimiter.map(|d| encoder.text(d)),
        next_marker: next_marker.map(|next| encoder.text(next)),
        encoding_type: input.encoding_type,
        ..Default::default()
    }))
}

pub(super) async fn v2(
    service: &Buckets,
    req: S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let (head, input, _) = split(req);
    let encoder = Encoder::new(input.encoding_type.as_ref())?;
    let max = page_size(input.max_keys)?;
    let after = match input.continuation_token.as_deref().filter(|token| !token.is_empty()) {
        Some(token) => after(Some(of_token(token)?)),
        None => after(input.start_after.clone()),
    };
    let query = ListQuery {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone(),
        after,
        max,
        versions: false,
    };
    let Listing { objects, prefixes, next } =
        service.objects(head.call(), &input.bucket, query).await.map_err(answer)?;
    let is_truncated = Some(next.is_some());
    let next = next.and_then(key_of);
    let mut owners = Owners::default();
    let mut shown = input.fetch_owner.unwrap_or_default().then_some(&mut owners);
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(encoder.text(input.prefix.unwrap_or_default())),
        max_keys: Some(max as i32),
        key_count: i32::try_from(objects.len() + prefixes.len()).ok(),
        continuation_token: input.continuation_token,
        is_truncated,
        next_continuation_token: next.map(|next| BASE64URL_NOPAD.encode(next.as_bytes())),
        contents: Some(objects.into_iter().map(|o| entry(o, &encoder, shown.as_deref_mut())).collect()),
        common_prefixes: Some(encoder.prefixes(prefixes)),
        delimiter: input.delimiter.filter(|d| !d.is_empty()).map(|d| encoder.text(d)),
        encoding_type: input.encoding_type,
        start_after: input.start_after.map(|after| encoder.text(after)),
        ..Default::default()
    }))
}

pub(super) fn page_size(max: Option<i32>) -> S3Result<u32> {
    match max.map(u32::try_from) {
        None => Ok(PAGE_MAX),
        Some(Ok(max)) => Ok(max.min(PAGE_MAX)),
        Some(Err(_)) => Err(s3_error!(InvalidArgument, "the size of a page must not be negative")),
    }
}

pub(super) fn after(key: Option<String>) -> After {
    key.filter(|key| !key.is_empty()).map_or(After::Start, After::Key)
}

fn key_of(after: After) -> Option<String> {
    match after {
        After::Start => None,
        After::Key(key) | After::Version(key, _) => Some(key),
    }
}

fn of_token(token: &str) -> S3Result<String> {
    let key = BASE64URL_NOPAD.decode(token.as_bytes()).ok().and_then(|key| String::from_utf8(key).ok());
    key.ok_or_else(|| s3_error!(InvalidArgument, "the continuation token is not one of this server's"))
}

fn entry(object: ObjectVersion, encoder: &Encoder, owners: Option<&mut Owners>) -> Object {
    Object {
        checksum_algorithm: object.sum.as_ref().map(|(algorithm, ..)| vec![checksum_algorithm(*algorithm)]),
        checksum_type: object.sum.as_ref().map(|(_, kind, _)| checksum_type(*kind)),
        e_tag: Some(ETag::Strong(object.etag)),
        key: Some(encoder.text(object.key)),
        last_modified: Some(to_dto(object.modified_at)),
        owner: owners.map(|owners| owners.of(&object.owner)),
        size: i64::try_from(object.size).ok(),
        storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
        ..Default::default()
    }
}

/// XML cannot carry every key: with `encoding-type=url` keys are escaped.
pub(super) struct Encoder {
    is_url: bool,
}

impl Encoder {
    pub(super) fn new(asked: Option<&EncodingType>) -> S3Result<Self> {
        match asked.map(EncodingType::as_str) {
            None => Ok(Self { is_url: false }),
            Some(EncodingType::URL) => Ok(Self { is_url: true }),
            Some(_) => Err(s3_error!(InvalidArgument, "encoding-type must be url")),
        }
    }

    pub(super) fn text(&self, text: String) -> String {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/');
        self.escaped(text, is_plain)
    }

    /// Of the prefix of ListObjects: some clients decode it and some do not, so
    /// what reads the same either way stays as it is.
    fn lightly(&self, text: String) -> String {
        self.escaped(text, |byte| (byte >= b' ' || byte == b'\n') && !matches!(byte, b'%' | b'+' | 0x7f))
    }

    fn escaped(&self, text: String, is_plain: impl Fn(u8) -> bool) -> String {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        if !self.is_url || text.bytes().all(&is_plain) {
            return text;
        }
        let mut escaped = String::with_capacity(text.len() + 16);
        for c in text.chars() {
            let mut bytes = [0; 4];
            let bytes = c.encode_utf8(&mut bytes).as_bytes();
            if bytes.iter().all(|byte| is_plain(*byte)) {
                escaped.push(c);
                continue;
            }
            for byte in bytes {
                escaped.push('%');
                escaped.push(HEX[usize::from(byte >> 4)].into());
                escaped.push(HEX[usize::from(byte & 15)].into());
            }
        }
        escaped
    }

    pub(super) fn prefixes(&self, prefixes: Vec<String>) -> Vec<CommonPrefix> {
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
            prop_assert_eq!(decoded.into_owned(), key.clone());
            let lightly = Encoder { is_url: true }.lightly(key.replace(['&', '='], ""));
            let (decoded, _) = form_urlencoded::parse(lightly.as_bytes()).next().unwrap_or_default();
            prop_assert_eq!(decoded.into_owned(), key.replace(['&', '='], ""));
        }

        #[test]
        fn tokens_name_the_key_they_were_made_from(key in ".*", noise in ".*") {
            prop_assert_eq!(of_token(&BASE64URL_NOPAD.encode(key.as_bytes())).unwrap(), key);
            let _ = of_token(&noise);
        }
    }
}
