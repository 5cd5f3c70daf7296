//! PostObject: an upload from a form, which carries its own signature. The
//! fields come first and are bounded; not a byte of the file is read before
//! they have been checked.

use std::io;

use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use futures_util::stream;
use http::header::{ETAG, HeaderName, HeaderValue, LOCATION};
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};
use muonic_policy::form::FormPolicy;
use muonic_ports::object_store::{ByteStream, Error as StoreError, ObjectVersion, Origin, Precondition, Verify};
use muonic_services::buckets::Caller;
use muonic_types::Timestamp;
use ring::hmac;
use s3s::xml::{Deserialize, Deserializer};
use s3s::{Body, S3Error, S3Result, dto, s3_error};

use crate::access::Access;
use crate::body::Pieces;
use crate::draft::draft;
use crate::errors::{answer, custom};
use crate::facts::Head;
use crate::form::{Fields, Form};
use crate::sums::Declared;

/// S3's limit for one form.
const FILE_BYTES_MAX: u64 = 5 << 30;

/// Whether a request is a form upload, and to which bucket.
pub(crate) fn bucket(path: &str) -> S3Result<String> {
    let (bucket, key) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
    if bucket.is_empty() || !key.is_empty() {
        return Err(s3_error!(MethodNotAllowed, "a form is sent to a bucket: POST /BUCKET"));
    }
    Ok(bucket.to_owned())
}

pub(crate) async fn upload(
    access: &Access,
    parts: Parts,
    pieces: Pieces,
    boundary: &str,
    now: Timestamp,
) -> S3Result<Response<Body>> {
    let bucket = bucket(parts.uri.path())?;
    let mut form = Form::new(pieces, boundary);
    let mut fields = form.fields().await?;
    for (name, value) in &mut fields.all {
        if name.eq_ignore_ascii_case("key") {
            *value = value.replace("${filename}", &fields.file_name);
        }
    }
    let key = fields.get("key").filter(|key| !key.is_empty()).map(str::to_owned);
    let key = key.ok_or_else(|| s3_error!(InvalidArgument, "the form has no field 'key'"))?;
    let (caller, policy) = signed(access, &fields)?;
    // What cannot be known of the file yet is checked after its last byte.
    let range = policy.as_ref().map_or((0, FILE_BYTES_MAX), FormPolicy::length_range);
    let covered: Vec<_> = fields.all.iter().filter(|(name, _)| !is_sum(name)).cloned().collect();
    if let Some(policy) = &policy {
        policy.check(&bucket, &covered, range.0, now).map_err(|e| answer(e.into()))?;
    }
    let headers = headers(&fields)?;
    let declared = Declared::from_headers(&headers)?;
    let mut draft = draft(&headers)?;
    draft.new.origin = Origin::Post;
    draft.new.algorithm = declared.algorithm();
    draft.new.algorithms.extend(declared.algorithm());
    let verify: Verify = {
        let (verify, bucket) = (declared.verify(), bucket.clone());
        Box::new(move |sums| {
            if let Some(policy) = policy {
                let refused = |e: muonic_policy::Error| StoreError::Refused(Box::new(answer(e.into())));
                policy.check(&bucket, &covered, sums.size, now).map_err(refused)?;
            }
            verify(sums)
        })
    };
    let file = file(form, range.1.min(FILE_BYTES_MAX));
    let head = Head::new(caller, headers, parts.uri, parts.extensions.get().copied());
    let stored =
        access.buckets.put_object(head.call(), (&bucket, &key), draft, Precondition::default(), file, verify).await;
    rendered(&fields, &bucket, &key, &stored.map_err(answer)?.0)
}

fn is_sum(name: &str) -> bool {
    name.get(..15).is_some_and(|start| start.eq_ignore_ascii_case("x-amz-checksum-"))
}

