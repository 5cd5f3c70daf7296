//! What replicas call; each with its own key.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use muonic_services::jobs::LOG_PIECE_MAX;
use muonic_types::ReplicaId;
use muonic_types::task::{LogAppended, ReplicaFailed, ReplicaReady, ReplicaSpec};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Done;
use super::attempts::OffsetQuery;
use crate::extract::{Caller, JsonBody, Path, Query, RawBody};
use crate::render::Failure;
use crate::{App, Services};

pub(super) fn router() -> OpenApiRouter<Arc<Services>> {
    OpenApiRouter::new()
        .routes(routes!(claim))
        .routes(routes!(ready))
        .routes(routes!(failed))
        .routes(routes!(append_log))
}

/// What to serve.
#[utoipa::path(post, path = "/replicas/{replica}/claim", tag = "replicas", params(("replica" = ReplicaId, Path)), responses((status = 200, description = "What to serve", body = ReplicaSpec)))]
async fn claim(
    State(app): App,
    Caller(caller): Caller,
    Path(replica): Path<ReplicaId>,
) -> Result<Json<ReplicaSpec>, Failure> {
    Ok(Json(app.endpoints.claim(&caller, &replica).await?))
}

/// The replica answers requests at this address.
#[utoipa::path(post, path = "/replicas/{replica}/ready", tag = "replicas", params(("replica" = ReplicaId, Path)), request_body = ReplicaReady, responses((status = 200, description = "Noted", body = Done)))]
async fn ready(
    State(app): App,
    Caller(caller): Caller,
    Path(replica): Path<ReplicaId>,
    JsonBody(body): JsonBody<ReplicaReady>,
) -> Result<Json<Done>, Failure> {
    app.endpoints.ready(&caller, &replica, body).await?;
    Ok(Json(Done {}))
}

/// The replica cannot serve its model and ends.
#[utoipa::path(post, path = "/replicas/{replica}/failed", tag = "replicas", params(("replica" = ReplicaId, Path)), request_body = ReplicaFailed, responses((status = 200, description = "Noted; the key is void now", body = Done)))]
async fn failed(
    State(app): App,
    Caller(caller): Caller,
    Path(replica): Path<ReplicaId>,
    JsonBody(body): JsonBody<ReplicaFailed>,
) -> Result<Json<Done>, Failure> {
    app.endpoints.failed(&caller, &replica, body).await?;
    Ok(Json(Done {}))
}

/// Append to the log; sending the same bytes again is harmless.
#[utoipa::path(post, path = "/replicas/{replica}/logs", tag = "replicas", params(("replica" = ReplicaId, Path), OffsetQuery), request_body(content = Vec<u8>, content_type = "application/octet-stream"), responses((status = 200, description = "Appended", body = LogAppended)))]
async fn append_log(
    State(app): App,
    Caller(caller): Caller,
    Path(replica): Path<ReplicaId>,
    Query(q): Query<OffsetQuery>,
    RawBody(bytes): RawBody<LOG_PIECE_MAX>,
) -> Result<Json<LogAppended>, Failure> {
    Ok(Json(app.endpoints.append_log(&caller, &replica, q.offset, bytes).await?))
}
