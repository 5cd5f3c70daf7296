//! What a failure of SQLite means: for the step that met it, and for the index.

use std::sync::OnceLock;

use muonic_ports::Error as Port;
use muonic_ports::object_store::Error;
use rusqlite::ErrorCode;
use rusqlite::ffi;

/// How a step inside the writer ends without an answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// Decided before anything was written.
    Refused(Error),
    Sql(rusqlite::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) => error,
            Failure::Sql(error) => Fault::of(&error).into(),
        }
    }
}

impl From<rusqlite::types::FromSqlError> for Failure {
    fn from(error: rusqlite::types::FromSqlError) -> Self {
        Self::Sql(error.into())
    }
}

/// A failure of the index itself; one fault may be the answer to many.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    Full,
    /// Writing is over until a restart: what the disk holds is not known.
    Dead(String),
    Unavailable(String),
    Other(String),
}

impl Fault {
    pub(super) fn of(error: &rusqlite::Error) -> Self {
        let rusqlite::Error::SqliteFailure(code, _) = error else {
            return Self::Other(format!("the store's index: {error}"));
        };
        let dead = |what: &str| {
            Self::Dead(format!(
                "writing is off since {what} of the store's index failed ({error}); check the disk, then restart the server"
            ))
        };
        match code.code {
            // The shared memory file could not grow; nothing was written.
            _ if code.extended_code == ffi::SQLITE_IOERR_SHMSIZE => Self::Full,
            ErrorCode::DiskFull => Self::Full,
            _ if code.extended_code == ffi::SQLITE_IOERR_FSYNC || code.extended_code == ffi::SQLITE_IOERR_DIR_FSYNC => {
                dead("a sync")
            }
            ErrorCode::SystemIoFailure => dead("a read or write"),
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => dead("a check"),
            ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied => dead("opening a file"),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::OutOfMemory => {
                Self::Unavailable(format!("the store's index is busy ({error}); try again"))
            }
            _ => Self::Other(format!("the store's index: {error}")),
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Store(match fault {
            Fault::Full => Port::DiskFull,
            Fault::Dead(reason) => Port::ReadOnly(reason),
            Fault::Unavailable(what) => Port::Unavailable(what),
            Fault::Other(what) => Port::bug(what),
        })
    }
}

/// What a failed read is to the caller. Reading goes on after it.
pub(super) fn read(error: rusqlite::Error) -> Error {
    match Fault::of(&error) {
        Fault::Unavailable(what) => Error::Store(Port::Unavailable(what)),
        _ => Error::Store(Port::internal(format!("cannot read the store's index: {error}"), error)),
    }
}

/// Closed by the first failure after which writing must end.
#[derive(Debug, Default)]
pub(super) struct Gate {
    reason: OnceLock<String>,
}

impl Gate {
    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    pub(super) fn close(&self, reason: &str) {
        if self.reason.set(reason.to_owned()).is_ok() {
            tracing::error!(reason, "the store's index is read-only until restart");
        }
    }
}
