//! Datasets.

use muonic_types::dataset::{DatasetList, DatasetPut, DatasetVersion, DatasetVersionList, NewDatasetVersion};
use muonic_types::{Digest, Name, VersionRef};

use crate::{Client, Result, Retry, url::part};

impl Client {
    pub fn datasets(&self) -> Result<DatasetList> {
        self.get("/api/v1/datasets")
    }

    pub fn dataset_versions(&self, name: &Name) -> Result<DatasetVersionList> {
        self.get(&format!("/api/v1/datasets/{}/versions", part(name)))
    }

    pub fn dataset_version(&self, which: &VersionRef) -> Result<DatasetVersion> {
        self.get(&format!("/api/v1/datasets/{}/versions/{}", part(&which.name), part(&which.version)))
    }

    /// Makes the next version, unless the newest has this content. Idempotent.
    pub fn dataset_put(&self, name: &Name, tree: Digest) -> Result<DatasetPut> {
        let path = format!("/api/v1/datasets/{}/versions", part(name));
        Retry::SHORT.run(|| self.post(&path, &NewDatasetVersion { tree }))
    }
}
