//! Endpoints, revisions, replicas.
//!
//! ```text
//! revision: pending ─▶ active ─▶ retired ─▶ (rollback) pending …
//!              └─────▶ failed
//! replica:  launching ─▶ ready ─▶ draining ─▶ stopped
//!              └───────────┴─────────┴──────▶ failed
//! ```
//!
//! An endpoint's `target` is the revision it is moving to. The active one
//! serves until every replica of the target is ready; then traffic moves as the
//! release says ([`Release`]), and the old replicas drain.

mod deferred;
mod release;
mod scale;

pub use deferred::{ASYNC_BODY_BYTES_MAX, AsyncRequest, AsyncRequestList, AsyncState, NewAsyncRequest, ObjectAt};
pub use release::{
    Answers, Canary, Comparison, METRIC_NAME_MAX, Mean, MetricRule, NewMetric, Progress, Release, Shadow, Split,
};
pub use scale::{PerReplica, REPLICAS_MAX, Scale};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::ModelVersionId;
use crate::{Cpu, Memory, Name, ProjectId, ReplicaId, Resources, Timestamp, VersionRef, object};

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewEndpoint {
    pub name: Name,
    #[serde(flatten)]
    pub revision: NewRevision,
}

/// What a replica gets where nothing is said.
pub const RESOURCES: Resources = Resources { cpu: Cpu::milli(250), memory: Memory::mib(256), gpu: 0 };

/// What a new revision serves.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRevision {
    pub model: VersionRef,
    /// Processes that serve it, whatever is asked of them.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 100)]
    pub replicas: Option<u32>,
    /// Processes that serve it, by what is asked of them; instead of `replicas`.
    #[serde(default, deserialize_with = "object::maybe")]
    pub scale: Option<Scale>,
    /// Per replica.
    #[serde(default, deserialize_with = "object::maybe")]
    pub resources: Option<Resources>,
    /// How traffic comes to it.
    #[serde(default, deserialize_with = "object::maybe")]
    pub release: Option<Release>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The revision to go back to; the one active before this one without.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub revision: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    /// Its first revision is starting.
    Deploying,
    /// The active revision serves.
    Ready,
    /// The active revision serves while the target starts.
    Releasing,
    /// It has no replica, and wants none until a request comes.
    Sleeping,
    /// It slept, and its first replica starts.
    Waking,
    /// No replica of the active revision is ready.
    Unavailable,
    /// Its first revision could not be started.
    Failed,
    /// Its replicas are being stopped.
    Deleting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RevisionState {
    Pending,
    Active,
    Retired,
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaState {
    Launching,
    Ready,
    /// Gets no new requests; finishes those it has.
    Draining,
    Stopped,
    Failed,
}

impl ReplicaState {
    pub fn is_live(self) -> bool {
        matches!(self, Self::Launching | Self::Ready | Self::Draining)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Endpoint {
    pub name: Name,
    pub project: ProjectId,
    pub state: EndpointState,
    /// The revision that serves.
    pub active: Option<u32>,
    /// The revision it is moving to.
    pub target: Option<u32>,
    /// Newest first.
    pub revisions: Vec<Revision>,
    /// Live ones, and the last few that failed.
    pub replicas: Vec<Replica>,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// US dollars so far.
    pub cost_usd: f64,
    /// Path below the server's address.
    pub path: String,
    /// How the release goes that is under way, where traffic comes to its
    /// revision step by step.
    #[serde(default)]
    pub progress: Option<Progress>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Revision {
    /// Counts from 1.
    pub number: u32,
    pub model: ModelVersionId,
    /// At least.
    pub replicas: u32,
    /// Where the number of replicas follows what is asked of them.
    #[serde(default)]
    pub scale: Option<Scale>,
    pub resources: Resources,
    /// How traffic came to it, or comes.
    #[serde(default)]
    pub release: Release,
    /// The step of its release that it has come to: a canary's from 1, and 1
    /// of the other kinds; 0 before.
    #[serde(default)]
    pub step: u32,
    pub state: RevisionState,
    /// Why it failed, or what it waits for.
    pub reason: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it last became active.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub activated_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Replica {
    pub id: ReplicaId,
    pub revision: u32,
    pub state: ReplicaState,
    pub reason: Option<String>,
    /// `unix:<path>` or `http://host:port`; known once ready.
    pub address: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub launched_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ready_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EndpointList {
    pub endpoints: Vec<Endpoint>,
}