/// Who has signed the form, and what it may hold; nobody is nobody.
fn signed(access: &Access, fields: &Fields) -> S3Result<(Caller, Option<FormPolicy>)> {
    let policy = fields.get("policy");
    let missing = |name: &str| s3_error!(InvalidArgument, "a signed form needs the field '{name}'");
    let need = |name: &str| fields.get(name).ok_or_else(|| missing(name));
    let principal = match (fields.get("x-amz-signature"), fields.get("signature")) {
        (None, None) if policy.is_none() => return Ok((Caller::Anonymous, None)),
        (None, None) => return Err(missing("x-amz-signature")),
        (Some(_), Some(_)) => return Err(s3_error!(InvalidArgument, "the form is signed twice")),
        (Some(signature), None) => {
            let policy = need("policy")?;
            if need("x-amz-algorithm")? != "AWS4-HMAC-SHA256" {
                return Err(s3_error!(InvalidArgument, "x-amz-algorithm must be AWS4-HMAC-SHA256"));
            }
            let scope: Vec<&str> = need("x-amz-credential")?.split('/').collect();
            let [id, date, region, "s3", "aws4_request"] = scope[..] else {
                return Err(s3_error!(InvalidArgument, "x-amz-credential must be KEY/DATE/REGION/s3/aws4_request"));
            };
            if !need("x-amz-date")?.starts_with(date) {
                return Err(s3_error!(AccessDenied, "x-amz-date and x-amz-credential name different days"));
            }
            let (principal, secret) = access.find(id)?;
            let mut key = format!("AWS4{secret}").into_bytes();
            for part in [date, region, "s3", "aws4_request"] {
                key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes()).as_ref().to_vec();
            }
            let signature = HEXLOWER_PERMISSIVE.decode(signature.as_bytes()).unwrap_or_default();
            check_signature(hmac::HMAC_SHA256, &key, policy, &signature)?;
            principal
        }
        (None, Some(signature)) => {
            let policy = need("policy")?;
            let (principal, secret) = access.find(need("awsaccesskeyid")?)?;
            let signature = BASE64.decode(signature.as_bytes()).unwrap_or_default();
            check_signature(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes(), policy, &signature)?;
            principal
        }
    };
    let policy = policy.map(FormPolicy::parse).transpose().map_err(|e| answer(e.into()))?;
    Ok((Caller::Key(principal), policy))
}

fn check_signature(algorithm: hmac::Algorithm, key: &[u8], policy: &str, signature: &[u8]) -> S3Result<()> {
    hmac::verify(&hmac::Key::new(algorithm, key), policy.as_bytes(), signature)
        .map_err(|_| s3_error!(SignatureDoesNotMatch, "the signature of the form does not match"))
}

/// The fields as the headers that PutObject would have.
pub(crate) fn headers(fields: &Fields) -> S3Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in &fields.all {
        let name = name.to_ascii_lowercase();
        let (name, value) = match name.as_str() {
            "acl" => ("x-amz-acl", value.clone()),
            "tagging" => ("x-amz-tagging", tags(value)?),
            "content-md5"
            | "content-type"
            | "content-encoding"
            | "content-disposition"
            | "content-language"
            | "cache-control"
            | "expires" => (name.as_str(), value.clone()),
            // These belong to the form's signature.
            "x-amz-signature" | "x-amz-credential" | "x-amz-algorithm" | "x-amz-date" => continue,
            name if name.starts_with("x-amz-") => (name, value.clone()),
            _ => continue,
        };
        let bad = || s3_error!(InvalidArgument, "the field '{name}' cannot stand in a header");
        let header = HeaderName::try_from(name).map_err(|_| bad())?;
        headers.insert(header, HeaderValue::from_bytes(value.as_bytes()).map_err(|_| bad())?);
    }
    Ok(headers)
}

/// The field `tagging` is XML.
fn tags(xml: &str) -> S3Result<String> {
    let bad = || s3_error!(MalformedXML, "the field 'tagging' is no Tagging document");
    let mut reader = Deserializer::new(xml.as_bytes());
    let tagging = dto::Tagging::deserialize(&mut reader).map_err(|_| bad())?;
    let mut text = form_urlencoded::Serializer::new(String::new());
    for tag in tagging.tag_set {
        text.append_pair(&tag.key.ok_or_else(bad)?, &tag.value.unwrap_or_default());
    }
    Ok(text.finish())
}

