use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use muonic_types::backup::{Backup, BackupList, NewBackup};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::extract::{Caller, JsonBody, Path};
use crate::render::Failure;
use crate::{App, Services};

pub(super) fn router() -> OpenApiRouter<Arc<Services>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get))
}

/// The backups that were started lately.
#[utoipa::path(get, path = "/store/backups", tag = "operation", responses((status = 200, description = "Newest first", body = BackupList)))]
async fn list(State(app): App, Caller(caller): Caller) -> Result<Json<BackupList>, Failure> {
    Ok(Json(app.backups.list(&caller).await?))
}

/// Start a backup of everything, in the background.
#[utoipa::path(post, path = "/store/backups", tag = "operation", request_body = NewBackup, responses((status = 200, description = "It runs", body = Backup)))]
async fn create(
    State(app): App,
    Caller(caller): Caller,
    JsonBody(new): JsonBody<NewBackup>,
) -> Result<Json<Backup>, Failure> {
    Ok(Json(app.backups.create(&caller, new).await?))
}

/// A backup, and how far it has come.
#[utoipa::path(get, path = "/store/backups/{id}", tag = "operation", params(("id" = String, Path)), responses((status = 200, description = "Now", body = Backup)))]
async fn get(State(app): App, Caller(caller): Caller, Path(id): Path<String>) -> Result<Json<Backup>, Failure> {
    Ok(Json(app.backups.get(&caller, &id).await?))
}
