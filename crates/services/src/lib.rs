//! The services: one file per noun. Each method authorises, validates,
//! transacts through the ports and wakes whoever must act. Doors call
//! services and nothing else; services never know which door called.
//!
//! The reconcilers live here too: the dispatcher (jobs), the releaser
//! (endpoints), the collector (unused blobs) and the lifecycle of buckets. They read intended and actual
//! state, woken by event or by clock, and repeat idempotent steps until both
//! agree.

mod auth;
pub mod backups;
pub mod blobs;
pub mod buckets;
mod capacity;
pub mod collector;
pub mod cost;
pub mod datasets;
pub mod deferred;
pub mod dispatcher;
pub mod endpoints;
mod error;
mod events;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
pub mod jobs;
mod jobs_check;
pub mod keys;
pub mod lifecycle;
pub mod lineage;
mod logs;
pub mod models;
pub mod releaser;
mod releases;
pub mod storage;
pub mod system;

/// Runs to its end even where the caller leaves half-way: for steps of which
/// one must not happen without the next.
pub(crate) async fn to_the_end<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let done = tokio::spawn(work).await;
    done.unwrap_or_else(|e| Err(muonic_ports::Error::internal("a step of a service failed", e).into()))
}

pub use auth::{Action, authorise};
pub use backups::Backups;
pub use blobs::Blobs;
pub use buckets::Buckets;
pub use capacity::Admission;
pub use collector::Collector;
pub use cost::Costs;
pub use datasets::Datasets;
pub use deferred::{Deferred, DeferredRunner};
pub use dispatcher::Dispatcher;
pub use endpoints::Endpoints;
pub use error::{Error, Result};
pub use events::Events;
pub use jobs::Jobs;
pub use keys::Keys;
pub use lifecycle::Lifecycle;
pub use lineage::Lineage;
pub use models::Models;
pub use releaser::Releaser;
pub use storage::Storage;
pub use system::System;
