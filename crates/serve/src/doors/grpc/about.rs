//! The methods that say what is here and how it does.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt;
use muonic_types::ErrorCode;
use prost::Message;
use serde_json::Value;

use super::super::check;
use super::frame::{self, Source};
use super::messages::{
    Empty, InferBatchStatistics, InferStatistics, ModelConfig, ModelConfigResponse, ModelIndex, ModelInput,
    ModelMetadataResponse, ModelOutput, ModelRequest, ModelStatistics, ModelStatisticsResponse, ReadyResponse,
    RepositoryIndexRequest, RepositoryIndexResponse, ServerLiveResponse, ServerMetadataResponse, StatisticDuration,
    TensorMetadata,
};
use super::{missing, status};
use crate::failure::Failure;
use crate::replica::{ROWS_MAX, Replica};
use crate::tensor::{DataType, Port};

/// Of a message that only names something.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
const MESSAGE_TIME: Duration = Duration::from_secs(20);

pub(super) async fn answer(replica: &Arc<Replica>, method: &str, body: Source) -> Result<Response, Failure> {
    let written = match method {
        "ServerLive" => {
            let _: Empty = read(body).await?;
            frame::written(&ServerLiveResponse { live: true })
        }
        "ServerReady" => {
            let _: Empty = read(body).await?;
            frame::written(&ReadyResponse { ready: replica.ready().is_ok() })
        }
        "ModelReady" => {
            named(replica, &read(body).await?)?;
            frame::written(&ReadyResponse { ready: replica.ready().is_ok() })
        }
        "ServerMetadata" => {
            let _: Empty = read(body).await?;
            frame::written(&ServerMetadataResponse {
                name: "muonic".into(),
                version: env!("CARGO_PKG_VERSION").into(),
                extensions: ["model_configuration", "model_repository", "statistics"].map(String::from).into(),
            })
        }
        "ModelMetadata" => {
            named(replica, &read(body).await?)?;
            frame::written(&metadata(replica))
        }
        "ModelConfig" => {
            named(replica, &read(body).await?)?;
            frame::written(&ModelConfigResponse { config: Some(config(replica)) })
        }
        "ModelStatistics" => {
            let asked: ModelRequest = read(body).await?;
            // Without a name all models are meant.
            if !asked.name.is_empty() {
                named(replica, &asked)?;
            }
            frame::written(&ModelStatisticsResponse { model_stats: vec![statistics(replica)] })
        }
        "RepositoryIndex" => {
            let asked: RepositoryIndexRequest = read(body).await?;
            frame::written(&index(replica, asked.ready))
        }
        method => Err(missing(method)),
    }?;
    Ok(status::answered(Body::from(written)))
}

async fn read<M: Message + Default>(mut body: Source) -> Result<M, Failure> {
    let length = super::head(&mut body).await?;
    let too_large =
        || Failure::new(ErrorCode::TooLarge, format!("the message is larger than {MESSAGE_BYTES_MAX} bytes"));
    if length > MESSAGE_BYTES_MAX {
        return Err(too_large());
    }
    let (message, _) = body.message(length);
    let bytes: Bytes = tokio::time::timeout(MESSAGE_TIME, message.collect())
        .await
        .map_err(|_| Failure::bad(format!("the message did not arrive within {} s", MESSAGE_TIME.as_secs())))?
        .map_err(|e| Failure::bad(format!("the body broke off: {e}")))?
        .to_bytes();
    M::decode(bytes).map_err(|e| Failure::bad(format!("the message is not what the method takes: {e}")))
}

fn named(replica: &Replica, asked: &ModelRequest) -> Result<(), Failure> {
    check(replica, &asked.name, Some(asked.version.as_str()).filter(|v| !v.is_empty()))
}

fn metadata(replica: &Replica) -> ModelMetadataResponse {
    let ports = |ports: Option<&[Port]>| {
        let port = |p: &Port| TensorMetadata {
            name: p.name.clone(),
            datatype: p.datatype.name().into(),
            shape: p.shape.clone(),
        };
        ports.unwrap_or(&[]).iter().map(port).collect()
    };
    ModelMetadataResponse {
        name: replica.name.clone(),
        versions: vec![replica.version.clone()],
        platform: replica.runtime.platform().into(),
        inputs: ports(replica.runtime.inputs()),
        outputs: ports(replica.runtime.outputs()),
    }
}

/// As the model configuration numbers them.
fn number(datatype: DataType) -> i32 {
    match datatype {
        DataType::Bool => 1,
        DataType::U8 => 2,
        DataType::U16 => 3,
        DataType::U32 => 4,
        DataType::U64 => 5,
        DataType::I8 => 6,
        DataType::I16 => 7,
        DataType::I32 => 8,
        DataType::I64 => 9,
        DataType::F16 => 10,
        DataType::F32 => 11,
        DataType::F64 => 12,
        DataType::Text => 13,
    }
}

fn config(replica: &Replica) -> ModelConfig {
    let runtime = &replica.runtime;
    // Where rows may go together, dimensions are without the first.
    let skip = usize::from(runtime.batches());
    let dims = |p: &Port| p.shape.get(skip..).unwrap_or_default().to_vec();
    let input = |p: &Port| ModelInput { name: p.name.clone(), data_type: number(p.datatype), dims: dims(p) };
    let output = |p: &Port| ModelOutput { name: p.name.clone(), data_type: number(p.datatype), dims: dims(p) };
    ModelConfig {
        name: replica.name.clone(),
        platform: runtime.platform().into(),
        max_batch_size: if runtime.batches() { i32::try_from(ROWS_MAX).unwrap_or(i32::MAX) } else { 0 },
        input: runtime.inputs().unwrap_or(&[]).iter().map(input).collect(),
        output: runtime.outputs().unwrap_or(&[]).iter().map(output).collect(),
        backend: runtime.platform().split('_').next().unwrap_or_default().into(),
    }
}

/// What the extension says in JSON, as its message.
fn statistics(replica: &Replica) -> ModelStatistics {
    let json = replica.metrics.statistics.json(&replica.name, &replica.version);
    let count = |value: &Value| value.as_u64().unwrap_or_default();
    let stage = |value: &Value| Some(StatisticDuration { count: count(&value["count"]), ns: count(&value["ns"]) });
    let all = &json["inference_stats"];
    let batch = |batch: &Value| InferBatchStatistics {
        batch_size: count(&batch["batch_size"]),
        compute_infer: stage(&batch["compute_infer"]),
    };
    ModelStatistics {
        name: replica.name.clone(),
        version: replica.version.clone(),
        last_inference: count(&json["last_inference"]),
        inference_count: count(&json["inference_count"]),
        execution_count: count(&json["execution_count"]),
        inference_stats: Some(InferStatistics {
            success: stage(&all["success"]),
            fail: stage(&all["fail"]),
            queue: stage(&all["queue"]),
            compute_infer: stage(&all["compute_infer"]),
        }),
        batch_stats: json["batch_stats"].as_array().into_iter().flatten().map(batch).collect(),
    }
}

fn index(replica: &Replica, only_ready: bool) -> RepositoryIndexResponse {
    let (state, reason) = match replica.ready() {
        Ok(()) => ("READY", String::new()),
        Err(_) if only_ready => return RepositoryIndexResponse::default(),
        Err(why) => ("UNAVAILABLE", why.message),
    };
    let (name, version) = (replica.name.clone(), replica.version.clone());
    RepositoryIndexResponse { models: vec![ModelIndex { name, version, state: state.into(), reason }] }
}
