//! Models away from the server: carried there in one file, and followed over a
//! link that comes and goes.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use muonic_client::Client;
use muonic_types::Name;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use support::{MUONIC, Server, model_file, python, s3, until, upload, write};

fn register(client: &Client, name: &str, files: &[(&str, &[u8])]) -> u32 {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), files);
    let tree = upload(client, folder.path()).expect("uploaded");
    client.model_register(&name.parse().expect("a name"), tree.digest).expect("registered").version
}

fn onnx(name: &str) -> Vec<u8> {
    fs::read(model_file(name)).expect("the test model")
}

fn alias(client: &Client, version: u32) {
    let (name, alias): (Name, Name) = ("edge".parse().expect("a name"), "live".parse().expect("a name"));
    client.model_set_alias(&name, &alias, version).expect("named");
}

/// A box at the edge: its cache, and a replica on it at times.
struct Edge {
    dir: tempfile::TempDir,
    child: Option<Child>,
    address: String,
    said: String,
    /// So that what it prints later does not break it.
    _stdout: Option<BufReader<ChildStdout>>,
}

impl Edge {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("muonic-edge-").tempdir().expect("a folder");
        Self { dir, child: None, address: String::new(), said: String::new(), _stdout: None }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(MUONIC);
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("log")).expect("a log");
        command
            .args(["serve", "--port", "0"])
            .args(words)
            .env("XDG_CACHE_HOME", self.dir.path().join("cache"))
            .env_remove("MUONIC_TOKEN")
            .stdin(Stdio::null())
            .stderr(log);
        command
    }

    /// Until it serves.
    fn start(&mut self, words: &[&str], token: Option<&str>) {
        let mut command = self.command(words);
        if let Some(token) = token {
            command.env("MUONIC_TOKEN", token);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        self.child = Some(child);
        self.said.clear();
        stdout.read_line(&mut self.said).expect("its words");
        let (_, rest) = self.said.split_once("http://").unwrap_or_else(|| panic!("{}\n{}", self.said, self.log()));
        self.address = rest.split(['/', ',']).next().expect("an address").to_owned();
        self._stdout = Some(stdout);
    }

    fn follow(&mut self, url: &str, token: &str, more: &[&str]) {
        let words = [&["--follow", url, "edge@live", "--every", "1"], more].concat();
        self.start(&words, Some(token));
    }

    fn stop(&mut self, signal: Signal) -> Option<i32> {
        let mut child = self.child.take().expect("running");
        kill(Pid::from_raw(child.id() as i32), signal).expect("a signal");
        until("it has ended", || child.try_wait().expect("a child")).code()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn infer(&self) -> Result<Value, String> {
        infer(&self.address)
    }

    fn serves(&self, version: u32) {
        let wanted = version.to_string();
        until(&format!("version {version} is served:\n{}", self.log()), || {
            (self.infer().ok()?["model_version"].as_str()? == wanted).then_some(())
        });
    }

    fn has_logged(&self, words: &str) {
        until(words, || self.log().contains(words).then_some(()));
    }

    fn cached(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.dir.path().join("cache/muonic/models")).expect("a cache");
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// One request on a connection of its own; the error is what came instead of 200.
fn infer(address: &str) -> Result<Value, String> {
    let body = json!({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}).to_string();
    let mut stream = TcpStream::connect(address).map_err(|e| e.to_string())?;
    let head = format!(
        "POST /v2/models/edge/infer HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).map_err(|e| e.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|e| e.to_string())?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => serde_json::from_str(body).map_err(|e| e.to_string()),
        _ => Err(answer),
    }
}

fn failed(out: &Output) -> String {
    assert!(!out.status.success());
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn one_file_carries_a_model() {
    let server = Server::start();
    let client = server.client();
    register(&client, "edge", &[("model.onnx", &onnx("double.onnx"))]);
    let nested: &[(&str, &[u8])] = &[("model.onnx", &onnx("add.onnx")), ("deep/er/notes.txt", b"kept"), ("empty", b"")];
    register(&client, "edge", nested);
    alias(&client, 2);
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("edge.muonic");
    let said = server.ok(&["bundle", "edge@live", file.to_str().expect("UTF-8")]);
    assert!(said.starts_with("edge@2  ") && said.contains("written to "), "{said}");
    assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 1, "nothing else is left");
    let again = server.cli(&["bundle", "edge@live", file.to_str().expect("UTF-8")]);
    assert!(failed(&again).contains("is there already"), "{again:?}");
    assert!(failed(&server.cli(&["bundle", "edge@9"])).starts_with("error: "));
    drop(server);

    // Nothing but the file is there.
    let mut edge = Edge::new();
    edge.start(&[file.to_str().expect("UTF-8")], None);
    assert!(edge.said.starts_with("serving 'edge' at "), "{}", edge.said);
    let answer = edge.infer().expect("an answer");
    assert_eq!((&answer["model_version"], &answer["outputs"][0]["data"]), (&json!("2"), &json!([2.0, 4.0, 6.0])));
    edge.has_logged("edge@2, uploaded, of the tree sha256:");
    let unpacked = edge.cached();
    assert_eq!(fs::read(unpacked[0].join("deep/er/notes.txt")).expect("a file"), b"kept");
    assert_eq!(edge.stop(Signal::SIGTERM), Some(0));
    // From the cache; and anew where the cache is damaged.
    fs::write(unpacked[0].join("model.onnx"), onnx("double.onnx")).expect("a file");
    edge.start(&[file.to_str().expect("UTF-8"), "--name", "edge"], None);
    assert_eq!(edge.infer().expect("an answer")["outputs"][0]["data"], json!([2.0, 4.0, 6.0]));
    assert_eq!(edge.stop(Signal::SIGTERM), Some(0));

    let bytes = fs::read(&file).expect("a file");
    let damaged = dir.path().join("damaged.muonic");
    for (at, sentence) in [(600, "it is damaged: "), (bytes.len() - 2000, "it is damaged: ")] {
        let mut other = bytes.clone();
        other[at] ^= 1;
        fs::write(&damaged, other).expect("a file");
        let fresh = Edge::new();
        let out =
            fresh.command(&[damaged.to_str().expect("UTF-8")]).stderr(Stdio::piped()).output().expect("it starts");
        let said = failed(&out);
        assert!(said.contains("error: ") && said.contains(sentence), "{said}");
        assert!(!fresh.dir.path().join("cache").exists() || fresh.cached().iter().all(|p| p.extension().is_some()));
    }
    fs::write(&damaged, "no bundle").expect("a file");
    let out = edge.command(&[damaged.to_str().expect("UTF-8")]).stderr(Stdio::piped()).output().expect("it starts");
    assert!(failed(&out).contains("is not a model: give an .onnx file, a folder with one"), "{out:?}");
}

#[test]
fn an_alias_is_followed_through_all_that_happens_to_the_link() {
    let mut server = Server::start();
    let client = server.client();
    let local = server.local();
    let add = onnx("add.onnx");
    let shared = vec![7; 100_000];
    for n in 1..=4 {
        let note = format!("version {n}");
        let model: &[u8] = if n == 3 { b"no model" } else { &add };
        register(&client, "edge", &[("model.onnx", model), ("shared", &shared), ("note", note.as_bytes())]);
    }
    alias(&client, 1);
    let mut edge = Edge::new();
    edge.follow(&local.url, &local.token, &[]);
    assert!(edge.said.ends_with(&format!(", following edge@live of {}\n", local.url)), "{}", edge.said);
    edge.serves(1);

    // Another version, while it is asked all the time.
    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (over, answered, address) = (over.clone(), answered.clone(), edge.address.clone());
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let answer = infer(&address).unwrap_or_else(|e| panic!("a request failed: {e}"));
                    assert_eq!(answer["outputs"][0]["data"], json!([2.0, 4.0, 6.0]));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for version in [2, 4, 1, 2] {
        alias(&client, version);
        edge.serves(version);
    }
    // One that cannot be loaded changes nothing.
    alias(&client, 3);
    edge.has_logged("version 3 cannot be served: the ONNX model model.onnx cannot be loaded");
    edge.has_logged("; version 2 goes on");
    edge.serves(2);
    // The server goes, and comes back with another version.
    server.kill();
    edge.has_logged("edge@live cannot be followed now: cannot reach ");
    edge.serves(2);
    server.up();
    alias(&server.client(), 4);
    edge.serves(4);
    over.store(true, Ordering::Relaxed);
    callers.into_iter().for_each(|caller| caller.join().expect("no request failed"));
    println!("{} requests answered", answered.load(Ordering::Relaxed));

    // Without the server it starts with what it had.
    server.kill();
    assert_eq!(edge.stop(Signal::SIGKILL), None);
    edge.follow(&local.url, &local.token, &[]);
    edge.serves(4);
    assert_eq!(edge.stop(Signal::SIGTERM), Some(0));
}

#[test]
fn a_stream_that_has_begun_is_finished_by_the_version_that_began_it() {
    let server = Server::start();
    let (client, local) = (server.client(), server.local());
    let app = fs::read(model_file("../programs/app.py")).expect("the test program");
    for n in 1..=2 {
        let python = python();
        let specification = format!("command = [{python:?}, \"app.py\", \"$PORT\", \"version {n}\"]");
        register(&client, "edge", &[("serve.toml", specification.as_bytes()), ("app.py", &app)]);
    }
    alias(&client, 1);
    let mut edge = Edge::new();
    edge.follow(&local.url, &local.token, &[]);
    let ask = |path: &str| {
        let mut stream = TcpStream::connect(&edge.address).expect("it listens");
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nx-events: 40\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("sent");
        stream
    };
    let whole = |mut stream: TcpStream| {
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("all of it");
        text
    };
    assert!(whole(ask("/")).contains("version 1"));
    let stream = ask("/events");
    alias(&client, 2);
    until("the other takes over", || whole(ask("/")).contains("version 2").then_some(()));
    let events = whole(stream);
    assert_eq!(events.matches("data: ").count(), 40, "{events}");
}

#[test]
fn metrics_wait_for_the_link() {
    let mut server = Server::start();
    let client = server.client();
    let local = server.local();
    let add = onnx("add.onnx");
    register(&client, "edge", &[("model.onnx", &add)]);
    alias(&client, 1);
    s3(&server, "s3.create_bucket(Bucket='fleet')");
    let mut edge = Edge::new();
    edge.follow(&local.url, &local.token, &["--metrics", "fleet/test"]);
    edge.serves(1);
    let waiting = || {
        let folders = fs::read_dir(edge.dir.path().join("cache/muonic/follow")).expect("a folder").flatten();
        folders.filter_map(|f| Some(fs::read_dir(f.path().join("metrics")).ok()?.flatten().count())).sum::<usize>()
    };
    until(&format!("the first line is sent:\n{}", edge.log()), || {
        (waiting() == 0 && objects(&server).len() == 1).then_some(())
    });
    server.kill();
    until("a line waits", || (waiting() > 0).then_some(()));
    server.up();
    until(&format!("it is sent:\n{}", edge.log()), || (waiting() == 0 && objects(&server).len() >= 2).then_some(()));
    let last = objects(&server).into_iter().flatten().last().expect("a line");
    assert_eq!((&last["model"], &last["version"]), (&json!("edge"), &json!(1)));
    assert!(last["requests_total"].as_u64().expect("a number") >= 1, "{last}");
}

/// The lines of each object.
fn objects(server: &Server) -> Vec<Vec<Value>> {
    let list = "for o in s3.list_objects_v2(Bucket='fleet', Prefix='test/').get('Contents', []):\n  \
                assert o['Key'].split('/')[2] == 'edge', o\n  \
                print(s3.get_object(Bucket='fleet', Key=o['Key'])['Body'].read().decode() + '--')";
    let text = s3(server, list);
    let lines = |object: &str| {
        object.lines().filter(|l| !l.is_empty()).map(|l| serde_json::from_str(l).expect("JSON")).collect()
    };
    text.split("--").map(lines).filter(|lines: &Vec<Value>| !lines.is_empty()).collect()
}

#[test]
fn what_can_never_be_served_is_told() {
    let server = Server::start();
    let local = server.local();
    let edge = Edge::new();
    let ran = |words: &[&str], token: Option<&str>| {
        let mut command = edge.command(words);
        if let Some(token) = token {
            command.env("MUONIC_TOKEN", token);
        }
        failed(&command.stderr(Stdio::piped()).output().expect("it starts"))
    };
    let url = local.url.as_str();
    let said = ran(&["--follow", url, "gone@live"], Some(&local.token));
    assert!(said.contains("error: ") && said.contains("gone"), "{said}");
    let said = ran(&["--follow", url, "edge@live"], Some("MKAAAAAAAAAAAAAAAAAA.wrong"));
    assert!(said.contains("error: "), "{said}");
    let said = ran(&["--follow", url, "edge@live"], None);
    assert!(said.contains("no key is given for the server") && said.contains("MUONIC_TOKEN"), "{said}");
    let said = ran(&["--follow", "cloud:7070", "edge@live"], Some(&local.token));
    assert!(said.contains("'cloud:7070' is no address of a server"), "{said}");
}
