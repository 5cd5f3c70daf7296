//! What is served, and how it becomes another without a request being lost:
//! new requests go to the new one from one moment on; those that have begun
//! keep the old one until they have ended.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::Request;
use hyper::body::{Frame, SizeHint};
use muonic_types::ErrorCode;
use tower::ServiceExt;

use super::models::Lease;
use crate::failure::Failure;
use crate::served::Served;

pub struct Current {
    pub version: u32,
    router: Router,
    served: Served,
    _lease: Lease,
}

impl Current {
    pub fn new(version: u32, served: Served, lease: Lease) -> Self {
        Self { version, router: served.router(), served, _lease: lease }
    }
}

/// Since the process began.
#[derive(Default)]
pub struct Counts {
    pub requests: AtomicU64,
    /// Answered with a status of 500 or more.
    pub failures: AtomicU64,
    /// Until answers began, in microseconds.
    pub micros: AtomicU64,
}

pub struct Swap {
    current: RwLock<Option<Arc<Current>>>,
    /// Why there is nothing yet.
    waits_for: String,
    pub counts: Counts,
}

impl Swap {
    pub fn new(waits_for: String) -> Arc<Self> {
        Arc::new(Self { current: RwLock::default(), waits_for, counts: Counts::default() })
    }

    pub fn router(self: &Arc<Self>) -> Router {
        Router::new().fallback(handle).with_state(Arc::clone(self))
    }

    pub fn current(&self) -> Option<Arc<Current>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says "not ready" from now on; requests are still answered.
    pub fn stop(&self) {
        if let Some(current) = self.current() {
            current.served.stop();
        }
    }

    /// Serves `next` from now on. Blocks until the old one has answered what it
    /// had, for at most `drain_time`, and has ended.
    pub fn put(&self, next: Option<Current>, drain_time: Duration) {
        let next = next.map(Arc::new);
        let old = std::mem::replace(&mut *self.current.write().unwrap_or_else(PoisonError::into_inner), next);
        let Some(old) = old else { return };
        let until = Instant::now() + drain_time;
        while Arc::strong_count(&old) > 1 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        old.served.shut_down();
    }
}

async fn handle(State(swap): State<Arc<Swap>>, request: Request<Body>) -> Response {
    let began = Instant::now();
    let response = match swap.current() {
        Some(current) => {
            let Ok(response) = current.router.clone().oneshot(request).await;
            response.map(|inner| Body::new(Held { inner, _current: current }))
        }
        None => Failure::new(ErrorCode::Unavailable, swap.waits_for.clone()).into_response(),
    };
    let counts = &swap.counts;
    counts.requests.fetch_add(1, Ordering::Relaxed);
    counts.micros.fetch_add(began.elapsed().as_micros().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
    if response.status().is_server_error() {
        counts.failures.fetch_add(1, Ordering::Relaxed);
    }
    response
}

/// An answer, with what makes it.
struct Held {
    inner: Body,
    _current: Arc<Current>,
}

impl hyper::body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
