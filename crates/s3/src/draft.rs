//! What the headers of a request say about an object to be: of PutObject,
//! CopyObject, CreateMultipartUpload and the form of PostObject alike.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName};
use muonic_ports::object_store::{Algorithm, EtagMatch, Precondition, Retention, RetentionMode};
use muonic_services::buckets::{AclWanted, Draft};
use muonic_types::Timestamp;
use s3s::dto::ETagCondition;
use s3s::{S3Result, s3_error};

use crate::errors::not_implemented;
use crate::sse::encryption;

/// As in S3, for metadata and for content headers. A listing reads all of
/// them, a thousand objects at a time.
const METADATA_BYTES_MAX: usize = 2 << 10;
pub(crate) const META: &str = "x-amz-meta-";
const KEPT: [&str; 6] =
    ["cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires"];
const REDIRECT: &str = "x-amz-website-redirect-location";
/// What S3 asks of its storage classes can be had of one only.
const CLASS: &str = "STANDARD";

pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> S3Result<Option<&'a str>> {
    match headers.get(name) {
        None => Ok(None),
        Some(value) => match std::str::from_utf8(value.as_bytes()) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(s3_error!(InvalidArgument, "the header {name} is not text")),
        },
    }
}

/// All that is said about the object but the sums of its bytes.
pub(crate) fn draft(headers: &HeaderMap) -> S3Result<Draft> {
    if headers.contains_key("x-amz-write-offset-bytes") {
        return Err(not_implemented("x-amz-write-offset-bytes (appending to objects)"));
    }
    check_class(headers)?;
    let mut draft = Draft { encryption: encryption(headers)?, acl: acl_wanted(headers)?, ..Draft::default() };
    draft.new.headers = kept(headers)?;
    if let Some(tags) = text(headers, "x-amz-tagging")? {
        draft.new.tags = tags_of_header(tags)?;
    }
    draft.new.retention = retention(headers)?;
    draft.new.legal_hold = match text(headers, "x-amz-object-lock-legal-hold")? {
        None | Some("OFF") => false,
        Some("ON") => true,
        Some(_) => return Err(s3_error!(InvalidArgument, "x-amz-object-lock-legal-hold is ON or OFF")),
    };
    Ok(draft)
}

fn check_class(headers: &HeaderMap) -> S3Result<()> {
    match text(headers, "x-amz-storage-class")? {
        None | Some(CLASS) => Ok(()),
        Some(
            class @ ("REDUCED_REDUNDANCY"
            | "STANDARD_IA"
            | "ONEZONE_IA"
            | "INTELLIGENT_TIERING"
            | "GLACIER"
            | "DEEP_ARCHIVE"
            | "OUTPOSTS"
            | "GLACIER_IR"
            | "SNOW"
            | "EXPRESS_ONEZONE"),
        ) => Err(not_implemented(&format!("the storage class {class}; leave x-amz-storage-class out"))),
        Some(_) => Err(s3_error!(InvalidStorageClass, "the storage class is not one of S3's")),
    }
}

fn kept(headers: &HeaderMap) -> S3Result<BTreeMap<String, String>> {
    let mut kept = BTreeMap::new();
    for name in KEPT.into_iter().chain([REDIRECT]) {
        let Some(value) = text(headers, name)? else { continue };
        let value = if name == "content-encoding" { without_aws_chunked(value) } else { value.to_owned() };
        if !value.is_empty() {
            kept.insert(name.to_owned(), value);
        }
    }
    if kept.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > METADATA_BYTES_MAX {
        return Err(s3_error!(MetadataTooLarge, "content headers have at most 2 KiB together"));
    }
    let mut bytes = 0;
    for name in headers.keys() {
        let Some(short) = name.as_str().strip_prefix(META).filter(|short| !short.is_empty()) else { continue };
        let values: Vec<_> = headers.get_all(name).iter().map(|value| readable(value.as_bytes())).collect();
        let value = values.join(",");
        bytes += short.len() + value.len();
        kept.insert(name.as_str().to_owned(), value);
    }
    if bytes > METADATA_BYTES_MAX {
        return Err(s3_error!(MetadataTooLarge, "names and values of metadata have at most 2 KiB together"));
    }
    Ok(kept)
}

