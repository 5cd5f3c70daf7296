//! How much of the native API may be under way at once: requests, answers that
//! go on, and bytes of bodies in memory. More is refused at once with 429:
//! waiting in line would only make everyone late.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt;
use muonic_services::Error;
use muonic_types::ErrorCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::render::Failure;

const REQUESTS_MAX: usize = 1_024;
/// Followed logs, packs and blobs on their way out.
const STREAMS_MAX: usize = 1_024;
/// Of bodies that are read whole before they are understood, in KiB.
const BODIES_KIB_MAX: usize = 768 << 10;

#[derive(Clone)]
pub(crate) struct Limits {
    requests: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    bodies: Bodies,
}

impl Limits {
    pub(crate) fn new() -> Self {
        let places = |n| Arc::new(Semaphore::new(n));
        Self { requests: places(REQUESTS_MAX), streams: places(STREAMS_MAX), bodies: Bodies(places(BODIES_KIB_MAX)) }
    }
}

/// Room for bodies in memory; a request's extension.
#[derive(Clone)]
pub(crate) struct Bodies(Arc<Semaphore>);

impl Bodies {
    /// Room for so many bytes, given back when the answer is dropped.
    pub(crate) fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Failure> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        self.0
            .clone()
            .try_acquire_many_owned(kib)
            .map_err(|_| too_many("too many large bodies are on their way already"))
    }
}

fn too_many(what: impl Into<String>) -> Failure {
    Failure(Error::new(ErrorCode::TooManyRequests, what).hint("try again in a moment"))
}

pub(crate) async fn bound(State(limits): State<Limits>, mut request: Request, next: Next) -> Result<Response, Failure> {
    let Ok(_place) = limits.requests.try_acquire() else {
        return Err(too_many(format!("{REQUESTS_MAX} requests are under way already")));
    };
    request.extensions_mut().insert(limits.bodies);
    let response = next.run(request).await;
    if response.body().size_hint().exact().is_some_and(|bytes| bytes <= 1 << 20) {
        return Ok(response);
    }
    let Ok(place) = limits.streams.try_acquire_owned() else {
        return Err(too_many(format!("{STREAMS_MAX} answers are on their way already")));
    };
    Ok(response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            // Held until the answer has gone or the caller has.
            let _ = &place;
            frame
        }))
    }))
}
