/// What a port answers when it cannot do what was asked; variants are what a
/// caller can act on. `what` is a sentence for people; `source` is for the log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The thing named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// It exists already, or its state forbids this.
    #[error("{0}")]
    Conflict(String),
    /// Bytes do not have the digest or size announced.
    #[error("{0}")]
    Checksum(String),
    /// A blob that a manifest names is not in the store.
    #[error("{0}")]
    MissingBlobs(String),
    /// The disk is full.
    #[error("the disk is full")]
    DiskFull,
    /// The backend refuses writes until an operator acts: a sync failed or
    /// the data folder is read-only.
    #[error("{0}")]
    ReadOnly(String),
    /// The backend cannot be reached or is overloaded; try again.
    #[error("{0}")]
    Unavailable(String),
    /// What came from the caller's stream ended in an error.
    #[error("the body ended early: {0}")]
    Body(std::io::Error),
    /// Anything else: a fault to look into.
    #[error("{what}")]
    Internal {
        what: String,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn internal(what: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal { what: what.into(), source: Some(source.into()) }
    }

    pub fn bug(what: impl Into<String>) -> Self {
        Self::Internal { what: what.into(), source: None }
    }
}
