use async_trait::async_trait;
use muonic_types::dataset::{Dataset, DatasetPut, DatasetVersion};
use muonic_types::{Digest, Name, ProjectId, Timestamp, VersionSelector};

use crate::Result;

#[async_trait]
pub trait Datasets {
    /// Adds the next version, unless the newest has this tree already.
    /// `NotFound` where the tree is not recorded.
    async fn dataset_put(&self, project: &ProjectId, name: &Name, tree: &Digest, at: Timestamp) -> Result<DatasetPut>;
    /// Datasets by name, each with its newest version.
    async fn dataset_list(&self, project: &ProjectId) -> Result<Vec<Dataset>>;
    /// `NotFound` also where the selector is an alias: datasets have none.
    async fn dataset_get(&self, project: &ProjectId, name: &Name, version: &VersionSelector) -> Result<DatasetVersion>;
    /// Newest first; `NotFound` where there is no such dataset.
    async fn dataset_versions(&self, project: &ProjectId, name: &Name) -> Result<Vec<DatasetVersion>>;
}
