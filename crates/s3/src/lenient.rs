//! Reads with headers that s3s refuses and S3 does not: a `Range` that is
//! malformed or names more than one range, which counts as none, and lists in
//! `If-Match` and `If-None-Match`.
//!
//! Such headers may be signed, so s3s sees them first: it checks the signature
//! and hands the request over to this route. It goes on, without what cannot be
//! parsed, to a second s3s that checks no signatures; `facts` still finds the
//! headers as they came.

use http::header::{AUTHORIZATION, Entry, HeaderName, IF_MATCH, IF_NONE_MATCH, RANGE};
use http::{Extensions, HeaderMap, Method, Request, Uri};
use s3s::dto::{ETagCondition, Range};
use s3s::route::S3Route;
use s3s::service::S3Service;
use s3s::{Body, S3Request, S3Response, S3Result, s3_error};

use crate::access::Access;
use muonic_services::buckets::Caller;

pub(crate) struct Lenient {
    pub access: Access,
    /// Without authentication; only verified requests go there.
    pub inner: S3Service,
}

/// The head of a request as it came, among the extensions of what is left.
#[derive(Debug, Clone)]
pub(crate) struct Original {
    pub headers: HeaderMap,
    pub uri: Uri,
}

pub(crate) fn is_range(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(RANGE).iter();
    match (values.next(), values.next()) {
        (None, _) => true,
        (Some(one), None) => match one.to_str().map(Range::parse) {
            Ok(Ok(Range::Int { first, last: Some(last) })) => first <= last,
            // s3s takes a suffix without a number for one of no bytes.
            Ok(Ok(_)) => one != "bytes=-",
            _ => false,
        },
        _ => false,
    }
}

pub(crate) fn is_one_tag(headers: &HeaderMap, name: &HeaderName) -> bool {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => true,
        (Some(one), None) => ETagCondition::parse_http_header(one.as_bytes()).is_ok(),
        _ => false,
    }
}

/// Leaves out what signs a presigned URL.
pub(crate) fn unsigned(uri: &Uri) -> Option<Uri> {
    let Some(query) = uri.query() else { return Some(uri.clone()) };
    let signs = |pair: &&str| {
        let (name, _) = form_urlencoded::parse(pair.as_bytes()).next().unwrap_or_default();
        let name = name.to_ascii_lowercase();
        ["x-amz-", "awsaccesskeyid", "signature", "expires"].iter().any(|start| name.starts_with(start))
    };
    let rest: Vec<&str> = query.split('&').filter(|pair| !signs(pair)).collect();
    if rest.is_empty() { uri.path().parse().ok() } else { format!("{}?{}", uri.path(), rest.join("&")).parse().ok() }
}

#[async_trait::async_trait]
impl S3Route for Lenient {
    fn is_match(&self, method: &Method, _: &Uri, headers: &HeaderMap, _: &mut Extensions) -> bool {
        matches!(*method, Method::GET | Method::HEAD)
            && !(is_range(headers) && is_one_tag(headers, &IF_MATCH) && is_one_tag(headers, &IF_NONE_MATCH))
    }

    async fn check_access(&self, req: &mut S3Request<Body>) -> S3Result<()> {
        let caller = match &req.credentials {
            Some(credentials) => Caller::Key(self.access.find(&credentials.access_key)?.0),
            None => Caller::Anonymous,
        };
        req.extensions.insert(caller);
        Ok(())
    }

    async fn call(&self, req: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let S3Request { method, uri, mut headers, mut extensions, .. } = req;
        let rest = unsigned(&uri).ok_or_else(|| s3_error!(InvalidURI, "the query of the request cannot be read"))?;
        extensions.insert(Original { headers: headers.clone(), uri });
        if !is_range(&headers) {
            remove(&mut headers, RANGE);
        }
        // These are read where they came.
        for name in [AUTHORIZATION, IF_MATCH, IF_NONE_MATCH] {
            remove(&mut headers, name);
        }
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method;
        *request.uri_mut() = rest;
        *request.headers_mut() = headers;
        *request.extensions_mut() = extensions;
        let answered = self.inner.call(request).await;
        let (parts, body) =
            answered.map_err(|e| s3_error!(InternalError, "the answer was not made: {e:?}"))?.into_parts();
        let mut response = S3Response::new(body);
        response.status = Some(parts.status);
        response.headers = parts.headers;
        response.extensions = parts.extensions;
        Ok(response)
    }
}

fn remove(headers: &mut HeaderMap, name: HeaderName) {
    if let Entry::Occupied(entry) = headers.entry(name) {
        entry.remove_entry_mult();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        HeaderMap::from_iter(headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())))
    }

    #[test]
    fn ranges_that_s3_ignores_are_found() {
        assert!(is_range(&map(&[])));
        for good in ["bytes=0-1", "bytes=5-", "bytes=-5", "bytes=5-5"] {
            assert!(is_range(&map(&[("range", good)])), "{good}");
        }
        for bad in ["", "bytes=", "bytes=a-b", "bytes=0-1,3-4", "bytes=2-1", "lines=0-1", "bytes=-", "bytes 0-1"] {
            assert!(!is_range(&map(&[("range", bad)])), "{bad}");
        }
    }

    #[test]
    fn signatures_are_left_out_of_queries() {
        let query = |query: &str| unsigned(&format!("/b/k?{query}").parse().unwrap()).unwrap().to_string();
        assert_eq!(query("versionId=7&X-Amz-Signature=0&X-Amz-Expires=5"), "/b/k?versionId=7");
        assert_eq!(query("AWSAccessKeyId=a&Signature=b&Expires=5"), "/b/k");
        assert_eq!(query("response-content-type=a%2Fb"), "/b/k?response-content-type=a%2Fb");
    }
}
