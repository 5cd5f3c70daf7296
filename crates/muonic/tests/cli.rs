//! Every command of the command line against a real server: its words for
//! people, its JSON, its exit codes.

mod support;

use std::path::Path;
use std::process::Output;

use serde_json::Value;
use support::{MUONIC, Server, model_file, until, write};

fn json(server: &Server, words: &[&str]) -> Value {
    let words: Vec<&str> = words.iter().copied().chain(["--output", "json"]).collect();
    let text = server.ok(&words);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("muonic {words:?} printed no JSON ({e}):\n{text}"))
}

/// Fails with this exit code, nothing on stdout, and one sentence with a word.
fn fails(server: &Server, words: &[&str], code: i32, word: &str) {
    let out = server.cli(words);
    let said = stderr(&out);
    assert_eq!(out.status.code(), Some(code), "muonic {words:?}: {said}");
    assert!(said.contains(word), "muonic {words:?} does not say '{word}': {said}");
}

fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn data_is_put_listed_and_fetched() {
    let server = Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("in"), &[("a.txt", b"one"), ("b/c.bin", &[0, 255])]);
    let source = folder.path().join("in");
    let put = server.cli(&["data", "put", "set", text(&source)]);
    assert!(String::from_utf8_lossy(&put.stdout).contains("set@1  2 files"), "{put:?}");
    assert!(!put.stderr.contains(&b'\r') && !put.stderr.contains(&0x1b), "no bar is drawn in a pipe: {put:?}");
    let again = json(&server, &["data", "put", "set", text(&source)]);
    assert_eq!((&again["created"], &again["sent_files"]), (&false.into(), &0.into()), "{again}");
    write(&source, &[("a.txt", b"two")]);
    let changed = json(&server, &["data", "put", "set", text(&source)]);
    assert_eq!((&changed["version"], &changed["sent_files"]), (&2.into(), &1.into()), "{changed}");
    assert!(server.ok(&["data", "ls"]).contains("set"));
    assert_eq!(json(&server, &["data", "versions", "set"])["versions"].as_array().map(Vec::len), Some(2));
    let target = folder.path().join("out");
    server.ok(&["data", "get", "set@1", text(&target)]);
    assert_eq!(std::fs::read(target.join("a.txt")).expect("fetched"), b"one");
    assert_eq!(std::fs::read(target.join("b/c.bin")).expect("fetched"), [0, 255]);
    fails(&server, &["data", "get", "set@1", text(&target)], 2, "empty");
    fails(&server, &["data", "get", "set@9", text(&folder.path().join("x"))], 3, "no version 9");
    fails(&server, &["data", "put", "set", "/nowhere"], 2, "/nowhere");
}

#[test]
fn jobs_are_run_watched_and_stopped() {
    let server = Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &[("run.sh", b"echo loss=0.5; echo weights > $SM_MODEL_DIR/w; exit ${1:-0}\n")]);
    let dir = text(folder.path());
    let small = ["--resources", "cpu=0.1,memory=64Mi"];
    let run = |more: &[&str], command: &[&str]| {
        let mut words = vec!["job", "run", dir, "--name", "job"];
        words.extend(small);
        words.extend(more);
        words.push("--");
        words.extend(command);
        server.cli(&words)
    };
    let first = run(&["--model", "m"], &["sh", "run.sh"]);
    assert_eq!(String::from_utf8_lossy(&first.stdout), "loss=0.5\n", "the log alone: {first:?}");
    assert!(first.status.success() && stderr(&first).contains("[job-1] succeeded"), "{first:?}");
    let second = run(&[], &["sh", "run.sh", "3"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("exited with code 3"), "{second:?}");

    let job = json(&server, &["job", "show", "job-1"]);
    assert_eq!((&job["state"], &job["model_version"]["version"]), (&"succeeded".into(), &1.into()), "{job}");
    assert_eq!(job["metrics"]["loss"], 0.5);
    assert!(server.ok(&["job", "show", "job-1"]).contains("loss"));
    assert_eq!(json(&server, &["job", "ls", "--state", "failed"])["jobs"][0]["id"], "job-2");
    assert!(server.ok(&["job", "ls"]).contains("exited with code 3"));
    assert_eq!(server.ok(&["job", "logs", "job-1"]), "loss=0.5\n");

    let third = run(&["--detach"], &["sleep", "60"]);
    assert_eq!(String::from_utf8_lossy(&third.stdout), "job-3\n", "the id alone: {third:?}");
    fails(&server, &["job", "wait", "job-3", "--timeout", "100ms"], 1, "job-3");
    server.ok(&["job", "cancel", "job-3"]);
    fails(&server, &["job", "wait", "job-3"], 1, "cancelled");
    assert_eq!(json(&server, &["job", "show", "job-3"])["state"], "cancelled");
    fails(&server, &["job", "cancel", "job-3"], 1, "job-3");
    fails(&server, &["job", "show", "job-99"], 3, "job-99");
    let lacks = ["job", "run", dir, "--resources", "cpu=9999", "--", "true"];
    fails(&server, &lacks, 2, "cpu");
    fails(&server, &["job", "run", dir, "--input", "train=none", "--", "true"], 3, "none");
    fails(&server, &["job", "run", dir, "--time-limit", "366d", "--", "true"], 2, "--time-limit");
    fails(&server, &["job", "run", dir, "--metric", "loss=(", "--", "true"], 2, "unclosed group");

    let tried = run(&["--retries", "1"], &["sh", "run.sh", "3"]);
    let said = stderr(&tried);
    assert!(said.contains("[job-4] attempt 1 exited with code 3\n[job-4] tries again in 1s\n"), "{said}");
    assert_eq!(said.matches("tries again").count(), 1, "{said}");
    assert!(!said.contains("queued"), "{said}");
}

