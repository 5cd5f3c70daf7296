//! Models that are served by a program of their own: whatever is asked goes to
//! it as it is, and it is looked after.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::process::{Process, alone, until};
use common::unit::{Fake, ask, launch, unit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const APP: &str = include_str!("programs/app.py");

fn specification(more: &str) -> String {
    format!("command = [{:?}, \"app.py\", \"$PORT\", \"word\"]\n{more}", common::python())
}

fn model(dir: &Path, more: &str) -> PathBuf {
    let model = dir.join("app");
    std::fs::create_dir(&model).unwrap();
    std::fs::write(model.join("app.py"), APP).unwrap();
    std::fs::write(model.join("serve.toml"), specification(more)).unwrap();
    model
}

fn served(more: &str) -> (tempfile::TempDir, Process, String) {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path(), more);
    let (replica, address) = alone(&model, |command| {
        command.env("TEST_SECRET", "hush").stderr(std::fs::File::create(dir.path().join("log")).unwrap());
    });
    (dir, replica, address)
}

/// Sends a head and a body; the status and the body of the answer.
fn call(address: &str, head: &str, body: &[u8]) -> (u16, Value) {
    let (status, body) = call_raw(address, head, body);
    (status, serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body}")))
}

fn call_raw(address: &str, head: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("{head} HTTP/1.1\r\nhost: model.test\r\nconnection: close\r\n\r\n").as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
    (head[9..12].parse().unwrap(), body.to_owned())
}

fn get(address: &str, path: &str) -> (u16, Value) {
    call(address, &format!("GET {path}"), b"")
}

#[test]
fn every_path_goes_through_as_it_is() {
    let (dir, _replica, address) = served("");
    for path in ["/", "/v1/chat/completions?stream=true&x=%20y", "/v2/health/ready", "/metrics", "/odd//../path"] {
        let (status, said) = get(&address, path);
        assert_eq!((status, said["path"].as_str().unwrap()), (200, path), "{said}");
        assert_eq!(said["headers"]["host"], "model.test");
    }
    let (status, said) = get(&address, "/teapot");
    assert_eq!((status, &said["words"][1]), (418, &"word".into()));
    assert_eq!(Path::new(said["folder"].as_str().unwrap()).file_name().unwrap(), "app");
    // A body of known and of unknown length, and headers of one connection.
    let mut stream = TcpStream::connect(&address).unwrap();
    let large = vec![b'x'; 3 << 20];
    let head = "PUT /big HTTP/1.1\r\nhost: h\r\nconnection: close, x-hop\r\nx-hop: 1\r\nx-end: 2\r\nauthorization: Bearer k\r\n";
    write!(stream, "{head}content-length: {}\r\n\r\n", large.len()).unwrap();
    stream.write_all(&large).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("x-own: kept\r\n"), "{answer}");
    let said: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!((&said["method"], &said["size"]), (&"PUT".into(), &large.len().into()));
    assert_eq!((said["headers"].get("x-hop"), &said["headers"]["x-end"]), (None, &"2".into()));
    assert_eq!(said["headers"]["authorization"], "Bearer k");
    let (_, said) = call(
        &address,
        "POST /chunks HTTP/1.1\r\ntransfer-encoding: chunked\r\nx-rest: 1",
        b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    );
    assert_eq!(said["body"], "abcde");
    let upgrade = "GET /socket HTTP/1.1\r\nupgrade: websocket\r\nx-rest: 1";
    let (status, said) = call(&address, upgrade, b"");
    assert_eq!((status, said["error"].as_str().unwrap()), (501, "not implemented: WebSocket and other upgrades"));
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(log.contains("hello from the program, SECRET is there\n"), "{log}");
    assert!(log.contains("and on its standard error\n"), "{log}");
    assert!(!log.contains("hush"), "{log}");
}

