//! The engine: where units (tasks and replicas) run. It only launches, lists
//! and stops; all behaviour that users see lives in the shim and the replica.
//!
//! Contract for backends:
//! - `launch` is idempotent by unit id: launching a unit that runs, or that
//!   has run, starts nothing. A unit's program runs at most once.
//! - Units outlive the server; `list` finds all of them again after a restart.
//! - `stop` sends SIGTERM to the unit's supervisor, and after `grace` ends
//!   every process of the unit. It returns at once; the end shows in `list`.
//! - `forget` removes what is left of a unit that does not run.
//! - `changed` wakes whoever waits whenever a unit may have ended.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use muonic_types::{Resources, UnitId};

use crate::Result;

#[derive(Clone)]
pub struct Launch {
    pub unit: UnitId,
    pub resources: Resources,
    /// The unit's own key, `<id>.<secret>`. Never on a command line.
    pub token: String,
    /// Plain settings for the unit's program.
    pub settings: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitState {
    /// Prepared, and no supervisor of it was seen: its launch was cut short.
    /// It may be launched again, or forgotten, and then never begins.
    Unstarted,
    Running,
    /// Its supervisor is gone; any processes it left have been ended. The
    /// text says how, where that is known.
    Ended(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitStatus {
    pub unit: UnitId,
    pub state: UnitState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    pub name: &'static str,
    pub available: bool,
    pub detail: String,
}

#[async_trait]
pub trait Engine: Send + Sync {
    /// `local`, `kubernetes`, `slurm` or `ray`.
    fn name(&self) -> &'static str;
    /// All that units may use together.
    async fn capacity(&self) -> Result<Resources>;
    async fn launch(&self, launch: &Launch) -> Result<()>;
    /// Whether this is the address (`unix:<path>` or `http://host:port`) at
    /// which this engine lets the replica listen.
    fn may_serve_at(&self, unit: &UnitId, address: &str) -> bool;
    async fn list(&self) -> Result<Vec<UnitStatus>>;
    async fn stop(&self, unit: &UnitId, grace: Duration) -> Result<()>;
    async fn forget(&self, unit: &UnitId) -> Result<()>;
    /// Ticks whenever a unit may have ended.
    fn changed(&self) -> tokio::sync::watch::Receiver<u64>;
    /// What of isolation and limits works here, for `muonic doctor`.
    async fn features(&self) -> Vec<Feature>;
}
