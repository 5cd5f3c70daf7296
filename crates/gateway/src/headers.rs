//! Headers that belong to one connection, and those that we add.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue};

pub const REVISION: HeaderName = HeaderName::from_static("x-muonic-revision");
pub const REPLICA: HeaderName = HeaderName::from_static("x-muonic-replica");
/// The endpoint that a call of gRPC is for, whose path cannot say it.
pub const ENDPOINT: HeaderName = HeaderName::from_static("muonic-endpoint");
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a replica gets to see of the request's headers.
pub fn to_replica(headers: &HeaderMap, request_id: &HeaderValue) -> HeaderMap {
    let mut headers = headers.clone();
    muonic_listen::strip_hop_by_hop(&mut headers);
    if is_grpc(&headers) {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    // The caller's key is ours to check and nobody else's to see.
    headers.remove(header::AUTHORIZATION);
    // We answer this ourselves by reading the body.
    headers.remove(header::EXPECT);
    if !headers.contains_key(header::HOST) {
        headers.insert(header::HOST, HeaderValue::from_static("replica"));
    }
    headers.insert(REQUEST_ID, request_id.clone());
    headers
}

/// Whether it is a call of gRPC, which is answered in its own words and needs
/// HTTP/2 all the way.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Whether an answer without a body says that the call failed for a reason of
/// the replica's: `UNKNOWN`, `DEADLINE_EXCEEDED`, `INTERNAL` or `DATA_LOSS`.
pub fn failed_grpc(headers: &HeaderMap) -> bool {
    headers.get("grpc-status").is_some_and(|status| matches!(status.as_bytes(), b"2" | b"4" | b"13" | b"15"))
}

/// How long a request was in the replica's queue, where the replica tells
/// (`Server-Timing: queue;dur=MILLISECONDS`, W3C Server Timing).
pub fn queued_s(headers: &HeaderMap) -> Option<f64> {
    let told = headers.get("server-timing")?.to_str().ok()?;
    let queue = told.split(',').find_map(|metric| metric.trim().strip_prefix("queue;"))?;
    let ms = queue.split(';').find_map(|p| p.trim().strip_prefix("dur="))?.parse::<f64>().ok()?;
    ms.is_finite().then_some(ms.max(0.0) / 1000.0)
}

/// The caller's own id where it is a sane one, else a new one.
pub fn request_id(headers: &HeaderMap) -> HeaderValue {
    static START: LazyLock<u64> = LazyLock::new(|| RandomState::new().build_hasher().finish());
    static COUNT: AtomicU64 = AtomicU64::new(0);
    match headers.get(REQUEST_ID) {
        Some(id) if !id.is_empty() && id.len() <= 128 && id.as_bytes().iter().all(u8::is_ascii_graphic) => id.clone(),
        _ => {
            let id = format!("{:016x}-{:x}", *START, COUNT.fetch_add(1, Ordering::Relaxed));
            HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("none"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_a_connection_stays_there() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, X-Secret , content-length"),
            ("x-secret", "1"),
            ("content-length", "5"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("upgrade", "websocket"),
            ("authorization", "Bearer k"),
            ("expect", "100-continue"),
            ("x-kept", "2"),
            ("host", "h"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let out = to_replica(&headers, &HeaderValue::from_static("id"));
        let mut names: Vec<_> = out.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "host", "x-kept", "x-request-id"]);
    }

    #[test]
    fn the_time_in_the_queue_is_read() {
        let told = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("server-timing", HeaderValue::from_static(text));
            queued_s(&headers)
        };
        assert_eq!(told("queue;dur=1.5, compute;dur=20"), Some(0.0015));
        assert_eq!(told("compute;dur=20, queue;desc=\"x\";dur=2"), Some(0.002));
        for nothing in ["", "queue", "compute;dur=1", "queue;dur=x", "queue;dur=inf"] {
            assert_eq!(told(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn ids_are_kept_or_made() {
        let mut headers = HeaderMap::new();
        let first = request_id(&headers);
        assert_ne!(first, request_id(&headers));
        headers.insert(REQUEST_ID, HeaderValue::from_static("mine"));
        assert_eq!(request_id(&headers), "mine");
        headers.insert(REQUEST_ID, HeaderValue::from_static("with space"));
        assert_ne!(request_id(&headers), "with space");
    }
}
