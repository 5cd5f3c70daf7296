//! What SQLite's errors mean to callers of the port; the only place where
//! result codes are looked at.

use muonic_ports::Error;

const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const READONLY: i32 = 8;
const IOERR: i32 = 10;
const FULL: i32 = 13;
const CONSTRAINT_PRIMARYKEY: i32 = 1555;
const CONSTRAINT_UNIQUE: i32 = 2067;

/// An error that can be told to several callers, as the members of one
/// commit are.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    Full,
    ReadOnly(String),
    Unavailable(String),
    Conflict(String),
    /// The disk failed under a read or write.
    Io(String),
    Internal(String),
}

impl From<&sqlx::Error> for Fault {
    fn from(error: &sqlx::Error) -> Self {
        let Some(db) = error.as_database_error() else {
            return match error {
                sqlx::Error::PoolTimedOut => {
                    Self::Unavailable("too many reads are waiting for the metastore; try again".into())
                }
                sqlx::Error::PoolClosed => Self::Unavailable("the metastore is closed".into()),
                other => Self::Internal(format!("the metastore failed: {other}")),
            };
        };
        let code = db.code().and_then(|c| c.parse::<i32>().ok()).unwrap_or(1);
        match (code & 0xff, code) {
            (FULL, _) => Self::Full,
            (READONLY, _) => Self::ReadOnly(format!("the metastore cannot be written: {}", db.message())),
            (BUSY | LOCKED, _) => Self::Unavailable("another program holds the metastore locked; try again".into()),
            (IOERR, _) => Self::Io(format!("the metastore's disk failed: {db}")),
            (_, CONSTRAINT_PRIMARYKEY | CONSTRAINT_UNIQUE) => {
                Self::Conflict(format!("it exists already: {}", db.message()))
            }
            _ => Self::Internal(format!("the metastore failed: {db}")),
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Full => Self::DiskFull,
            Fault::ReadOnly(what) => Self::ReadOnly(what),
            Fault::Unavailable(what) => Self::Unavailable(what),
            Fault::Conflict(what) => Self::Conflict(what),
            Fault::Io(what) | Fault::Internal(what) => Self::bug(what),
        }
    }
}

pub(crate) fn error(e: sqlx::Error) -> Error {
    match Fault::from(&e) {
        Fault::Internal(what) | Fault::Io(what) => Error::internal(what, e),
        fault => fault.into(),
    }
}
