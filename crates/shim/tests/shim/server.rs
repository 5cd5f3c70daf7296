//! The attempt protocol in memory, over real HTTP.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use muonic_types::blob::{
    Digests, MissingBlobs, NewTree, PackStored, TreeBody, TreeSummary, pack_head, parse_pack_head,
};
use muonic_types::job::{METRIC_NAMES_MAX, MetricPoint, is_metric_name};
use muonic_types::system::SERVER_HEADER;
use muonic_types::task::{ExitReport, LogAppended, NewMetricPoints, TaskProgress, TaskSpec};
use muonic_types::{Digest, Entry, ErrorBody, ErrorCode, Tree};

/// What this server calls itself.
pub const SERVER_ID: &str = "ours";

#[derive(Default)]
pub struct Attempt {
    pub task: Option<TaskSpec>,
    pub claims: u32,
    pub log: Vec<u8>,
    pub metrics: Vec<MetricPoint>,
    pub progress: Vec<TaskProgress>,
    pub report: Option<ExitReport>,
    /// Everything is refused, as for an attempt that is over.
    pub closed: bool,
    pub blobs: HashMap<Digest, Vec<u8>>,
}

pub type Shared = Arc<Mutex<Attempt>>;

/// A server on a free port that ends with its runtime.
pub struct Server {
    pub address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    pub fn start(shared: &Shared) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new()
            .route("/api/v1/attempts/{id}/claim", post(claim))
            .route("/api/v1/attempts/{id}/progress", post(progress))
            .route("/api/v1/attempts/{id}/logs", post(logs))
            .route("/api/v1/attempts/{id}/metrics", post(metrics))
            .route("/api/v1/attempts/{id}/finish", post(finish))
            .route("/api/v1/blobs/missing", post(missing))
            .route("/api/v1/blobs", post(pack_in))
            .route("/api/v1/blobs/pack", post(pack_out))
            .route("/api/v1/trees", post(tree_make))
            .route("/api/v1/trees/{digest}", get(tree))
            .layer(DefaultBodyLimit::disable())
            .layer(map_response(|mut response: Response| async {
                response.headers_mut().insert(SERVER_HEADER, HeaderValue::from_static(SERVER_ID));
                response
            }))
            .with_state(shared.clone());
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { address, _runtime: runtime }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn refuse(code: ErrorCode) -> Response {
    (StatusCode::from_u16(code.status()).unwrap(), Json(ErrorBody::new(code, "refused by the test"))).into_response()
}

/// Runs on an open attempt.
fn open<T: serde::Serialize>(state: &Shared, work: impl FnOnce(&mut Attempt) -> Result<T, ErrorCode>) -> Response {
    let mut attempt = state.lock().unwrap();
    if attempt.closed || attempt.report.is_some() {
        return refuse(ErrorCode::Conflict);
    }
    match work(&mut attempt) {
        Ok(answer) => Json(answer).into_response(),
        Err(code) => refuse(code),
    }
}

type Nothing = BTreeMap<String, String>;

async fn claim(State(s): State<Shared>) -> Response {
    open(&s, |a| {
        a.claims += 1;
        if a.claims > 1 { Err(ErrorCode::Conflict) } else { a.task.clone().ok_or(ErrorCode::NotFound) }
    })
}

async fn progress(State(s): State<Shared>, Json(body): Json<TaskProgress>) -> Response {
    open(&s, |a| {
        a.progress.push(body);
        Ok(Nothing::new())
    })
}

async fn logs(State(s): State<Shared>, Query(q): Query<HashMap<String, u64>>, bytes: Bytes) -> Response {
    open(&s, |a| {
        let (offset, len) = (q["offset"], a.log.len() as u64);
        assert!(bytes.len() <= 256 << 10);
        if offset > len {
            return Err(ErrorCode::Conflict);
        }
        let known = ((len - offset) as usize).min(bytes.len());
        a.log.extend_from_slice(&bytes[known..]);
        Ok(LogAppended { next_offset: a.log.len() as u64 })
    })
}

async fn metrics(State(s): State<Shared>, Json(body): Json<NewMetricPoints>) -> Response {
    open(&s, |a| {
        assert!(body.first <= a.metrics.len() as u64);
        let known = (a.metrics.len() - body.first as usize).min(body.points.len());
        let names: HashSet<&str> = a.metrics.iter().chain(&body.points).map(|p| p.name.as_str()).collect();
        if names.len() as u64 > METRIC_NAMES_MAX {
            return Err(ErrorCode::Conflict);
        }
        if !body.points.iter().all(|p| is_metric_name(&p.name)) {
            return Err(ErrorCode::InvalidRequest);
        }
        a.metrics.extend_from_slice(&body.points[known..]);
        Ok(Nothing::new())
    })
}

async fn finish(State(s): State<Shared>, Json(body): Json<ExitReport>) -> Response {
    open(&s, |a| {
        a.report = Some(body);
        Ok(Nothing::new())
    })
}

async fn missing(State(s): State<Shared>, Json(body): Json<Digests>) -> Json<MissingBlobs> {
    let a = s.lock().unwrap();
    Json(MissingBlobs { missing: body.digests.into_iter().filter(|d| !a.blobs.contains_key(d)).collect() })
}

async fn pack_in(State(s): State<Shared>, body: Bytes) -> Json<PackStored> {
    let (mut rest, mut blobs, mut bytes) = (&body[..], 0, 0);
    while let Some(end) = rest.iter().position(|b| *b == b'\n') {
        let (digest, size) = parse_pack_head(&rest[..end]).unwrap();
        let content = &rest[end + 1..end + 1 + size as usize];
        assert_eq!(Digest::of(content), digest);
        s.lock().unwrap().blobs.insert(digest, content.to_vec());
        rest = &rest[end + 1 + size as usize..];
        blobs += 1;
        bytes += size;
    }
    Json(PackStored { blobs, bytes })
}

async fn pack_out(State(s): State<Shared>, Json(body): Json<Digests>) -> Response {
    let a = s.lock().unwrap();
    let mut out = Vec::new();
    for digest in body.digests {
        let Some(blob) = a.blobs.get(&digest) else { return refuse(ErrorCode::NotFound) };
        out.extend_from_slice(pack_head(&digest, blob.len() as u64).as_bytes());
        out.extend_from_slice(blob);
    }
    out.into_response()
}

pub fn store_tree(attempt: &mut Attempt, entries: Vec<Entry>) -> TreeSummary {
    let tree = Tree::new(entries).unwrap();
    let summary = TreeSummary { digest: tree.digest(), files: tree.entries().len() as u64, bytes: tree.bytes() };
    attempt.blobs.insert(summary.digest, tree.encode());
    summary
}

async fn tree_make(State(s): State<Shared>, Json(body): Json<NewTree>) -> Json<TreeSummary> {
    Json(store_tree(&mut s.lock().unwrap(), body.entries))
}

async fn tree(State(s): State<Shared>, Path(digest): Path<String>) -> Response {
    let digest: Digest = digest.parse().unwrap();
    let a = s.lock().unwrap();
    let Some(bytes) = a.blobs.get(&digest) else { return refuse(ErrorCode::NotFound) };
    Json(TreeBody { digest, entries: Tree::decode(bytes).unwrap().entries().to_vec() }).into_response()
}
