//! Clients that others wrote, and the whole loop on real data, by the command
//! line alone. They need the Python that `./test` sets up.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use muonic_types::ErrorCode;
use support::{Server, finished, insist, model_file, python, shell, until};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Sends odd and malformed requests to the operations that `select` and its
/// pattern choose; answers what the client says at the end. `fixed` are path
/// parameters that keep one value.
fn send_odd_requests(server: &Server, token: &str, select: [&str; 2], fixed: &[(&str, &str)]) -> String {
    let examples = if std::env::var_os("MUONIC_TEST_LONG").is_some() { "200" } else { "15" };
    let schemathesis = python().with_file_name("schemathesis");
    let folder = tempfile::tempdir().expect("a folder");
    let fixed: String = fixed.iter().map(|(name, value)| format!("\"path.{name}\" = \"{value}\"\n")).collect();
    std::fs::write(folder.path().join("schemathesis.toml"), format!("[parameters]\n{fixed}")).expect("written");
    let out = Command::new(schemathesis)
        .current_dir(&folder)
        .args(["run", &format!("{}/api/openapi.json", server.local().url)])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(["--checks", "not_a_server_error", "--max-examples", examples, "--phases", "examples,coverage,fuzzing"])
        // One thread: Python 3.11 fails now and then to parse in two at once.
        .args(["--request-timeout", "20", "--no-color", "--workers", "1"])
        .args(select)
        .stdin(Stdio::null())
        .output()
        .expect("schemathesis starts");
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{text}\nserver:\n{}", server.log());
    assert!(!server.log().contains("panicked"), "{}", server.log());
    text
}

/// As it is in README.md, with a file that is large enough for a multipart upload.
#[test]
fn the_example_with_boto3_works() {
    let server = Server::start();
    let readme = std::fs::read_to_string(root().join("README.md")).expect("README.md");
    let (_, rest) = readme.split_once("```python\n").expect("an example");
    let (example, _) = rest.split_once("```").expect("its end");
    let local = server.local();
    assert!(example.contains("http://127.0.0.1:7071"), "{example}");
    let example = example.replace("http://127.0.0.1:7071", &local.s3_url);
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("input.json"), vec![b' '; 9 << 20]).expect("a file");
    let check =
        "s3.download_file('raw', 'input.json', 'back')\nassert open('back').read() == open('input.json').read()\n";
    let out = Command::new(python())
        .current_dir(&folder)
        .env("AWS_ACCESS_KEY_ID", &local.key_id)
        .env("AWS_SECRET_ACCESS_KEY", &local.secret)
        .args(["-c", &format!("{example}{check}")])
        .output()
        .expect("Python starts");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

const FORBIDDEN: &str = "returned only 401/403";

/// A property-based client at every operation of the document, with a key that
/// may use it: nothing may answer with a 5xx but what the document says.
#[test]
fn odd_requests_to_every_operation_find_no_server_error() {
    let server = Server::start();
    let admin = server.local().token;
    // The supervisors' doors open to their own keys only.
    let job = insist("job", || server.client().job_create(&shell("hold", "sleep 600")));
    let model = model_file("double.onnx");
    server.ok(&["model", "register", "live", model.to_str().expect("UTF-8")]);
    server.ok(&["deploy", "live@1", "--resources", "cpu=0.1,memory=128Mi"]);
    let attempt = format!("{}.1", job.id);
    for (parameter, id, unit, usual, last) in [
        ("attempt", attempt.as_str(), format!("task.{attempt}"), "claim|logs|metrics|progress", "finish"),
        ("replica", "live.1.1", "replica.live.1.1".to_owned(), "claim|logs|ready", "failed"),
    ] {
        let launch = until("the unit is launched", || server.unit_folder(&unit).read_launch().ok());
        let send = |operations: &str| {
            let select = format!("/{parameter}s/.*/({operations})$");
            send_odd_requests(&server, &launch.token, ["--include-path-regex", &select], &[(parameter, id)])
        };
        let text = send(usual);
        assert!(!text.contains(FORBIDDEN), "{text}");
        // The first of these that is in order ends the unit, and its key with it.
        send(last);
    }

    // These may wait for something to happen: they ask about what is over.
    server.ok(&["endpoint", "delete", "live", "--yes"]);
    let waiting = "/jobs/.*/(logs|wait)$";
    let select = ["--include-path-regex", waiting];
    send_odd_requests(&server, &admin, select, &[("job", &finished(&server.client(), &job.id).id.to_string())]);
    let apart = format!("/keys|/attempts/|/replicas/|{waiting}");
    let text = send_odd_requests(&server, &admin, ["--exclude-path-regex", &apart], &[]);
    assert!(!text.contains(FORBIDDEN), "{text}");
    server.client().status().expect("the server is well");

    // Last, since it finds out which keys there are and revokes them.
    send_odd_requests(&server, &admin, ["--include-path-regex", "/keys"], &[]);
    let revoked = |e: muonic_client::Error| e.code() == Some(ErrorCode::Unauthenticated);
    assert!(server.client().status().map_or_else(revoked, |_| true), "the server is well");
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
