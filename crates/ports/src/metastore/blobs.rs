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
    /// Records a tree (its own blob included). `MissingBlobs` where the blob
    /// of the tree itself is not recorded.
    async fn tree_insert(&self, tree: &TreeSummary, at: Timestamp) -> Result<()>;
    async fn tree_get(&self, digest: &Digest) -> Result<Option<TreeSummary>>;
}
