//! What is refused before anything of a request is parsed further: calls
//! without a signature, ways to sign that are too weak or never end, and
//! headers that would count without being signed.

use std::collections::HashMap;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, Method};
use jiff::Timestamp;
use s3s::{S3Error, S3Result, s3_error};

use crate::errors::not_implemented;

/// Presigned URLs end within a week, as in S3.
const PRESIGNED_SECONDS_MAX: i64 = 7 * 24 * 3600;

pub(crate) fn screen(parts: &Parts, now: Timestamp) -> S3Result<()> {
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let header = match parts.headers.get_all(AUTHORIZATION).iter().collect::<Vec<_>>()[..] {
        [] => None,
        [one] => Some(one.to_str().map_err(|_| malformed("the Authorization header is not text"))?),
        _ => return Err(malformed("there is more than one Authorization header")),
    };
    if parts.method == Method::POST && is_form(&parts.headers) {
        return Err(not_implemented("PostObject (uploads from browser forms)"));
    }
    match (header, query.signature()?) {
        (None, None) => {
            Err(s3_error!(AccessDenied, "the request is not signed; sign it with an access key of this server"))
        }
        (Some(_), Some(_)) => Err(malformed("the request is signed twice, in a header and in its query")),
        (Some(header), None) => check_header(header, &parts.headers),
        (None, Some(Presigned::V4)) => check_v4(&query, &parts.headers),
        (None, Some(Presigned::V2)) => check_v2(&query, now),
    }
}

fn malformed(what: &str) -> S3Error {
    s3_error!(InvalidRequest, "{what}")
}

fn is_form(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.trim_start().to_ascii_lowercase().starts_with("multipart/form-data"))
}

enum Presigned {
    V4,
    V2,
}

/// Parameters by name, as s3s will see them: decoded, and unique where it matters.
struct Query(HashMap<String, Vec<String>>);

impl Query {
    fn parse(query: &str) -> Self {
        let mut all = HashMap::<String, Vec<String>>::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            all.entry(name.into_owned()).or_default().push(value.into_owned());
        }
        Self(all)
    }

    fn signature(&self) -> S3Result<Option<Presigned>> {
        match (self.0.contains_key("X-Amz-Signature"), self.0.contains_key("Signature")) {
            (true, true) => Err(malformed("the query is signed twice")),
            (true, false) => Ok(Some(Presigned::V4)),
            (false, true) => Ok(Some(Presigned::V2)),
            (false, false) => Ok(None),
        }
    }

    fn one(&self, name: &str) -> S3Result<&str> {
        match self.0.get(name).map(Vec::as_slice) {
            Some([value]) => Ok(value),
            _ => Err(s3_error!(AuthorizationQueryParametersError, "a presigned URL needs {name}, once")),
        }
    }
}

fn check_header(header: &str, headers: &HeaderMap) -> S3Result<()> {
    let Some(fields) = header.strip_prefix("AWS4-HMAC-SHA256") else {
        return Err(malformed("this way to sign is not supported; use AWS4-HMAC-SHA256 (signature version 4)"));
    };
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
            return Err(s3_error!(
                AuthorizationQueryParametersError,
                "X-Amz-Expires must be from 1 to {PRESIGNED_SECONDS_MAX} seconds (a week)"
            ));
        }
    }
    // Whoever made the URL could not know the hash of the body.
    check_signed(query.one("X-Amz-SignedHeaders")?, headers, &["x-amz-content-sha256"])
}

/// Version 2 covers all `x-amz-` headers by itself.
fn check_v2(query: &Query, now: Timestamp) -> S3Result<()> {
    match query.one("Expires")?.parse::<i64>() {
        Ok(until) if until.saturating_sub(now.as_second()) <= PRESIGNED_SECONDS_MAX => Ok(()),
        _ => {
            Err(s3_error!(AuthorizationQueryParametersError, "Expires must be a time in seconds, at most a week ahead"))
        }
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
    fn only_the_signed_pass() {
        assert!(check("GET", "/", &[]).unwrap_err().starts_with("AccessDenied"));
        assert!(check("GET", "/", &[("authorization", SIGNED)]).is_ok());
        assert!(check("GET", "/", &[("authorization", "AWS MKA:c2ln")]).unwrap_err().contains("version 4"));
        assert!(check("GET", "/", &[("authorization", "Bearer x")]).is_err());
        let sts = SIGNED.replace("/s3/", "/sts/");
        assert!(check("GET", "/", &[("authorization", &sts)]).unwrap_err().contains("service s3"));
        let unsigned = [("authorization", SIGNED), ("x-amz-acl", "public-read")];
        assert!(check("PUT", "/b/k", &unsigned).unwrap_err().contains("x-amz-acl is there but not signed"));
        let no_host = SIGNED.replace("host;", "");
        assert!(check("GET", "/", &[("authorization", &no_host)]).unwrap_err().contains("host must be signed"));
        let both = check("GET", "/?X-Amz-Signature=0", &[("authorization", SIGNED)]);
        assert!(both.unwrap_err().contains("twice"));
        let form = [("content-type", "Multipart/Form-Data; boundary=x")];
        assert!(check("POST", "/b", &form).unwrap_err().starts_with("NotImplemented"));
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
