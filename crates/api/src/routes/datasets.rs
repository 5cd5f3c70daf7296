use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use muonic_types::dataset::{DatasetList, DatasetPut, DatasetVersion, DatasetVersionList, NewDatasetVersion};
use muonic_types::{Name, VersionSelector};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::extract::{Caller, JsonBody, Path};
use crate::render::Failure;
use crate::{App, Services};

pub(super) fn router() -> OpenApiRouter<Arc<Services>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(versions, put)).routes(routes!(get))
}

/// All datasets, each with its newest version.
#[utoipa::path(get, path = "/datasets", tag = "datasets", responses((status = 200, description = "By name", body = DatasetList)))]
async fn list(State(app): App, Caller(caller): Caller) -> Result<Json<DatasetList>, Failure> {
    Ok(Json(app.datasets.list(&caller).await?))
}

/// The versions of a dataset.
#[utoipa::path(get, path = "/datasets/{name}/versions", tag = "datasets", params(("name" = Name, Path)), responses((status = 200, description = "Newest first", body = DatasetVersionList)))]
async fn versions(
    State(app): App,
    Caller(caller): Caller,
    Path(name): Path<Name>,
) -> Result<Json<DatasetVersionList>, Failure> {
    Ok(Json(app.datasets.versions(&caller, &name).await?))
}

/// Add a version; the same content as the newest adds none.
#[utoipa::path(post, path = "/datasets/{name}/versions", tag = "datasets", params(("name" = Name, Path)), request_body = NewDatasetVersion, responses((status = 200, description = "The newest version", body = DatasetPut)))]
async fn put(
    State(app): App,
    Caller(caller): Caller,
    Path(name): Path<Name>,
    JsonBody(new): JsonBody<NewDatasetVersion>,
) -> Result<Json<DatasetPut>, Failure> {
    Ok(Json(app.datasets.put(&caller, &name, new).await?))
}

/// One version: a number or `latest`.
#[utoipa::path(get, path = "/datasets/{name}/versions/{version}", tag = "datasets", params(("name" = Name, Path), ("version" = VersionSelector, Path)), responses((status = 200, description = "The version", body = DatasetVersion)))]
async fn get(
    State(app): App,
    Caller(caller): Caller,
    Path((name, version)): Path<(Name, VersionSelector)>,
) -> Result<Json<DatasetVersion>, Failure> {
    Ok(Json(app.datasets.get(&caller, &name, &version).await?))
}