/// Text as UTF-8; what is not is taken as Latin-1, as HTTP once said.
fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    }
}

/// How the body travelled is not part of the object; all else is kept as sent.
fn without_aws_chunked(encoding: &str) -> String {
    if !encoding.to_ascii_lowercase().contains("aws-chunked") {
        return encoding.to_owned();
    }
    let kept = encoding.split(',').map(str::trim).filter(|e| !e.eq_ignore_ascii_case("aws-chunked"));
    kept.collect::<Vec<_>>().join(", ")
}

/// `a=1&b=2`; a value may be missing, a key not be there twice.
pub(crate) fn tags_of_header(text: &str) -> S3Result<BTreeMap<String, String>> {
    let mut tags = BTreeMap::new();
    for (key, value) in form_urlencoded::parse(text.as_bytes()) {
        if tags.insert(key.into_owned(), value.into_owned()).is_some() {
            return Err(s3_error!(InvalidTag, "x-amz-tagging has the same key twice"));
        }
    }
    Ok(tags)
}

/// The access list that a request asks for, for buckets too.
pub(crate) fn acl_wanted(headers: &HeaderMap) -> S3Result<AclWanted> {
    let mut acl = AclWanted { canned: text(headers, "x-amz-acl")?.map(str::to_owned), ..AclWanted::default() };
    for (name, permission) in [
        ("x-amz-grant-full-control", "FULL_CONTROL"),
        ("x-amz-grant-read", "READ"),
        ("x-amz-grant-read-acp", "READ_ACP"),
        ("x-amz-grant-write", "WRITE"),
        ("x-amz-grant-write-acp", "WRITE_ACP"),
    ] {
        if let Some(grantees) = text(headers, name)? {
            acl.grants.push((permission, grantees.to_owned()));
        }
    }
    Ok(acl)
}

fn retention(headers: &HeaderMap) -> S3Result<Option<Retention>> {
    let mode = text(headers, "x-amz-object-lock-mode")?;
    let until = text(headers, "x-amz-object-lock-retain-until-date")?;
    match (mode, until) {
        (None, None) => Ok(None),
        (Some(mode), Some(until)) => {
            let mode = match mode {
                "GOVERNANCE" => RetentionMode::Governance,
                "COMPLIANCE" => RetentionMode::Compliance,
                _ => return Err(s3_error!(InvalidArgument, "x-amz-object-lock-mode is GOVERNANCE or COMPLIANCE")),
            };
            let until: Result<Timestamp, _> = until.parse();
            let bad = |_| s3_error!(InvalidArgument, "x-amz-object-lock-retain-until-date is no date of ISO 8601");
            Ok(Some(Retention { mode, until: until.map_err(bad)? }))
        }
        _ => Err(s3_error!(
            InvalidArgument,
            "x-amz-object-lock-mode and x-amz-object-lock-retain-until-date come together"
        )),
    }
}

/// Whether a header that would change the object itself is there.
pub(crate) fn changes_more(headers: &HeaderMap) -> bool {
    headers.contains_key("x-amz-storage-class") || headers.contains_key(REDIRECT)
}

pub(crate) fn algorithm(headers: &HeaderMap, name: &str) -> S3Result<Option<Algorithm>> {
    let unknown = |()| s3_error!(InvalidRequest, "{name} is none of CRC32, CRC32C, CRC64NVME, SHA1 and SHA256");
    text(headers, name)?.map(|name| name.parse().map_err(unknown)).transpose()
}

