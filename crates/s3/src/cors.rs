//! What scripts of other origins may ask: preflights, which carry no
//! signature, and the headers on answers.

use http::header::{ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderName, HeaderValue, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};
use muonic_policy::cors::{self, Answer};
use muonic_services::Buckets;
use s3s::{Body, S3Result, s3_error};

use crate::errors::{answer, custom};

fn bucket_of(path: &str) -> &str {
    let path = path.trim_start_matches('/');
    path.split_once('/').map_or(path, |(bucket, _)| bucket)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// `OPTIONS`.
pub(crate) async fn preflight(buckets: &Buckets, parts: &Parts) -> S3Result<Response<Body>> {
    let origin = text(&parts.headers, &ORIGIN);
    let origin = origin.ok_or_else(|| s3_error!(InvalidRequest, "a preflight needs the header Origin"))?;
    let method = text(&parts.headers, &ACCESS_CONTROL_REQUEST_METHOD);
    let method = method
        .ok_or_else(|| s3_error!(InvalidRequest, "a preflight needs the header Access-Control-Request-Method"))?;
    let asked = text(&parts.headers, &ACCESS_CONTROL_REQUEST_HEADERS).map(cors::requested_headers);
    let rules = buckets.cors(bucket_of(parts.uri.path())).await.map_err(answer)?;
    let allowed = rules.and_then(|rules| rules.match_preflight(origin, method, &asked.unwrap_or_default()));
    let Some(allowed) = allowed else {
        let what = "CORS is not enabled for this bucket, or not for this origin, method or header";
        return Err(custom("AccessForbidden", StatusCode::FORBIDDEN, what));
    };
    let mut response = Response::new(Body::empty());
    add(response.headers_mut(), &allowed);
    Ok(response)
}

/// What the headers of a request that is no preflight ask about.
pub(crate) struct Asked {
    bucket: String,
    origin: String,
    method: String,
}

impl Asked {
    /// `None` unless a script asks.
    pub(crate) fn of(parts: &Parts) -> Option<Self> {
        let origin = text(&parts.headers, &ORIGIN)?.to_owned();
        let method = text(&parts.headers, &ACCESS_CONTROL_REQUEST_METHOD).unwrap_or(parts.method.as_str()).to_owned();
        Some(Self { bucket: bucket_of(parts.uri.path()).to_owned(), origin, method })
    }

    /// Tells the browser what its script may see, of refusals too.
    pub(crate) async fn tell(self, buckets: &Buckets, response: &mut Response<Body>) {
        match buckets.cors(&self.bucket).await {
            Ok(Some(rules)) => {
                if let Some(allowed) = rules.match_simple(&self.origin, &self.method) {
                    add(response.headers_mut(), &allowed);
                }
            }
            Ok(None) => {}
            Err(e) => tracing::warn!(error = %e, "the CORS rules of a bucket could not be read"),
        }
    }
}

fn add(headers: &mut HeaderMap, allowed: &Answer) {
    for (name, value) in allowed.headers() {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_told_from_others() {
        let parts = |origin: Option<&str>| {
            let mut request = http::Request::builder().method("PUT").uri("/b/k?x");
            if let Some(origin) = origin {
                request = request.header("origin", origin);
            }
            request.body(()).unwrap().into_parts().0
        };
        assert!(Asked::of(&parts(None)).is_none());
        let asked = Asked::of(&parts(Some("https://a"))).unwrap();
        assert_eq!((asked.bucket.as_str(), asked.method.as_str()), ("b", "PUT"));
        assert_eq!(bucket_of("/"), "");
    }
}
