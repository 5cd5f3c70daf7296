//! Answers that the gateway gives itself. Below `/v2` they are in the form of
//! the Open Inference Protocol, elsewhere in the native API's.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use muonic_types::{ERROR_CODE_HEADER, ErrorBody, ErrorCode};

#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    pub code: ErrorCode,
    pub message: String,
}

impl Refusal {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
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
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.code == ErrorCode::Unauthenticated {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