/// `*`, one tag, or a list of them, with quotes or without. Whether a tag is
/// weak makes no difference: none of ours is.
pub(crate) fn etags(headers: &HeaderMap, name: &HeaderName) -> Option<EtagMatch> {
    let mut tags = Vec::new();
    for value in headers.get_all(name) {
        for tag in String::from_utf8_lossy(value.as_bytes()).split(',') {
            match tag.trim() {
                "*" => return Some(EtagMatch::Any),
                tag => tags.push(tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"').to_owned()),
            }
        }
    }
    if tags.is_empty() { None } else { Some(EtagMatch::Tags(tags)) }
}

pub(crate) fn etag_match(condition: ETagCondition) -> EtagMatch {
    match condition {
        ETagCondition::Any => EtagMatch::Any,
        ETagCondition::ETag(etag) => EtagMatch::Tags(vec![etag.into_value()]),
    }
}

pub(crate) fn precondition(if_match: Option<ETagCondition>, if_none_match: Option<ETagCondition>) -> Precondition {
    let (if_match, if_none_match) = (if_match.map(etag_match), if_none_match.map(etag_match));
    Precondition { if_match, if_none_match, ..Precondition::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(headers: &[(&'static str, &[u8])]) -> HeaderMap {
        let value = |value: &[u8]| http::HeaderValue::from_bytes(value).unwrap();
        HeaderMap::from_iter(headers.iter().map(|(name, v)| (name.parse().unwrap(), value(v))))
    }

    fn code(result: S3Result<Draft>) -> String {
        result.map_or_else(|e| e.code().as_str().to_owned(), |_| "ok".to_owned())
    }

    #[test]
    fn framing_is_not_kept() {
        for (sent, kept) in [
            ("aws-chunked", ""),
            ("gzip", "gzip"),
            ("gzip, aws-chunked", "gzip"),
            ("deflate,gzip", "deflate,gzip"),
            ("AWS-Chunked,br", "br"),
        ] {
            assert_eq!(without_aws_chunked(sent), kept);
        }
    }

    #[test]
    fn conditions_may_be_lists() {
        let tags = |value: &'static str| etags(&map(&[("if-match", value.as_bytes())]), &http::header::IF_MATCH);
        let some = |tags: &[&str]| Some(EtagMatch::Tags(tags.iter().map(|tag| (*tag).to_owned()).collect()));
        assert_eq!(tags("\"a\""), some(&["a"]));
        assert_eq!(tags("\"a\", W/\"b\",c"), some(&["a", "b", "c"]));
        assert_eq!(tags("\"a\", *"), Some(EtagMatch::Any));
        assert_eq!(etags(&HeaderMap::new(), &http::header::IF_MATCH), None);
    }

    #[test]
    fn metadata_is_kept_as_it_came() {
        let headers = map(&[
            ("x-amz-meta-a", "Grüße".as_bytes()),
            ("x-amz-meta-b", b"Hello World\xe9"),
            ("x-amz-meta-c", b""),
            ("x-amz-foo", b"x"),
            ("content-type", b"text/plain"),
        ]);
        let kept = draft(&headers).unwrap().new.headers;
        assert_eq!(kept["x-amz-meta-a"], "Grüße");
        assert_eq!(kept["x-amz-meta-b"], "Hello World\u{e9}");
        assert_eq!(kept["x-amz-meta-c"], "");
        assert_eq!(kept["content-type"], "text/plain");
        assert_eq!(kept.len(), 4);
        let long = vec![b'a'; METADATA_BYTES_MAX];
        assert_eq!(code(draft(&map(&[("x-amz-meta-a", &long)]))), "MetadataTooLarge");
        assert_eq!(code(draft(&map(&[("content-type", &long)]))), "MetadataTooLarge");
    }

    #[test]
    fn locks_and_tags_are_whole() {
        assert_eq!(tags_of_header("foo=bar&bar").unwrap()["bar"], "");
        assert!(tags_of_header("a=1&a=2").is_err());
        let mode = ("x-amz-object-lock-mode", b"GOVERNANCE".as_slice());
        let until = ("x-amz-object-lock-retain-until-date", b"2030-01-01T00:00:00Z".as_slice());
        assert!(draft(&map(&[mode, until])).unwrap().new.retention.is_some());
        assert_eq!(code(draft(&map(&[mode]))), "InvalidArgument");
        assert_eq!(code(draft(&map(&[("x-amz-object-lock-mode", b"governance"), until]))), "InvalidArgument");
        assert_eq!(code(draft(&map(&[("x-amz-object-lock-legal-hold", b"on")]))), "InvalidArgument");
        assert_eq!(code(draft(&map(&[("x-amz-storage-class", b"GLACIER")]))), "NotImplemented");
        assert_eq!(code(draft(&map(&[("x-amz-storage-class", b"FAST")]))), "InvalidStorageClass");
    }
}
