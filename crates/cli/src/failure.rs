//! How a command ends: exit codes, and the two lines of a failure.

use std::io::Write;
use std::process::ExitCode;

use muonic_client::Error;
use muonic_types::{ErrorCode, Invalid};
use serde::Serialize;

use crate::global::OutputFormat;
use crate::render::clean;

/// For the end of `muonic --help`.
pub const EXIT_CODES: &str = "\
Exit codes:
  0    it worked
  1    the thing failed: a job ended badly, a check failed, a conflict
  2    bad input: a wrong argument, a file that cannot be read
  3    not found
  4    not allowed: no key, or a key whose role forbids it
  5    the server cannot be reached, or cannot answer now
  130  interrupted; a job or a release that was watched goes on

An error is a line 'error: …' on stderr; a hint or the usage may follow it.
With --output json the last line there is an object instead:
  {\"error\": {\"code\": …, \"message\": …, \"hint\": …, \"exit_code\": …}}
with a code where the server gave one, and a hint where there is one.";

/// See [`EXIT_CODES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Ok = 0,
    Failed = 1,
    BadInput = 2,
    NotFound = 3,
    NotAllowed = 4,
    Unavailable = 5,
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;
/// What a command returns.
pub(crate) type Outcome = Result<Exit>;

/// A sentence, a hint and an exit code.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    pub message: String,
    pub hint: Option<String>,
    pub exit: Exit,
    /// The server's, where it answered.
    pub code: Option<ErrorCode>,
}

/// A failure for programs.
#[derive(Serialize)]
struct Object<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<ErrorCode>,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    exit_code: u8,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, exit, code: None }
    }

    pub(crate) fn bad_input(message: impl Into<String>) -> Self {
        Self::new(Exit::BadInput, message)
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The last words on stderr. If nobody can read them, nothing can be done.
    pub fn print(&self, format: OutputFormat) -> ExitCode {
        let text = match format {
            OutputFormat::Text => self.text(),
            OutputFormat::Json => self.json(),
        };
        let _ = std::io::stderr().write_all(text.as_bytes());
        self.exit.into()
    }

    fn text(&self) -> String {
        let mut text = format!("error: {}\n", self.message.trim_end());
        if let Some(hint) = &self.hint {
            text.push_str(&format!("hint: {}\n", hint.trim_end()));
        }
        clean(&text)
    }

    fn json(&self) -> String {
        let error = Object {
            code: self.code,
            message: self.message.trim_end(),
            hint: self.hint.as_deref().map(str::trim_end),
            exit_code: self.exit as u8,
        };
        format!("{}\n", serde_json::json!({"error": error}))
    }
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        Self::bad_input(invalid.0)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = exit_of(&error);
        let hint = error.hint().map(str::to_owned).or_else(|| default_hint(&error));
        Self { message: error.to_string(), hint, exit, code: error.code() }
    }
}

fn exit_of(error: &Error) -> Exit {
    match error {
        Error::Connection { .. } | Error::NotMuonic { .. } => Exit::Unavailable,
        Error::Protocol { .. } => Exit::Failed,
        Error::Input { .. } => Exit::BadInput,
        Error::File { source, .. } => match source.kind() {
            std::io::ErrorKind::NotFound
            | std::io::ErrorKind::PermissionDenied
            | std::io::ErrorKind::NotADirectory
            | std::io::ErrorKind::IsADirectory
            | std::io::ErrorKind::AlreadyExists => Exit::BadInput,
            _ => Exit::Failed,
        },
        Error::Api { body, .. } => match body.error.code {
            ErrorCode::InvalidRequest
            | ErrorCode::TooLarge
            | ErrorCode::UnsupportedMediaType
            | ErrorCode::ChecksumMismatch
            | ErrorCode::MissingBlobs
            | ErrorCode::Unschedulable
            | ErrorCode::InvalidInput => Exit::BadInput,
            ErrorCode::NotFound => Exit::NotFound,
            ErrorCode::Unauthenticated | ErrorCode::Forbidden => Exit::NotAllowed,
            ErrorCode::TooManyRequests
            | ErrorCode::NoReplica
            | ErrorCode::Unavailable
            | ErrorCode::DeadlineExceeded
            | ErrorCode::DiskFull => Exit::Unavailable,
            ErrorCode::MethodNotAllowed
            | ErrorCode::Conflict
            | ErrorCode::PreconditionFailed
            | ErrorCode::NotImplemented
            | ErrorCode::Internal => Exit::Failed,
        },
    }
}

fn default_hint(error: &Error) -> Option<String> {
    let hint = match error {
        Error::Connection { .. } => "is the server running? start it with 'muonic up', or name another with --server",
        Error::NotMuonic { .. } => "start the server with 'muonic up', or give the address of its API with --server",
        Error::Api { body, .. } => match body.error.code {
            ErrorCode::Unauthenticated => {
                "check MUONIC_TOKEN; the administrator's token is in the data folder's local.json"
            }
            ErrorCode::Forbidden => {
                "ask an administrator for a key with a higher role: muonic key create NAME --role ROLE"
            }
            _ => return None,
        },
        _ => return None,
    };
    Some(hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use muonic_types::ErrorBody;

    fn api(code: ErrorCode) -> Failure {
        Error::Api { status: code.status(), body: ErrorBody::new(code, "m") }.into()
    }

    #[test]
    fn codes_become_the_documented_exits() {
        assert_eq!(api(ErrorCode::InvalidRequest).exit, Exit::BadInput);
        assert_eq!(api(ErrorCode::NotFound).exit, Exit::NotFound);
        assert_eq!(api(ErrorCode::Forbidden).exit, Exit::NotAllowed);
        assert_eq!(api(ErrorCode::NoReplica).exit, Exit::Unavailable);
        assert_eq!(api(ErrorCode::Conflict).exit, Exit::Failed);
        let broken = Error::Connection { url: "http://x".into(), reason: "refused".into() };
        let failure = Failure::from(broken);
        assert_eq!(failure.exit, Exit::Unavailable);
        assert!(failure.hint.unwrap().contains("muonic up"));
    }

    #[test]
    fn programs_get_an_object() {
        assert_eq!(
            api(ErrorCode::Forbidden).json(),
            "{\"error\":{\"code\":\"forbidden\",\"exit_code\":4,\"hint\":\"ask an administrator for a key with a \
             higher role: muonic key create NAME --role ROLE\",\"message\":\"m\"}}\n"
        );
        let failure = Failure::bad_input("a\nb\u{1b}[1m");
        assert_eq!(failure.json(), "{\"error\":{\"exit_code\":2,\"message\":\"a\\nb\\u001b[1m\"}}\n", "it is one line");
    }
}
