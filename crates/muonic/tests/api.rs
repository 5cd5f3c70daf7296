//! The native API as a whole: every path asks for a key, minds the role, and
//! answers errors in one shape; the committed document is the present one.

mod support;

use std::io::Read;

use muonic_types::key::{NewKey, Role};
use serde_json::Value;
use support::Server;

/// One raw request; answers status and body.
fn send(url: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
    let address = url.strip_prefix("http://").expect("http");
    let mut stream = std::net::TcpStream::connect(address).expect("a connection");
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    std::io::Write::write_all(&mut stream, head.as_bytes()).expect("sent");
    // The server may refuse before it has read all.
    let _ = std::io::Write::write_all(&mut stream, body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map(|(_, b)| b.to_owned()).unwrap_or_default())
}

fn document() -> Value {
    serde_json::to_value(muonic_api::document()).expect("JSON")
}

/// Every operation with its path's parameters filled in.
fn operations() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (path, item) in document()["paths"].as_object().expect("paths") {
        for method in ["get", "put", "post", "delete"] {
            let Some(operation) = item.get(method) else { continue };
            let mut filled = path.clone();
            for parameter in operation["parameters"].as_array().into_iter().flatten().filter(|p| p["in"] == "path") {
                let name = parameter["name"].as_str().expect("a name");
                let example = match name {
                    "digest" => "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                    "job" => "none-1",
                    "attempt" => "none-1.1",
                    "replica" => "none.1.1",
                    "id" => "MKAAAAAAAAAAAAAAAAAA",
                    "kind" => "model",
                    "version" => "1",
                    _ => "none",
                };
                filled = filled.replace(&format!("{{{name}}}"), example);
            }
            found.push((method.to_uppercase(), filled));
        }
    }
    assert!(found.len() > 40, "{}", found.len());
    found
}

#[test]
fn every_operation_refuses_a_caller_without_a_key_before_reading_the_body() {
    let server = Server::start();
    let local = server.local();
    for (method, path) in operations() {
        for authorization in ["", "Bearer nonsense", "Bearer MKAAAAAAAAAAAAAAAAAA.AAAA", "Basic YTpi"] {
            let headers: &[(&str, &str)] =
                if authorization.is_empty() { &[] } else { &[("authorization", authorization)] };
            let (status, body) = send(&local.url, &method, &path, headers, b"{not json");
            assert_eq!(status, 401, "{method} {path}: {body}");
            // Errors of the inference protocol have a body of their own.
            let word = if path.starts_with("/endpoints/") { "\"error\":" } else { "unauthenticated" };
            assert!(body.contains(word), "{method} {path}: {body}");
        }
    }
}

