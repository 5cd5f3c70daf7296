//! Requests to the program and answers from it, as they are: only what belongs
//! to one connection is taken off. Each has a connection of its own, which is
//! closed when the caller goes, so that the program hears of it.

use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header;
use http::{HeaderValue, Method, Request, Uri, Version};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper_util::rt::TokioIo;
use muonic_types::ErrorCode;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

use super::Program;
use crate::failure::Failure;

const CONNECT_TIME: Duration = Duration::from_secs(5);

pub(super) async fn handle(State(program): State<Arc<Program>>, request: Request<Body>) -> Response {
    exchange(&program, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn exchange(program: &Program, request: Request<Body>) -> Result<Response, Failure> {
    let place = Arc::clone(&program.requests).try_acquire_owned().map_err(|_| {
        let max = program.requests_max;
        Failure::new(ErrorCode::TooManyRequests, format!("{max} requests are in this replica already; try again later"))
    })?;
    let port = program.port()?;
    let request = to_program(request, port)?;
    let gone = |e: &dyn std::fmt::Display| {
        Failure::new(ErrorCode::Unavailable, format!("the model's program did not answer: {e}"))
    };
    let limit = program.request_time;
    let answer = async {
        let stream = tokio::time::timeout(CONNECT_TIME, TcpStream::connect((Ipv4Addr::LOCALHOST, port)));
        let stream = stream.await.map_err(|e| gone(&e))?.map_err(|e| gone(&e))?;
        let _ = stream.set_nodelay(true);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| gone(&e))?;
        // Ends when the answer's body has ended or is dropped.
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(|e| gone(&e))
    };
    let answer = tokio::time::timeout(limit, answer).await.map_err(|_| {
        let message = format!("the model's program did not answer within {} s", limit.as_secs_f64());
        Failure::new(ErrorCode::DeadlineExceeded, message)
    })??;
    let (mut parts, body) = answer.into_parts();
    muonic_listen::strip_hop_by_hop(&mut parts.headers);
    let timer = Box::pin(tokio::time::sleep(limit));
    let passed = Passed { inner: body, limit, timer, _place: place };
    parts.version = Version::HTTP_11;
    Ok(Response::from_parts(parts, Body::new(passed)))
}

fn to_program(request: Request<Body>, port: u16) -> Result<Request<Body>, Failure> {
    let (mut parts, body) = request.into_parts();
    let is_websocket =
        parts.headers.get(header::UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if is_websocket || parts.method == Method::CONNECT {
        return Err(Failure::new(ErrorCode::NotImplemented, "not implemented: WebSocket and other upgrades"));
    }
    muonic_listen::strip_hop_by_hop(&mut parts.headers);
    // The body is read as soon as the program reads it.
    parts.headers.remove(header::EXPECT);
    if !parts.headers.contains_key(header::HOST) {
        let host = parts.uri.authority().map_or_else(|| format!("127.0.0.1:{port}"), ToString::to_string);
        if let Ok(host) = HeaderValue::from_str(&host) {
            parts.headers.insert(header::HOST, host);
        }
    }
    let target = parts.uri.path_and_query().cloned().map_or_else(Uri::default, Uri::from);
    (parts.uri, parts.version) = (target, Version::HTTP_11);
    Ok(Request::from_parts(parts, body))
}

/// An answer on its way through, and the place of its request.
struct Passed {
    inner: Incoming,
    /// Between two pieces.
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl hyper::body::Body for Passed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(frame) => {
                let next = Instant::now() + self.limit;
                self.timer.as_mut().reset(next);
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => self.timer.as_mut().poll(context).map(|()| Some(Err("the program fell silent".into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
