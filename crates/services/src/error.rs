//! What a service answers when it cannot do what was asked: a stable code and
//! a sentence for people; the cause goes to the log, never to the caller.

use muonic_types::{ErrorBody, ErrorCode, Invalid};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub code: ErrorCode,
    pub message: String,
    pub hint: Option<String>,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, source: None }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRequest, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, message)
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Conflict, message)
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn body(&self) -> ErrorBody {
        let mut body = ErrorBody::new(self.code, self.message.clone());
        body.error.hint.clone_from(&self.hint);
        body
    }
}

impl From<Invalid> for Error {
    fn from(e: Invalid) -> Self {
        Self::invalid(e.0)
    }
}

/// The one place where what a backend says becomes what a user reads.
impl From<muonic_ports::Error> for Error {
    fn from(e: muonic_ports::Error) -> Self {
        use muonic_ports::Error as Port;
        match e {
            Port::NotFound(m) => Self::new(ErrorCode::NotFound, m),
            Port::Conflict(m) => Self::new(ErrorCode::Conflict, m),
            Port::Checksum(m) => Self::new(ErrorCode::ChecksumMismatch, m),
            Port::MissingBlobs(m) => {
                Self::new(ErrorCode::MissingBlobs, m).hint("upload them with POST /api/v1/blobs, then send this again")
            }
            Port::DiskFull => Self::new(ErrorCode::DiskFull, "the disk of the data folder is full")
                .hint("free some space; what was acknowledged is safe"),
            Port::ReadOnly(m) => Self::new(ErrorCode::Unavailable, m).hint("see 'muonic doctor'"),
            Port::Unavailable(m) => Self::new(ErrorCode::Unavailable, m).hint("try again in a moment"),
            Port::Body(e) => Self::new(ErrorCode::InvalidRequest, format!("the body ended early: {e}")),
            Port::Internal { what, source } => {
                tracing::error!(error = %what, source = ?source, "internal error");
                Self {
                    code: ErrorCode::Internal,
                    message: "something went wrong inside the server".to_owned(),
                    hint: Some("its log says what; 'muonic doctor' may help".to_owned()),
                    source,
                }
            }
        }
    }
}