#[test]
fn models_are_named_served_asked_and_taken_back() {
    let server = Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    let model = model_file("double.onnx");
    server.ok(&["model", "register", "m", text(&model)]);
    let bytes = std::fs::read(&model).expect("the model");
    write(folder.path(), &[("model.onnx", &bytes), ("note", b"second")]);
    assert_eq!(json(&server, &["model", "register", "m", text(folder.path())])["version"], 2);
    server.ok(&["model", "alias", "m", "champion", "1"]);
    assert_eq!(json(&server, &["model", "show", "m@champion"])["version"], 1);
    assert!(server.ok(&["model", "ls"]).contains("champion"));
    fails(&server, &["model", "show", "m@loser"], 3, "loser");

    write(&folder.path().join("other"), &[("weights.bin", b"w")]);
    let other = server.cli(&["model", "register", "other", text(&folder.path().join("other"))]);
    let neither = "the model has no .onnx file, handler.py, serve.toml or MLmodel at its top, where it has weights.bin";
    assert!(stderr(&other).contains(&format!("note: other@1 cannot be deployed: {neither}\n")), "{other:?}");
    fails(&server, &["deploy", "other"], 2, &format!("error: other@1 cannot be served: {neither}\n"));
    fails(&server, &["endpoint", "show", "other"], 3, "other");

    write(&folder.path().join("broken"), &[("model.onnx", b"no model")]);
    server.ok(&["model", "register", "broken", text(&folder.path().join("broken"))]);
    fails(&server, &["deploy", "broken", "--resources", "cpu=0.1"], 1, "muonic endpoint show broken");
    fails(&server, &["predict", "broken", "[[1]]"], 5, "broken serves nothing: it is failed");
    fails(&server, &["deploy", "m", "--resources", "cpu=0.1,cpu=1"], 2, "'cpu' is named twice");

    let small = ["--resources", "cpu=0.1,memory=128Mi"];
    let mut deploy = vec!["deploy", "m@champion"];
    deploy.extend(small);
    let said = server.ok(&deploy);
    assert!(said.contains("m is ready: m@1") && said.contains("x FP32 [any, any]"), "{said}");
    assert!(!said.contains(&server.local().token), "no secret is shown");
    fails(&server, &deploy, 1, "release");
    assert_eq!(json(&server, &["predict", "m", "[[1.5, 2]]"])["outputs"][0]["data"], serde_json::json!([3.0, 4.0]));
    assert!(server.ok(&["predict", "m", "[[1.5, 2]]"]).contains('3'));
    fails(&server, &["predict", "m", "[[[1]]]"], 2, "shape");
    fails(&server, &["predict", "m", "nonsense"], 2, "JSON");
    fails(&server, &["predict", "nobody", "[[1, 2]]"], 3, "nobody");

    server.ok(&["endpoint", "release", "m", "m@2", "--resources", "cpu=0.2"]);
    let shown = json(&server, &["endpoint", "show", "m"]);
    let resources = &shown["revisions"][0]["resources"];
    assert_eq!((&resources["cpu"], &resources["memory"]), (&"200m".into(), &"128Mi".into()), "{resources}");
    assert_eq!((&shown["active"], &shown["state"]), (&2.into(), &"ready".into()), "{shown}");
    let log = || server.ok(&["endpoint", "logs", "m"]);
    until("the replica's log arrives", || log().contains("serving m@2").then_some(()));
    server.ok(&["endpoint", "rollback", "m"]);
    assert_eq!(json(&server, &["endpoint", "show", "m"])["active"], 1);
    fails(&server, &["endpoint", "rollback", "m", "--to", "7"], 3, "7");
    assert!(server.ok(&["endpoint", "ls"]).contains("ready"));
    let lineage = server.ok(&["lineage", "endpoint/m"]);
    assert!(lineage.contains("m@1") && lineage.contains("sha256:"), "{lineage}");
    assert!(json(&server, &["cost"])["total_usd"].as_f64().is_some_and(|usd| usd > 0.0));
    fails(&server, &["endpoint", "delete", "m"], 2, "--yes");
    server.ok(&["endpoint", "delete", "m", "--yes"]);
}

