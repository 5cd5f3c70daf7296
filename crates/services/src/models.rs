//! The registry: models, versions, aliases.

use std::collections::BTreeMap;
use std::sync::Arc;

use muonic_ports::{Clock, Metastore};
use muonic_types::key::Principal;
use muonic_types::model::{Model, ModelList, ModelSource, ModelVersion, ModelVersionList, NewModelVersion, SetAlias};
use muonic_types::{Name, VersionSelector};

use crate::auth::{Action, authorise};
use crate::{Error, Result};

pub struct Models {
    meta: Arc<dyn Metastore>,
    clock: Arc<dyn Clock>,
}

impl Models {
    pub fn new(meta: Arc<dyn Metastore>, clock: Arc<dyn Clock>) -> Self {
        Self { meta, clock }
    }

    /// Registers files that a person uploaded. What jobs make is registered
    /// as they end, with its lineage.
    pub async fn register(&self, caller: &Principal, name: &Name, new: NewModelVersion) -> Result<ModelVersion> {
        authorise(caller, Action::Operate)?;
        let now = self.clock.now();
        Ok(self
            .meta
            .model_register(&caller.project, name, &new.tree, &ModelSource::Upload, &BTreeMap::new(), now)
            .await?)
    }

    pub async fn list(&self, caller: &Principal) -> Result<ModelList> {
        authorise(caller, Action::Read)?;
        Ok(ModelList { models: self.meta.model_list(&caller.project).await? })
    }

    pub async fn get(&self, caller: &Principal, name: &Name) -> Result<Model> {
        authorise(caller, Action::Read)?;
        Ok(self.meta.model_get(&caller.project, name).await?)
    }

    pub async fn version(&self, caller: &Principal, name: &Name, version: &VersionSelector) -> Result<ModelVersion> {
        authorise(caller, Action::Read)?;
        Ok(self.meta.model_version(&caller.project, name, version).await?)
    }

    pub async fn versions(&self, caller: &Principal, name: &Name) -> Result<ModelVersionList> {
        authorise(caller, Action::Read)?;
        Ok(ModelVersionList { versions: self.meta.model_versions(&caller.project, name).await? })
    }

    pub async fn set_alias(&self, caller: &Principal, name: &Name, alias: &Name, set: SetAlias) -> Result<Model> {
        authorise(caller, Action::Operate)?;
        if alias.as_str() == "latest" || alias.as_str().bytes().all(|c| c.is_ascii_digit()) {
            return Err(Error::invalid(format!(
                "'{alias}' cannot be an alias: 'latest' and numbers name versions already"
            ))
            .hint("choose another word, such as champion"));
        }
        Ok(self.meta.alias_set(&caller.project, name, alias, set.version).await?)
    }

    pub async fn delete_alias(&self, caller: &Principal, name: &Name, alias: &Name) -> Result<Model> {
        authorise(caller, Action::Operate)?;
        Ok(self.meta.alias_delete(&caller.project, name, alias).await?)
    }
}
