//! How much of the native API may be under way at once: requests, answers that
//! go on, and bytes of bodies in memory. More is refused at once with 429:
//! waiting in line would only make everyone late.

use std::sync::Arc;
use std::time::Duration;

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
/// Large bodies that are parsed at once; others wait so long for their turn.
/// What becomes of one may take twenty times its size until it is checked.
const PARSED_MAX: usize = 4;
const TURN_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub(crate) struct Limits {
    requests: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    bodies: Bodies,
}

impl Limits {
    pub(crate) fn new() -> Self {
        let places = |n| Arc::new(Semaphore::new(n));
        let bodies = Bodies { room: places(BODIES_KIB_MAX), turns: places(PARSED_MAX) };
        Self { requests: places(REQUESTS_MAX), streams: places(STREAMS_MAX), bodies }
    }
}

/// Room for bodies in memory; a request's extension.
#[derive(Clone)]
pub(crate) struct Bodies {
    room: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

impl Bodies {
    /// Room for so many bytes, given back when the answer is dropped.
    pub(crate) fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Failure> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        self.room
            .clone()
            .try_acquire_many_owned(kib)
            .map_err(|_| too_many("too many large bodies are on their way already"))
    }

    /// Held while a large body is parsed.
    pub(crate) async fn turn(&self) -> Result<OwnedSemaphorePermit, Failure> {
        match tokio::time::timeout(TURN_TIMEOUT, self.turns.clone().acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(too_many("too many large bodies wait to be read already")),
        }
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn large_bodies_are_parsed_in_turn() {
        let bodies = Limits::new().bodies;
        let mut turns = Vec::new();
        for _ in 0..PARSED_MAX {
            turns.push(bodies.turn().await.expect("a turn"));
        }
        assert!(bodies.turn().now_or_never().is_none());
        turns.pop();
        assert!(bodies.turn().now_or_never().is_some_and(|turn| turn.is_ok()));
    }
}
