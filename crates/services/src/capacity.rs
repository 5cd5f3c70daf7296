//! What of the engine is free, and the one door through which work gets in.
//! Jobs and replicas share a machine: whoever admits holds this lock from
//! reading what is free to writing what is taken.

use std::sync::Arc;

use muonic_ports::{Engine, Metastore};
use muonic_types::cost::Flavor;
use muonic_types::{Price, Resources, UnitId};
use tokio::sync::{Mutex, MutexGuard};

use crate::Result;

pub struct Admission {
    engine: Arc<dyn Engine>,
    meta: Arc<dyn Metastore>,
    flavor: Flavor,
    lock: Mutex<()>,
}

impl Admission {
    pub fn new(engine: Arc<dyn Engine>, meta: Arc<dyn Metastore>, flavor: Flavor) -> Self {
        Self { engine, meta, flavor, lock: Mutex::new(()) }
    }

    pub(crate) async fn enter(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().await
    }

    pub async fn capacity(&self) -> Result<Resources> {
        Ok(self.engine.capacity().await?)
    }

    pub(crate) fn may_serve_at(&self, unit: &UnitId, address: &str) -> bool {
        self.engine.may_serve_at(unit, address)
    }

    pub fn flavor(&self) -> &Flavor {
        &self.flavor
    }

    /// What a second of these resources costs here.
    pub fn price(&self, resources: &Resources) -> Price {
        self.flavor.price(resources)
    }

    /// What no attempt and no replica holds.
    pub async fn free(&self) -> Result<Resources> {
        let capacity = self.capacity().await?;
        let jobs = self.meta.jobs_open().await?;
        let replicas = self.meta.replicas_live().await?;
        let held = jobs.iter().filter(|j| j.attempt.is_some()).map(|j| &j.resources);
        let used = held.chain(replicas.iter().map(|r| &r.resources)).fold(Resources::default(), |sum, r| sum.plus(r));
        Ok(capacity.minus(&used))
    }
}
