//! The registry: models, their immutable versions with lineage, aliases.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::blob::TreeSummary;
use crate::{AttemptId, Digest, Name, Timestamp};

/// A model version's number together with its model's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct ModelVersionId {
    pub name: Name,
    /// Counts from 1.
    pub version: u32,
}

impl std::fmt::Display for ModelVersionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Model {
    pub name: Name,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Alias to version number.
    pub aliases: BTreeMap<String, u32>,
    pub latest: ModelVersion,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelVersion {
    pub name: Name,
    pub version: u32,
    pub tree: TreeSummary,
    pub source: ModelSource,
    /// Last value of each metric of the job that made it.
    pub metrics: BTreeMap<String, f64>,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// Where a model version came from; recorded as it happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ModelSource {
    /// Uploaded by a person.
    Upload,
    /// Made by an attempt of a job.
    Attempt {
        attempt: AttemptId,
        code: Option<Digest>,
        environment: Option<Digest>,
        inputs: BTreeMap<Name, SourceDataset>,
        #[schema(value_type = BTreeMap<String, Object>)]
        params: BTreeMap<String, serde_json::Value>,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SourceDataset {
    pub name: Name,
    pub version: u32,
    pub digest: Digest,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewModelVersion {
    /// Digest of a tree made with `POST /api/v1/trees`.
    pub tree: Digest,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetAlias {
    #[schema(minimum = 1)]
    pub version: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ModelList {
    pub models: Vec<Model>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ModelVersionList {
    /// Newest first.
    pub versions: Vec<ModelVersion>,
}
