//! What is refused before anything of a request is parsed further: ways to
//! sign that are unknown, stale or never end, and headers that would count
//! without being signed.

use std::borrow::Cow;

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use s3s::{S3Error, S3Result, s3_error};

use crate::dates::parse_http_date;
use crate::errors::{custom, not_implemented};

/// Presigned URLs end within a week, as in S3.
const PRESIGNED_SECONDS_MAX: i64 = 7 * 24 * 3600;
const SKEW_SECONDS_MAX: i64 = 15 * 60;

pub(crate) fn screen(parts: &Parts, now: Timestamp) -> S3Result<()> {
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let header = match parts.headers.get_all(AUTHORIZATION).iter().collect::<Vec<_>>()[..] {
        [] => None,
        [one] => Some(one.to_str().map_err(|_| malformed("the Authorization header is not text"))?),
        _ => return Err(malformed("there is more than one Authorization header")),
    };
    match (header, query.signature()?) {
        (Some(_), Some(_)) => Err(malformed("the request is signed twice, in a header and in its query")),
        (Some(header), None) => match header.strip_prefix("AWS4-HMAC-SHA256") {
            Some(fields) => check_header(fields, &parts.headers),
            None if header.starts_with("AWS ") => check_v2_header(&parts.headers, now),
            None => Err(malformed("this way to sign is not supported; use AWS4-HMAC-SHA256 (signature version 4)")),
        },
        (None, Some(Presigned::V4)) => check_v4(&query, &parts.headers),
        (None, Some(Presigned::V2)) => {
            check_v2(&query, now)?;
            refuse_framing(&parts.headers)
        }
        // Whether a request without a signature may do what it wants, the
        // owner of the bucket says.
        (None, None) => refuse_framing(&parts.headers),
    }
}

/// Frames are taken off only where the signature of version 4 announces them.
fn refuse_framing(headers: &HeaderMap) -> S3Result<()> {
    match headers.get("x-amz-content-sha256") {
        Some(value) if value.as_bytes().starts_with(b"STREAMING-") => {
            Err(not_implemented("aws-chunked bodies of requests without a signature of version 4 in a header"))
        }
        _ => Ok(()),
    }
}

/// Version 2 covers all `x-amz-` headers by itself; s3s does not look at its date.
fn check_v2_header(headers: &HeaderMap, now: Timestamp) -> S3Result<()> {
    let date = headers.get("x-amz-date").or_else(|| headers.get("date")).and_then(|date| date.to_str().ok());
    let date = date.and_then(parse_http_date).filter(|date| date.as_second() >= 0);
    let date = date.ok_or_else(|| s3_error!(AccessDenied, "a signature of version 2 needs a Date or x-amz-date"))?;
    if (now.as_second() - date.as_second()).abs() > SKEW_SECONDS_MAX {
        return Err(s3_error!(RequestTimeTooSkewed, "the request's date is more than 15 minutes from the server's"));
    }
    refuse_framing(headers)
}

fn malformed(what: &str) -> S3Error {
    s3_error!(InvalidRequest, "{what}")
}

/// As a URL that has expired: who gets it may not use it.
fn wrong_query(what: String) -> S3Error {
    custom("AuthorizationQueryParametersError", StatusCode::FORBIDDEN, what)
}

enum Presigned {
    V4,
    V2,
}

/// Parameters by name, as s3s will see them: decoded, and unique where it matters.
struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    fn parse(query: &'a str) -> Self {
        Self(form_urlencoded::parse(query.as_bytes()).collect())
    }

    fn signature(&self) -> S3Result<Option<Presigned>> {
        let has = |name: &str| self.0.iter().any(|(n, _)| n == name);
        match (has("X-Amz-Signature"), has("Signature")) {
            (true, true) => Err(malformed("the query is signed twice")),
            (true, false) => Ok(Some(Presigned::V4)),
            (false, true) => Ok(Some(Presigned::V2)),
            (false, false) => Ok(None),
        }
    }

    fn one(&self, name: &str) -> S3Result<&str> {
        let mut values = self.0.iter().filter(|(n, _)| n == name).map(|(_, value)| &**value);
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(value),
            _ => Err(wrong_query(format!("a presigned URL needs {name}, once"))),
        }
    }
}

fn check_header(fields: &str, headers: &HeaderMap) -> S3Result<()> {
    let field = |name: &str| {
        let mut values = fields.split(',').filter_map(|f| f.trim().strip_prefix(name)?.strip_prefix('='));
        let value = values.next();
        if values.next().is_some() { None } else { value }
    };
    check_scope(field("Credential"))?;
    check_signed(field("SignedHeaders").unwrap_or_default(), headers, &[])
}

fn check_v4(query: &Query, headers: &HeaderMap) -> S3Result<()> {
    check_scope(query.one("X-Amz-Credential").ok())?;
    match query.one("X-Amz-Expires")?.parse::<i64>() {
        Ok(1..=PRESIGNED_SECONDS_MAX) => {}
        _ => {
            let what = format!("X-Amz-Expires must be from 1 to {PRESIGNED_SECONDS_MAX} seconds (a week)");
            return Err(wrong_query(what));
        }
    }
    // Whoever made the URL could not know the hash of the body.
    check_signed(query.one("X-Amz-SignedHeaders")?, headers, &["x-amz-content-sha256"])
}

