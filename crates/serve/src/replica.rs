//! One model, and the walk that every request takes through it, whichever
//! door it came by: place in the replica → body → checked tensors → its turn at
//! the runtime → answer.
//!
//! Each stage has its own time limit. Work that blocks runs off the async
//! threads; the place goes with it, so that a request nobody waits for any
//! more still counts until its run has ended.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use hyper::body::{Frame, SizeHint};
use muonic_types::ErrorCode;

use crate::batch::{self, Batcher};
use crate::embed::Embedder;
use crate::failure::Failure;
use crate::limits::{Charged, Held, Limits, Place, Room};
use crate::metrics::Metrics;
use crate::oip::request::PRIORITY_DEFAULT;
use crate::runtime::Runtime;
use crate::tensor::Tensor;

/// Bodies up to this size are parsed and written on the async threads.
const INLINE_BYTES_MAX: usize = 32 << 10;
/// Of an answer that is handed to its connection at once.
const PIECE_BYTES: usize = 64 << 10;
/// Rows that go together at most.
pub(crate) const ROWS_MAX: usize = 256;

/// What [`crate::load`] gives: the runtime, and what the files beside the model
/// add to it.
pub struct Model {
    pub runtime: Arc<dyn Runtime>,
    pub embedder: Option<Embedder>,
}

impl From<Arc<dyn Runtime>> for Model {
    fn from(runtime: Arc<dyn Runtime>) -> Self {
        Self { runtime, embedder: None }
    }
}

pub struct Replica {
    pub name: String,
    pub version: String,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) metrics: Arc<Metrics>,
    /// Of models that turn texts into vectors.
    pub(crate) embedder: Option<Arc<Embedder>>,
    limits: Limits,
    room: Room,
    batcher: Batcher<Busy>,
    stopping: AtomicBool,
}

/// What a request takes until its run has ended.
struct Busy {
    held: Held,
    _place: Place,
}

/// A request as a door has read it.
pub(crate) struct Asked<P> {
    pub(crate) inputs: Vec<Tensor>,
    /// Smaller numbers go first.
    pub(crate) priority: u32,
    /// From its arrival; the answer is of no use after that.
    pub(crate) timeout: Option<Duration>,
    /// What the door needs to write the answer.
    pub(crate) plan: P,
}

/// How a door reads requests and writes answers. Both may block for as long as
/// the bytes take.
pub(crate) trait Form: Send + 'static {
    type Plan: Send + 'static;
    type Written: AsRef<Bytes> + Send + 'static;

    /// `charge` is told of memory that is about to be taken beyond the body's
    /// own, and may refuse it.
    fn read(
        &self,
        replica: &Replica,
        body: &Bytes,
        charge: &mut dyn FnMut(usize) -> Result<(), Failure>,
    ) -> Result<Asked<Self::Plan>, Failure>;

    /// What `write` takes at most.
    fn bytes_max(&self, outputs: &[Tensor], plan: &Self::Plan) -> usize;

    fn write(&self, replica: &Replica, outputs: Vec<Tensor>, plan: Self::Plan) -> Result<Self::Written, Failure>;
}

