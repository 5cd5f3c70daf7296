//! The suite for metastores: every method, its guards, its idempotence, and
//! what may happen at the same time.
//!
//! `make` gives a store; each case works in a project and under names of its
//! own, so all may share one.

mod attempts;
mod blobs;
mod datasets;
mod deferred;
mod endpoints;
mod jobs;
mod keys;
mod models;
mod world;

use std::sync::Arc;

use crate::Metastore;

/// Runs every case. Panics with the expectation that does not hold.
pub async fn run(make: impl AsyncFn() -> Arc<dyn Metastore>) {
    keys::run(&make().await).await;
    blobs::run(&make().await).await;
    datasets::run(&make().await).await;
    jobs::run(&make().await).await;
    attempts::run(&make().await).await;
    models::run(&make().await).await;
    endpoints::run(&make().await).await;
    deferred::run(&make().await).await;
    closing(&make().await).await;
}

async fn closing(store: &Arc<dyn Metastore>) {
    store.check().await.expect("a healthy store can be written");
    let before = store.counts().await.expect("counts");
    world::job(store, "counted").await;
    let after = store.counts().await.expect("counts");
    assert_eq!(after.jobs_queued, before.jobs_queued + 1, "a queued job counts");
    store.close().await;
    store.close().await;
    assert!(store.check().await.is_err(), "a closed store cannot be written");
    assert!(store.counts().await.is_err(), "a closed store cannot be read");
}
