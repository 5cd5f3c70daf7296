//! Datasets: named, versioned, immutable trees.

use std::sync::Arc;

use muonic_ports::{Clock, Metastore};
use muonic_types::dataset::{DatasetList, DatasetPut, DatasetVersion, DatasetVersionList, NewDatasetVersion};
use muonic_types::key::Principal;
use muonic_types::{Name, VersionSelector};

use crate::Result;
use crate::auth::{Action, authorise};

pub struct Datasets {
    meta: Arc<dyn Metastore>,
    clock: Arc<dyn Clock>,
}

impl Datasets {
    pub fn new(meta: Arc<dyn Metastore>, clock: Arc<dyn Clock>) -> Self {
        Self { meta, clock }
    }

    pub async fn put(&self, caller: &Principal, name: &Name, new: NewDatasetVersion) -> Result<DatasetPut> {
        authorise(caller, Action::WriteData)?;
        Ok(self.meta.dataset_put(&caller.project, name, &new.tree, self.clock.now()).await?)
    }

    pub async fn list(&self, caller: &Principal) -> Result<DatasetList> {
        authorise(caller, Action::Read)?;
        Ok(DatasetList { datasets: self.meta.dataset_list(&caller.project).await? })
    }

    pub async fn get(&self, caller: &Principal, name: &Name, version: &VersionSelector) -> Result<DatasetVersion> {
        authorise(caller, Action::Read)?;
        Ok(self.meta.dataset_get(&caller.project, name, version).await?)
    }

    pub async fn versions(&self, caller: &Principal, name: &Name) -> Result<DatasetVersionList> {
        authorise(caller, Action::Read)?;
        Ok(DatasetVersionList { versions: self.meta.dataset_versions(&caller.project, name).await? })
    }
}
