//! What shims call; each with the key of its own attempt.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use muonic_services::jobs::LOG_PIECE_MAX;
use muonic_types::AttemptId;
use muonic_types::task::{ExitReport, LogAppended, NewMetricPoints, TaskProgress, TaskSpec};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Done;
use crate::extract::{Caller, JsonBody, Path, Query, RawBody};
use crate::render::Failure;
use crate::{App, Services};

pub(super) fn router() -> OpenApiRouter<Arc<Services>> {
    OpenApiRouter::new()
        .routes(routes!(claim))
        .routes(routes!(progress))
        .routes(routes!(append_log))
        .routes(routes!(append_metrics))
        .routes(routes!(finish))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OffsetQuery {
    /// How many bytes of the log were sent before.
    pub offset: u64,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ClaimQuery {
    /// Names the supervisor that asks: it may ask again, another may not.
    #[param(min_length = 1, max_length = 64)]
    pub claimant: String,
}

/// Take the attempt on; only one supervisor gets it.
#[utoipa::path(post, path = "/attempts/{attempt}/claim", tag = "attempts", params(("attempt" = AttemptId, Path), ClaimQuery), responses((status = 200, description = "What to run", body = TaskSpec)))]
async fn claim(
    State(app): App,
    Caller(caller): Caller,
    Path(attempt): Path<AttemptId>,
    Query(query): Query<ClaimQuery>,
) -> Result<Json<TaskSpec>, Failure> {
    Ok(Json(app.jobs.claim(&caller, &attempt, &query.claimant).await?))
}

/// Say what the attempt is doing.
#[utoipa::path(post, path = "/attempts/{attempt}/progress", tag = "attempts", params(("attempt" = AttemptId, Path)), request_body = TaskProgress, responses((status = 200, description = "Noted", body = Done)))]
async fn progress(
    State(app): App,
    Caller(caller): Caller,
    Path(attempt): Path<AttemptId>,
    JsonBody(body): JsonBody<TaskProgress>,
) -> Result<Json<Done>, Failure> {
    app.jobs.progress(&caller, &attempt, body).await?;
    Ok(Json(Done {}))
}

/// Append to the log; sending the same bytes again is harmless.
#[utoipa::path(post, path = "/attempts/{attempt}/logs", tag = "attempts", params(("attempt" = AttemptId, Path), OffsetQuery), request_body(content = Vec<u8>, content_type = "application/octet-stream"), responses((status = 200, description = "Appended", body = LogAppended)))]
async fn append_log(
    State(app): App,
    Caller(caller): Caller,
    Path(attempt): Path<AttemptId>,
    Query(q): Query<OffsetQuery>,
    RawBody(bytes): RawBody<LOG_PIECE_MAX>,
) -> Result<Json<LogAppended>, Failure> {
    Ok(Json(app.jobs.append_log(&caller, &attempt, q.offset, bytes).await?))
}

/// Append metric points; sending the same points again is harmless.
#[utoipa::path(post, path = "/attempts/{attempt}/metrics", tag = "attempts", params(("attempt" = AttemptId, Path)), request_body = NewMetricPoints, responses((status = 200, description = "Appended", body = Done)))]
async fn append_metrics(
    State(app): App,
    Caller(caller): Caller,
    Path(attempt): Path<AttemptId>,
    JsonBody(new): JsonBody<NewMetricPoints, { 8 << 20 }>,
) -> Result<Json<Done>, Failure> {
    app.jobs.append_metrics(&caller, &attempt, new).await?;
    Ok(Json(Done {}))
}

/// Say how the attempt ended. The log and all outputs were sent before.
#[utoipa::path(post, path = "/attempts/{attempt}/finish", tag = "attempts", params(("attempt" = AttemptId, Path)), request_body = ExitReport, responses((status = 200, description = "Noted; the key is void now", body = Done)))]
async fn finish(
    State(app): App,
    Caller(caller): Caller,
    Path(attempt): Path<AttemptId>,
    JsonBody(report): JsonBody<ExitReport>,
) -> Result<Json<Done>, Failure> {
    app.jobs.finish(&caller, &attempt, report).await?;
    Ok(Json(Done {}))
}
