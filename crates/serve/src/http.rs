//! The Open Inference Protocol v2 over HTTP, for one model.
//!
//! A request walks: place in the replica → body → checked tensors → its turn at
//! the runtime → answer. Each stage has its own time limit. Work that blocks
//! runs off the async threads; the place goes with it, so that a request nobody
//! waits for any more still counts until its run has ended.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use hyper::body::{Frame, SizeHint};
use muonic_types::ErrorCode;
use serde_json::json;

use crate::batch::{self, Batcher};
use crate::failure::Failure;
use crate::limits::{Charged, Held, Limits, Place, Room};
use crate::metrics::Metrics;
use crate::oip::{JSON_LENGTH_HEADER, request, response};
use crate::runtime::Runtime;
use crate::tensor::{Port, Tensor};

/// Bodies up to this size are parsed and written on the async threads.
const INLINE_BYTES_MAX: usize = 32 << 10;
/// Of an answer that is handed to its connection at once.
const PIECE_BYTES: usize = 64 << 10;

/// Rows that go together at most.
const ROWS_MAX: usize = 256;

pub struct Replica {
    pub name: String,
    pub version: String,
    runtime: Arc<dyn Runtime>,
    limits: Limits,
    room: Room,
    batcher: Batcher<Busy>,
    metrics: Arc<Metrics>,
    stopping: AtomicBool,
}

impl Replica {
    pub fn new(name: String, version: String, runtime: Arc<dyn Runtime>, limits: Limits) -> std::io::Result<Arc<Self>> {
        let metrics = Arc::new(Metrics::new());
        let settings = batch::Settings { rows_max: ROWS_MAX, run_time: limits.run_time };
        let batcher = Batcher::new(Arc::clone(&runtime), settings, metrics.clone())?;
        Ok(Arc::new(Self {
            name,
            version,
            runtime,
            limits,
            room: Room::new(limits),
            batcher,
            metrics,
            stopping: AtomicBool::new(false),
        }))
    }

    /// Says "not ready" from now on; requests are still answered.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    fn ready(&self) -> Result<(), Failure> {
        if self.stopping.load(Ordering::SeqCst) {
            return Err(Failure::new(ErrorCode::Unavailable, "the replica is stopping"));
        }
        self.runtime.ready().map_err(|why| Failure::new(ErrorCode::Unavailable, why))
    }

    fn check(&self, at: &ModelPath) -> Result<(), Failure> {
        if at.model != self.name {
            return Err(Failure::new(
                ErrorCode::NotFound,
                format!("there is no model '{}' here; there is '{}'", clip(&at.model), self.name),
            ));
        }
        match &at.version {
            Some(v) if *v != self.version => Err(Failure::new(
                ErrorCode::NotFound,
                format!("there is no version '{}' of '{}' here; there is {}", clip(v), self.name, self.version),
            )),
            _ => Ok(()),
        }
    }
}

#[derive(serde::Deserialize)]
struct ModelPath {
    model: String,
    version: Option<String>,
}

pub fn router(replica: Arc<Replica>) -> Router {
    let mut router = Router::new()
        .route("/v2", get(server))
        .route("/v2/", get(server))
        .route("/v2/health/live", get(async || axum::Json(json!({ "live": true }))))
        .route("/v2/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/v2/repository/{*rest}", any(async || missing("the model repository extension")))
        .route("/v2/models/stats", any(async || missing("the statistics extension")));
    for base in ["/v2/models/{model}", "/v2/models/{model}/versions/{version}"] {
        router = router
            .route(base, get(model))
            .route(&format!("{base}/ready"), get(model_ready))
            .route(&format!("{base}/infer"), post(infer))
            .route(&format!("{base}/config"), any(async || missing("the model configuration extension")))
            .route(&format!("{base}/stats"), any(async || missing("the statistics extension")))
            .route(&format!("{base}/generate"), any(async || missing("the generate extension")))
            .route(&format!("{base}/generate_stream"), any(async || missing("the generate extension")));
    }
    router
        .fallback(async |request: Request<Body>| {
            Failure::new(
                ErrorCode::NotFound,
                format!(
                    "there is nothing at {}; the Open Inference Protocol begins at /v2",
                    clip(request.uri().path())
                ),
            )
        })
        .method_not_allowed_fallback(async |request: Request<Body>| {
            Failure::new(
                ErrorCode::MethodNotAllowed,
                format!("{} does not take {}", clip(request.uri().path()), request.method()),
            )
        })
        .with_state(replica)
}

fn missing(what: &str) -> Failure {
    Failure::new(ErrorCode::NotImplemented, format!("not implemented: {what}"))
}

fn clip(text: &str) -> &str {
    &text[..text.floor_char_boundary(200)]
}

