//! What can go wrong with a call, by what the caller can do about it.

use std::path::Path;

use muonic_types::{ErrorBody, ErrorCode, Invalid};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server answered with an error.
    #[error("{}", body.error.message)]
    Api { status: u16, body: ErrorBody },
    /// The server could not be reached or the connection broke.
    #[error("cannot reach {url}: {reason}")]
    Connection { url: String, reason: String },
    /// Another program has the server's address.
    #[error("what answers at {url} is not a Muonic server: it answered {status} without naming itself")]
    NotMuonic { url: String, status: u16 },
    /// What came back is not what this version understands.
    #[error("{url} answered something unexpected: {reason}")]
    Protocol { url: String, reason: String },
    /// A local file could not be read or written.
    #[error("{path}: {source}")]
    File { path: String, source: std::io::Error },
    /// What was given cannot be sent; nothing was changed on the server.
    #[error("{message}")]
    Input { message: String, hint: Option<String> },
}

impl Error {
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Api { body, .. } => Some(body.error.code),
            _ => None,
        }
    }

    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Api { body, .. } => body.error.hint.as_deref(),
            Self::Input { hint, .. } => hint.as_deref(),
            _ => None,
        }
    }

    /// The same request may succeed later without a change.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Api { status, body } => body.error.code.is_transient() || *status == 502 || *status == 503,
            Self::Connection { .. } => true,
            // So answers what stands in front of a server that is away.
            Self::NotMuonic { status, .. } => matches!(status, 502..=504),
            _ => false,
        }
    }

    pub(crate) fn file(path: &Path, source: std::io::Error) -> Self {
        Self::File { path: path.display().to_string(), source }
    }

    pub(crate) fn input(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Input { message: message.into(), hint: Some(hint.into()) }
    }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::Input { message: invalid.0, hint: None }
    }
}