impl Replica {
    pub fn new(name: String, version: String, model: Model, limits: Limits) -> std::io::Result<Arc<Self>> {
        let Model { runtime, embedder } = model;
        let metrics = Arc::new(Metrics::new());
        let settings = batch::Settings { rows_max: ROWS_MAX, run_time: limits.run_time };
        let batcher = Batcher::new(Arc::clone(&runtime), settings, metrics.clone())?;
        Ok(Arc::new(Self {
            name,
            version,
            runtime,
            embedder: embedder.map(Arc::new),
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

    /// The error says why it is not.
    pub(crate) fn ready(&self) -> Result<(), Failure> {
        if self.stopping.load(Ordering::SeqCst) {
            return Err(Failure::new(ErrorCode::Unavailable, "the replica is stopping"));
        }
        self.runtime.ready().map_err(|why| Failure::new(ErrorCode::Unavailable, why))
    }

    /// The whole walk.
    pub(crate) async fn exchange<F: Form>(
        self: &Arc<Self>,
        headers: &HeaderMap,
        body: Body,
        form: F,
    ) -> Result<Exchanged<F::Written>, Failure> {
        let arrived = Instant::now();
        let Arrived(Busy { held, _place: place }) = self.arrive(headers, body).await?;
        let small = held.bytes.len() <= INLINE_BYTES_MAX;
        let read = {
            let replica = Arc::clone(self);
            move |mut held: Held| {
                let bytes = held.bytes.clone();
                let mut charge = |more| replica.room.charge(&mut held, more);
                form.read(&replica, &bytes, &mut charge).map(|asked| (asked, held, form))
            }
        };
        let read = if small { read(held) } else { blocking(move || read(held)).await? };
        let (Asked { inputs, priority, timeout, plan }, held, form) = read?;
        let answer_by = timeout.map(|timeout| arrived + timeout);
        let busy = Busy { held, _place: place };
        let (outputs, Busy { held, .. }, took) = self.run(inputs, priority, answer_by, busy).await?;
        let bytes = form.bytes_max(&outputs, &plan);
        let mut charged = self.room.answer(held, bytes)?;
        let write = {
            let replica = Arc::clone(self);
            move || form.write(&replica, outputs, plan)
        };
        let written = if bytes <= INLINE_BYTES_MAX { write() } else { blocking(write).await? }?;
        self.room.settle(&mut charged, written.as_ref().len())?;
        Ok(Exchanged { written, charged, took })
    }

    /// A request whose door runs the model as it sees fit: its body, with its
    /// place in the replica.
    pub(crate) async fn arrive(&self, headers: &HeaderMap, body: Body) -> Result<Arrived, Failure> {
        not_compressed(headers)?;
        let place = self.room.enter()?;
        let held = self.room.read(body, announced(headers)).await?;
        Ok(Arrived(Busy { held, _place: place }))
    }

    /// One run for such a request.
    pub(crate) async fn run_for(
        &self,
        arrived: Arrived,
        inputs: Vec<Tensor>,
    ) -> Result<(Vec<Tensor>, Arrived), Failure> {
        let (outputs, busy, _) = self.run(inputs, PRIORITY_DEFAULT, None, arrived.0).await?;
        Ok((outputs, Arrived(busy)))
    }

    /// Waits for its turn, and for its run. `busy` is let go only when the run
    /// has ended, also where nobody waits for it any more.
    async fn run(
        &self,
        inputs: Vec<Tensor>,
        priority: u32,
        answer_by: Option<Instant>,
        busy: Busy,
    ) -> Result<(Vec<Tensor>, Busy, Took), Failure> {
        let Limits { wait_time, run_time, .. } = self.limits;
        let now = Instant::now();
        let turn_by = answer_by.map_or(now + wait_time, |by| by.min(now + wait_time));
        let mut turn = self.batcher.submit(batch::Request { inputs, priority, turn_by, answer_by, keep: busy })?;
        tokio::time::timeout_at(turn_by.into(), turn.begun()).await.map_err(|_| {
            let waited = turn_by.saturating_duration_since(now).as_secs_f64();
            Failure::new(
                ErrorCode::TooManyRequests,
                format!("the model was busy with other requests for {waited} s; try again later"),
            )
        })?;
        let begun = Instant::now();
        let run_by = answer_by.map_or(begun + run_time, |by| by.min(begun + run_time));
        let answer = tokio::time::timeout_at(run_by.into(), turn.answer()).await.map_err(|_| match answer_by {
            Some(by) if by <= run_by => Failure::new(
                ErrorCode::DeadlineExceeded,
                "the model did not answer within the request's own time limit",
            ),
            _ => Failure::new(
                ErrorCode::DeadlineExceeded,
                format!("the model did not answer within {} s", run_time.as_secs_f64()),
            ),
        })?;
        let (outputs, busy) = answer.ok_or_else(|| Failure::new(ErrorCode::Unavailable, "the replica is stopping"))?;
        Ok((outputs?, busy, Took { queue: begun - now, compute: begun.elapsed() }))
    }
}

/// W3C Server Timing.
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// How long a request was at a stage.
struct Took {
    queue: Duration,
    compute: Duration,
}

impl Took {
    fn header(&self) -> Option<HeaderValue> {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        HeaderValue::try_from(format!("queue;dur={:.3}, compute;dur={:.3}", ms(self.queue), ms(self.compute))).ok()
    }
}

/// A request in the replica.
pub(crate) struct Arrived(Busy);

impl Arrived {
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.0.held.bytes
    }

    /// Takes room for what is made of its body.
    pub(crate) fn charge(&mut self, replica: &Replica, bytes: usize) -> Result<(), Failure> {
        replica.room.charge(&mut self.0.held, bytes)
    }
}

fn not_compressed(headers: &HeaderMap) -> Result<(), Failure> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding.as_bytes() != b"identity" => {
            Err(Failure::new(ErrorCode::UnsupportedMediaType, "not implemented: compressed request bodies"))
        }
        _ => Ok(()),
    }
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok())
}

/// What was written, and the room it takes until it has left.
pub(crate) struct Exchanged<W> {
    pub(crate) written: W,
    charged: Charged,
    took: Took,
}

impl<W: AsRef<Bytes>> Exchanged<W> {
    pub(crate) fn into_body(self) -> Body {
        Body::new(Answer { rest: self.written.as_ref().clone(), _charged: self.charged })
    }

    /// With the times of its stages, which gateways and browsers read.
    pub(crate) fn into_response(self) -> Response<Body> {
        let stages = self.took.header();
        let mut response = Response::new(self.into_body());
        response.headers_mut().extend(stages.map(|stages| (SERVER_TIMING, stages)));
        response
    }
}

/// An answer on its way out.
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

/// Runs `work` off the async threads. A panic in it is an answer, not an end.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|e| {
        tracing::error!("a request's work panicked: {e}");
        Failure::internal()
    })
}
