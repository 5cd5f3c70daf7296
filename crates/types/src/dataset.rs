//! Datasets: `name@N`, each version an immutable tree.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::blob::TreeSummary;
use crate::{Name, Timestamp};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Dataset {
    pub name: Name,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// The newest version.
    pub latest: DatasetVersion,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DatasetVersion {
    pub name: Name,
    /// Counts from 1.
    pub version: u32,
    pub tree: TreeSummary,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDatasetVersion {
    /// Digest of a tree made with `POST /api/v1/trees`.
    pub tree: crate::Digest,
}

/// The answer to a new version. Equal content makes no new version.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DatasetPut {
    #[serde(flatten)]
    pub version: DatasetVersion,
    /// False where the newest version had this content already.
    pub created: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DatasetList {
    pub datasets: Vec<Dataset>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DatasetVersionList {
    /// Newest first.
    pub versions: Vec<DatasetVersion>,
}
