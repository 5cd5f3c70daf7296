use async_trait::async_trait;
use muonic_types::blob::TreeSummary;
use muonic_types::{Digest, Timestamp};

use crate::Result;
use crate::blob_store::Blob;

/// Which blobs the object store holds durably, and the trees among them.
#[async_trait]
pub trait Blobs {
    /// Records blobs after the store has made them durable; known ones stay.
    async fn blobs_insert(&self, blobs: &[Blob], at: Timestamp) -> Result<()>;
    /// Those of `digests` that are not recorded, in the same order.
    async fn blobs_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>>;
    /// Sizes of those recorded among `digests`.
    async fn blob_sizes(&self, digests: &[Digest]) -> Result<std::collections::HashMap<Digest, u64>>;
    /// Records a tree (its own blob included), or that a known one was made
    /// again. `MissingBlobs` where the blob of the tree itself is not recorded.
    async fn tree_insert(&self, tree: &TreeSummary, at: Timestamp) -> Result<()>;
    async fn tree_get(&self, digest: &Digest) -> Result<Option<TreeSummary>>;
    /// The trees that something names (a dataset or model version, a job, an
    /// attempt, a revision, a replica), and those made at `since` or later.
    async fn trees_in_use(&self, since: Timestamp) -> Result<Vec<Digest>>;
    /// Blobs recorded before an instant, by digest, those after `after`.
    async fn blobs_before(&self, before: Timestamp, after: Option<Digest>, max: u32) -> Result<Vec<Blob>>;
    /// Forgets blobs, trees among them. `Conflict`, and nothing is forgotten,
    /// where one of them is a tree that `trees_in_use` would answer.
    async fn blobs_forget(&self, blobs: &[Blob], since: Timestamp) -> Result<()>;
}
