//! The registry.

use muonic_types::model::{Model, ModelList, ModelVersion, ModelVersionList, NewModelVersion, SetAlias};
use muonic_types::{Digest, Name, VersionRef};

use crate::{Client, Result, url::part};

fn path(name: &Name) -> String {
    format!("/api/v1/models/{}", part(name))
}

impl Client {
    pub fn models(&self) -> Result<ModelList> {
        self.get("/api/v1/models")
    }

    pub fn model(&self, name: &Name) -> Result<Model> {
        self.get(&path(name))
    }

    pub fn model_versions(&self, name: &Name) -> Result<ModelVersionList> {
        self.get(&format!("{}/versions", path(name)))
    }

    pub fn model_version(&self, which: &VersionRef) -> Result<ModelVersion> {
        self.get(&format!("{}/versions/{}", path(&which.name), part(&which.version)))
    }

    /// Registers a tree as the next version. Not repeated: it would make two.
    pub fn model_register(&self, name: &Name, tree: Digest) -> Result<ModelVersion> {
        self.post(&format!("{}/versions", path(name)), &NewModelVersion { tree })
    }

    pub fn model_set_alias(&self, name: &Name, alias: &Name, version: u32) -> Result<Model> {
        self.put(&format!("{}/aliases/{}", path(name), part(alias)), &SetAlias { version })
    }

    pub fn model_delete_alias(&self, name: &Name, alias: &Name) -> Result<Model> {
        self.delete(&format!("{}/aliases/{}", path(name), part(alias)))
    }
}
