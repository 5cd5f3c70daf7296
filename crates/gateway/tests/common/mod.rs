//! A gateway with a route table that tests write, and replicas on sockets.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use muonic_gateway::{Gateway, Settings};
use muonic_ports::routes::{Activity, Arm, Authenticator, Backend, Route, RouteTable};
use muonic_types::endpoint::EndpointState;
use muonic_types::key::{KeyLimits, Principal, Role};
use muonic_types::{ErrorCode, KeyId, ProjectId};
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::sync::watch;
use tower::ServiceExt;

pub const PATIENCE: Duration = Duration::from_secs(60);

/// Tokens are role names; `other` is an admin of another project.
struct Keys;

impl Authenticator for Keys {
    fn authenticate(&self, token: &str) -> Result<Principal, (ErrorCode, String)> {
        let role = match token {
            "admin" | "other" => Role::Admin,
            "member" => Role::Member,
            "viewer" => Role::Viewer,
            "invoker" | "limited" | "metered" => Role::Invoker,
            "task" => Role::Task,
            "replica" => Role::Replica,
            _ => return Err((ErrorCode::Unauthenticated, "the key is unknown".into())),
        };
        let project = if token == "other" { "other".parse().unwrap() } else { ProjectId::default_project() };
        let limits = match token {
            "limited" => KeyLimits { requests_per_minute: Some(2), tokens_per_minute: None },
            "metered" => KeyLimits { requests_per_minute: None, tokens_per_minute: Some(10) },
            _ => KeyLimits::default(),
        };
        let key = if token == "metered" { "MKBBBBBBBBBBBBBBBBBB" } else { "MKAAAAAAAAAAAAAAAAAA" }.parse().unwrap();
        Ok(Principal { key, project, role, attempt: None, replica: None, limits })
    }

    fn secret(&self, _: &KeyId) -> Option<(Principal, String)> {
        None
    }
}

pub struct World {
    pub router: Router,
    pub routes: watch::Sender<Arc<RouteTable>>,
    pub registry: Registry,
    pub dir: tempfile::TempDir,
}

impl World {
    pub fn new() -> Self {
        Self::with(Settings::default())
    }

    pub fn with(settings: Settings) -> Self {
        let (routes, receiver) = watch::channel(Arc::new(RouteTable { known: true, ..RouteTable::default() }));
        let mut registry = Registry::with_prefix("muonic");
        let gateway = Gateway::with_settings(receiver, Arc::new(Keys), &mut registry, settings);
        Self { router: gateway.router(), routes, registry, dir: tempfile::tempdir().unwrap() }
    }

    /// Routes `e` to these replicas.
    pub fn route(&self, state: EndpointState, revision: u32, backends: &[Backend]) {
        self.routes.send_replace(Arc::new(table(state, revision, backends)));
    }

    pub fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

pub fn table(state: EndpointState, revision: u32, backends: &[Backend]) -> RouteTable {
    let route = Route {
        endpoint: "e".parse().unwrap(),
        project: ProjectId::default_project(),
        state,
        activity: Arc::new(Activity::new(Arc::default())),
        active: Arm { revision, backends: backends.to_vec(), tally: Arc::default() },
        target: None,
    };
    RouteTable { known: true, routes: [(route.endpoint.clone(), route)].into() }
}

pub fn backend(revision: u32, number: u32, path: &Path) -> Backend {
    Backend {
        replica: format!("e.{revision}.{number}").parse().unwrap(),
        address: format!("unix:{}", path.display()),
        in_flight: Arc::new(AtomicUsize::new(0)),
        // Long ago enough to have its full share.
        since: Instant::now().checked_sub(Duration::from_secs(60)).unwrap(),
    }
}

/// A unix listener at `path`, however long that is.
pub fn listen(path: &Path) -> tokio::net::UnixListener {
    let folder = path.parent().unwrap();
    std::fs::create_dir_all(folder).unwrap();
    let _ = std::fs::remove_file(path);
    if path.as_os_str().len() > 100 {
        let (_open, short) = muonic_unit::socket_path(folder).unwrap();
        return tokio::net::UnixListener::bind(short).unwrap();
    }
    tokio::net::UnixListener::bind(path).unwrap()
}

/// Serves `router` as replica `number` of `revision`, until the test ends.
pub fn fake(world: &World, revision: u32, number: u32, router: Router) -> Backend {
    let path = world.dir.path().join(format!("{revision}.{number}")).join("socket");
    let listener = listen(&path);
    tokio::spawn(axum::serve(listener, router).into_future());
    backend(revision, number, &path)
}

/// Tests that need the library fail without it rather than being left out.
pub fn library() -> PathBuf {
    let named = std::env::var_os("MUONIC_ONNXRUNTIME").map(PathBuf::from);
    let path = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../build/lib/libonnxruntime.so"));
    assert!(path.is_file(), "onnxruntime's library is not at {}: run ./test, which fetches it", path.display());
    path
}

/// A real replica of a real model, which drains when told.
pub struct RealReplica {
    pub backend: Backend,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<()>,
}

impl RealReplica {
    pub fn start(folder: &Path, revision: u32, number: u32) -> Self {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../serve/tests/models/add.onnx");
        let options = muonic_serve::LoadOptions {
            threads: 1,
            onnxruntime: Some(library().to_string_lossy().into_owned()),
            python: None,
            workers: None,
            cache: folder.join("cache"),
            log_bytes_max: 0,
        };
        let model = muonic_serve::load(&model, &options).unwrap();
        let limits = muonic_serve::Limits::default();
        let replica = muonic_serve::Replica::new("e".into(), revision.to_string(), model, limits).unwrap();
        let path = folder.join(format!("{revision}.{number}")).join("socket");
        let listener = muonic_serve::Listener::Unix(listen(&path));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let stopped = async {
            let _ = stopped.await;
        };
        let served =
            tokio::spawn(muonic_serve::serve(listener, muonic_serve::router(replica), limits.drain_time, stopped));
        Self { backend: backend(revision, number, &path), stop: Some(stop), served }
    }

    /// As a release does: once it is in no table, wait for its requests, stop.
    pub async fn drain(mut self) {
        until("the replica has no request", || self.backend.in_flight.load(Ordering::SeqCst) == 0).await;
        drop(self.stop.take());
        tokio::time::timeout(PATIENCE, self.served).await.unwrap().unwrap();
    }
}

pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
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
        self.json()["error"].as_str().unwrap_or_else(|| panic!("no sentence in {:?}", self.bytes)).to_owned()
    }
}

pub async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    Answer { status: parts.status, headers: parts.headers, bytes: body.collect().await.unwrap().to_bytes() }
}

pub fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(format!("/endpoints/e{path}")).header("authorization", "Bearer invoker").body(body.into()).unwrap()
}

pub fn add(n: i64) -> Request<Body> {
    let body =
        serde_json::json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 3], "data": [n, n, n] }] });
    post("/v2/models/e/infer", body.to_string())
}
