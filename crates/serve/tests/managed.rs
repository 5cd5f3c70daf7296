//! Replicas as processes of their own: launched in a unit's folder against a
//! server that comes and goes, and alone on a port.

mod common;

use std::collections::BTreeSet;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::response::IntoResponse;
use axum::{Json, Router};
use common::process::{Process, alone, program, until};
use common::unit::{Fake, ask, launch, unit};
use muonic_types::system::SERVER_HEADER;
use muonic_unit::Folder;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

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
            "the model has no .onnx file, handler.py, serve.toml or MLmodel at its top, where it has readme.txt",
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
    let (mut replica, address) = alone(&model, |command| {
        command.env("MUONIC_TEST_MARK", &mark).env("XDG_CACHE_HOME", dir.path());
    });
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
