//! What a shim or a replica and the server say to each other.
//!
//! Each attempt and each replica has its own key. The key dies with the
//! attempt, so a stale shim is refused with 401 or 409 and stops its work.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::job::{Exit, JobSpec, MetricPoint, Phase};
use crate::{AttemptId, Digest, Name, ReplicaId, Resources, Timestamp, object};

/// Answer to a claim: everything the shim needs.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskSpec {
    pub attempt: AttemptId,
    pub spec: JobSpec,
    /// Channel to the tree of its dataset version.
    pub inputs: BTreeMap<Name, Digest>,
    /// Bytes of log kept; the rest is dropped and counted.
    pub log_bytes_max: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskProgress {
    pub phase: Phase,
    #[serde(default)]
    pub environment: Option<Digest>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LogAppended {
    /// Where the next bytes belong.
    pub next_offset: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMetricPoints {
    /// How many points of this attempt were sent before; points that the
    /// server has are skipped, so sending again is harmless.
    pub first: u64,
    #[schema(max_items = 10_000)]
    #[serde(deserialize_with = "object::each")]
    pub points: Vec<MetricPoint>,
}

/// How an attempt ended, sent once its log and outputs are stored.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExitReport {
    #[serde(deserialize_with = "object::one")]
    pub exit: Exit,
    /// One sentence, with the last lines of the log where it failed.
    pub message: Option<String>,
    /// When the user's command began and ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub command_started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub command_ended_at: Option<Timestamp>,
    /// When the attempt was over: its outputs saved, this report made. What it
    /// held is free from then on, however late the report arrives.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    #[serde(default)]
    pub environment: Option<Digest>,
    /// Tree of `SM_MODEL_DIR`, where it is not empty.
    #[serde(default)]
    pub model: Option<Digest>,
    /// Tree of `SM_OUTPUT_DATA_DIR`, where it is not empty.
    #[serde(default)]
    pub output: Option<Digest>,
}

/// Answer to a replica's claim.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReplicaSpec {
    pub replica: ReplicaId,
    pub endpoint: Name,
    pub revision: u32,
    pub model: Name,
    pub version: u32,
    /// Tree of the model's files.
    pub tree: Digest,
    pub resources: Resources,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplicaReady {
    /// `unix:<path>` or `http://host:port`.
    #[schema(max_length = 4096)]
    pub address: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplicaFailed {
    /// One sentence: why the model cannot be served.
    pub message: String,
}
