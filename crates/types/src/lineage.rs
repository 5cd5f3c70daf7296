//! Lineage: what a thing was made from, all the way down.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LineageKind {
    Endpoint,
    Model,
    Job,
    Dataset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    Endpoint,
    Revision,
    ModelVersion,
    Attempt,
    Code,
    Environment,
    DatasetVersion,
    Params,
}

/// A thing and what it was made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LineageNode {
    pub kind: NodeKind,
    /// `digits@1`, `train-1.1`, a digest…
    pub id: String,
    /// Its content hash, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<crate::Digest>,
    /// What people want to know of it.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    #[schema(value_type = Object)]
    pub detail: serde_json::Map<String, serde_json::Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(no_recursion)]
    pub made_from: Vec<LineageNode>,
}
