//! How calls end: a status of gRPC, and a sentence where it is not OK.

use std::fmt::Write as _;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt;
use muonic_types::ErrorCode;

use crate::failure::Failure;

/// Clients take 8 KiB of headers, and a byte of the sentence may take three.
const MESSAGE_BYTES_MAX: usize = 2048;

fn code(code: ErrorCode) -> u16 {
    use ErrorCode as E;
    match code {
        E::InvalidRequest | E::InvalidInput | E::ChecksumMismatch | E::MissingBlobs | E::UnsupportedMediaType => 3,
        E::DeadlineExceeded => 4,
        E::NotFound => 5,
        E::Forbidden => 7,
        E::TooLarge | E::TooManyRequests | E::Unschedulable | E::DiskFull => 8,
        E::PreconditionFailed => 9,
        E::Conflict => 10,
        E::NotImplemented | E::MethodNotAllowed => 12,
        E::Internal => 13,
        E::NoReplica | E::Unavailable => 14,
        E::Unauthenticated => 16,
    }
}

/// The headers that say how a call ended.
fn end(failure: Option<&Failure>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let status = failure.map_or(0, |failure| code(failure.code));
    headers.insert("grpc-status", HeaderValue::from(status));
    if let Some(failure) = failure {
        let text = &failure.message[..failure.message.floor_char_boundary(MESSAGE_BYTES_MAX)];
        let mut escaped = String::with_capacity(text.len());
        for byte in text.bytes() {
            match byte {
                b' '..=b'~' if byte != b'%' => escaped.push(char::from(byte)),
                // Writing into a String cannot fail.
                _ => _ = write!(escaped, "%{byte:02X}"),
            }
        }
        if let Ok(message) = HeaderValue::try_from(escaped) {
            headers.insert("grpc-message", message);
        }
    }
    headers
}

fn response(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response.headers_mut().insert("grpc-accept-encoding", HeaderValue::from_static("identity"));
    response
}

/// A call that ends before any message.
pub(super) fn failed(failure: &Failure) -> Response {
    let mut response = response(Body::empty());
    response.headers_mut().extend(end(Some(failure)));
    response
}

/// A call that ends well after the messages in `body`.
pub(super) fn answered(body: Body) -> Response {
    answered_until(body, async { None })
}

/// As `failure` says once `body` has ended.
pub(super) fn answered_until(body: Body, failure: impl Future<Output = Option<Failure>> + Send + 'static) -> Response {
    // With a length in the head, some readers would not wait for what follows.
    let body = body.map_frame(|frame| frame);
    response(Body::new(body.with_trailers(async { Some(Ok(end(failure.await.as_ref()))) })))
}
