//! The Open Inference Protocol v2 over HTTP, for one model.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use muonic_types::ErrorCode;
use serde_json::json;

use super::{InFlight, check};
use crate::failure::Failure;
use crate::oip::{JSON_LENGTH_HEADER, request, response};
use crate::replica::{Asked, Form, ROWS_MAX, Replica};
use crate::tensor::{DataType, Port, Tensor};

#[derive(serde::Deserialize)]
struct ModelPath {
    model: String,
    version: Option<String>,
}

impl ModelPath {
    fn check(&self, replica: &Replica) -> Result<(), Failure> {
        check(replica, &self.model, self.version.as_deref())
    }
}

pub(super) fn router() -> Router<Arc<Replica>> {
    let mut router = Router::new()
        .route("/v2", get(server))
        .route("/v2/", get(server))
        .route("/v2/health/live", get(async || axum::Json(json!({ "live": true }))))
        .route("/v2/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/v2/repository/index", post(index))
        .route("/v2/repository/{*rest}", any(async || missing(LOADING)))
        .route("/v2/models/stats", get(all_statistics))
        .route("/v2/systemsharedmemory/{*rest}", any(async || missing(SHARED_MEMORY)))
        .route("/v2/cudasharedmemory/{*rest}", any(async || missing(SHARED_MEMORY)))
        .route("/v2/trace/{*rest}", any(async || missing("the trace extension")))
        .route("/v2/logging", any(async || missing("the logging extension")));
    for base in ["/v2/models/{model}", "/v2/models/{model}/versions/{version}"] {
        router = router
            .route(base, get(model))
            .route(&format!("{base}/ready"), get(model_ready))
            .route(&format!("{base}/infer"), post(infer))
            .route(&format!("{base}/config"), get(config))
            .route(&format!("{base}/stats"), get(statistics))
            .route(&format!("{base}/generate"), any(async || missing("the generate extension")))
            .route(&format!("{base}/generate_stream"), any(async || missing("the generate extension")));
    }
    router
}

fn missing(what: &str) -> Failure {
    Failure::new(ErrorCode::NotImplemented, format!("not implemented: {what}"))
}

async fn server() -> impl IntoResponse {
    axum::Json(json!({
        "name": "muonic",
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": ["binary_tensor_data", "model_configuration", "model_repository", "statistics"],
    }))
}

async fn ready(State(replica): State<Arc<Replica>>) -> Result<impl IntoResponse, Failure> {
    replica.ready()?;
    Ok(axum::Json(json!({ "ready": true })))
}

async fn model_ready(
    State(replica): State<Arc<Replica>>,
    Path(at): Path<ModelPath>,
) -> Result<impl IntoResponse, Failure> {
    at.check(&replica)?;
    replica.ready()?;
    Ok(axum::Json(json!({ "name": replica.name, "ready": true })))
}

async fn model(State(replica): State<Arc<Replica>>, Path(at): Path<ModelPath>) -> Result<impl IntoResponse, Failure> {
    at.check(&replica)?;
    let ports = |ports: Option<&[Port]>| {
        ports
            .unwrap_or(&[])
            .iter()
            .map(|p| json!({ "name": p.name, "datatype": p.datatype.name(), "shape": p.shape }))
            .collect::<Vec<_>>()
    };
    Ok(axum::Json(json!({
        "name": replica.name,
        "versions": [replica.version],
        "platform": replica.runtime.platform(),
        "inputs": ports(replica.runtime.inputs()),
        "outputs": ports(replica.runtime.outputs()),
    })))
}

pub(super) const SHARED_MEMORY: &str = "shared memory tensors";
/// The one model is there from the start to the end.
pub(super) const LOADING: &str = "loading and unloading models: a replica serves one; deploy another version instead";

async fn index(State(replica): State<Arc<Replica>>) -> impl IntoResponse {
    let (state, reason) = match replica.ready() {
        Ok(()) => ("READY", String::new()),
        Err(why) => ("UNAVAILABLE", why.message),
    };
    axum::Json(json!([{ "name": replica.name, "version": replica.version, "state": state, "reason": reason }]))
}

async fn all_statistics(State(replica): State<Arc<Replica>>) -> impl IntoResponse {
    axum::Json(json!({ "model_stats": [replica.metrics.statistics.json(&replica.name, &replica.version)] }))
}

