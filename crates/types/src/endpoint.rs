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
//! serves until every replica of the target is ready; then traffic moves in
//! one step and the old replicas drain.

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
    /// Processes that serve it.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 100)]
    pub replicas: Option<u32>,
    /// Per replica.
    #[serde(default, deserialize_with = "object::maybe")]
    pub resources: Option<Resources>,
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
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Revision {
    /// Counts from 1.
    pub number: u32,
    pub model: ModelVersionId,
    pub replicas: u32,
    pub resources: Resources,
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
