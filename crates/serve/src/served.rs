//! What listens: a model behind our doors, or a program that has its own.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;

use crate::confined::Confined;
use crate::program::{Program, Settings, Spec};
use crate::{Limits, LoadOptions, Replica, environment, load_within, model, router};

/// By what name it is served.
#[derive(Debug, Clone)]
pub struct Identity {
    pub name: String,
    pub version: String,
}

/// Cheap to clone.
#[derive(Clone)]
pub enum Served {
    Model(Arc<Replica>),
    Program(Arc<Program>),
}

impl Served {
    /// Loads what is at `path`; takes as long as that takes. Calls `confine`
    /// between the building of an environment and what is the model's own.
    pub fn open(
        path: &Path,
        identity: Identity,
        options: &LoadOptions,
        limits: Limits,
        confine: impl FnOnce() -> anyhow::Result<Option<Arc<Confined>>>,
    ) -> anyhow::Result<Self> {
        let Identity { name, version } = identity;
        if let model::Kind::Program(folder) = model::find(path)? {
            let folder = std::path::absolute(&folder).with_context(|| format!("cannot find {}", folder.display()))?;
            let spec = Spec::read(&folder.join(muonic_types::model::SERVE_FILE))?;
            let python = environment::python_of(&folder, &options.cache, options.python.as_deref())?;
            let (log_bytes_max, requests_max, confined) = (options.log_bytes_max, limits.requests_max, confine()?);
            let settings = Settings { spec, folder, python, log_bytes_max, requests_max, confined };
            return Ok(Self::Program(Arc::new(Program::start(settings)?)));
        }
        let loaded = load_within(path, options, confine)?;
        let replica = Replica::new(name, version, loaded, limits);
        Ok(Self::Model(replica.context("cannot start the threads that run the model")?))
    }

    pub fn router(&self) -> Router {
        match self {
            Self::Model(replica) => router(Arc::clone(replica)),
            Self::Program(program) => program.router(),
        }
    }

    /// A model says "not ready" from now on; requests are still answered.
    pub fn stop(&self) {
        if let Self::Model(replica) = self {
            replica.stop();
        }
    }

    /// Ends worker processes and programs; blocks. No request comes after it.
    pub fn shut_down(&self) {
        match self {
            Self::Model(replica) => replica.runtime.shut_down(),
            Self::Program(program) => program.shut_down(),
        }
    }
}