/// Version 2 covers all `x-amz-` headers by itself.
fn check_v2(query: &Query, now: Timestamp) -> S3Result<()> {
    match query.one("Expires")?.parse::<i64>() {
        Ok(until) if until.saturating_sub(now.as_second()) <= PRESIGNED_SECONDS_MAX => Ok(()),
        _ => Err(wrong_query("Expires must be a time in seconds, at most a week ahead".to_owned())),
    }
}

fn check_scope(credential: Option<&str>) -> S3Result<()> {
    match credential {
        Some(credential) if credential.trim_end().ends_with("/s3/aws4_request") => Ok(()),
        _ => Err(malformed("the signature must name a credential for the service s3: KEY/DATE/REGION/s3/aws4_request")),
    }
}

/// What is not signed could have been added on the way.
fn check_signed(signed: &str, headers: &HeaderMap, exempt: &[&str]) -> S3Result<()> {
    let is_signed = |name: &str| signed.split(';').any(|s| s.trim().eq_ignore_ascii_case(name));
    if !is_signed("host") {
        return Err(s3_error!(AccessDenied, "the header host must be signed"));
    }
    for name in headers.keys().map(http::HeaderName::as_str) {
        if name.starts_with("x-amz-") && !exempt.contains(&name) && !is_signed(name) {
            return Err(s3_error!(AccessDenied, "the header {name} is there but not signed"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=MKA/20260101/us-east-1/s3/aws4_request, \
                          SignedHeaders=host;x-amz-date, Signature=00";

    fn check(method: &str, uri: &str, headers: &[(&str, &str)]) -> Result<(), String> {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        screen(&parts, now).map_err(|e| format!("{} {}", e.code().as_str(), e.message().unwrap_or_default()))
    }

    #[test]
    fn only_known_ways_to_sign_pass() {
        // Who may do what without a signature is not decided here.
        assert!(check("GET", "/", &[]).is_ok());
        let framed = [("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")];
        assert!(check("PUT", "/b/k", &framed).unwrap_err().starts_with("NotImplemented"));
        assert!(check("GET", "/", &[("authorization", SIGNED)]).is_ok());
        assert!(check("GET", "/", &[("authorization", "Bearer x")]).is_err());
        let sts = SIGNED.replace("/s3/", "/sts/");
        assert!(check("GET", "/", &[("authorization", &sts)]).unwrap_err().contains("service s3"));
        let unsigned = [("authorization", SIGNED), ("x-amz-acl", "public-read")];
        assert!(check("PUT", "/b/k", &unsigned).unwrap_err().contains("x-amz-acl is there but not signed"));
        let no_host = SIGNED.replace("host;", "");
        assert!(check("GET", "/", &[("authorization", &no_host)]).unwrap_err().contains("host must be signed"));
        let both = check("GET", "/?X-Amz-Signature=0", &[("authorization", SIGNED)]);
        assert!(both.unwrap_err().contains("twice"));
    }

    #[test]
    fn version_2_needs_a_fresh_date() {
        let v2 = |date: &str| {
            let headers = [("authorization", "AWS MKA:c2ln"), ("x-amz-date", date)];
            check("GET", "/", &headers).map_err(|e| e.split(' ').next().unwrap_or_default().to_owned())
        };
        assert_eq!(v2("Fri, 15 Jan 2027 08:00:00 GMT"), Ok(()));
        assert_eq!(v2("Fri, 15 Jan 2027 08:14:59 +0000"), Ok(()));
        for stale in ["Fri, 15 Jan 2027 08:15:01 GMT", "Tue, 07 Jul 2020 21:53:04 GMT"] {
            assert_eq!(v2(stale), Err("RequestTimeTooSkewed".to_owned()), "{stale}");
        }
        for bad in ["", "x", "Wed, 31 Dec 1969 23:59:59 GMT"] {
            assert_eq!(v2(bad), Err("AccessDenied".to_owned()), "{bad}");
        }
        assert!(check("GET", "/", &[("authorization", "AWS MKA:c2ln")]).is_err());
    }

    #[test]
    fn presigned_urls_end_within_a_week() {
        let v4 = |expires: &str| {
            let uri = format!(
                "/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=MKA%2F20260101%2Feu%2Fs3%2Faws4_request\
                 &X-Amz-Date=20260101T000000Z&X%2DAmz-Expires={expires}&X-Amz-SignedHeaders=host&X-Amz-Signature=0"
            );
            check("GET", &uri, &[])
        };
        assert!(v4("1").is_ok());
        assert!(v4("604800").is_ok());
        for bad in ["604801", "0", "-1", "", "x", "99999999999999999999", "60&X-Amz-Expires=604801"] {
            assert!(v4(bad).unwrap_err().starts_with("AuthorizationQueryParametersError"), "{bad}");
        }
        let v2 = |expires: i64| check("GET", &format!("/b/k?AWSAccessKeyId=MKA&Signature=x&Expires={expires}"), &[]);
        assert!(v2(1_800_000_060).is_ok());
        assert!(v2(1_800_604_800).is_ok());
        assert!(v2(1_800_604_801).is_err());
        assert!(v2(i64::MAX).is_err());
    }
}
