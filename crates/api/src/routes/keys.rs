use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use muonic_types::KeyId;
use muonic_types::key::{KeyCreated, KeyList, NewKey};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Done;
use crate::extract::{Caller, JsonBody, Path};
use crate::render::Failure;
use crate::{App, Services};

pub(super) fn router() -> OpenApiRouter<Arc<Services>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(revoke))
}

/// All keys, without their secrets.
#[utoipa::path(get, path = "/keys", tag = "keys", responses((status = 200, description = "Oldest first", body = KeyList)))]
async fn list(State(app): App, Caller(caller): Caller) -> Result<Json<KeyList>, Failure> {
    Ok(Json(app.keys.list(&caller).await?))
}

/// Make a key. Its secret is shown in this answer only.
#[utoipa::path(post, path = "/keys", tag = "keys", request_body = NewKey, responses((status = 200, description = "The key with its secret", body = KeyCreated)))]
async fn create(
    State(app): App,
    Caller(caller): Caller,
    JsonBody(new): JsonBody<NewKey>,
) -> Result<Json<KeyCreated>, Failure> {
    Ok(Json(app.keys.create(&caller, new).await?))
}

/// Revoke a key; it is void at once.
#[utoipa::path(delete, path = "/keys/{id}", tag = "keys", params(("id" = KeyId, Path)), responses((status = 200, description = "Revoked", body = Done)))]
async fn revoke(State(app): App, Caller(caller): Caller, Path(id): Path<KeyId>) -> Result<Json<Done>, Failure> {
    app.keys.revoke(&caller, &id).await?;
    Ok(Json(Done {}))
}
