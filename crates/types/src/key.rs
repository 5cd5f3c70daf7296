//! Keys: one kind for every API.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{AttemptId, KeyId, Name, ProjectId, ReplicaId, Timestamp, object};

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, keys included.
    Admin,
    /// Reads and changes data, jobs, models and endpoints.
    Member,
    /// Reads, and calls endpoints.
    Viewer,
    /// Calls endpoints, nothing else.
    Invoker,
    /// Given to a running attempt: reads what its project holds, writes data
    /// and objects, calls endpoints, reports on its own attempt.
    Task,
    /// Given to a replica: reads blobs by their digest, reports on itself.
    Replica,
}

impl Role {
    /// Whether keys of this role may call endpoints.
    pub fn may_invoke(self) -> bool {
        self != Self::Replica
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Admin => "admin",
            Self::Member => "member",
            Self::Viewer => "viewer",
            Self::Invoker => "invoker",
            Self::Task => "task",
            Self::Replica => "replica",
        })
    }
}

/// What a key may ask of endpoints; without limits, as much as they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyLimits {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub requests_per_minute: Option<u32>,
    /// Tokens of language models, as their answers tell them; a stream that
    /// does not tell counts one for each event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub tokens_per_minute: Option<u32>,
}

/// A key without its secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Key {
    pub id: KeyId,
    pub name: Name,
    pub project: ProjectId,
    pub role: Role,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// The attempt a `task` key was given to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<AttemptId>,
    /// The replica a `replica` key was given to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<ReplicaId>,
    #[serde(default)]
    pub limits: KeyLimits,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    pub name: Name,
    /// `admin`, `member`, `viewer` or `invoker`.
    pub role: Role,
    /// Seconds until it expires; never without.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 3_153_600_000_u64)]
    pub expires_in_s: Option<u64>,
    /// Another project than the caller's; only an administrator of `default`
    /// may name one. A project is there as soon as it has a key.
    #[serde(default)]
    pub project: Option<ProjectId>,
    #[serde(default, deserialize_with = "object::one")]
    pub limits: KeyLimits,
}

/// A new key with its secret, shown this once.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct KeyCreated {
    #[serde(flatten)]
    pub key: Key,
    /// The secret access key, as S3 clients want it.
    pub secret: String,
    /// `<id>.<secret>`, for `Authorization: Bearer`.
    pub token: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct KeyList {
    pub keys: Vec<Key>,
}

/// Who is calling: a key's identity, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub key: KeyId,
    pub project: ProjectId,
    pub role: Role,
    pub attempt: Option<AttemptId>,
    pub replica: Option<ReplicaId>,
    pub limits: KeyLimits,
}
