//! The head of a request: who sent it, and what a bucket policy may ask of it.

use std::net::SocketAddr;

use http::{HeaderMap, Uri};
use muonic_ports::object_store::ByteStream;
use muonic_services::buckets::{Call, Caller, Facts};
use s3s::dto::StreamingBlob;
use s3s::{S3Request, S3Result, TrailingHeaders, s3_error};

use crate::body::for_store;
use crate::lenient::Original;
use crate::unmeasured::Unmeasured;

/// S3's limit for one body; larger objects go in parts.
const OBJECT_BYTES_MAX: u64 = 5 << 30;

/// What is left of a request once its input has been taken out.
pub(crate) struct Head {
    pub caller: Caller,
    pub headers: HeaderMap,
    uri: Uri,
    peer: Option<SocketAddr>,
    unmeasured: Option<Unmeasured>,
}

/// Takes a request apart; nothing is copied.
pub(crate) fn split<T>(req: S3Request<T>) -> (Head, T, Option<TrailingHeaders>) {
    let S3Request { input, headers, uri, mut extensions, trailing_headers, .. } = req;
    let caller = extensions.remove().unwrap_or(Caller::Anonymous);
    let (peer, unmeasured) = (extensions.remove(), extensions.remove());
    let (headers, uri) = match extensions.remove() {
        Some(Original { headers, uri }) => (headers, uri),
        None => (headers, uri),
    };
    (Head { caller, headers, uri, peer, unmeasured }, input, trailing_headers)
}

impl Head {
    pub fn new(caller: Caller, headers: HeaderMap, uri: Uri, peer: Option<SocketAddr>) -> Self {
        Self { caller, headers, uri, peer, unmeasured: None }
    }

    /// The bytes of an object, and how many its sender has announced.
    pub fn body(&mut self, body: Option<StreamingBlob>, announced: Option<i64>) -> S3Result<(ByteStream, Option<u64>)> {
        let body = for_store(body);
        match (self.unmeasured.take(), announced.map(u64::try_from)) {
            (Some(unmeasured), _) => Ok((unmeasured.checked(body, OBJECT_BYTES_MAX), None)),
            (None, None) => Ok((body, None)),
            (None, Some(Ok(length))) if length <= OBJECT_BYTES_MAX => Ok((body, Some(length))),
            (None, Some(Ok(_))) => {
                Err(s3_error!(EntityTooLarge, "one body has at most 5 GiB; larger objects go in parts"))
            }
            (None, Some(Err(_))) => Err(s3_error!(InvalidArgument, "Content-Length must not be negative")),
        }
    }

    pub fn call(&self) -> Call<'_> {
        Call { caller: &self.caller, facts: self, expected_owner: self.text("x-amz-expected-bucket-owner") }
    }

    /// A header as text; `None` where it is not there, or is no text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Facts for Head {
    fn values(&self, key: &str) -> Vec<String> {
        values(&self.headers, &self.uri, self.peer, key)
    }
}

/// The values of a condition key, by its name in lower case.
pub(crate) fn values(headers: &HeaderMap, uri: &Uri, peer: Option<SocketAddr>, key: &str) -> Vec<String> {
    let of_header = |name: &str| {
        let all = headers.get_all(name).iter();
        all.filter_map(|value| value.to_str().ok().map(str::to_owned)).collect()
    };
    let of_query = |name: &str| {
        let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        pairs.filter(|(n, _)| n == name).map(|(_, value)| value.into_owned()).collect()
    };
    match key {
        "aws:currenttime" => vec![jiff::Timestamp::now().to_string()],
        "aws:epochtime" => vec![jiff::Timestamp::now().as_second().to_string()],
        // An address of version 4 counts as one, however the listener takes it.
        "aws:sourceip" => peer.map(|peer| peer.ip().to_canonical().to_string()).into_iter().collect(),
        "aws:securetransport" => vec!["false".to_owned()],
        "aws:referer" => of_header("referer"),
        "aws:useragent" => of_header("user-agent"),
        "s3:prefix" => of_query("prefix"),
        "s3:delimiter" => of_query("delimiter"),
        "s3:max-keys" => of_query("max-keys"),
        "s3:versionid" => of_query("versionId"),
        "s3:requestobjecttagkeys" => {
            let all = headers.get("x-amz-tagging").map(|tags| tags.as_bytes()).unwrap_or_default();
            form_urlencoded::parse(all).map(|(name, _)| name.into_owned()).collect()
        }
        "s3:signatureversion" => match (uri.query(), headers.get("authorization")) {
            (_, Some(value)) if value.as_bytes().starts_with(b"AWS4-") => vec!["AWS4-HMAC-SHA256".to_owned()],
            (_, Some(_)) => vec!["AWS".to_owned()],
            (Some(query), None) if query.contains("X-Amz-Signature=") => vec!["AWS4-HMAC-SHA256".to_owned()],
            (Some(query), None) if query.contains("Signature=") => vec!["AWS".to_owned()],
            _ => Vec::new(),
        },
        "s3:authtype" => match (uri.query(), headers.get("authorization")) {
            (_, Some(_)) => vec!["REST-HEADER".to_owned()],
            (Some(query), None) if query.contains("Signature=") => vec!["REST-QUERY-STRING".to_owned()],
            _ => Vec::new(),
        },
        "s3:x-amz-copy-source" => {
            let source: Vec<String> = of_header("x-amz-copy-source");
            source.into_iter().map(|source| source.trim_start_matches('/').to_owned()).collect()
        }
        _ => match key.strip_prefix("s3:requestobjecttag/") {
            Some(tag) => {
                let all = headers.get("x-amz-tagging").map(|tags| tags.as_bytes()).unwrap_or_default();
                let tags = form_urlencoded::parse(all).filter(|(name, _)| name == tag);
                tags.map(|(_, value)| value.into_owned()).collect()
            }
            None => match key.strip_prefix("s3:") {
                Some(header) if header.starts_with("x-amz-") => of_header(header),
                _ => Vec::new(),
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_see_headers_query_and_tags() {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-copy-source", "/b/k".parse().unwrap());
        headers.insert("x-amz-tagging", "a=1&b=2".parse().unwrap());
        headers.insert("x-amz-acl", "private".parse().unwrap());
        let uri = Uri::from_static("/b?prefix=a%2Fb&max-keys=5");
        let peer = "[::ffff:10.1.2.3]:80".parse().unwrap();
        let value = |key: &str| values(&headers, &uri, Some(peer), key).join(",");
        assert_eq!(value("s3:prefix"), "a/b");
        assert_eq!(value("s3:x-amz-copy-source"), "b/k");
        assert_eq!(value("s3:requestobjecttag/b"), "2");
        assert_eq!(value("s3:x-amz-acl"), "private");
        assert_eq!(value("s3:authorization"), "");
        assert_eq!(value("aws:sourceip"), "10.1.2.3");
    }
}
