use crate::object_store::RetentionMode;

/// What an object store answers when it cannot do what was asked. Sentences
/// for people are the caller's: it knows what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no such bucket")]
    NoSuchBucket,
    #[error("the bucket exists already")]
    BucketExists,
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    #[error("there is no such key")]
    NoSuchKey,
    #[error("there is no such version")]
    NoSuchVersion,
    #[error("there is no such upload, or it has ended")]
    NoSuchUpload,
    /// A part that is not there, or is not the one meant.
    #[error("part {0} is not there, or its ETag or sum is another one")]
    InvalidPart(u16),
    #[error("parts must be listed in ascending order")]
    InvalidPartOrder,
    #[error("part {number} has {size} bytes; all but the last must have {min}")]
    PartTooSmall { number: u16, size: u64, min: u64 },
    /// The request header that does not hold.
    #[error("{0} does not hold")]
    PreconditionFailed(&'static str),
    /// Versioning or lock settings that exclude each other.
    #[error("{0}")]
    BucketState(String),
    #[error("the version is under legal hold")]
    LegalHold,
    /// Retention that ends later, or may not be shortened.
    #[error("the version is under retention ({0:?})")]
    Retained(RetentionMode),
    /// The customer's key is missing, not asked for, or not the one it was
    /// stored with.
    #[error("{0}")]
    CustomerKey(&'static str),
    /// No encryption key of this name.
    #[error("there is no encryption key '{0}'")]
    NoSuchEncryptionKey(String),
    /// The body is not what its sender says; a sentence.
    #[error("{0}")]
    Checksum(String),
    /// What a caller's `verify` has refused, to be taken back by the caller.
    #[error("the body was refused")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("not implemented: {0}")]
    NotSupported(&'static str),
    /// Full, read-only, unavailable, body broken off, or a fault.
    #[error(transparent)]
    Store(#[from] crate::Error),
}

pub type Result<T, E = Error> = std::result::Result<T, E>;