async fn server() -> impl IntoResponse {
    axum::Json(json!({
        "name": "muonic",
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": ["binary_tensor_data"],
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
    replica.check(&at)?;
    replica.ready()?;
    Ok(axum::Json(json!({ "name": replica.name, "ready": true })))
}

async fn model(State(replica): State<Arc<Replica>>, Path(at): Path<ModelPath>) -> Result<impl IntoResponse, Failure> {
    replica.check(&at)?;
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

async fn metrics(State(replica): State<Arc<Replica>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], replica.metrics.text())
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

struct InFlight<'r>(&'r Replica);

impl<'r> InFlight<'r> {
    fn new(replica: &'r Replica) -> Self {
        replica.metrics.in_flight.inc();
        Self(replica)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.metrics.in_flight.dec();
    }
}

/// What a request takes until its run has ended.
struct Busy {
    held: Held,
    _place: Place,
}

async fn answer(replica: &Arc<Replica>, at: &ModelPath, headers: &HeaderMap, body: Body) -> Result<Response, Failure> {
    replica.check(at)?;
    let json_length = checked(headers)?;
    let place = replica.room.enter()?;
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    let held = replica.room.read(body, announced).await?;
    let small = held.bytes.len() <= INLINE_BYTES_MAX;
    let parsed = {
        let replica = Arc::clone(replica);
        let parse = move |mut held: Held| {
            let (runtime, bytes) = (&replica.runtime, held.bytes.clone());
            let charge = |more| replica.room.charge(&mut held, more);
            let cost = |datatype| runtime.element_cost(datatype);
            request::read(&bytes, json_length, runtime.inputs(), runtime.outputs(), cost, charge)
                .map(|request| (request, held))
        };
        if small { parse(held) } else { blocking(move || parse(held)).await? }
    };
    let (request::Request { id, inputs, outputs: wanted }, held) = parsed?;
    let (outputs, held) = run(replica, inputs, Busy { held, _place: place }).await?;
    let bytes = response::bytes_max(&outputs, &wanted);
    let mut charged = replica.room.answer(held, bytes)?;
    let written = {
        let replica = Arc::clone(replica);
        let write = move || response::write(&replica.name, &replica.version, id.as_deref(), outputs, &wanted);
        if bytes <= INLINE_BYTES_MAX { write() } else { blocking(write).await? }
    };
    let written = written?;
    replica.room.settle(&mut charged, written.bytes.len())?;
    let mut response = Response::new(Body::new(Answer { rest: written.bytes, _charged: charged }));
    *response.status_mut() = StatusCode::OK;
    let media_type = if written.json_length.is_some() { "application/octet-stream" } else { "application/json" };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    if let Some(length) = written.json_length {
        response.headers_mut().insert(JSON_LENGTH_HEADER, HeaderValue::from(length));
    }
    Ok(response)
}

/// An answer on its way out, with the room it takes.
struct Answer {
    rest: Bytes,
    _charged: Charged,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        // A copy: a part would hold the whole until it has left itself.
        let size = PIECE_BYTES.min(self.rest.len());
        let piece = Bytes::copy_from_slice(&self.rest.split_to(size));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

/// Waits for its turn, and for its run. `busy` is let go only when the run has
/// ended, also where nobody waits for it any more.
async fn run(replica: &Replica, inputs: Vec<Tensor>, busy: Busy) -> Result<(Vec<Tensor>, Held), Failure> {
    let Limits { wait_time, run_time, .. } = replica.limits;
    let turn_by = Instant::now() + wait_time;
    let mut turn =
        replica.batcher.submit(batch::Request { inputs, priority: 0, turn_by, answer_by: None, keep: busy })?;
    tokio::time::timeout_at(turn_by.into(), turn.begun()).await.map_err(|_| {
        Failure::new(
            ErrorCode::TooManyRequests,
            format!("the model was busy with other requests for {} s; try again later", wait_time.as_secs_f64()),
        )
    })?;
    let answer = tokio::time::timeout(run_time, turn.answer()).await.map_err(|_| {
        Failure::new(
            ErrorCode::DeadlineExceeded,
            format!("the model did not answer within {} s", run_time.as_secs_f64()),
        )
    })?;
    let (outputs, busy) = answer.ok_or_else(|| Failure::new(ErrorCode::Unavailable, "the replica is stopping"))?;
    Ok((outputs?, busy.held))
}

/// The length of the JSON part, and that the body is in a form we read.
fn checked(headers: &HeaderMap) -> Result<Option<usize>, Failure> {
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && encoding.as_bytes() != b"identity"
    {
        return Err(Failure::new(ErrorCode::UnsupportedMediaType, "not implemented: compressed request bodies"));
    }
    headers
        .get(JSON_LENGTH_HEADER)
        .map(|v| {
            let length = v.to_str().ok().and_then(|v| v.parse().ok());
            length.ok_or_else(|| Failure::bad("the header Inference-Header-Content-Length is not a number"))
        })
        .transpose()
}

/// Runs `work` off the async threads. A panic in it is an answer, not an end.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|e| {
        tracing::error!("a request's work panicked: {e}");
        Failure::new(ErrorCode::Internal, "the replica failed on this request; its log says more")
    })
}
