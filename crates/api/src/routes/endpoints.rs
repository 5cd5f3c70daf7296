use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use muonic_types::endpoint::{
    AsyncRequest, AsyncRequestList, Endpoint, EndpointList, NewAsyncRequest, NewEndpoint, NewMetric, NewRevision,
    Rollback,
};
use muonic_types::{Name, ReplicaId};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::extract::{Caller, JsonBody, Path, Query};
use crate::render::{self, Failure};
use crate::{App, Services};

pub(super) fn router() -> OpenApiRouter<Arc<Services>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, delete))
        .routes(routes!(release))
        .routes(routes!(promote))
        .routes(routes!(rollback))
        .routes(routes!(metric))
        .routes(routes!(logs))
        .routes(routes!(requests, submit))
        .routes(routes!(request))
}

/// All endpoints.
#[utoipa::path(get, path = "/endpoints", tag = "endpoints", responses((status = 200, description = "By name", body = EndpointList)))]
async fn list(State(app): App, Caller(caller): Caller) -> Result<Json<EndpointList>, Failure> {
    Ok(Json(app.endpoints.list(&caller).await?))
}

/// Deploy a model version at a new address.
#[utoipa::path(post, path = "/endpoints", tag = "endpoints", request_body = NewEndpoint, responses((status = 200, description = "Deploying", body = Endpoint)))]
async fn create(
    State(app): App,
    Caller(caller): Caller,
    JsonBody(new): JsonBody<NewEndpoint>,
) -> Result<Json<Endpoint>, Failure> {
    Ok(Json(app.endpoints.create(&caller, new).await?))
}

/// One endpoint with its revisions and replicas.
#[utoipa::path(get, path = "/endpoints/{name}", tag = "endpoints", params(("name" = Name, Path)), responses((status = 200, description = "The endpoint", body = Endpoint)))]
async fn get(State(app): App, Caller(caller): Caller, Path(name): Path<Name>) -> Result<Json<Endpoint>, Failure> {
    Ok(Json(app.endpoints.get(&caller, &name).await?))
}

/// Delete an endpoint; its replicas finish what they have.
#[utoipa::path(delete, path = "/endpoints/{name}", tag = "endpoints", params(("name" = Name, Path)), responses((status = 200, description = "Being deleted", body = Endpoint)))]
async fn delete(State(app): App, Caller(caller): Caller, Path(name): Path<Name>) -> Result<Json<Endpoint>, Failure> {
    Ok(Json(app.endpoints.delete(&caller, &name).await?))
}

/// Release another model version: traffic moves once its replicas are ready.
#[utoipa::path(post, path = "/endpoints/{name}/releases", tag = "endpoints", params(("name" = Name, Path)), request_body = NewRevision, responses((status = 200, description = "Releasing", body = Endpoint)))]
async fn release(
    State(app): App,
    Caller(caller): Caller,
    Path(name): Path<Name>,
    JsonBody(new): JsonBody<NewRevision>,
) -> Result<Json<Endpoint>, Failure> {
    Ok(Json(app.endpoints.release(&caller, &name, new).await?))
}

/// Give all traffic to the revision that is being released.
#[utoipa::path(post, path = "/endpoints/{name}/promote", tag = "endpoints", params(("name" = Name, Path)), responses((status = 200, description = "Releasing", body = Endpoint)))]
async fn promote(State(app): App, Caller(caller): Caller, Path(name): Path<Name>) -> Result<Json<Endpoint>, Failure> {
    Ok(Json(app.endpoints.promote(&caller, &name).await?))
}

/// Say how an answer turned out: a value of a metric that canaries may be judged by.
#[utoipa::path(post, path = "/endpoints/{name}/metrics", tag = "endpoints", params(("name" = Name, Path)), request_body = NewMetric, responses((status = 204, description = "Counted")))]
async fn metric(
    State(app): App,
    Caller(caller): Caller,
    Path(name): Path<Name>,
    JsonBody(metric): JsonBody<NewMetric>,
) -> Result<StatusCode, Failure> {
    app.endpoints.metric(&caller, &name, metric).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Go back to an earlier revision.
#[utoipa::path(post, path = "/endpoints/{name}/rollback", tag = "endpoints", params(("name" = Name, Path)), request_body = Rollback, responses((status = 200, description = "Releasing", body = Endpoint)))]
async fn rollback(
    State(app): App,
    Caller(caller): Caller,
    Path(name): Path<Name>,
    JsonBody(body): JsonBody<Rollback>,
) -> Result<Json<Endpoint>, Failure> {
    Ok(Json(app.endpoints.rollback(&caller, &name, body).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct LogQuery {
    /// Go on until the replica has ended.
    #[serde(default)]
    follow: bool,
    /// The newest replica without.
    replica: Option<ReplicaId>,
    /// Byte to begin at.
    #[serde(default)]
    offset: u64,
}

/// The log of one replica. The header `x-muonic-replica` says which.
#[utoipa::path(get, path = "/endpoints/{name}/logs", tag = "endpoints", params(("name" = Name, Path), LogQuery), responses((status = 200, description = "Bytes as the replica wrote them", body = Vec<u8>, content_type = "application/octet-stream")))]
async fn logs(
    State(app): App,
    Caller(caller): Caller,
    Path(name): Path<Name>,
    Query(q): Query<LogQuery>,
) -> Result<Response, Failure> {
    let (replica, body) = app.endpoints.logs(&caller, &name, q.replica, q.offset, q.follow).await?;
    let mut response = render::stream("application/octet-stream", body);
    if let Some(value) = replica.and_then(|id| HeaderValue::from_str(id.as_str()).ok()) {
        response.headers_mut().insert("x-muonic-replica", value);
    }
    Ok(response)
}

/// Ask for an answer into a bucket: the request is tried until the endpoint answers it.
#[utoipa::path(post, path = "/endpoints/{name}/requests", tag = "endpoints", params(("name" = Name, Path)), request_body = NewAsyncRequest, responses((status = 202, description = "Queued", body = AsyncRequest)))]
async fn submit(
    State(app): App,
    Caller(caller): Caller,
    Path(name): Path<Name>,
    JsonBody(new): JsonBody<NewAsyncRequest>,
) -> Result<(StatusCode, Json<AsyncRequest>), Failure> {
    Ok((StatusCode::ACCEPTED, Json(app.deferred.submit(&caller, &name, new).await?)))
}

/// One request that is answered later.
#[utoipa::path(get, path = "/endpoints/{name}/requests/{id}", tag = "endpoints", params(("name" = Name, Path), ("id" = u64, Path)), responses((status = 200, description = "How it went", body = AsyncRequest)))]
async fn request(
    State(app): App,
    Caller(caller): Caller,
    Path((name, id)): Path<(Name, u64)>,
) -> Result<Json<AsyncRequest>, Failure> {
    Ok(Json(app.deferred.get(&caller, &name, id).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RequestQuery {
    /// Only those with a smaller id: what `next` said.
    before: Option<u64>,
}

/// Requests that are answered later, newest first; those that ended a week ago are forgotten.
#[utoipa::path(get, path = "/endpoints/{name}/requests", tag = "endpoints", params(("name" = Name, Path), RequestQuery), responses((status = 200, description = "Up to 100", body = AsyncRequestList)))]
async fn requests(
    State(app): App,
    Caller(caller): Caller,
    Path(name): Path<Name>,
    Query(q): Query<RequestQuery>,
) -> Result<Json<AsyncRequestList>, Failure> {
    Ok(Json(app.deferred.list(&caller, &name, q.before).await?))
}
