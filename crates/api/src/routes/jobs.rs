use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::response::Response;
use muonic_types::job::{Job, JobList, JobState, MetricHistory, NewJob};
use muonic_types::{JobId, Name};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::extract::{Caller, JsonBody, Path, Query};
use crate::render::{self, Failure};
use crate::{App, Services};

pub(super) fn router() -> OpenApiRouter<Arc<Services>> {
    OpenApiRouter::new()
        .routes(routes!(list, submit))
        .routes(routes!(get))
        .routes(routes!(wait))
        .routes(routes!(cancel))
        .routes(routes!(logs))
        .routes(routes!(metrics))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only jobs of this name.
    name: Option<Name>,
    /// Only jobs in this state.
    state: Option<JobState>,
    /// At most this many; 100 without.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Jobs, newest first.
#[utoipa::path(get, path = "/jobs", tag = "jobs", params(ListQuery), responses((status = 200, description = "Newest first", body = JobList)))]
async fn list(State(app): App, Caller(caller): Caller, Query(q): Query<ListQuery>) -> Result<Json<JobList>, Failure> {
    Ok(Json(app.jobs.list(&caller, q.name, q.state, q.limit).await?))
}

/// Submit a job.
#[utoipa::path(post, path = "/jobs", tag = "jobs", request_body = NewJob, responses((status = 200, description = "Queued", body = Job)))]
async fn submit(
    State(app): App,
    Caller(caller): Caller,
    JsonBody(new): JsonBody<NewJob>,
) -> Result<Json<Job>, Failure> {
    Ok(Json(app.jobs.submit(&caller, new).await?))
}

/// One job with its attempts.
#[utoipa::path(get, path = "/jobs/{job}", tag = "jobs", params(("job" = JobId, Path)), responses((status = 200, description = "The job", body = Job)))]
async fn get(State(app): App, Caller(caller): Caller, Path(job): Path<JobId>) -> Result<Json<Job>, Failure> {
    Ok(Json(app.jobs.get(&caller, &job).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct WaitQuery {
    /// Seconds to wait at most; 60 without, and never more.
    #[param(minimum = 0, maximum = 60)]
    timeout_s: Option<u64>,
}

/// The job once it has ended, or as it is when the time is over.
#[utoipa::path(get, path = "/jobs/{job}/wait", tag = "jobs", params(("job" = JobId, Path), WaitQuery), responses((status = 200, description = "The job", body = Job)))]
async fn wait(
    State(app): App,
    Caller(caller): Caller,
    Path(job): Path<JobId>,
    Query(q): Query<WaitQuery>,
) -> Result<Json<Job>, Failure> {
    Ok(Json(app.jobs.wait(&caller, &job, q.timeout_s.map(Duration::from_secs)).await?))
}

/// Cancel a job: at once while it waits, else with its grace period.
#[utoipa::path(post, path = "/jobs/{job}/cancel", tag = "jobs", params(("job" = JobId, Path)), responses((status = 200, description = "The job", body = Job)))]
async fn cancel(State(app): App, Caller(caller): Caller, Path(job): Path<JobId>) -> Result<Json<Job>, Failure> {
    Ok(Json(app.jobs.cancel(&caller, &job).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct LogQuery {
    /// Go on until the attempt has ended.
    #[serde(default)]
    follow: bool,
    /// The newest attempt without.
    #[param(minimum = 1)]
    attempt: Option<u32>,
    /// Byte to begin at.
    #[serde(default)]
    offset: u64,
}

/// The log of one attempt. The header `x-muonic-attempt` says which; it is
/// absent where there is none yet.
#[utoipa::path(get, path = "/jobs/{job}/logs", tag = "jobs", params(("job" = JobId, Path), LogQuery), responses((status = 200, description = "Bytes as the job wrote them", body = Vec<u8>, content_type = "application/octet-stream")))]
async fn logs(
    State(app): App,
    Caller(caller): Caller,
    Path(job): Path<JobId>,
    Query(q): Query<LogQuery>,
) -> Result<Response, Failure> {
    let (attempt, body) = app.jobs.logs(&caller, &job, q.attempt, q.offset, q.follow).await?;
    let mut response = render::stream("application/octet-stream", body);
    if let Some(number) = attempt {
        response.headers_mut().insert("x-muonic-attempt", HeaderValue::from(number));
    }
    Ok(response)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct MetricsQuery {
    /// Only this metric.
    name: Option<String>,
    /// At most this many points; 10,000 without.
    #[param(minimum = 1, maximum = 100_000)]
    limit: Option<u32>,
}

/// The metrics of a job's last attempt that has any.
#[utoipa::path(get, path = "/jobs/{job}/metrics", tag = "jobs", params(("job" = JobId, Path), MetricsQuery), responses((status = 200, description = "In order of arrival", body = MetricHistory)))]
async fn metrics(
    State(app): App,
    Caller(caller): Caller,
    Path(job): Path<JobId>,
    Query(q): Query<MetricsQuery>,
) -> Result<Json<MetricHistory>, Failure> {
    Ok(Json(app.jobs.metrics(&caller, &job, q.name.as_deref(), q.limit).await?))
}
