//! GetObject and HeadObject.

use std::collections::BTreeMap;
use std::ops;

use http::header::{CONTENT_RANGE, ETAG, HeaderValue};
use muonic_ports::metastore::ObjectRecord;
use muonic_services::Buckets;
use s3s::dto::*;
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

use super::put::META;
use super::{other_version, owner, refuse, time};
use crate::access::caller;
use crate::body::to_s3s;
use crate::errors::{from_service, with_headers};

pub(super) async fn get(service: &Buckets, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
    let caller = caller(&req)?;
    let input = req.input;
    let sse_c = input.sse_customer_algorithm.is_some() || input.sse_customer_key.is_some();
    check_asked(input.version_id.as_ref(), input.part_number, sse_c, input.expected_bucket_owner.as_ref())?;
    let object = service.object(&caller, &input.bucket, &input.key).await.map_err(from_service)?;
    let object = object.ok_or_else(|| no_key(&input.key))?;
    let conditions = Conditions {
        if_match: input.if_match,
        if_none_match: input.if_none_match,
        if_modified_since: input.if_modified_since,
        if_unmodified_since: input.if_unmodified_since,
    };
    conditions.check(&object)?;
    let part = Part::of(&object, input.range)?;
    let body = service.read(&caller, &object, part.range.clone()).await.map_err(from_service)?;
    let wants_sums = input.checksum_mode.as_ref().is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED);
    let sums = part.sums(&object, wants_sums);
    let mut known = Known(object.headers);
    let mut output = GetObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        body: Some(to_s3s(body).into()),
        cache_control: known.take("cache-control"),
        checksum_crc32: sums.get("crc32"),
        checksum_crc32c: sums.get("crc32c"),
        checksum_crc64nvme: sums.get("crc64nvme"),
        checksum_sha1: sums.get("sha1"),
        checksum_sha256: sums.get("sha256"),
        checksum_type: sums.kind(),
        content_disposition: known.take("content-disposition"),
        content_encoding: known.take("content-encoding"),
        content_language: known.take("content-language"),
        content_length: Some(part.length()),
        content_range: part.content_range(),
        content_type: known.content_type(),
        e_tag: Some(ETag::Strong(object.etag)),
        expires: known.expires(),
        last_modified: Some(time(object.modified_at)),
        ..Default::default()
    };
    output.metadata = known.metadata();
    Ok(S3Response::new(output))
}

pub(super) async fn head(service: &Buckets, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
    let caller = caller(&req)?;
    let input = req.input;
    let sse_c = input.sse_customer_algorithm.is_some() || input.sse_customer_key.is_some();
    check_asked(input.version_id.as_ref(), input.part_number, sse_c, input.expected_bucket_owner.as_ref())?;
    let object = service.object(&caller, &input.bucket, &input.key).await.map_err(from_service)?;
    let object = object.ok_or_else(|| no_key(&input.key))?;
    let conditions = Conditions {
        if_match: input.if_match,
        if_none_match: input.if_none_match,
        if_modified_since: input.if_modified_since,
        if_unmodified_since: input.if_unmodified_since,
    };
    conditions.check(&object)?;
    let part = Part::of(&object, input.range)?;
    let wants_sums = input.checksum_mode.as_ref().is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED);
    let sums = part.sums(&object, wants_sums);
    let mut known = Known(object.headers);
    let mut output = HeadObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        cache_control: input.response_cache_control.or(known.take("cache-control")),
        checksum_crc32: sums.get("crc32"),
        checksum_crc32c: sums.get("crc32c"),
        checksum_crc64nvme: sums.get("crc64nvme"),
        checksum_sha1: sums.get("sha1"),
        checksum_sha256: sums.get("sha256"),
        checksum_type: sums.kind(),
        content_disposition: input.response_content_disposition.or(known.take("content-disposition")),
        content_encoding: input.response_content_encoding.or(known.take("content-encoding")),
        content_language: input.response_content_language.or(known.take("content-language")),
        content_length: Some(part.length()),
        content_range: part.content_range(),
        content_type: input.response_content_type.or(known.content_type()),
        e_tag: Some(ETag::Strong(object.etag)),
        expires: input.response_expires.or(known.expires()),
        last_modified: Some(time(object.modified_at)),
        ..Default::default()
    };
    output.metadata = known.metadata();
    Ok(S3Response::new(output))
}

fn check_asked(version: Option<&String>, part: Option<i32>, sse_c: bool, account: Option<&String>) -> S3Result<()> {
    refuse(&[
        other_version(version),
        (part.is_some(), "partNumber (reads of one part)"),
        (sse_c, "encryption with a key of the customer (SSE-C)"),
        owner(account),
    ])
}

