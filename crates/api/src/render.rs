//! How answers leave: errors as [`ErrorBody`], streams as they come.

use std::any::Any;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use muonic_ports::blob_store::ByteStream;
use muonic_services::Error;
use muonic_types::ErrorCode;

/// A service's error on its way out.
#[derive(Debug)]
pub(crate) struct Failure(pub Error);

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self(e)
    }
}

impl From<muonic_types::Invalid> for Failure {
    fn from(e: muonic_types::Invalid) -> Self {
        Self(e.into())
    }
}

/// Written beside the event loop.
pub(crate) async fn large_json(value: impl serde::Serialize + Send + 'static) -> Result<Response, Failure> {
    let failed = |e: Box<dyn std::error::Error + Send + Sync>| {
        Failure(muonic_ports::Error::Internal { what: "an answer could not be written".into(), source: Some(e) }.into())
    };
    let written = tokio::task::spawn_blocking(move || serde_json::to_vec(&value)).await;
    let bytes = written.map_err(|e| failed(e.into()))?.map_err(|e| failed(e.into()))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], bytes).into_response())
}

const RETRY_AFTER: Duration = Duration::from_secs(1);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.0.body())).into_response();
        if self.0.code.is_transient() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER.as_secs()));
        }
        if self.0.code == ErrorCode::Unauthenticated {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

pub(crate) async fn no_such_path(uri: Uri) -> Failure {
    let path: String = uri.path().chars().take(200).collect();
    Failure(Error::not_found(format!("there is no {path} here")).hint("GET /api/openapi.json describes what there is"))
}

pub(crate) async fn no_such_method(method: Method, uri: Uri) -> Failure {
    let path: String = uri.path().chars().take(200).collect();
    Failure(Error::new(ErrorCode::MethodNotAllowed, format!("{path} does not answer {method}")))
}

/// A panic is our fault; the caller learns that much and the log the rest.
pub(crate) fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text =
        panic.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    tracing::error!(panic = text.as_deref().unwrap_or("?"), "a handler panicked");
    Failure(Error::new(ErrorCode::Internal, "something went wrong inside the server").hint("its log says what"))
        .into_response()
}

pub(crate) fn stream(media_type: &'static str, body: ByteStream) -> Response {
    ([(header::CONTENT_TYPE, media_type)], Body::from_stream(body)).into_response()
}
