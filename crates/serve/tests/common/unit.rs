//! A server that units speak to, and units of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::{Path as At, Query, State};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::post;
use axum::{Json, Router};
use muonic_types::blob::{Digests, pack_head};
use muonic_types::system::SERVER_HEADER;
use muonic_types::task::ReplicaSpec;
use muonic_types::{Cpu, Digest, Entry, Memory, Resources, Tree, UnitId};
use muonic_unit::{Folder, Launch};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::process::{Process, program};

/// What the fake server was told.
#[derive(Default)]
pub struct Told {
    pub ready: Vec<String>,
    pub failed: Vec<String>,
    pub log: Vec<u8>,
    pub claims: u32,
}

#[derive(Clone)]
pub struct Fake {
    told: Arc<Mutex<Told>>,
    blobs: Arc<BTreeMap<Digest, Vec<u8>>>,
    spec: Arc<ReplicaSpec>,
}

impl Fake {
    pub fn new(files: &[(&str, Vec<u8>)]) -> Self {
        let mut blobs = BTreeMap::new();
        let mut entries = Vec::new();
        for (path, bytes) in files {
            let digest = Digest::of(bytes);
            entries.push(Entry { path: path.parse().unwrap(), size: bytes.len() as u64, digest, executable: false });
            blobs.insert(digest, bytes.clone());
        }
        let tree = Tree::new(entries).unwrap().encode();
        let digest = Digest::of(&tree);
        blobs.insert(digest, tree);
        let spec = ReplicaSpec {
            replica: "digits.3.1".parse().unwrap(),
            endpoint: "digits".parse().unwrap(),
            revision: 3,
            model: "net".parse().unwrap(),
            version: 5,
            tree: digest,
            resources: Resources { cpu: Cpu::milli(1000), memory: Memory::mib(256), gpu: 0 },
        };
        Self { told: Arc::default(), blobs: Arc::new(blobs), spec: Arc::new(spec) }
    }

    pub fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    pub fn router(&self) -> Router {
        let replica = "/api/v1/replicas/digits.3.1";
        Router::new()
            .route(
                &format!("{replica}/claim"),
                post(async |State(fake): State<Fake>| {
                    fake.told().claims += 1;
                    Json((*fake.spec).clone())
                }),
            )
            .route(
                &format!("{replica}/ready"),
                post(async |State(fake): State<Fake>, Json(body): Json<Value>| {
                    fake.told().ready.push(body["address"].as_str().unwrap().to_owned());
                    Json(json!({}))
                }),
            )
            .route(
                &format!("{replica}/failed"),
                post(async |State(fake): State<Fake>, Json(body): Json<Value>| {
                    fake.told().failed.push(body["message"].as_str().unwrap().to_owned());
                    Json(json!({}))
                }),
            )
            .route(
                &format!("{replica}/logs"),
                post(async |State(fake): State<Fake>, Query(q): Query<BTreeMap<String, u64>>, bytes: Bytes| {
                    let mut told = fake.told();
                    assert_eq!(q["offset"], told.log.len() as u64);
                    told.log.extend_from_slice(&bytes);
                    Json(json!({ "next_offset": told.log.len() }))
                }),
            )
            .route(
                "/api/v1/trees/{digest}",
                axum::routing::get(async |State(fake): State<Fake>, At(digest): At<Digest>| {
                    let tree = Tree::decode(&fake.blobs[&digest]).unwrap();
                    Json(json!({ "digest": digest, "entries": tree.entries() }))
                }),
            )
            .route(
                "/api/v1/blobs/{digest}",
                axum::routing::get(async |State(fake): State<Fake>, At(digest): At<Digest>| {
                    fake.blobs[&digest].clone()
                }),
            )
            .route(
                "/api/v1/blobs/pack",
                post(async |State(fake): State<Fake>, Json(wanted): Json<Digests>| {
                    let mut pack = Vec::new();
                    for digest in wanted.digests {
                        let blob = &fake.blobs[&digest];
                        pack.extend_from_slice(pack_head(&digest, blob.len() as u64).as_bytes());
                        pack.extend_from_slice(blob);
                    }
                    pack
                }),
            )
            .layer(map_response(async |answer: Response| ([(SERVER_HEADER, "ours")], answer)))
            .with_state(self.clone())
    }

    /// Serves until the sender is dropped; writes its address to `file`.
    pub async fn serve(&self, file: &Path) -> tokio::sync::oneshot::Sender<()> {
        self.serve_router(file, self.router()).await
    }

    pub async fn serve_router(&self, file: &Path, router: Router) -> tokio::sync::oneshot::Sender<()> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        tokio::spawn(async move {
            tokio::select! {
                served = axum::serve(listener, router).into_future() => served.unwrap(),
                _ = stopped => {}
            }
        });
        std::fs::write(file, format!("http://{address}\n")).unwrap();
        stop
    }
}

pub fn unit(dir: &Path) -> Folder {
    let path = dir.join("units").join("x".repeat(120)).join("replica.digits.3.1");
    std::fs::create_dir_all(&path).unwrap();
    let folder = Folder::new(path);
    let settings = [
        ("onnxruntime", super::library().to_string_lossy().into_owned()),
        ("python", super::python()),
        // No engine is here to remove groups.
        ("limits", "none".into()),
    ];
    folder
        .write_launch(&Launch {
            version: Launch::VERSION,
            unit: UnitId::Replica("digits.3.1".parse().unwrap()),
            resources: Resources { memory: Memory::mib(8), ..Resources::default() },
            server_file: dir.join("server"),
            token: "MKAAAAAAAAAAAAAAAAAA.secret".into(),
            cache: dir.join("cache"),
            settings: settings.map(|(k, v)| (k.to_owned(), v)).into(),
        })
        .unwrap();
    folder
}

pub fn launch(folder: &Folder) -> Process {
    let log = std::fs::File::create(folder.file("output.log")).unwrap();
    let errors = log.try_clone().unwrap();
    let mut command = Command::new(program());
    command.arg("--unit").arg(folder.path()).stdin(Stdio::null()).stdout(log).stderr(errors);
    Process(command.spawn().unwrap())
}

/// One request on the unit's socket; the whole answer.
pub async fn ask(folder: &Folder, request: String) -> std::io::Result<String> {
    let (_dir, path) = muonic_unit::socket_path(folder.path()).unwrap();
    let mut stream = tokio::net::UnixStream::connect(path).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
