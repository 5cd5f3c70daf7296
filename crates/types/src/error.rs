//! What goes wrong, as users see it: a stable code, one sentence, a hint.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Stable error codes of the native API. A code never changes its meaning;
/// `docs/errors.md` explains each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request is malformed or a value is out of its range (400).
    InvalidRequest,
    /// No key was given, or the key is unknown, expired or revoked (401).
    Unauthenticated,
    /// The key's role does not allow this (403).
    Forbidden,
    /// The thing named does not exist (404).
    NotFound,
    /// The path exists but not with this method (405).
    MethodNotAllowed,
    /// The thing exists already, or its state forbids this (409).
    Conflict,
    /// A condition given with the request does not hold (412).
    PreconditionFailed,
    /// The body is larger than the limit (413).
    TooLarge,
    /// The body's content type is not understood (415).
    UnsupportedMediaType,
    /// Bytes sent do not have the digest announced for them (422).
    ChecksumMismatch,
    /// Blobs named by a manifest have not been uploaded (422).
    MissingBlobs,
    /// The machine can never satisfy these resources (422).
    Unschedulable,
    /// A model rejected its input (422).
    InvalidInput,
    /// Too many requests at once; try again after `Retry-After` (429).
    TooManyRequests,
    /// Not implemented, by name (501).
    NotImplemented,
    /// No replica is ready (503).
    NoReplica,
    /// The server is stopping, full or read-only; try again later (503).
    Unavailable,
    /// The request took longer than its limit (504).
    DeadlineExceeded,
    /// The disk of the data folder is full (507).
    DiskFull,
    /// A fault of the server; its log has the detail (500).
    Internal,
}

impl ErrorCode {
    /// The HTTP status that carries this code. The only place where codes
    /// become statuses for the native API and the gateway.
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidRequest => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Conflict => 409,
            Self::PreconditionFailed => 412,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::ChecksumMismatch | Self::MissingBlobs | Self::Unschedulable | Self::InvalidInput => 422,
            Self::TooManyRequests => 429,
            Self::NotImplemented => 501,
            Self::NoReplica | Self::Unavailable => 503,
            Self::DeadlineExceeded => 504,
            Self::DiskFull => 507,
            Self::Internal => 500,
        }
    }

    /// The status of gRPC that carries this code.
    pub fn grpc_status(self) -> u16 {
        match self {
            Self::InvalidRequest
            | Self::InvalidInput
            | Self::ChecksumMismatch
            | Self::MissingBlobs
            | Self::UnsupportedMediaType => 3,
            Self::DeadlineExceeded => 4,
            Self::NotFound => 5,
            Self::Forbidden => 7,
            Self::TooLarge | Self::TooManyRequests | Self::Unschedulable | Self::DiskFull => 8,
            Self::PreconditionFailed => 9,
            Self::Conflict => 10,
            Self::NotImplemented | Self::MethodNotAllowed => 12,
            Self::Internal => 13,
            Self::NoReplica | Self::Unavailable => 14,
            Self::Unauthenticated => 16,
        }
    }

    /// True where the same request may succeed later without a change.
    pub fn is_transient(self) -> bool {
        matches!(
            self,
            Self::TooManyRequests | Self::NoReplica | Self::Unavailable | Self::DeadlineExceeded | Self::DiskFull
        )
    }
}

/// A sentence as the value of the header `grpc-message` ("gRPC over HTTP2":
/// bytes that are not printable ASCII, and `%`, as `%XX`), cut where clients
/// would not take more.
pub fn grpc_message(text: &str) -> String {
    /// Clients take 8 KiB of headers, and a byte of the sentence may take three.
    const BYTES_MAX: usize = 2048;
    let text = &text[..text.floor_char_boundary(BYTES_MAX)];
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => escaped.push(char::from(byte)),
            // Writing into a String cannot fail.
            _ => _ = write!(escaped, "%{byte:02X}"),
        }
    }
    escaped
}

/// Carries the stable code where the body has no room for it: the Open
/// Inference Protocol's errors are one sentence.
pub const ERROR_CODE_HEADER: &str = "x-muonic-error";

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    pub error: ErrorDetail,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    pub code: ErrorCode,
    /// One sentence: what was wrong and where.
    pub message: String,
    /// What to do about it, where there is something to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl ErrorBody {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { error: ErrorDetail { code, message: message.into(), hint: None } }
    }
}

/// A value from outside that is not valid. The text is a whole sentence part:
/// what was wrong and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

impl Invalid {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}
