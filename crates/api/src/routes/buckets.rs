use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use muonic_services::buckets::{Call, Caller as BucketCaller, NoFacts};
use muonic_types::store::BucketEventList;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::extract::{Caller, Path, Query};
use crate::render::Failure;
use crate::{App, Services};

pub(super) fn router() -> OpenApiRouter<Arc<Services>> {
    OpenApiRouter::new().routes(routes!(events))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct EventsQuery {
    /// Only events with greater numbers: `next` of the answer before.
    after: Option<u64>,
    /// At most so many; 1000 without.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Seconds to wait at most where there is none yet; 0 without, and never
    /// more than 60.
    #[param(minimum = 0, maximum = 60)]
    wait_s: Option<u64>,
}

/// What happened to the objects of a bucket, as far as its notification
/// configuration asks for it, oldest first. Kept for a week.
#[utoipa::path(get, path = "/buckets/{bucket}/events", tag = "buckets", params(("bucket" = String, Path), EventsQuery), responses((status = 200, description = "The events", body = BucketEventList)))]
async fn events(
    State(app): App,
    Caller(caller): Caller,
    Path(bucket): Path<String>,
    Query(q): Query<EventsQuery>,
) -> Result<Json<BucketEventList>, Failure> {
    let caller = BucketCaller::Key(caller);
    let call = Call { caller: &caller, facts: &NoFacts, expected_owner: None };
    let wait = Duration::from_secs(q.wait_s.unwrap_or(0));
    let found = app.buckets.events(call, &bucket, q.after.unwrap_or(0), q.limit, wait).await;
    Ok(Json(found.map_err(|error| Failure(error.about(&bucket)))?))
}