#[test]
fn the_server_is_described_and_keys_are_kept() {
    let mut server = Server::start();
    assert!(server.ok(&["status"]).contains(&server.local().url));
    assert_eq!(json(&server, &["status"])["jobs_running"], 0);
    let doctor = json(&server, &["doctor"]);
    assert!(doctor["checks"].as_array().is_some_and(|checks| checks.len() > 3), "{doctor}");

    let made = json(&server, &["key", "create", "reader", "--role", "viewer"]);
    let token = made["token"].as_str().expect("a token").to_owned();
    let id = made["id"].as_str().expect("an id").to_owned();
    let reader_at = |url: String, words: &[&str]| {
        let mut command = std::process::Command::new(MUONIC);
        command.args(words).env("MUONIC_SERVER", url).env("MUONIC_TOKEN", &token);
        command.output().expect("it starts")
    };
    let as_reader = |words: &[&str]| reader_at(server.local().url, words);
    let at_s3 = reader_at(server.local().s3_url, &["status"]);
    assert_eq!(at_s3.status.code(), Some(5), "{at_s3:?}");
    assert!(stderr(&at_s3).contains("is not a Muonic server") && !stderr(&at_s3).contains('<'), "{at_s3:?}");
    assert!(as_reader(&["status"]).status.success());
    let refused = as_reader(&["key", "ls"]);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    let listed = server.ok(&["key", "ls"]);
    assert!(listed.contains(&id) && !listed.contains(&token), "{listed}");
    server.ok(&["key", "revoke", &id]);
    let refused = as_reader(&["status"]);
    assert_eq!(refused.status.code(), Some(4));
    assert!(stderr(&refused).ends_with("writes one into DATA/local.json\n"), "{refused:?}");

    let other = json(&server, &["key", "create", "other", "--role", "admin"]);
    let own = server.local().key_id;
    fails(&server, &["key", "revoke", &own], 2, "the key in use is not revoked without a yes\nhint: add --yes\n");
    server.ok(&["key", "revoke", &own, "--yes"]);
    fails(&server, &["status"], 4, "local.json: restart 'muonic up', which writes a valid one there\n");
    server.stop();
    server.up();
    assert_eq!(server.local().token, other["token"].as_str().expect("a token"));
    server.ok(&["status"]);

    for shell in ["bash", "zsh", "fish"] {
        let script = server.ok(&["completions", shell]);
        assert!(script.contains("rollback") && !script.contains("shim"), "{shell}");
    }
    fails(&server, &["data", "ls", "--output", "yaml"], 2, "json");
    fails(&server, &["serve", "/nowhere"], 2, "error: there is no file or folder /nowhere\n");
    fails(&server, &["serve", "/nowhere", "-o", "json"], 2, r#""exit_code":2"#);
    server.stop();
    let out = server.cli(&["status"]);
    assert_eq!(out.status.code(), Some(5), "{out:?}");
    assert!(stderr(&out).contains("muonic up"), "{out:?}");
    assert_eq!(server.cli(&["doctor"]).status.code(), Some(1));
}
