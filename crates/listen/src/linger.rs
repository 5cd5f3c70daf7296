//! Bodies that nobody reads to their end.
//!
//! A caller that is refused half-way is usually still sending and reads the
//! answer only afterwards; closing on it would turn the sentence into a broken
//! connection. So what a handler leaves of a body is read and dropped, within
//! bounds, while the answer is on its way.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::Service;

const BYTES_MAX: u64 = 4 << 30;
const TIME_MAX: Duration = Duration::from_secs(30);

/// A service whose requests have such a body.
#[derive(Debug, Clone)]
pub struct Linger<S>(pub S);

impl<S: Service<Request<Lingering>>> Service<Request<Incoming>> for Linger<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, request: Request<Incoming>) -> S::Future {
        self.0.call(request.map(|body| Lingering(Some(body))))
    }
}

#[derive(Debug)]
pub struct Lingering(Option<Incoming>);

impl Body for Lingering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.0 = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let rest = self.0.take().filter(|body| !body.is_end_stream());
        if let (Some(rest), Ok(runtime)) = (rest, tokio::runtime::Handle::try_current()) {
            runtime.spawn(tokio::time::timeout(TIME_MAX, drain(rest)));
        }
    }
}

async fn drain(mut body: Incoming) {
    let mut dropped = 0;
    while let Some(Ok(frame)) = body.frame().await {
        dropped += frame.data_ref().map_or(0, |data| data.len() as u64);
        if dropped > BYTES_MAX {
            return;
        }
    }
}
