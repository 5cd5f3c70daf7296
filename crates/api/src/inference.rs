//! What the document says of paths that others answer: endpoints (the gateway
//! passes them on to replicas) and the metrics.
#![allow(dead_code, reason = "read by the document alone")]

use serde_json::Value;
use utoipa::{OpenApi, ToSchema};

#[derive(OpenApi)]
#[openapi(paths(model, model_ready, infer, metrics))]
pub(crate) struct Inference;

/// A tensor of the Open Inference Protocol v2, row by row.
#[derive(ToSchema)]
struct Tensor {
    name: String,
    #[schema(example = json!([1, 64]))]
    shape: Vec<u64>,
    /// `BOOL`, `UINT8` … `UINT64`, `INT8` … `INT64`, `FP16`, `FP32`, `FP64` or `BYTES`.
    #[schema(example = "FP32")]
    datatype: String,
    /// The values, flat or nested.
    data: Vec<Value>,
}

#[derive(ToSchema)]
struct InferRequest {
    id: Option<String>,
    inputs: Vec<Tensor>,
}

#[derive(ToSchema)]
struct InferResponse {
    model_name: String,
    model_version: String,
    id: Option<String>,
    outputs: Vec<Tensor>,
}

#[derive(ToSchema)]
struct TensorMetadata {
    name: String,
    datatype: String,
    /// -1 where any length will do.
    shape: Vec<i64>,
}

#[derive(ToSchema)]
struct ModelMetadata {
    name: String,
    versions: Vec<String>,
    platform: String,
    inputs: Vec<TensorMetadata>,
    outputs: Vec<TensorMetadata>,
}

/// The error body of the Open Inference Protocol; the code is in the header `x-muonic-error`.
#[derive(ToSchema)]
pub(crate) struct InferError {
    error: String,
}

/// What the endpoint's model takes and gives.
#[utoipa::path(get, path = "/endpoints/{name}/v2/models/{model}", tag = "inference", params(("name" = muonic_types::Name, Path), ("model" = muonic_types::Name, Path)), responses((status = 200, description = "The model", body = ModelMetadata)))]
fn model() {}

/// Whether a replica can answer.
#[utoipa::path(get, path = "/endpoints/{name}/v2/models/{model}/ready", tag = "inference", params(("name" = muonic_types::Name, Path), ("model" = muonic_types::Name, Path)), responses((status = 200, description = "Ready")))]
fn model_ready() {}

/// One inference. The binary tensor extension is understood too.
#[utoipa::path(post, path = "/endpoints/{name}/v2/models/{model}/infer", tag = "inference", params(("name" = muonic_types::Name, Path), ("model" = muonic_types::Name, Path)), request_body = InferRequest, responses((status = 200, description = "The answer", body = InferResponse)))]
fn infer() {}

/// All metrics of the server, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operation", responses((status = 200, description = "In the text format", body = String, content_type = "text/plain")))]
fn metrics() {}
