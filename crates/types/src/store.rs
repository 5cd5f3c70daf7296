//! The store as its operator sees it: what it holds, whether it is well, the
//! keys it encrypts with, and the stores that are mounted into it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ProjectId, Timestamp};

/// How much is stored, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoreStats {
    pub buckets: u64,
    /// Keys whose latest version is not a delete marker.
    pub objects: u64,
    /// With delete markers.
    pub versions: u64,
    /// Uploads in parts that have not ended.
    pub uploads: u64,
    pub blobs: u64,
    /// What contents take in the index.
    pub inline_bytes: u64,
    /// In segments, which many small contents share.
    pub segment_bytes: u64,
    /// In files of their own.
    pub file_bytes: u64,
    /// In files of the store's first format.
    pub legacy_bytes: u64,
    /// Contents that wait to be freed.
    pub garbage: u64,
    /// What segments take on the disk, with what is dead in them.
    pub segments_on_disk_bytes: u64,
}

/// Something that happened to an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BucketEvent {
    /// Later events have greater numbers; there are gaps.
    pub number: u64,
    /// As S3 calls it, such as `s3:ObjectCreated:Put`.
    pub name: String,
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    pub bucket: String,
    pub key: String,
    /// Of buckets that keep versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Of the version that came, changed or went, in bytes.
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Id of the notification that asks for it; none where all events are
    /// asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notification: Option<String>,
}

/// Events of a bucket, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BucketEventList {
    pub events: Vec<BucketEvent>,
    /// What to ask for next, as `after`.
    pub next: u64,
    /// Events between these and those asked for before may have been forgotten.
    pub gap: bool,
}

/// When long work of the store began, and how it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Run {
    pub running: bool,
    /// None where it never ran since the server has started.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// None while it runs, and where it was cut off.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// Why it was cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Bytes that are not what they were when they were written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Damage {
    /// What uses them: `BUCKET/KEY (version ID)` or `blob sha256:..`.
    pub names: Vec<String>,
    pub what: String,
}

/// How the latest scrub went, or goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScrubReport {
    #[serde(flatten)]
    pub run: Run,
    /// Read so far.
    pub extents: u64,
    pub bytes: u64,
    /// 1,000 at most.
    pub damaged: Vec<Damage>,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewScrub {
    /// How fast to read, in bytes a second; as configured without, as fast as
    /// it goes for 0.
    #[serde(default)]
    pub bytes_per_s: Option<u64>,
}

/// How the latest check went, or goes: whether the index agrees with itself,
/// and whether all that it names lies on the disk at its full size.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckReport {
    #[serde(flatten)]
    pub run: Run,
    /// Looked for so far.
    pub extents: u64,
    pub bytes: u64,
    /// 1,000 at most.
    pub problems: Vec<String>,
}

/// What the latest reclaiming that was asked for has freed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReclaimReport {
    #[serde(flatten)]
    pub run: Run,
    pub extents: u64,
    pub bytes: u64,
    pub segments: u64,
    /// Files that nobody named, as a crash leaves them behind.
    pub files: u64,
}

/// A key that data keys are wrapped with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EncryptionKey {
    /// As S3 requests name it; none is the store's own key.
    pub name: Option<String>,
    /// The newest wraps; older ones only open, until what they wrap is
    /// wrapped anew.
    pub versions: Vec<EncryptionKeyVersion>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EncryptionKeyVersion {
    pub version: u32,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EncryptionKeyList {
    pub keys: Vec<EncryptionKey>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewEncryptionKey {
    /// 1 to 256 characters, as S3 requests will name it.
    pub name: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRotation {
    /// Of which key; the store's own without.
    #[serde(default)]
    pub name: Option<String>,
}

/// How the latest rotation of a key went, or goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RotationReport {
    #[serde(flatten)]
    pub run: Run,
    /// None is the store's own key.
    pub name: Option<String>,
    /// The newest version.
    pub version: u32,
    /// Contents looked at.
    pub extents: u64,
    /// Data keys wrapped anew.
    pub rewrapped: u64,
    /// Versions that nothing needs any longer, and that are gone.
    pub retired: Vec<u32>,
}

/// A bucket whose objects lie in another store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Mount {
    pub bucket: String,
    pub project: ProjectId,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// None where its record cannot be read; `problem` says why.
    pub url: Option<String>,
    /// Without those that are secrets.
    pub options: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MountList {
    pub mounts: Vec<Mount>,
}

#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMount {
    /// The bucket to make.
    pub bucket: String,
    /// `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`,
    /// `abfss://container@account.dfs.core.windows.net/prefix`,
    /// `hdfs://host:port/path` or `file:///folder`.
    pub url: String,
    /// Credentials and settings of the store, by name. Secrets among them are
    /// kept encrypted and never shown.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Whose the bucket is; the caller's without.
    #[serde(default)]
    pub project: Option<ProjectId>,
}
