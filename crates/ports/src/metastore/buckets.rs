use std::collections::BTreeMap;

use async_trait::async_trait;
use muonic_types::{Digest, ProjectId, Timestamp};

use crate::Result;

#[derive(Debug, Clone, PartialEq)]
pub struct ObjectRecord {
    pub key: String,
    pub digest: Digest,
    pub size: u64,
    /// Without quotes.
    pub etag: String,
    /// Content headers and `x-amz-meta-` values, by lower-case name.
    pub headers: BTreeMap<String, String>,
    pub modified_at: Timestamp,
}

/// A page of a listing. With a delimiter, keys that share a prefix up to it
/// are rolled up into `prefixes`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listing {
    pub objects: Vec<ObjectRecord>,
    pub prefixes: Vec<String>,
    /// Pass as `after` to get the next page.
    pub next_after: Option<String>,
}

/// Methods that name a bucket answer `NotFound` where there is none.
#[async_trait]
pub trait Buckets {
    /// `Conflict` where it exists.
    async fn bucket_create(&self, project: &ProjectId, name: &str, at: Timestamp) -> Result<()>;
    async fn bucket_exists(&self, project: &ProjectId, name: &str) -> Result<bool>;
    /// Names with creation times, by name.
    async fn bucket_list(&self, project: &ProjectId) -> Result<Vec<(String, Timestamp)>>;
    /// `Conflict` where it is not empty.
    async fn bucket_delete(&self, project: &ProjectId, name: &str) -> Result<()>;
    /// Replaces. `NotFound` where there is no bucket; `MissingBlobs` where the
    /// digest is not recorded.
    async fn object_put(&self, project: &ProjectId, bucket: &str, object: &ObjectRecord) -> Result<()>;
    async fn object_get(&self, project: &ProjectId, bucket: &str, key: &str) -> Result<Option<ObjectRecord>>;
    /// True where there was one.
    async fn object_delete(&self, project: &ProjectId, bucket: &str, key: &str) -> Result<bool>;
    /// Keys in byte order, after `after`, at most `max` objects and prefixes
    /// together. Where `after` is a rolled-up prefix, all below it is passed over.
    async fn object_list(
        &self,
        project: &ProjectId,
        bucket: &str,
        prefix: &str,
        delimiter: Option<&str>,
        after: Option<&str>,
        max: u32,
    ) -> Result<Listing>;
}
