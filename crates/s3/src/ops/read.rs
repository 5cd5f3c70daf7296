//! GetObject and HeadObject: one way to find out what to answer, and two
//! short renderers.

use std::collections::BTreeMap;
use std::ops;

use http::header::{HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use muonic_ports::object_store::{Algorithm, ChecksumType as SumType, ObjectVersion};
use muonic_services::Buckets;
use muonic_services::buckets::{Caller, Conditions, Error, check_customer_key};
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use crate::body::to_s3s;
use crate::dates::{from_dto, to_dto};
use crate::draft::{META, etags};
use crate::errors::answer;
use crate::facts::{Head, split};
use crate::render::{checksum_type, expiration, retention_mode, set_encryption, set_sum, version, version_of};
use crate::sse::{SSE, SentKey, customer_key, refuse_encryption_of_reads};

/// What both operations ask for.
struct Asked {
    bucket: String,
    key: String,
    version: Option<String>,
    conditions: Conditions,
    range: Option<Range>,
    part: Option<i32>,
    sums: bool,
    replaced: Replaced,
}

/// Headers that the answer shall have in the place of the object's.
struct Replaced {
    cache_control: Option<String>,
    content_disposition: Option<String>,
    content_encoding: Option<String>,
    content_language: Option<String>,
    content_type: Option<String>,
    expires: Option<Timestamp>,
}

macro_rules! asked {
    ($head:ident, $input:ident) => {
        Asked {
            conditions: Conditions {
                if_match: etags(&$head.headers, &IF_MATCH),
                if_none_match: etags(&$head.headers, &IF_NONE_MATCH),
                if_modified_since: $input.if_modified_since.as_ref().map(from_dto).transpose()?,
                if_unmodified_since: $input.if_unmodified_since.as_ref().map(from_dto).transpose()?,
            },
            range: $input.range,
            part: $input.part_number,
            sums: $input.checksum_mode.is_some_and(|mode| mode.as_str().eq_ignore_ascii_case("enabled")),
            replaced: Replaced {
                cache_control: $input.response_cache_control,
                content_disposition: $input.response_content_disposition,
                content_encoding: $input.response_content_encoding,
                content_language: $input.response_content_language,
                content_type: $input.response_content_type,
                expires: $input.response_expires,
            },
            bucket: $input.bucket,
            key: $input.key,
            version: $input.version_id,
        }
    };
}

/// The fields that both outputs have.
macro_rules! rendered {
    ($output:ident, $answer:ident) => {{
        let Answer { object, sum, replaced, expiration, .. } = $answer;
        $output.expiration = expiration;
        set_encryption!($output, &object.encryption);
        $output.checksum_type = sum.as_ref().map(|(_, kind, _)| checksum_type(*kind));
        set_sum!($output, sum.map(|(algorithm, _, value)| (algorithm, value)));
        let mut known = Known(object.headers);
        $output.cache_control = replaced.cache_control.or_else(|| known.take("cache-control"));
        $output.content_disposition = replaced.content_disposition.or_else(|| known.take("content-disposition"));
        $output.content_encoding = replaced.content_encoding.or_else(|| known.take("content-encoding"));
        $output.content_language = replaced.content_language.or_else(|| known.take("content-language"));
        $output.content_type = replaced.content_type.or_else(|| Some(known.content_type()));
        $output.expires = replaced.expires.or_else(|| known.expires());
        $output.website_redirect_location = known.take("x-amz-website-redirect-location");
        $output.metadata = known.metadata();
        $output.accept_ranges = Some("bytes".to_owned());
        $output.e_tag = Some(ETag::Strong(object.etag));
        $output.last_modified = Some(to_dto(object.modified_at));
        $output.version_id = version(object.version);
        if let Some(retention) = object.retention {
            $output.object_lock_mode = Some(retention_mode(retention.mode).to_owned().into());
            $output.object_lock_retain_until_date = Some(to_dto(retention.until));
        }
        $output.object_lock_legal_hold_status = object.legal_hold.then(|| "ON".to_owned().into());
    }};
}

/// What is answered.
struct Answer {
    object: ObjectVersion,
    range: Option<ops::Range<u64>>,
    sum: Option<(Algorithm, SumType, String)>,
    customer_key: Option<SentKey>,
    parts_count: Option<i32>,
    tag_count: Option<i32>,
    expiration: Option<String>,
    replaced: Replaced,
}

pub(super) async fn get(service: &Buckets, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
    let (head, input, _) = split(req);
    let answered = find(service, &head, asked!(head, input)).await?;
    let body = service
        .read(&answered.object, answered.range.clone(), answered.customer_key.as_ref().map(|sent| &sent.key))
        .await;
    let body = to_s3s(body.map_err(answer)?);
    let mut output = GetObjectOutput {
        body: Some(body.into()),
        content_length: Some(answered.length()),
        content_range: answered.content_range(),
        parts_count: answered.parts_count,
        tag_count: answered.tag_count,
        ..Default::default()
    };
    rendered!(output, answered);
    Ok(S3Response::new(output))
}

pub(super) async fn head(service: &Buckets, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
    let (head, input, _) = split(req);
    let answered = find(service, &head, asked!(head, input)).await?;
    // The store compares it where it reads; HEAD reads nothing.
    let md5 = answered.customer_key.as_ref().map(|sent| sent.md5.as_str());
    check_customer_key(&answered.object.encryption, md5).map_err(answer)?;
    let mut headers = HeaderMap::new();
    if let Some(count) = answered.tag_count {
        headers.insert("x-amz-tagging-count", HeaderValue::from(count));
    }
    let mut output = HeadObjectOutput {
        content_length: Some(answered.length()),
        content_range: answered.content_range(),
        parts_count: answered.parts_count,
        ..Default::default()
    };
    rendered!(output, answered);
    Ok(S3Response::with_headers(output, headers))
}

async fn find(service: &Buckets, head: &Head, asked: Asked) -> S3Result<Answer> {
    refuse_encryption_of_reads(&head.headers)?;
    asked.replaced.check(&head.caller)?;
    let customer_key = customer_key(&head.headers, SSE)?;
    let of = (asked.bucket.as_str(), asked.key.as_str());
    let version = version_of(asked.version);
    let (object, expiry) =
        service.object(head.call(), of, version.as_ref(), &asked.conditions).await.map_err(answer)?;
    let (mut range, mut part) = (None, None);
    match (asked.part, asked.range) {
        (Some(_), Some(_)) => {
            return Err(s3_error!(InvalidRequest, "a request has a Range or a partNumber, not both"));
        }
        (Some(number), None) => {
            let number = u16::try_from(number).ok().filter(|n| (1..=10_000).contains(n));
            let number = number.ok_or_else(|| s3_error!(InvalidArgument, "partNumber must be from 1 to 10,000"))?;
            let (of_part, found) = service.part(&object, number).await.map_err(answer)?;
            // An empty object has no range, and its first part is all of it.
            range = Some(of_part).filter(|range| !range.is_empty());
            part = found;
        }
        (None, Some(asked)) => match asked.check(object.size) {
            // The last bytes of an empty object are none: s3s lets that pass.
            Ok(found) if !found.is_empty() => range = Some(found),
            _ => return Err(answer(Error::Range { size: object.size })),
        },
        (None, None) => {}
    }
    let sum = match (&object.sum, part) {
        _ if !asked.sums => None,
        // Of a part, its own sum; of any other range there is none.
        (Some((_, kind, _)), Some(part)) => part.sum.map(|(algorithm, sum)| (algorithm, *kind, sum)),
        (sum, None) if asked.range.is_none() => sum.clone(),
        _ => None,
    };
    let parts_count = asked.part.and(Some(i32::from(object.parts)).filter(|count| *count > 0));
    let tag_count = i32::try_from(object.tags.len()).ok().filter(|count| *count > 0);
    let expiration = expiration(expiry);
    Ok(Answer { object, range, sum, customer_key, parts_count, tag_count, expiration, replaced: asked.replaced })
}

impl Replaced {
    fn check(&self, caller: &Caller) -> S3Result<()> {
        let asked = self.cache_control.is_some()
            || self.content_disposition.is_some()
            || self.content_encoding.is_some()
            || self.content_language.is_some()
            || self.content_type.is_some()
            || self.expires.is_some();
        if asked && *caller == Caller::Anonymous {
            return Err(s3_error!(InvalidRequest, "response- parameters are for requests that are signed"));
        }
        Ok(())
    }
}

impl Answer {
    fn length(&self) -> i64 {
        let bytes = self.range.as_ref().map_or(self.object.size, |range| range.end - range.start);
        i64::try_from(bytes).unwrap_or(i64::MAX)
    }

    fn content_range(&self) -> Option<String> {
        self.range.as_ref().map(|range| format!("bytes {}-{}/{}", range.start, range.end - 1, self.object.size))
    }
}

/// The headers an object was put with.
struct Known(BTreeMap<String, String>);

impl Known {
    fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    fn content_type(&mut self) -> String {
        self.take("content-type").unwrap_or_else(|| "binary/octet-stream".to_owned())
    }

    fn expires(&mut self) -> Option<Timestamp> {
        Timestamp::parse(TimestampFormat::HttpDate, &self.take("expires")?).ok()
    }

    fn metadata(self) -> Option<Metadata> {
        let pairs = self.0.into_iter();
        Some(pairs.filter_map(|(name, value)| Some((name.strip_prefix(META)?.to_owned(), value))).collect())
    }
}
