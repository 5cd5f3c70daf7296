//! Backups: a snapshot of everything at a place elsewhere.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;

/// What to back up to.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBackup {
    /// An absolute path of a folder on the server's machine, or a URL such as
    /// `s3://bucket/prefix`.
    pub destination: String,
    /// Options of a URL, secrets among them: `endpoint`, `region`,
    /// `access_key_id`, `secret_access_key` and others, as for mounts.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Snapshots to keep, this one among them; all without.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub keep: Option<u32>,
    /// The keys are sealed with it. Whoever forgets it cannot restore.
    #[serde(default)]
    pub passphrase: Option<String>,
    /// Leave the keys out. They must be kept elsewhere.
    #[serde(default)]
    pub without_keys: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackupState {
    Running,
    Done,
    Failed,
}

/// What a backup is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackupStage {
    /// Looks at the destination.
    #[default]
    Looking,
    /// Copies the metastore and the index.
    Copying,
    /// Sends what the destination lacks.
    Sending,
    /// Removes what is no longer kept.
    Pruning,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct BackupProgress {
    pub stage: BackupStage,
    /// Data files that the snapshot needs.
    pub files: u64,
    pub bytes: u64,
    /// Those that are known to be at the destination.
    pub files_done: u64,
    pub bytes_done: u64,
    /// Data files that the destination lacked, as far as they were sent.
    pub files_sent: u64,
    pub bytes_sent: u64,
}

/// A backup that runs or has ended lately.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Backup {
    pub id: String,
    pub destination: String,
    pub state: BackupState,
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    pub progress: BackupProgress,
    /// The snapshot it has made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
    /// What did not work although the snapshot was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BackupList {
    pub backups: Vec<Backup>,
}

/// How the keys are kept in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotKeys {
    /// As files that only their owner can read.
    Plain,
    /// Sealed with a passphrase.
    Sealed,
    /// They are not in it.
    None,
}

/// A state of everything, which can be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// Its time, in UTC, such as `20261103T120000.000Z`; names sort by time.
    pub name: String,
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The version of muonic that made it.
    pub version: String,
    pub keys: SnapshotKeys,
    /// Data files, and the bytes they have.
    pub files: u64,
    pub bytes: u64,
    /// What had to be sent for it: data files, and the bytes of those.
    pub files_sent: u64,
    pub bytes_sent: u64,
}
