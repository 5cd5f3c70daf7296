use std::collections::BTreeMap;

use async_trait::async_trait;
use muonic_types::{Digest, ProjectId, Timestamp};

use crate::Result;

#[derive(Debug, Clone, PartialEq)]
pub struct FormerBucket {
    pub project: ProjectId,
    pub name: String,
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq)]
pub struct FormerObject {
    pub key: String,
    /// Of a blob.
    pub digest: Digest,
    /// The MD5 of its bytes in hexadecimal.
    pub etag: String,
    /// Content headers and `x-amz-` values, by lower-case name.
    pub headers: BTreeMap<String, String>,
    pub modified_at: Timestamp,
}

/// Buckets of data folders from before the object store kept them. There are
/// none once it has taken them over.
#[async_trait]
pub trait Former {
    async fn former_buckets(&self) -> Result<Vec<FormerBucket>>;
    /// By key, those after `after`.
    async fn former_objects(&self, bucket: &FormerBucket, after: Option<&str>, max: u32) -> Result<Vec<FormerObject>>;
    /// Forgets a bucket with its objects.
    async fn former_bucket_forget(&self, bucket: &FormerBucket) -> Result<()>;
}
