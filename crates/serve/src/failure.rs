//! Why a request could not be answered: a code that picks the status, and one
//! sentence. On the wire it is the protocol's `{"error": "sentence"}`.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use muonic_types::{ERROR_CODE_HEADER, ErrorCode};

#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    pub code: ErrorCode,
    pub message: String,
}

impl Failure {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The request is at fault (400).
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRequest, message)
    }

    /// Of a panic, which is in the log.
    pub fn internal() -> Self {
        Self::new(ErrorCode::Internal, "the replica failed on this request; its log says more")
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(serde_json::json!({ "error": self.message }))).into_response();
        if let Ok(serde_json::Value::String(code)) = serde_json::to_value(self.code)
            && let Ok(code) = HeaderValue::from_str(&code)
        {
            response.headers_mut().insert(ERROR_CODE_HEADER, code);
        }
        if self.code.is_transient() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