#[test]
fn a_viewer_may_read_and_nothing_else_and_an_invoker_not_even_that() {
    let server = Server::start();
    let local = server.local();
    let key = |name: &str, role| {
        let new = NewKey {
            name: name.parse().expect("a name"),
            role,
            expires_in_s: None,
            project: None,
            limits: Default::default(),
        };
        format!("Bearer {}", server.client().key_create(&new).expect("a key").token)
    };
    let (viewer, invoker) = (key("viewer", Role::Viewer), key("invoker", Role::Invoker));
    let bodies: &[(&str, &str)] = &[
        ("/api/v1/trees", r#"{"entries": []}"#),
        ("/api/v1/blobs/missing", r#"{"digests": []}"#),
        ("/api/v1/jobs", r#"{"name": "x", "command": ["true"]}"#),
        ("/api/v1/endpoints", r#"{"name": "x", "model": "x@1"}"#),
        ("/api/v1/keys", r#"{"name": "x", "role": "admin"}"#),
    ];
    for (path, body) in bodies {
        for who in [&viewer, &invoker] {
            let (status, answer) = send(
                &local.url,
                "POST",
                path,
                &[("authorization", who), ("content-type", "application/json")],
                body.as_bytes(),
            );
            assert_eq!(status, 403, "{path}: {answer}");
        }
    }
    for path in [
        "/api/v1/datasets",
        "/api/v1/jobs",
        "/api/v1/models",
        "/api/v1/endpoints",
        "/api/v1/cost",
        "/api/v1/status",
        "/metrics",
    ] {
        assert_eq!(send(&local.url, "GET", path, &[("authorization", &viewer)], b"").0, 200, "{path}");
        assert_eq!(send(&local.url, "GET", path, &[("authorization", &invoker)], b"").0, 403, "{path}");
    }
    assert_eq!(send(&local.url, "GET", "/api/v1/keys", &[("authorization", &viewer)], b"").0, 403);
}

#[test]
fn a_revoked_key_is_void_at_once_and_the_last_administrator_stays() {
    let server = Server::start();
    let admin = server.client();
    let new = NewKey {
        name: "guest".parse().expect("a name"),
        role: Role::Member,
        expires_in_s: Some(3600),
        project: None,
        limits: Default::default(),
    };
    let guest = admin.key_create(&new).expect("a key");
    let client = muonic_client::Client::new(&server.local().url, &guest.token);
    assert!(client.jobs(None, None, None).is_ok());
    admin.key_revoke(&guest.key.id).expect("revoked");
    assert_eq!(client.jobs(None, None, None).unwrap_err().code(), Some(muonic_types::ErrorCode::Unauthenticated));
    let own = server.local().key_id.parse().expect("an id");
    assert_eq!(admin.key_revoke(&own).unwrap_err().code(), Some(muonic_types::ErrorCode::Conflict));
}

#[test]
fn bad_input_gets_a_sentence_that_says_where() {
    let server = Server::start();
    let local = server.local();
    let auth = format!("Bearer {}", local.token);
    let json = |path: &str, body: &str| {
        send(
            &local.url,
            "POST",
            path,
            &[("authorization", &auth), ("content-type", "application/json")],
            body.as_bytes(),
        )
    };
    let cases: &[(&str, &str, u16, &str)] = &[
        ("/api/v1/jobs", "{", 400, "EOF"),
        ("/api/v1/jobs", r#"{"name": "x"}"#, 400, "command"),
        ("/api/v1/jobs", r#"{"name": "X y", "command": ["true"]}"#, 400, "a-z"),
        ("/api/v1/jobs", r#"{"name": "x", "command": ["true"], "prioritty": 1}"#, 400, "prioritty"),
        ("/api/v1/jobs", r#"{"name": "x", "command": []}"#, 400, "command is empty"),
        ("/api/v1/jobs", r#"{"name": "x", "command": ["true"], "resources": {"cpu": "lots"}}"#, 400, "cpu"),
        ("/api/v1/jobs", r#"{"name": "x", "command": ["true"], "inputs": {"train": "none@1"}}"#, 404, "none"),
        (
            "/api/v1/jobs",
            r#"{"name": "x", "command": ["true"], "metrics": [{"name": "m", "regex": "("}]}"#,
            400,
            "regular expression",
        ),
        ("/api/v1/datasets/x/versions", r#"{"tree": "sha256:00"}"#, 400, "64"),
        ("/api/v1/endpoints", r#"{"name": "x", "model": "none@1"}"#, 404, "none"),
        (
            "/api/v1/trees",
            r#"{"entries": [{"path": "../x", "size": 1, "digest": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}]}"#,
            400,
            "../x",
        ),
    ];
    for (path, body, status, word) in cases {
        let (got, answer) = json(path, body);
        assert_eq!(got, *status, "{path} {body}: {answer}");
        let parsed: muonic_types::ErrorBody = serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{answer}: {e}"));
        assert!(parsed.error.message.contains(word), "{path} {body}: {answer}");
    }
    let (status, answer) = send(&local.url, "POST", "/api/v1/jobs", &[("authorization", &auth)], b"{}");
    assert_eq!(status, 415, "{answer}");
    let (status, answer) = send(&local.url, "PATCH", "/api/v1/jobs", &[("authorization", &auth)], b"{}");
    assert_eq!(status, 405, "{answer}");
    let (status, answer) = send(&local.url, "GET", "/api/v1/nothing", &[("authorization", &auth)], b"");
    assert_eq!(status, 404, "{answer}");
    let (status, answer) = send(&local.url, "GET", "/api/v1/jobs?limit=0", &[("authorization", &auth)], b"");
    assert_eq!(status, 400, "{answer}");
    let (status, answer) = send(&local.url, "GET", "/api/v1/jobs?limmit=1", &[("authorization", &auth)], b"");
    assert_eq!(status, 400, "{answer}");
    let pack = [("authorization", auth.as_str()), ("content-type", "application/octet-stream")];
    let wrong = b"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 3\nabc";
    let (status, answer) = send(&local.url, "POST", "/api/v1/blobs", &pack, wrong);
    assert_eq!(status, 422, "{answer}");
    let (status, answer) = send(&local.url, "POST", "/api/v1/blobs", &pack, b"rubbish without an end");
    assert_eq!(status, 400, "{answer}");
}

#[test]
fn health_needs_no_key_and_metrics_count() {
    let server = Server::start();
    let local = server.local();
    assert_eq!(send(&local.url, "GET", "/healthz", &[], b""), (200, "ok\n".to_owned()));
    assert_eq!(send(&local.url, "GET", "/readyz", &[], b"").0, 200);
    // Each answer names the server, so that another is not taken for it.
    let expecting = |id: &str| muonic_client::Client::new(&local.url, "").expecting(Some(id.to_owned())).healthz();
    let id = std::fs::read_to_string(server.data.join("local/server.id")).expect("the server's id");
    expecting(&id).expect("its own name");
    assert!(expecting("another").unwrap_err().to_string().contains("another server answers there"));
    let (status, served) = send(&local.url, "GET", "/api/openapi.json", &[], b"");
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_str::<Value>(&served).expect("JSON"), document());
    assert_eq!(send(&local.url, "GET", "/metrics", &[], b"").0, 401);
    let auth = format!("Bearer {}", local.token);
    let (_, text) = send(&local.url, "GET", "/metrics", &[("authorization", &auth)], b"");
    assert!(
        text.contains("muonic_api_requests_total{") && text.contains("muonic_api_request_seconds_bucket"),
        "{text}"
    );
}

/// `docs/openapi.json` is committed so that changes of the API show in review.
/// `MUONIC_WRITE=1 cargo test -p muonic --test api` writes it anew.
#[test]
fn the_committed_document_is_the_present_one() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let present = format!("{}\n", serde_json::to_string_pretty(&document()).expect("JSON"));
    if std::env::var_os("MUONIC_WRITE").is_some() {
        std::fs::write(&path, &present).expect("written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == present,
        "docs/openapi.json is old: run 'MUONIC_WRITE=1 cargo test -p muonic --test api' and commit it"
    );
}

/// A client that reads the document must find all that it names.
#[test]
fn every_reference_in_the_document_leads_somewhere() {
    fn walk(value: &Value, whole: &Value) {
        if let Some(place) = value["$ref"].as_str() {
            assert!(whole.pointer(place.trim_start_matches('#')).is_some(), "{place} is nowhere");
        }
        match value {
            Value::Array(items) => items.iter().for_each(|v| walk(v, whole)),
            Value::Object(map) => map.values().for_each(|v| walk(v, whole)),
            _ => {}
        }
    }
    walk(&document(), &document());
}

/// `docs/cli.md` is the help of every command, made the same way.
#[test]
fn the_committed_reference_is_the_present_one() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let made = std::process::Command::new(support::MUONIC).arg("reference").output().expect("it starts");
    let present = String::from_utf8(made.stdout).expect("UTF-8");
    if std::env::var_os("MUONIC_WRITE").is_some() {
        std::fs::write(&path, &present).expect("written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == present,
        "docs/cli.md is old: run 'MUONIC_WRITE=1 cargo test -p muonic --test api' and commit it"
    );
}

/// Whoever may not make trees is refused before the body is read, and a body
/// that is too large is refused with a sentence, however much of it comes.
#[test]
fn large_bodies_are_bounded_and_only_for_those_who_may() {
    let server = Server::start();
    let local = server.local();
    let address = local.url.strip_prefix("http://").expect("http");
    let made = server.ok(&["key", "create", "caller", "--role", "invoker", "--output", "json"]);
    let made: Value = serde_json::from_str(&made).expect("JSON");
    let head = |path: &str, token: &str, length: u64| {
        format!(
            "POST /api/v1{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        )
    };
    let answer = |head: String| {
        let mut stream = std::net::TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(support::PATIENCE)).expect("a limit");
        std::io::Write::write_all(&mut stream, head.as_bytes()).expect("sent");
        let mut start = [0; 12];
        std::io::Read::read_exact(&mut stream, &mut start).expect("an answer");
        String::from_utf8_lossy(&start[9..]).into_owned()
    };
    // Nothing of these bodies is sent: the answers do not wait for them.
    let invoker = made["token"].as_str().expect("a token");
    assert_eq!(answer(head("/trees", invoker, 400 << 20)), "403");
    assert_eq!(answer(head("/trees", &local.token, 600 << 20)), "413");
    assert_eq!(answer(head("/jobs", &local.token, 3 << 20)), "413");
}
