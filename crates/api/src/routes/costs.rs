use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use muonic_types::cost::CostReport;
use muonic_types::lineage::{LineageKind, LineageNode};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::extract::{Caller, Path};
use crate::render::Failure;
use crate::{App, Services};

pub(super) fn router() -> OpenApiRouter<Arc<Services>> {
    OpenApiRouter::new().routes(routes!(cost)).routes(routes!(lineage))
}

/// What was used and what it cost so far.
#[utoipa::path(get, path = "/cost", tag = "operation", responses((status = 200, description = "Dearest first", body = CostReport)))]
async fn cost(State(app): App, Caller(caller): Caller) -> Result<Json<CostReport>, Failure> {
    Ok(Json(app.costs.report(&caller).await?))
}

/// What a thing was made from, all the way down. `name` may carry a version
/// (`digits@1`).
#[utoipa::path(get, path = "/lineage/{kind}/{name}", tag = "operation", params(("kind" = LineageKind, Path), ("name" = String, Path)), responses((status = 200, description = "A tree", body = LineageNode)))]
async fn lineage(
    State(app): App,
    Caller(caller): Caller,
    Path((kind, name)): Path<(LineageKind, String)>,
) -> Result<Json<LineageNode>, Failure> {
    Ok(Json(app.lineage.of(&caller, kind, &name).await?))
}
