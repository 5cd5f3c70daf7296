use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use muonic_types::store::{
    CheckReport, EncryptionKey, EncryptionKeyList, Mount, MountList, NewEncryptionKey, NewMount, NewRotation, NewScrub,
    ReclaimReport, RotationReport, ScrubReport, StoreStats,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Done;
use crate::extract::{Caller, JsonBody, Path};
use crate::render::Failure;
use crate::{App, Services};

pub(super) fn router() -> OpenApiRouter<Arc<Services>> {
    OpenApiRouter::new()
        .routes(routes!(stats))
        .routes(routes!(scrub, scrub_report))
        .routes(routes!(check, check_report))
        .routes(routes!(reclaim, reclaim_report))
        .routes(routes!(keys, key_create))
        .routes(routes!(rotate, rotation_report))
        .routes(routes!(mount, mounts))
        .routes(routes!(unmount))
}

/// How much is stored, and where. This and all below is for administrators of
/// the project `default`.
#[utoipa::path(get, path = "/store/stats", tag = "store", responses((status = 200, description = "Counts and bytes", body = StoreStats)))]
async fn stats(State(app): App, Caller(caller): Caller) -> Result<Json<StoreStats>, Failure> {
    Ok(Json(app.storage.stats(&caller).await?))
}

/// Begin to compare all that is stored with its sums, where an earlier scrub
/// was cut off.
#[utoipa::path(post, path = "/store/scrub", tag = "store", request_body = NewScrub, responses((status = 200, description = "It has begun", body = ScrubReport)))]
async fn scrub(
    State(app): App,
    Caller(caller): Caller,
    JsonBody(new): JsonBody<NewScrub>,
) -> Result<Json<ScrubReport>, Failure> {
    Ok(Json(app.storage.scrub(&caller, new).await?))
}

/// How the latest scrub went, or goes.
#[utoipa::path(get, path = "/store/scrub", tag = "store", responses((status = 200, description = "What it has found", body = ScrubReport)))]
async fn scrub_report(State(app): App, Caller(caller): Caller) -> Result<Json<ScrubReport>, Failure> {
    Ok(Json(app.storage.scrub_report(&caller).await?))
}

/// Begin to check the index, and that all that it names is there.
#[utoipa::path(post, path = "/store/check", tag = "store", responses((status = 200, description = "It has begun", body = CheckReport)))]
async fn check(State(app): App, Caller(caller): Caller) -> Result<Json<CheckReport>, Failure> {
    Ok(Json(app.storage.check(&caller).await?))
}

/// How the latest check went, or goes.
#[utoipa::path(get, path = "/store/check", tag = "store", responses((status = 200, description = "What it has found", body = CheckReport)))]
async fn check_report(State(app): App, Caller(caller): Caller) -> Result<Json<CheckReport>, Failure> {
    Ok(Json(app.storage.check_report(&caller).await?))
}

/// Begin to free what nothing needs any longer, without the usual wait.
#[utoipa::path(post, path = "/store/reclaim", tag = "store", responses((status = 200, description = "It has begun", body = ReclaimReport)))]
async fn reclaim(State(app): App, Caller(caller): Caller) -> Result<Json<ReclaimReport>, Failure> {
    Ok(Json(app.storage.reclaim(&caller).await?))
}

/// What the latest reclaiming that was asked for has freed.
#[utoipa::path(get, path = "/store/reclaim", tag = "store", responses((status = 200, description = "What it has freed", body = ReclaimReport)))]
async fn reclaim_report(State(app): App, Caller(caller): Caller) -> Result<Json<ReclaimReport>, Failure> {
    Ok(Json(app.storage.reclaim_report(&caller).await?))
}

/// The keys that the store encrypts with: names and versions.
#[utoipa::path(get, path = "/store/keys", tag = "store", responses((status = 200, description = "The store's own first", body = EncryptionKeyList)))]
async fn keys(State(app): App, Caller(caller): Caller) -> Result<Json<EncryptionKeyList>, Failure> {
    Ok(Json(app.storage.keys(&caller).await?))
}

/// Make an encryption key that S3 requests can name.
#[utoipa::path(post, path = "/store/keys", tag = "store", request_body = NewEncryptionKey, responses((status = 200, description = "The key", body = EncryptionKey)))]
async fn key_create(
    State(app): App,
    Caller(caller): Caller,
    JsonBody(new): JsonBody<NewEncryptionKey>,
) -> Result<Json<EncryptionKey>, Failure> {
    Ok(Json(app.storage.key_create(&caller, new).await?))
}

/// Give a key a new version, and begin to wrap with it what older ones have
/// wrapped. No content is written anew.
#[utoipa::path(post, path = "/store/rotation", tag = "store", request_body = NewRotation, responses((status = 200, description = "It has begun", body = RotationReport)))]
async fn rotate(
    State(app): App,
    Caller(caller): Caller,
    JsonBody(new): JsonBody<NewRotation>,
) -> Result<Json<RotationReport>, Failure> {
    Ok(Json(app.storage.rotate(&caller, new).await?))
}

/// How the latest rotation of a key went, or goes.
#[utoipa::path(get, path = "/store/rotation", tag = "store", responses((status = 200, description = "How far it is", body = RotationReport)))]
async fn rotation_report(State(app): App, Caller(caller): Caller) -> Result<Json<RotationReport>, Failure> {
    Ok(Json(app.storage.rotation_report(&caller).await?))
}

/// Make a bucket of what lies in another store, once that has been reached.
#[utoipa::path(post, path = "/store/mounts", tag = "store", request_body = NewMount, responses((status = 200, description = "The mount", body = Mount)))]
async fn mount(
    State(app): App,
    Caller(caller): Caller,
    JsonBody(new): JsonBody<NewMount>,
) -> Result<Json<Mount>, Failure> {
    Ok(Json(app.storage.mount(&caller, new).await?))
}

/// All mounts, without their secrets.
#[utoipa::path(get, path = "/store/mounts", tag = "store", responses((status = 200, description = "By bucket", body = MountList)))]
async fn mounts(State(app): App, Caller(caller): Caller) -> Result<Json<MountList>, Failure> {
    Ok(Json(app.storage.mounts(&caller).await?))
}

/// Take a mounted bucket away; nothing in the mounted store is touched.
#[utoipa::path(delete, path = "/store/mounts/{bucket}", tag = "store", params(("bucket" = String, Path)), responses((status = 200, description = "Unmounted", body = Done)))]
async fn unmount(State(app): App, Caller(caller): Caller, Path(bucket): Path<String>) -> Result<Json<Done>, Failure> {
    app.storage.unmount(&caller, &bucket).await?;
    Ok(Json(Done {}))
}