async fn statistics(
    State(replica): State<Arc<Replica>>,
    Path(at): Path<ModelPath>,
) -> Result<impl IntoResponse, Failure> {
    at.check(&replica)?;
    Ok(all_statistics(State(replica)).await)
}

/// As much of Triton's model configuration as there is to say.
async fn config(State(replica): State<Arc<Replica>>, Path(at): Path<ModelPath>) -> Result<impl IntoResponse, Failure> {
    at.check(&replica)?;
    let runtime = &replica.runtime;
    // Where rows may go together, dimensions are without the first.
    let skip = usize::from(runtime.batches());
    let ports = |ports: Option<&[Port]>| {
        let port = |p: &Port| {
            let name = if p.datatype == DataType::Text { "STRING" } else { p.datatype.name() };
            json!({ "name": p.name, "data_type": format!("TYPE_{name}"), "dims": p.shape.get(skip..) })
        };
        ports.unwrap_or(&[]).iter().map(port).collect::<Vec<_>>()
    };
    Ok(axum::Json(json!({
        "name": replica.name,
        "platform": runtime.platform(),
        "backend": runtime.platform().split('_').next(),
        "max_batch_size": if runtime.batches() { ROWS_MAX } else { 0 },
        "input": ports(runtime.inputs()),
        "output": ports(runtime.outputs()),
    })))
}

async fn metrics(State(replica): State<Arc<Replica>>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
        replica.metrics.text(&replica.name, &replica.version),
    )
}

async fn infer(
    State(replica): State<Arc<Replica>>,
    Path(at): Path<ModelPath>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let began = Instant::now();
    let counted = InFlight::new(&replica);
    let answer = answer(&replica, &at, &headers, body).await.unwrap_or_else(IntoResponse::into_response);
    replica.metrics.answered(answer.status().as_u16(), began.elapsed());
    drop(counted);
    answer
}

async fn answer(replica: &Arc<Replica>, at: &ModelPath, headers: &HeaderMap, body: Body) -> Result<Response, Failure> {
    at.check(replica)?;
    exchange(replica, headers, body, Protocol { json_length: json_length(headers)? }).await
}

pub(super) async fn exchange(
    replica: &Arc<Replica>,
    headers: &HeaderMap,
    body: Body,
    form: Protocol,
) -> Result<Response, Failure> {
    let answer = replica.exchange(headers, body, form).await?;
    let json_length = answer.written.json_length;
    let mut response = answer.into_response();
    let media_type = if json_length.is_some() { "application/octet-stream" } else { "application/json" };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    if let Some(length) = json_length {
        response.headers_mut().insert(JSON_LENGTH_HEADER, HeaderValue::from(length));
    }
    Ok(response)
}

/// The protocol's requests and answers, with binary tensors where they are asked for.
pub(super) struct Protocol {
    /// Of the JSON that binary tensors follow.
    pub(super) json_length: Option<usize>,
}

pub(super) struct Plan {
    id: Option<String>,
    outputs: request::Wanted,
}

impl Form for Protocol {
    type Plan = Plan;
    type Written = response::Body;

    fn read(
        &self,
        replica: &Replica,
        body: &Bytes,
        charge: &mut dyn FnMut(usize) -> Result<(), Failure>,
    ) -> Result<Asked<Plan>, Failure> {
        let runtime = &replica.runtime;
        let cost = |datatype| runtime.element_cost(datatype);
        let request::Request { id, priority, timeout, inputs, outputs } =
            request::read(body, self.json_length, runtime.inputs(), runtime.outputs(), cost, charge)?;
        Ok(Asked { inputs, priority, timeout, plan: Plan { id, outputs } })
    }

    fn bytes_max(&self, outputs: &[Tensor], plan: &Plan) -> usize {
        response::bytes_max(outputs, &plan.outputs)
    }

    fn write(&self, replica: &Replica, outputs: Vec<Tensor>, plan: Plan) -> Result<response::Body, Failure> {
        response::write(&replica.name, &replica.version, plan.id.as_deref(), outputs, &plan.outputs)
    }
}

fn json_length(headers: &HeaderMap) -> Result<Option<usize>, Failure> {
    headers
        .get(JSON_LENGTH_HEADER)
        .map(|v| {
            let length = v.to_str().ok().and_then(|v| v.parse().ok());
            length.ok_or_else(|| Failure::bad("the header Inference-Header-Content-Length is not a number"))
        })
        .transpose()
}
