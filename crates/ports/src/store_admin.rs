//! What an operator asks of a store, beside what its users do.
//!
//! Contract for backends:
//! - Long work goes on by itself once it has begun: `…_start` answers then, and
//!   `Conflict` while it runs already; the report says how it goes. It may be
//!   killed anywhere, and asked for again.
//! - What a backend does not do is `Error::Unavailable` with a sentence.

use std::collections::BTreeMap;

use async_trait::async_trait;
use muonic_types::store::{CheckReport, EncryptionKey, ReclaimReport, RotationReport, ScrubReport, StoreStats};

use crate::Result;
use crate::object_store::{self, Bucket, NewBucket};

#[async_trait]
pub trait StoreAdmin: Send + Sync {
    /// Reads all rows: seconds where there are millions.
    async fn stats(&self) -> Result<StoreStats>;

    /// Reads all that is stored and compares it with its sums, at most so many
    /// bytes a second (0: as fast as it goes), from where an earlier one was
    /// cut off.
    async fn scrub_start(&self, bytes_per_s: u64) -> Result<()>;
    fn scrub_report(&self) -> ScrubReport;

    /// Whether the index agrees with itself, and all that it names is there at
    /// its size. Reads no content.
    async fn check_start(&self) -> Result<()>;
    fn check_report(&self) -> CheckReport;

    /// Frees at once what no longer has a name and nobody reads.
    async fn reclaim_start(&self) -> Result<()>;
    fn reclaim_report(&self) -> ReclaimReport;

    /// All keys, the store's own first.
    async fn keys(&self) -> Result<Vec<EncryptionKey>>;
    /// `Conflict` where the name is taken, or cannot be one.
    async fn key_create(&self, name: &str) -> Result<EncryptionKey>;
    /// Gives the key a new version (`NotFound` where there is no such key),
    /// wraps with it what older ones have wrapped, and retires those. What was
    /// cut off goes on when the store is opened again.
    async fn rotation_start(&self, name: Option<&str>) -> Result<()>;
    fn rotation_report(&self) -> RotationReport;
}

/// Makes buckets of what lies in other stores.
#[async_trait]
pub trait Mounting: Send + Sync {
    /// Makes the bucket `new`, once the store at `url` has been reached.
    async fn mount(&self, new: NewBucket, url: &str, options: &BTreeMap<String, String>) -> Result<Bucket, MountError>;

    /// Takes the bucket away and nothing in the mounted store. `BucketState`
    /// where it is no mount.
    async fn unmount(&self, bucket: &str) -> object_store::Result<()>;

    /// URL and options without secrets; `None` where the bucket is no mount.
    fn described(&self, bucket: &Bucket) -> object_store::Result<Option<(String, BTreeMap<String, String>)>>;
}

#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The URL or an option is wrong; a sentence.
    #[error("{0}")]
    Invalid(String),
    /// The store cannot be reached or listed, or the bucket not made.
    #[error(transparent)]
    Store(#[from] object_store::Error),
}
