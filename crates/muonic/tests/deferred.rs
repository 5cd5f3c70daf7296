//! Requests that are answered later, into a bucket, by the real server.

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;

use muonic_types::Name;
use muonic_types::endpoint::{AsyncRequest, AsyncState, NewEndpoint, NewRevision, PerReplica, Scale};
use serde_json::{Value, json};
use support::{Server, model_file, s3, until, upload, write};

/// One call of the native API: its status and body.
fn call(server: &Server, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let local = server.local();
    let agent = ureq::Agent::new_with_config(ureq::Agent::config_builder().http_status_as_error(false).build());
    let (url, bearer) = (format!("{}/api/v1{path}", local.url), format!("Bearer {}", local.token));
    let mut answer = match (method, body) {
        ("POST", Some(body)) => agent
            .post(&url)
            .header("authorization", &bearer)
            .content_type("application/json")
            .send(body.to_string())
            .expect("an answer"),
        _ => agent.get(&url).header("authorization", &bearer).call().expect("an answer"),
    };
    let text = answer.body_mut().read_to_string().expect("text");
    (answer.status().as_u16(), serde_json::from_str(&text).expect("JSON"))
}

fn submit(server: &Server, key: &str, more: Value) -> AsyncRequest {
    let mut new = json!({"path": "/v2/models/later/infer", "output": {"bucket": "answers", "key": key}});
    new.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let (status, answer) = call(server, "POST", "/endpoints/later/requests", Some(new));
    assert_eq!(status, 202, "{answer}");
    serde_json::from_value(answer).expect("a request")
}

fn ended(server: &Server, id: u64) -> AsyncRequest {
    until(&format!("request {id} has ended"), || {
        let (_, answer) = call(server, "GET", &format!("/endpoints/later/requests/{id}"), None);
        let request: AsyncRequest = serde_json::from_value(answer).expect("a request");
        (request.state != AsyncState::Queued).then_some(request)
    })
}

fn ask(n: u32) -> Value {
    json!({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [n, 1]}]})
}

#[test]
fn answers_come_into_a_bucket_from_an_endpoint_that_slept_and_after_a_crash() {
    let mut server = Server::start();
    let client = server.client();
    let name: Name = "later".parse().expect("a name");
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &[("model.onnx", &std::fs::read(model_file("double.onnx")).expect("the test model"))]);
    client.model_register(&name, upload(&client, folder.path()).expect("uploaded").digest).expect("registered");
    let scale = Scale { min: 0, max: 1, per_replica: PerReplica::default(), idle_s: Some(0.0) };
    let revision = support::revision("later@1".parse().expect("a version"), 1);
    let revision = NewRevision { replicas: None, scale: Some(scale), ..revision };
    client.endpoint_create(&NewEndpoint { name: name.clone(), revision }).expect("deployed");
    let object = ask(5).to_string();
    s3(
        &server,
        &format!("s3.create_bucket(Bucket='answers')\ns3.put_object(Bucket='answers', Key='in', Body='{object}')"),
    );

    // Whoever is called back.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let url = format!("http://{}/told", listener.local_addr().expect("an address"));
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let mut stream = stream.expect("a connection");
            let mut seen = Vec::new();
            let mut buffer = [0; 4096];
            while !seen.ends_with(b"}") {
                match stream.read(&mut buffer).expect("bytes") {
                    0 => break,
                    count => seen.extend(&buffer[..count]),
                }
            }
            // The first time it is not taken.
            let status = if n == 0 { "500 No" } else { "200 OK" };
            let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            if tell.send(String::from_utf8_lossy(&seen).into_owned()).is_err() {
                return;
            }
        }
    });

    let one = submit(&server, "one.json", json!({"body": ask(3), "callback": url}));
    let two = submit(&server, "two.json", json!({"input": {"bucket": "answers", "key": "in"}}));
    server.kill();
    server.up();
    for (request, key, wanted) in [(&one, "one.json", 6.0), (&two, "two.json", 10.0)] {
        let request = ended(&server, request.id);
        assert_eq!((request.state, request.status), (AsyncState::Done, Some(200)), "{request:?}");
        let read = format!(
            "o = s3.get_object(Bucket='answers', Key='{key}')\nprint(o['ContentType'], o['Body'].read().decode())"
        );
        let text = s3(&server, &read);
        let body = text.strip_prefix("application/json ").unwrap_or_else(|| panic!("{text}"));
        let answer: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(answer["outputs"][0]["data"], json!([wanted, 2.0]));
    }
    let wait = std::time::Duration::from_secs(60);
    for _ in 0..2 {
        let seen = told.recv_timeout(wait).expect("a callback");
        assert!(seen.starts_with("POST /told ") && seen.contains("\"state\":\"done\""), "{seen}");
    }

    // What the endpoint refuses fails at once, and what cannot be is refused.
    let bad = ended(&server, submit(&server, "bad.json", json!({"body": {"inputs": []}})).id);
    assert_eq!((bad.state, bad.status, bad.tries), (AsyncState::Failed, Some(400), 1), "{bad:?}");
    assert!(bad.reason.is_some_and(|reason| reason.contains("error")), "a reason");
    let gone = ended(&server, submit(&server, "x", json!({"input": {"bucket": "answers", "key": "gone"}})).id);
    assert!(gone.reason.as_ref().is_some_and(|why| why.contains("gone")), "{gone:?}");
    let nowhere = json!({"path": "/x", "body": 1, "output": {"bucket": "nowhere", "key": "k"}});
    let (status, answer) = call(&server, "POST", "/endpoints/later/requests", Some(nowhere));
    assert_eq!(status, 404, "{answer}");
    let (_, list) = call(&server, "GET", "/endpoints/later/requests", None);
    assert_eq!(list["requests"].as_array().map(Vec::len), Some(4), "{list}");
}