#[test]
fn events_come_as_they_are_made() {
    let (_dir, _replica, address) = served("");
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\nhost: h\r\nx-events: 5\r\nconnection: close\r\n\r\n").unwrap();
    let mut at = Vec::new();
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        if line.starts_with("data: ") {
            at.push(Instant::now());
        }
    }
    assert_eq!(at.len(), 5);
    assert!(at[4] - at[0] > Duration::from_millis(250), "they came together: {:?}", at[4] - at[0]);
    // A caller that goes is one that goes for the program too.
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\nhost: h\r\nx-events: 500\r\n\r\n").unwrap();
    let mut first = [0; 64];
    stream.read_exact(&mut first).unwrap();
    drop(stream);
    let deadline = Instant::now() + Duration::from_secs(20);
    while get(&address, "/").1["gone"] != 1 {
        assert!(Instant::now() < deadline, "the program did not hear that the caller had gone");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn one_that_dies_is_started_again() {
    let (_dir, mut replica, address) = served("request_seconds = 1");
    let before = get(&address, "/").1["pid"].clone();
    let child = get(&address, "/child").1.as_i64().unwrap();
    let (status, said) = get(&address, "/die");
    assert_eq!(status, 503);
    assert!(said["error"].as_str().unwrap().starts_with("the model's program did not answer: "), "{said}");
    let deadline = Instant::now() + Duration::from_secs(20);
    let after = loop {
        let (status, said) = get(&address, "/");
        if status == 200 && said["pid"] != before {
            break said["pid"].as_i64().unwrap();
        }
        assert!(status == 503 || said["pid"] == before, "{said}");
        assert!(Instant::now() < deadline, "it was not started again");
        std::thread::sleep(Duration::from_millis(10));
    };
    let is_gone =
        |pid: i64| std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "));
    assert!(is_gone(child), "what it had started outlived it");
    assert_eq!(
        get(&address, "/slow"),
        (504, serde_json::json!({ "error": "the model's program did not answer within 1 s" }))
    );
    replica.signal(Signal::SIGTERM);
    assert_eq!(replica.wait(), Some(0));
    assert!(kill(Pid::from_raw(after as i32), None).is_err(), "the program outlived its replica");
}

#[test]
fn while_it_is_unwell_nothing_goes_to_it() {
    let (_dir, _replica, address) = served("");
    get(&address, "/ill");
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        let (status, said) = get(&address, "/");
        if status == 503 {
            assert_eq!(said["error"], "the model's program is unwell: GET /health is answered 500");
            return;
        }
        assert!(Instant::now() < deadline, "it is still asked");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_behind_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new(&[("serve.toml", specification("").into_bytes()), ("app.py", APP.into())]);
    let folder = unit(dir.path());
    let _server = fake.serve(&dir.path().join("server")).await;
    let mut replica = launch(&folder);
    until("it is ready", || !fake.told().ready.is_empty()).await;
    let request = "GET /anything HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned();
    let answer = ask(&folder, request.clone()).await.unwrap();
    let said: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let pid = said["pid"].as_i64().unwrap() as i32;
    replica.signal(Signal::SIGTERM);
    assert_eq!(replica.wait(), Some(0));
    assert!(kill(Pid::from_raw(pid), None).is_err(), "the program outlived its replica");
    assert!(String::from_utf8_lossy(&fake.told().log).contains("hello from the program"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replica_takes_its_program_along() {
    let (_dir, replica, address) = served("");
    let pid = get(&address, "/").1["pid"].as_i64().unwrap();
    replica.signal(Signal::SIGKILL);
    until("the program is gone", || {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn says_why_it_cannot_be_started() {
    for (specification, error) in [
        (
            "command = ['sh', '-c', 'echo oh no; exit 7']",
            "the program ended with code 7 before GET /health answered; its log says more",
        ),
        (
            "command = ['no-such-program']",
            "the program 'no-such-program' cannot be started: No such file or directory (os error 2)",
        ),
        (
            "command = ['sleep', '60']\nstart_seconds = 1",
            "the program was not well within 1 s: GET /health is not answered: Connection refused (os error 111)",
        ),
        ("command = 7", "serve.toml cannot be understood: "),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let fake = Fake::new(&[("serve.toml", specification.into())]);
        let folder = unit(dir.path());
        let _server = fake.serve(&dir.path().join("server")).await;
        assert_eq!(launch(&folder).wait(), Some(1));
        let told = fake.told();
        assert!(told.failed[0].starts_with(error), "{}", told.failed[0]);
        if specification.contains("oh no") {
            assert!(String::from_utf8_lossy(&told.log).contains("oh no"));
        }
    }
}
