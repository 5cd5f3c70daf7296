//! Releases and rollbacks under load lose no request.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use muonic_types::Name;
use muonic_types::endpoint::{Endpoint, NewEndpoint, NewRevision};
use serde_json::json;
use support::{Server, model_file, ready, until, upload, write};

fn register(client: &muonic_client::Client, name: &Name, file: &str, note: &str) -> u32 {
    let folder = tempfile::tempdir().expect("a folder");
    write(
        folder.path(),
        &[("model.onnx", &std::fs::read(model_file(file)).expect("the test model")), ("note", note.as_bytes())],
    );
    let tree = upload(client, folder.path()).expect("uploaded");
    client.model_register(name, tree.digest).expect("registered").version
}

fn revision(name: &Name, version: u32, replicas: u32) -> NewRevision {
    support::revision(format!("{name}@{version}").parse().expect("a version"), replicas)
}

fn active(client: &muonic_client::Client, name: &Name, number: u32) -> Endpoint {
    until(&format!("revision {number} is active"), || {
        client.endpoint(name).ok().filter(|e| e.active == Some(number) && e.target.is_none())
    })
}

#[test]
fn releases_and_rollbacks_under_load_lose_no_request() {
    let server = Server::start();
    let client = server.client();
    let name: Name = "live".parse().expect("a name");
    let first = register(&client, &name, "double.onnx", "one");
    let second = register(&client, &name, "double.onnx", "two");
    client.endpoint_create(&NewEndpoint { name: name.clone(), revision: revision(&name, first, 2) }).expect("deployed");
    ready(&client, "live");

    let over = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..4)
        .map(|n| {
            let (over, answered, client, name) = (over.clone(), answered.clone(), server.client(), name.clone());
            std::thread::spawn(move || {
                let input = json!({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [n, 1]}]});
                while !over.load(Ordering::Relaxed) {
                    let answer = client.infer(&name, &input).unwrap_or_else(|e| panic!("a request failed: {e}"));
                    assert_eq!(answer["outputs"][0]["data"], json!([f64::from(n) * 2.0, 2.0]));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let more = |what: &str| {
        let before = answered.load(Ordering::Relaxed);
        until(what, || (answered.load(Ordering::Relaxed) > before + 100).then_some(()));
    };
    for round in 0..3 {
        more("requests are answered before the release");
        let released = client.endpoint_release(&name, &revision(&name, second, 2)).expect("released");
        let target = released.target.expect("a target");
        let endpoint = active(&client, &name, target);
        assert_eq!(endpoint.revisions[0].model.version, second, "round {round}");
        more("requests are answered between release and rollback");
        let back = client.endpoint_rollback(&name, None).expect("rolled back").target.expect("a target");
        active(&client, &name, back);
    }
    more("requests are answered after the last rollback");
    over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.join().expect("no request failed");
    }
    assert!(server.log().lines().all(|l| !l.contains("ERROR")), "{}", server.log());
}

#[test]
fn a_release_that_cannot_start_leaves_the_old_revision_serving() {
    let server = Server::start();
    let client = server.client();
    let name: Name = "safe".parse().expect("a name");
    let good = register(&client, &name, "double.onnx", "good");
    client.endpoint_create(&NewEndpoint { name: name.clone(), revision: revision(&name, good, 1) }).expect("deployed");
    ready(&client, "safe");
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &[("model.onnx", b"rubbish")]);
    let bad = client
        .model_register(&name, upload(&client, folder.path()).expect("uploaded").digest)
        .expect("registered")
        .version;
    client.endpoint_release(&name, &revision(&name, bad, 1)).expect("accepted");
    let endpoint = until("the release is given up", || client.endpoint(&name).ok().filter(|e| e.target.is_none()));
    assert_eq!(endpoint.active, Some(1));
    let failed = &endpoint.revisions[0];
    assert!(failed.reason.as_ref().is_some_and(|r| r.contains("model.onnx")), "{failed:?}");
    let input = json!({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]});
    assert!(client.infer(&name, &input).is_ok());
}
