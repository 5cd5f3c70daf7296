//! The native API's paths, one file per noun.

mod attempts;
mod backups;
pub(crate) mod blobs;
mod buckets;
mod costs;
mod datasets;
mod endpoints;
mod jobs;
mod keys;
mod models;
mod replicas;
mod store;
mod system;

use std::sync::Arc;

use axum::Router;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use crate::Services;

/// Everything below `/api/v1`; each needs a key.
pub(crate) fn native() -> OpenApiRouter<Arc<Services>> {
    OpenApiRouter::new()
        .merge(blobs::router())
        .merge(datasets::router())
        .merge(jobs::router())
        .merge(attempts::router())
        .merge(models::router())
        .merge(endpoints::router())
        .merge(replicas::router())
        .merge(keys::router())
        .merge(backups::router())
        .merge(costs::router())
        .merge(store::router())
        .merge(buckets::router())
        .merge(system::router())
}

/// What needs no key: health, and the document.
pub(crate) fn open() -> Router<Arc<Services>> {
    system::open()
}

/// A success with nothing to say.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Done {}
