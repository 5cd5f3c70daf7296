//! Clients that others wrote, and the whole loop on real data, by the command
//! line alone. They need the Python that `./test` sets up.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::Server;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn python() -> PathBuf {
    let python =
        std::env::var_os("MUONIC_TEST_PYTHON").map_or_else(|| root().join("build/venv/bin/python"), PathBuf::from);
    assert!(python.exists(), "{} is missing: run ./test, which sets it up", python.display());
    python
}

/// A property-based client sends malformed and odd requests to every operation
/// of the document: nothing may answer with a 5xx but what the document says.
#[test]
fn odd_requests_to_every_operation_find_no_server_error() {
    let server = Server::start();
    let local = server.local();
    let examples = if std::env::var_os("MUONIC_TEST_LONG").is_some() { "200" } else { "15" };
    let schemathesis = python().with_file_name("schemathesis");
    let folder = tempfile::tempdir().expect("a folder");
    let out = Command::new(schemathesis)
        .current_dir(&folder)
        .args(["run", &format!("{}/api/openapi.json", local.url)])
        .args(["--header", &format!("Authorization: Bearer {}", local.token)])
        .args(["--checks", "not_a_server_error", "--max-examples", examples, "--phases", "examples,coverage,fuzzing"])
        .args(["--exclude-path-regex", "/keys", "--request-timeout", "20", "--no-color", "--workers", "2"])
        .stdin(Stdio::null())
        .output()
        .expect("schemathesis starts");
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{text}\nserver:\n{}", server.log());
    assert!(!server.log().contains("panicked"), "{}", server.log());
    assert!(server.client().status().is_ok());
}

/// Data, training with plain scikit-learn, registry, deployment, release and
/// rollback, with the example that the demo uses.
#[test]
fn the_loop_closes_on_real_data() {
    let server = Server::start();
    let digits = root().join("examples/digits");
    let folder = tempfile::tempdir().expect("a folder");
    let made = Command::new(python())
        .arg(digits.join("prepare.py"))
        .arg("--out")
        .arg(folder.path())
        .status()
        .expect("python starts");
    assert!(made.success());
    let train = folder.path().join("train");
    let put = server.ok(&["data", "put", "digits", train.to_str().expect("UTF-8"), "--output", "json"]);
    assert!(put.contains("\"version\": 1"), "{put}");
    let digits = digits.to_str().expect("UTF-8");
    let run = |more: &[&str]| {
        let mut words = vec!["job", "run", digits, "--name", "train", "--input", "train=digits", "--model", "digits"];
        words.extend(["--resources", "cpu=1,memory=1Gi"]);
        words.extend(more);
        words.extend(["--", "python", "train.py"]);
        server.ok(&words)
    };
    run(&[]);
    let job: serde_json::Value =
        serde_json::from_str(&server.ok(&["job", "show", "train-1", "--output", "json"])).expect("JSON");
    assert_eq!(job["state"], "succeeded", "{job}");
    assert!(job["metrics"]["accuracy"].as_f64().is_some_and(|a| a > 0.5), "{job}");
    server.ok(&["deploy", "digits@1", "--resources", "cpu=0.25,memory=256Mi"]);
    let lineage = server.ok(&["lineage", "endpoint/digits"]);
    for word in ["digits@1", "train-1", "sha256:"] {
        assert!(lineage.contains(word), "{lineage}");
    }
    let cost = server.ok(&["cost"]);
    assert!(cost.contains("train-1") && cost.contains("digits"), "{cost}");
}
