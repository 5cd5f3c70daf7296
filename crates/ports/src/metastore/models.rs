use std::collections::BTreeMap;

use async_trait::async_trait;
use muonic_types::model::{Model, ModelSource, ModelVersion};
use muonic_types::{Digest, Name, ProjectId, Timestamp, VersionSelector};

use crate::Result;

#[async_trait]
pub trait Models {
    /// Adds the next version. `NotFound` where the tree is not recorded.
    async fn model_register(
        &self,
        project: &ProjectId,
        name: &Name,
        tree: &Digest,
        source: &ModelSource,
        metrics: &BTreeMap<String, f64>,
        at: Timestamp,
    ) -> Result<ModelVersion>;
    async fn model_list(&self, project: &ProjectId) -> Result<Vec<Model>>;
    async fn model_get(&self, project: &ProjectId, name: &Name) -> Result<Model>;
    /// Resolves numbers, `latest` and aliases.
    async fn model_version(&self, project: &ProjectId, name: &Name, version: &VersionSelector) -> Result<ModelVersion>;
    /// Newest first.
    async fn model_versions(&self, project: &ProjectId, name: &Name) -> Result<Vec<ModelVersion>>;
    /// Points an alias at a version that exists.
    async fn alias_set(&self, project: &ProjectId, name: &Name, alias: &Name, version: u32) -> Result<Model>;
    async fn alias_delete(&self, project: &ProjectId, name: &Name, alias: &Name) -> Result<Model>;
}
