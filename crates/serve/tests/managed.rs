//! Replicas as processes of their own: launched in a unit's folder against a
//! server that comes and goes, and alone on a port.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{Path as At, Query, State};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use muonic_types::blob::{Digests, pack_head};
use muonic_types::system::SERVER_HEADER;
use muonic_types::task::ReplicaSpec;
use muonic_types::{Cpu, Digest, Entry, Memory, Resources, Tree, UnitId};
use muonic_unit::{Folder, Launch};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PATIENCE: Duration = Duration::from_secs(60);

/// Ends the process with the test, however that ends.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }

    fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the replica does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The program that `cargo test` builds beside the tests.
fn program() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let path = exe.parent().unwrap().parent().unwrap().join("examples/replica");
    assert!(path.is_file(), "{} is missing: run the tests with cargo test, which builds it", path.display());
    path
}

/// What the fake server was told.
#[derive(Default)]
struct Told {
    ready: Vec<String>,
    failed: Vec<String>,
    log: Vec<u8>,
    claims: u32,
}

#[derive(Clone)]
struct Fake {
    told: Arc<Mutex<Told>>,
    blobs: Arc<BTreeMap<Digest, Vec<u8>>>,
    spec: Arc<ReplicaSpec>,
}

impl Fake {
    fn new(files: &[(&str, Vec<u8>)]) -> Self {
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

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    fn router(&self) -> Router {
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
    async fn serve(&self, file: &Path) -> tokio::sync::oneshot::Sender<()> {
        self.serve_router(file, self.router()).await
    }

    async fn serve_router(&self, file: &Path, router: Router) -> tokio::sync::oneshot::Sender<()> {
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

fn unit(dir: &Path) -> Folder {
    let path = dir.join("units").join("x".repeat(120)).join("replica.digits.3.1");
    std::fs::create_dir_all(&path).unwrap();
    let folder = Folder::new(path);
    let settings = [
        ("onnxruntime", common::library().to_string_lossy().into_owned()),
        ("python", common::python()),
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

fn launch(folder: &Folder) -> Process {
    let log = std::fs::File::create(folder.file("output.log")).unwrap();
    let errors = log.try_clone().unwrap();
    let mut command = Command::new(program());
    command.arg("--unit").arg(folder.path()).stdin(Stdio::null()).stdout(log).stderr(errors);
    Process(command.spawn().unwrap())
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One request on the unit's socket; the whole answer.
async fn ask(folder: &Folder, request: String) -> std::io::Result<String> {
    let (_dir, path) = muonic_unit::socket_path(folder.path()).unwrap();
    let mut stream = tokio::net::UnixStream::connect(path).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn infer(model: &str, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "POST /v2/models/{model}/infer HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn add() -> Value {
    json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 1, 1] }] })
}

fn onnx(name: &str) -> Vec<u8> {
    std::fs::read(common::model(name)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_through_the_servers_restart() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new(&[("model.onnx", onnx("add.onnx"))]);
    let folder = unit(dir.path());
    // Launched before there is a server.
    std::fs::write(dir.path().join("server"), "http://127.0.0.1:9\n").unwrap();
    let mut replica = launch(&folder);
    until("it holds the lock", || folder.is_locked().unwrap()).await;
    let server = fake.serve(&dir.path().join("server")).await;
    until("it is ready", || !fake.told().ready.is_empty()).await;
    assert_eq!(fake.told().ready, [format!("unix:{}/socket", folder.path().display())]);
    // A second one in the same folder does nothing.
    assert_eq!(launch_again(&folder).wait(), Some(0));
    let answer = ask(&folder, infer("digits", &add())).await.unwrap();
    assert!(answer.contains(r#"{"model_name":"digits","model_version":"5","outputs":[{"name":"y","datatype":"FP32","shape":[1,3],"data":[2.0,3.0,4.0]}]}"#), "{answer}");
    // What it takes on follows from its memory.
    let large =
        json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [150_000, 3], "data": vec![1; 450_000] }] });
    let answer = ask(&folder, infer("digits", &large)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("this replica has 2097152 for all of its requests"), "{answer}");
    // Without a server it serves on.
    drop(server);
    assert!(ask(&folder, infer("digits", &add())).await.unwrap().starts_with("HTTP/1.1 200"));
    let _server = fake.serve(&dir.path().join("server")).await;
    replica.signal(Signal::SIGTERM);
    assert_eq!(replica.wait(), Some(0));
    let log = String::from_utf8(fake.told().log.clone()).unwrap();
    assert!(log.contains("serving net@5 as 'digits'"), "{log}");
    assert!(ask(&folder, infer("digits", &add())).await.is_err());
    // The folder's one start is spent.
    assert_eq!(launch_again(&folder).wait(), Some(0));
    assert_eq!(fake.told().claims, 1);
}

fn launch_again(folder: &Folder) -> Process {
    let mut command = Command::new(program());
    command.arg("--unit").arg(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Process(command.spawn().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn says_why_it_cannot_serve() {
    for (files, error) in [
        (
            vec![("readme.txt", b"x".to_vec())],
            "the model has neither an .onnx file nor handler.py at its top, where it has readme.txt",
        ),
        (vec![("model.onnx", b"x".to_vec())], "the ONNX model model.onnx cannot be loaded: "),
        (
            vec![("handler.py", b"print('hello from the handler')\n1/0".to_vec())],
            "handler.py cannot be loaded: ZeroDivisionError: division by zero",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let fake = Fake::new(&files);
        let folder = unit(dir.path());
        let _server = fake.serve(&dir.path().join("server")).await;
        let mut replica = launch(&folder);
        assert_eq!(replica.wait(), Some(1));
        let told = fake.told();
        assert!(told.ready.is_empty());
        assert_eq!(told.failed.len(), 1);
        assert!(told.failed[0].starts_with(error), "{}", told.failed[0]);
        let log = String::from_utf8_lossy(&told.log);
        assert!(log.contains(error), "{log}");
        if files[0].0 == "handler.py" {
            assert!(log.contains("hello from the handler"), "{log}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_server_are_waited_out() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new(&[("model.onnx", onnx("add.onnx"))]);
    let folder = unit(dir.path());
    // Whatever is asked for is answered the second time.
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let faulty = axum::middleware::from_fn(move |request: axum::extract::Request, next: axum::middleware::Next| {
        let first = seen.lock().unwrap().insert(request.uri().path().to_owned());
        async move {
            if first {
                let body = muonic_types::ErrorBody::new(muonic_types::ErrorCode::Internal, "a fault");
                let named = [(SERVER_HEADER, "ours")];
                return (http::StatusCode::INTERNAL_SERVER_ERROR, named, Json(body)).into_response();
            }
            next.run(request).await
        }
    });
    let _server = fake.serve_router(&dir.path().join("server"), fake.router().layer(faulty)).await;
    let mut replica = launch(&folder);
    until("it is ready", || {
        assert_eq!(fake.told().failed, [""; 0]);
        !fake.told().ready.is_empty()
    })
    .await;
    until("its log is there", || String::from_utf8_lossy(&fake.told().log).contains("serving net@5")).await;
    replica.signal(Signal::SIGTERM);
    assert_eq!(replica.wait(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unwanted_replica_ends() {
    let dir = tempfile::tempdir().unwrap();
    let folder = unit(dir.path());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    std::fs::write(dir.path().join("server"), format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let gone = async || {
        let body = muonic_types::ErrorBody::new(muonic_types::ErrorCode::Unauthenticated, "the key was revoked");
        (http::StatusCode::UNAUTHORIZED, [(SERVER_HEADER, "ours")], Json(body))
    };
    tokio::spawn(axum::serve(listener, Router::new().fallback(gone)).into_future());
    assert_eq!(launch(&folder).wait(), Some(0));
    assert!(!folder.file("socket").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_end_before_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let handler = "import os, time\nclass Handler:\n def __init__(self, path): pass\n def predict(self, inputs):\n  open(os.environ['MUONIC_TEST_MARK'], 'w').close()\n  time.sleep(0.5)\n  return {'pid': os.getpid()}\n";
    let model = dir.path().join("slow");
    std::fs::create_dir(&model).unwrap();
    std::fs::write(model.join("handler.py"), handler).unwrap();
    let mark = dir.path().join("mark");
    let mut command = Command::new(program());
    command.arg(&model).args(["--port", "0", "--python"]).arg(common::python());
    command
        .env("MUONIC_TEST_MARK", &mark)
        .env("XDG_CACHE_HOME", dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut replica = Process(command.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(replica.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let rest = line.strip_prefix("serving 'slow' at http://").unwrap_or_else(|| panic!("{line}"));
    let address = rest.split('/').next().unwrap().to_owned();
    let request = infer("slow", &json!({ "inputs": [] }));
    let asked = tokio::task::spawn_blocking(move || {
        use std::io::Write;
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    until("the model has the request", || mark.exists()).await;
    replica.signal(Signal::SIGTERM);
    let answer = asked.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(replica.wait(), Some(0));
    let body: Value = serde_json::from_str(answer.rsplit("\r\n\r\n").next().unwrap()).unwrap();
    let worker = body["outputs"][0]["data"][0].as_i64().unwrap() as i32;
    assert!(kill(Pid::from_raw(worker), None).is_err(), "the worker outlived its replica");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replica_takes_its_worker_along() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new(&[(
        "handler.py",
        b"import os\nclass Handler:\n def __init__(self, path): pass\n def predict(self, inputs): return {'pid': os.getpid()}\n".to_vec(),
    )]);
    let folder = unit(dir.path());
    let _server = fake.serve(&dir.path().join("server")).await;
    let replica = launch(&folder);
    until("it is ready", || !fake.told().ready.is_empty()).await;
    let answer = ask(&folder, infer("digits", &json!({ "inputs": [] }))).await.unwrap();
    let body: Value = serde_json::from_str(answer.rsplit("\r\n\r\n").next().unwrap()).unwrap();
    let worker = body["outputs"][0]["data"][0].as_i64().unwrap() as i32;
    replica.signal(Signal::SIGKILL);
    until("the worker is gone", || {
        std::fs::read_to_string(format!("/proc/{worker}/stat")).map_or(true, |s| s.contains(") Z "))
    })
    .await;
}
