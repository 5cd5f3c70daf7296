//! The metastore: everything the cloud knows, in transactions. Each method is
//! one transaction, durable when it returns. Services decide, the metastore
//! checks the guard named in the method's text and writes.
//!
//! One file per noun; backends implement all of them.

mod blobs;
mod datasets;
mod deferred;
mod endpoints;
mod former;
mod jobs;
mod keys;
mod models;

pub use blobs::Blobs;
pub use datasets::Datasets;
pub use deferred::{AsyncRecord, Deferred, Tried};
pub use endpoints::{Endpoints, NewRevisionRecord, ReplicaRecord};
pub use former::{Former, FormerBucket, FormerObject};
pub use jobs::{Admission, Claimed, Finish, JobFilter, Jobs, LiveJob, NewJobRecord, Next, PastRun};
pub use keys::Keys;
pub use models::Models;

use async_trait::async_trait;

use crate::Result;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub jobs_queued: u64,
    pub jobs_running: u64,
    pub endpoints: u64,
    pub datasets: u64,
    pub models: u64,
    pub stored_bytes: u64,
}

#[async_trait]
pub trait Metastore: Keys + Blobs + Datasets + Jobs + Models + Endpoints + Deferred + Former + Send + Sync {
    /// Numbers for `muonic status`.
    async fn counts(&self) -> Result<Counts>;
    /// Whether a write would succeed now; used by `/readyz`.
    async fn check(&self) -> Result<()>;
    /// Finishes what is under way and closes.
    async fn close(&self);
}
