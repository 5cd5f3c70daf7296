use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use muonic_types::model::{Model, ModelList, ModelVersion, ModelVersionList, NewModelVersion, SetAlias};
use muonic_types::{Name, VersionSelector};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::extract::{Caller, JsonBody, Path};
use crate::render::Failure;
use crate::{App, Services};

pub(super) fn router() -> OpenApiRouter<Arc<Services>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(versions, register))
        .routes(routes!(version))
        .routes(routes!(set_alias, delete_alias))
}

/// All models, each with its newest version and aliases.
#[utoipa::path(get, path = "/models", tag = "models", responses((status = 200, description = "By name", body = ModelList)))]
async fn list(State(app): App, Caller(caller): Caller) -> Result<Json<ModelList>, Failure> {
    Ok(Json(app.models.list(&caller).await?))
}

/// One model.
#[utoipa::path(get, path = "/models/{name}", tag = "models", params(("name" = Name, Path)), responses((status = 200, description = "The model", body = Model)))]
async fn get(State(app): App, Caller(caller): Caller, Path(name): Path<Name>) -> Result<Json<Model>, Failure> {
    Ok(Json(app.models.get(&caller, &name).await?))
}

/// The versions of a model.
#[utoipa::path(get, path = "/models/{name}/versions", tag = "models", params(("name" = Name, Path)), responses((status = 200, description = "Newest first", body = ModelVersionList)))]
async fn versions(
    State(app): App,
    Caller(caller): Caller,
    Path(name): Path<Name>,
) -> Result<Json<ModelVersionList>, Failure> {
    Ok(Json(app.models.versions(&caller, &name).await?))
}

/// Register uploaded files as the next version.
#[utoipa::path(post, path = "/models/{name}/versions", tag = "models", params(("name" = Name, Path)), request_body = NewModelVersion, responses((status = 200, description = "The new version", body = ModelVersion)))]
async fn register(
    State(app): App,
    Caller(caller): Caller,
    Path(name): Path<Name>,
    JsonBody(new): JsonBody<NewModelVersion>,
) -> Result<Json<ModelVersion>, Failure> {
    Ok(Json(app.models.register(&caller, &name, new).await?))
}

/// One version: a number, `latest` or an alias.
#[utoipa::path(get, path = "/models/{name}/versions/{version}", tag = "models", params(("name" = Name, Path), ("version" = VersionSelector, Path)), responses((status = 200, description = "The version with its lineage", body = ModelVersion)))]
async fn version(
    State(app): App,
    Caller(caller): Caller,
    Path((name, version)): Path<(Name, VersionSelector)>,
) -> Result<Json<ModelVersion>, Failure> {
    Ok(Json(app.models.version(&caller, &name, &version).await?))
}

/// Point an alias at a version.
#[utoipa::path(put, path = "/models/{name}/aliases/{alias}", tag = "models", params(("name" = Name, Path), ("alias" = Name, Path)), request_body = SetAlias, responses((status = 200, description = "The model", body = Model)))]
async fn set_alias(
    State(app): App,
    Caller(caller): Caller,
    Path((name, alias)): Path<(Name, Name)>,
    JsonBody(set): JsonBody<SetAlias>,
) -> Result<Json<Model>, Failure> {
    Ok(Json(app.models.set_alias(&caller, &name, &alias, set).await?))
}

/// Remove an alias.
#[utoipa::path(delete, path = "/models/{name}/aliases/{alias}", tag = "models", params(("name" = Name, Path), ("alias" = Name, Path)), responses((status = 200, description = "The model", body = Model)))]
async fn delete_alias(
    State(app): App,
    Caller(caller): Caller,
    Path((name, alias)): Path<(Name, Name)>,
) -> Result<Json<Model>, Failure> {
    Ok(Json(app.models.delete_alias(&caller, &name, &alias).await?))
}