/// The file, ended in an error where it is longer than it may be.
fn file(form: Form, max: u64) -> ByteStream {
    Box::pin(stream::unfold(Some((form, 0_u64)), move |state| async move {
        let (mut form, mut size) = state?;
        let piece: S3Result<Option<Bytes>> = form.file().await;
        match piece {
            Ok(None) => None,
            Ok(Some(bytes)) => {
                size += bytes.len() as u64;
                if size > max {
                    let refused = s3_error!(EntityTooLarge, "the file has more than the {max} bytes that are allowed");
                    return Some((Err(io::Error::other(refused)), None));
                }
                Some((Ok(bytes), Some((form, size))))
            }
            Err(e) => Some((Err(io::Error::other(e)), None)),
        }
    }))
}

fn rendered(fields: &Fields, bucket: &str, key: &str, object: &ObjectVersion) -> S3Result<Response<Body>> {
    let redirect = fields.get("success_action_redirect").or_else(|| fields.get("redirect"));
    let mut response = Response::new(Body::empty());
    let path = format!("/{bucket}/{}", encoded(key));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let mut location = path.clone();
    match (redirect.filter(|url| !url.is_empty()), fields.get("success_action_status")) {
        (Some(url), _) => {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("bucket", bucket).append_pair("key", key);
            query.append_pair("etag", &format!("\"{}\"", object.etag));
            let join = if url.contains('?') { '&' } else { '?' };
            location = format!("{url}{join}{}", query.finish());
            *response.status_mut() = StatusCode::SEE_OTHER;
        }
        (None, Some("200")) => *response.status_mut() = StatusCode::OK,
        (None, Some("201")) => {
            *response.status_mut() = StatusCode::CREATED;
            let xml = format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<PostResponse><Location>{}</Location>\
                 <Bucket>{bucket}</Bucket><Key>{}</Key><ETag>&quot;{}&quot;</ETag></PostResponse>",
                escaped(&path),
                escaped(key),
                object.etag
            );
            response.headers_mut().insert("content-type", HeaderValue::from_static("application/xml"));
            *response.body_mut() = Body::from(xml);
        }
        (None, _) => {}
    }
    let bad = |_| custom("InvalidArgument", StatusCode::BAD_REQUEST, "the redirect cannot stand in a header");
    response.headers_mut().insert(LOCATION, HeaderValue::try_from(location).map_err(bad)?);
    if let Ok(etag) = HeaderValue::try_from(format!("\"{}\"", object.etag)) {
        response.headers_mut().insert(ETAG, etag);
    }
    if let Some(Ok(version)) = crate::render::version(object.version.clone()).map(HeaderValue::try_from) {
        response.headers_mut().insert("x-amz-version-id", version);
    }
    Ok(response)
}

fn encoded(key: &str) -> String {
    key.split('/')
        .map(|part| form_urlencoded::byte_serialize(part.as_bytes()).collect::<String>().replace('+', "%20"))
        .collect::<Vec<_>>()
        .join("/")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// An error of the stream that is one of S3's already.
pub(crate) fn refused(error: &(dyn std::error::Error + 'static)) -> Option<S3Error> {
    let refused = error.downcast_ref::<S3Error>()?;
    let mut copy = S3Error::with_message(refused.code().clone(), refused.message().unwrap_or_default().to_owned());
    if let Some(status) = refused.status_code() {
        copy.set_status_code(status);
    }
    Some(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_headers() {
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let xml = "<Tagging><TagSet><Tag><Key>a</Key><Value>1 2</Value></Tag></TagSet></Tagging>";
        let all = vec![
            field("Acl", "public-read"),
            field("Content-Type", "text/plain"),
            field("x-amz-meta-Foo", "bar"),
            field("tagging", xml),
            field("x-amz-date", "20260101T000000Z"),
            field("submit", "go"),
        ];
        let headers = headers(&Fields { all, ..Fields::default() }).unwrap();
        assert_eq!(headers.len(), 4);
        assert_eq!(headers["x-amz-acl"], "public-read");
        assert_eq!(headers["x-amz-meta-foo"], "bar");
        assert_eq!(headers["x-amz-tagging"], "a=1+2");
        assert!(tags("<Tagging>").is_err());
    }

    #[test]
    fn forms_go_to_buckets() {
        assert_eq!(bucket("/b").unwrap(), "b");
        assert_eq!(bucket("/b/").unwrap(), "b");
        assert!(bucket("/b/k").is_err());
        assert!(bucket("/").is_err());
        assert_eq!(encoded("a b/ü"), "a%20b/%C3%BC");
    }
}
