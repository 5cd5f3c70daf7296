//! Real models behind the real router, called without a network.
#![allow(dead_code)]

pub mod process;
pub mod unit;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Frame;
use muonic_serve::{Limits, LoadOptions, Replica, load, router};
use serde_json::Value;
use tower::ServiceExt;

/// Tests that need the library fail without it rather than being left out.
pub fn library() -> PathBuf {
    let named = std::env::var_os("MUONIC_ONNXRUNTIME").map(PathBuf::from);
    let path = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../build/lib/libonnxruntime.so"));
    assert!(path.is_file(), "onnxruntime's library is not at {}: run ./test, which fetches it", path.display());
    path
}

pub fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(name)
}

pub fn python() -> String {
    std::env::var("MUONIC_TEST_PYTHON").unwrap_or_else(|_| "python3".into())
}

pub fn options(cache: &Path) -> LoadOptions {
    LoadOptions {
        threads: 1,
        onnxruntime: Some(library().to_string_lossy().into_owned()),
        python: Some(python()),
        workers: None,
        cache: cache.to_owned(),
        log_bytes_max: 1 << 20,
    }
}

pub fn serve_path(path: &Path, limits: Limits) -> anyhow::Result<Router> {
    let model = load(path, &options(Path::new(env!("CARGO_TARGET_TMPDIR"))))?;
    Ok(router(Replica::new("m".into(), "7".into(), model, limits).unwrap()))
}

pub fn serve_model(name: &str) -> Router {
    serve_path(&model(name), Limits::default()).unwrap()
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|e| panic!("{e}: {:?}", self.bytes))
    }

    /// The protocol's error sentence.
    pub fn error(&self) -> String {
        assert!(!self.status.is_success(), "{:?}", self.bytes);
        let json = self.json();
        json["error"].as_str().unwrap_or_else(|| panic!("no error sentence in {json}")).to_owned()
    }
}

pub async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    Answer { status: parts.status, headers: parts.headers, bytes: body.collect().await.unwrap().to_bytes() }
}

pub async fn get(router: &Router, path: &str) -> Answer {
    send(router, Request::get(path).body(Body::empty()).unwrap()).await
}

pub async fn infer_bytes(router: &Router, body: impl Into<Body>) -> Answer {
    send(router, Request::post("/v2/models/m/infer").body(body.into()).unwrap()).await
}

struct Drip {
    rest: Bytes,
    piece: usize,
    pause: Duration,
    timer: Pin<Box<tokio::time::Sleep>>,
}

/// A body that comes in pieces, with a pause before each.
pub fn drip(bytes: impl Into<Bytes>, pieces: usize, pause: Duration) -> Body {
    let rest = bytes.into();
    let piece = rest.len().div_ceil(pieces);
    Body::new(Drip { rest, piece, pause, timer: Box::pin(tokio::time::sleep(pause)) })
}

impl hyper::body::Body for Drip {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        ready!(self.timer.as_mut().poll(context));
        let next = tokio::time::Instant::now() + self.pause;
        self.timer.as_mut().reset(next);
        let piece = self.piece.min(self.rest.len());
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }
}

pub async fn infer(router: &Router, body: &Value) -> Answer {
    infer_bytes(router, body.to_string()).await
}
