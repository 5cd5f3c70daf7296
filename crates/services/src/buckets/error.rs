//! What the service of buckets answers when it cannot do what was asked.

use muonic_ports::object_store;
use muonic_types::{ErrorCode, Timestamp};

use super::config::Kind;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller may not do this; a sentence.
    #[error("{0}")]
    Denied(String),
    /// A value that does not hold; a sentence.
    #[error("{0}")]
    Invalid(String),
    /// The request contradicts itself or what is there; a sentence.
    #[error("{0}")]
    InvalidRequest(String),
    #[error("{0}")]
    BucketName(String),
    #[error("the key has {0} bytes, at most {max} are allowed", max = super::KEY_BYTES_MAX)]
    KeyTooLong(usize),
    /// The key, cut where it is long.
    #[error("there is no object '{0}'")]
    NoSuchKey(String),
    /// What was asked for is a delete marker.
    #[error("the object is deleted: its latest version is a delete marker")]
    DeleteMarker {
        version: object_store::VersionId,
        modified_at: Timestamp,
        /// Whether this version was asked for by its id.
        is_named: bool,
    },
    /// The condition of a read that holds nothing new: not a failure.
    #[error("the object has not changed")]
    NotModified(Box<object_store::ObjectVersion>),
    /// The bytes asked for lie beyond the object's.
    #[error("the object has {size} bytes, the range lies beyond them")]
    Range { size: u64 },
    #[error("the object has {count} parts")]
    PartNumber { count: u16 },
    /// The bucket has no document of this kind.
    #[error("the bucket has no {}", .0.title())]
    NoDocument(Kind),
    /// The object has no retention, or no legal hold.
    #[error("the object has no {0}")]
    NoLock(&'static str),
    #[error("object lock is not enabled for the bucket")]
    NotLockable,
    /// A document that does not hold; a sentence.
    #[error("{0}")]
    Malformed(String),
    /// What the rules for documents and requests about buckets refuse.
    #[error(transparent)]
    Policy(muonic_policy::Error),
    #[error("there is no account with the e-mail address '{0}'; name its canonical id")]
    UnknownEmail(String),
    #[error("not implemented: {0}")]
    NotImplemented(String),
    #[error(transparent)]
    Store(#[from] object_store::Error),
}

impl From<muonic_ports::Error> for Error {
    fn from(error: muonic_ports::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Error {
    /// As the native API answers it, about a bucket.
    #[must_use]
    pub fn about(self, bucket: &str) -> crate::Error {
        let text = self.to_string();
        match self {
            Self::Denied(_) => crate::Error::new(ErrorCode::Forbidden, text),
            Self::Store(error) => of_store(bucket, error),
            Self::NoDocument(Kind::Notification) => crate::Error::not_found(format!(
                "nothing that happens in bucket '{bucket}' is told"
            ))
            .hint("ask for it with PutBucketNotificationConfiguration: {\"EventBridgeConfiguration\": {}} tells all"),
            Self::NotImplemented(_) => crate::Error::new(ErrorCode::NotImplemented, text),
            _ => crate::Error::invalid(text),
        }
    }
}

/// What the store says about a bucket, as the native API answers it.
pub(crate) fn of_store(bucket: &str, error: object_store::Error) -> crate::Error {
    use object_store::Error as E;
    match error {
        E::NoSuchBucket => crate::Error::not_found(format!("there is no bucket '{bucket}'")),
        E::BucketExists => crate::Error::conflict(format!("there is a bucket '{bucket}' already")),
        E::BucketState(what) => crate::Error::conflict(what),
        E::NotSupported(what) => crate::Error::new(ErrorCode::NotImplemented, format!("not implemented: {what}")),
        E::Store(error) => error.into(),
        other => crate::Error::conflict(other.to_string()),
    }
}
