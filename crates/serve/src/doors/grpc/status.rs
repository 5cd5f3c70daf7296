//! How calls end: a status of gRPC, and a sentence where it is not OK.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt;
use muonic_types::grpc_message;

use crate::failure::Failure;

/// The headers that say how a call ended.
fn end(failure: Option<&Failure>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let status = failure.map_or(0, |failure| failure.code.grpc_status());
    headers.insert("grpc-status", HeaderValue::from(status));
    if let Some(Ok(message)) = failure.map(|failure| HeaderValue::try_from(grpc_message(&failure.message))) {
        headers.insert("grpc-message", message);
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
