//! Answers that the gateway gives itself. Below `/v2` they are in the form of
//! the Open Inference Protocol, elsewhere in the native API's.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use muonic_types::{ERROR_CODE_HEADER, ErrorBody, ErrorCode, grpc_message};

#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    pub code: ErrorCode,
    pub message: String,
    /// Where it is known when to ask again.
    pub retry_after_s: Option<u64>,
}

impl Refusal {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_s: None }
    }

    #[must_use]
    pub fn retry_after(mut self, s: u64) -> Self {
        self.retry_after_s = Some(s);
        self
    }

    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// In the words of gRPC: all in the head, and no body ("gRPC over HTTP2").
    pub fn respond_grpc(self) -> Response {
        let mut response = Response::default();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(self.code.grpc_status()));
        if let Ok(message) = HeaderValue::try_from(grpc_message(&self.message)) {
            headers.insert("grpc-message", message);
        }
        response
    }

    /// `path` is what follows the endpoint's name.
    pub fn respond(self, path: &str) -> Response {
        let status = self.status();
        let mut response = if path == "/v2" || path.starts_with("/v2/") {
            (status, axum::Json(serde_json::json!({ "error": self.message }))).into_response()
        } else {
            (status, axum::Json(ErrorBody::new(self.code, self.message))).into_response()
        };
        let headers = response.headers_mut();
        if let Ok(serde_json::Value::String(code)) = serde_json::to_value(self.code)
            && let Ok(code) = HeaderValue::from_str(&code)
        {
            headers.insert(ERROR_CODE_HEADER, code);
        }
        if self.code.is_transient() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(self.retry_after_s.unwrap_or(1)));
        }
        if self.code == ErrorCode::Unauthenticated {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