fn no_key(key: &str) -> S3Error {
    let shown: String = key.chars().take(80).collect();
    s3_error!(NoSuchKey, "there is no object '{shown}'")
}

/// RFC 9110, section 13: in this order, times only where no tag is given.
struct Conditions {
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
    if_modified_since: Option<Timestamp>,
    if_unmodified_since: Option<Timestamp>,
}

impl Conditions {
    fn check(&self, object: &ObjectRecord) -> S3Result<()> {
        let etag = ETag::Strong(object.etag.clone());
        let changed = || self.changed_at(object);
        let failed = |header: &str| Err(s3_error!(PreconditionFailed, "{header} does not hold"));
        match (&self.if_match, &self.if_unmodified_since) {
            (Some(ETagCondition::Any), _) => {}
            (Some(ETagCondition::ETag(wanted)), _) if !wanted.strong_cmp(&etag) => return failed("If-Match"),
            (None, Some(since)) if changed() > *since => return failed("If-Unmodified-Since"),
            _ => {}
        }
        let is_same = match (&self.if_none_match, &self.if_modified_since) {
            (Some(ETagCondition::Any), _) => true,
            (Some(ETagCondition::ETag(had)), _) => had.weak_cmp(&etag),
            (None, Some(since)) => changed() <= *since,
            (None, None) => false,
        };
        if !is_same {
            return Ok(());
        }
        let unchanged = s3_error!(NotModified, "the object has not changed");
        Err(match HeaderValue::try_from(format!("\"{}\"", object.etag)) {
            Ok(etag) => with_headers(unchanged, [(ETAG, etag)]),
            Err(_) => unchanged,
        })
    }

    /// To the second, as HTTP says times.
    fn changed_at(&self, object: &ObjectRecord) -> Timestamp {
        let seconds = muonic_types::Timestamp::from_second(object.modified_at.as_second());
        time(seconds.unwrap_or(object.modified_at))
    }
}

/// The part of an object that is answered.
struct Part {
    size: u64,
    range: Option<ops::Range<u64>>,
}

impl Part {
    fn of(object: &ObjectRecord, asked: Option<Range>) -> S3Result<Self> {
        let size = object.size;
        let Some(asked) = asked else { return Ok(Self { size, range: None }) };
        match asked.check(size) {
            // The last bytes of an empty object are none: s3s lets that pass.
            Ok(range) if !range.is_empty() => Ok(Self { size, range: Some(range) }),
            _ => {
                let error = s3_error!(InvalidRange, "the object has {size} bytes, the range lies beyond them");
                Err(match HeaderValue::try_from(format!("bytes */{size}")) {
                    Ok(all) => with_headers(error, [(CONTENT_RANGE, all)]),
                    Err(_) => error,
                })
            }
        }
    }

    fn length(&self) -> i64 {
        let bytes = self.range.as_ref().map_or(self.size, |range| range.end - range.start);
        i64::try_from(bytes).unwrap_or(i64::MAX)
    }

    fn content_range(&self) -> Option<String> {
        self.range.as_ref().map(|range| format!("bytes {}-{}/{}", range.start, range.end - 1, self.size))
    }

    /// Sums are those of the whole.
    fn sums(&self, object: &ObjectRecord, wanted: bool) -> KnownSums {
        let is_sum = |name: &str| name.starts_with("x-amz-checksum-");
        let all = object.headers.iter().filter(|(name, _)| wanted && self.range.is_none() && is_sum(name));
        KnownSums(all.map(|(name, sum)| (name.clone(), sum.clone())).collect())
    }
}

struct KnownSums(BTreeMap<String, String>);

impl KnownSums {
    fn get(&self, name: &str) -> Option<String> {
        self.0.get(&format!("x-amz-checksum-{name}")).cloned()
    }

    fn kind(&self) -> Option<ChecksumType> {
        (!self.0.is_empty()).then(|| ChecksumType::from_static(ChecksumType::FULL_OBJECT))
    }
}

/// The headers an object was put with.
struct Known(BTreeMap<String, String>);

impl Known {
    fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    fn content_type(&mut self) -> Option<String> {
        Some(self.take("content-type").unwrap_or_else(|| "binary/octet-stream".to_owned()))
    }

    fn expires(&mut self) -> Option<Timestamp> {
        Timestamp::parse(TimestampFormat::HttpDate, &self.take("expires")?).ok()
    }

    fn metadata(self) -> Option<Metadata> {
        let pairs = self.0.into_iter();
        Some(pairs.filter_map(|(name, value)| Some((name.strip_prefix(META)?.to_owned(), value))).collect())
    }
}
