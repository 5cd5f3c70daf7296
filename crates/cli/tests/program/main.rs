//! The command line as a program of its own: what it asks, where its words go
//! and how it ends, against servers that behave as a test needs it.

mod fake;
mod fetch;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::{CommandFactory, Parser};
use fake::{Answer, Fake, Gate, error, json};
use muonic_types::job::{JobState, Phase};
use muonic_types::{Digest, ErrorCode};
use serde_json::Value;

/// Words for [`program`], one a line.
const WORDS: &str = "MUONIC_TEST_WORDS";

#[derive(Debug, Parser)]
#[command(name = "muonic")]
struct Cli {
    #[command(flatten)]
    global: muonic_cli::Global,
    #[command(subcommand)]
    command: muonic_cli::Command,
}

/// Not a test: the program that the tests start, which is this one again.
#[test]
fn program() {
    let Ok(words) = std::env::var(WORDS) else { return };
    let words = std::iter::once("muonic").chain(words.lines()).map(Into::into).collect();
    let code = match muonic_cli::parse::<Cli>(words) {
        Ok(cli) => muonic_cli::run(&cli.global, cli.command, Cli::command),
        Err(code) => code,
    };
    let number = (0..=u8::MAX).find(|n| ExitCode::from(*n) == code);
    std::process::exit(number.unwrap().into());
}

fn muonic(server: &str, words: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "program", "--nocapture", "--test-threads=1"]);
    command.env(WORDS, words.join("\n")).env("MUONIC_SERVER", server).env("MUONIC_TOKEN", "MK1.secret");
    command.env_remove("MUONIC_DATA").stdin(Stdio::null());
    command
}

fn ended(server: &str, words: &[&str]) -> (i32, String) {
    let out: Output = muonic(server, words).output().unwrap();
    (out.status.code().unwrap(), String::from_utf8(out.stderr).unwrap())
}

fn status() -> Value {
    let resources = serde_json::json!({"cpu": "2", "memory": "1Gi", "gpu": 0});
    serde_json::json!({
        "version": "0.1.0", "data": "/d", "url": "u", "s3_url": "s", "started_at": "2026-11-03T12:00:00Z",
        "capacity": resources, "free": resources, "jobs_queued": 0, "jobs_running": 0, "endpoints": 0,
        "datasets": 0, "models": 0, "stored_bytes": 0, "writable": true, "reason": null,
    })
}

fn status_alone(request: &str) -> Answer {
    match request {
        "GET /api/v1/status" => json(&status()),
        other => panic!("asked for {other}"),
    }
}

#[test]
fn a_wrong_key_is_told_before_anything_is_read() {
    let server = Fake::start(|request| match request {
        "GET /healthz" => json(&"ok"),
        _ => error(ErrorCode::Unauthenticated, "there is no such key"),
    });
    let uploads: [&[&str]; 3] = [
        &["data", "put", "set", "/nowhere"],
        &["model", "register", "m", "/nowhere"],
        &["job", "run", "/nowhere", "--name", "j", "--", "true"],
    ];
    for words in uploads {
        let (code, said) = ended(&server.url, words);
        assert_eq!(code, 4, "{words:?}: {said}");
        assert!(said.contains("error: there is no such key\nhint: check MUONIC_TOKEN"), "{said}");
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for words in uploads {
        let (code, said) = ended(&format!("http://{nobody}"), words);
        assert_eq!(code, 5, "{words:?}: {said}");
    }
}

#[test]
fn another_program_at_the_address_is_told_in_a_sentence() {
    let page = "<html><h1>It works</h1></html>";
    for status in [200, 403, 404, 503] {
        let other = Fake::start(move |_| Answer::Foreign(status, page));
        let (code, said) = ended(&other.url, &["status"]);
        assert_eq!(code, 5, "{said}");
        assert!(said.starts_with(&format!("error: what answers at {} is not a Muonic server", other.url)), "{said}");
        assert!(said.contains("\nhint: ") && !said.contains("html"), "{said}");
    }
    let broken = Fake::start(move |_| Answer::Json(500, page.into()));
    assert_eq!(ended(&broken.url, &["status"]).1, "error: GET /api/v1/status answered 500 and no reason\n");
}

#[test]
fn the_key_comes_from_the_environment_and_never_from_a_command_line() {
    let server = Fake::start(status_alone);
    assert_eq!(ended(&server.url, &["status"]), (0, String::new()));
    assert_eq!(server.keys(), ["Bearer MK1.secret"]);
    let lines: [&[&str]; 4] = [
        &["status", "--token", "MK2.hidden"],
        &["--token=MK2.hidden", "status"],
        &["job", "run", "--token", "MK2.hidden", "--", "true"],
        &["status", "--token"],
    ];
    for words in lines {
        let (code, said) = ended(&server.url, words);
        assert_eq!(code, 2, "{said}");
        assert!(said.contains("error: unexpected argument '--token"), "{said}");
        assert!(said.contains("set the environment variable MUONIC_TOKEN to the key"), "{said}");
        assert!(!said.contains("hidden"), "{said}");
    }
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_token_from_a_file_is_trimmed_and_a_broken_one_is_told() {
    let server = Fake::start(status_alone);
    let with = |token| muonic(&server.url, &["status"]).env("MUONIC_TOKEN", token).output().unwrap();
    assert_eq!(with(" MK1.secret\r\n").status.code(), Some(0));
    assert_eq!(server.keys(), ["Bearer MK1.secret"]);
    let broken = with("MK1.se\ncret");
    let said = String::from_utf8(broken.stderr).unwrap();
    assert_eq!(broken.status.code(), Some(2), "{said}");
    assert!(said.starts_with("error: MUONIC_TOKEN holds a character that no token has"), "{said}");
}

#[test]
fn programs_get_failures_as_objects_with_the_same_exit() {
    let server = Fake::start(|_| error(ErrorCode::NotFound, "there is no job 'x-1'"));
    let cases: [(&[&str], i32, &str, Value); 3] = [
        (&["job", "show", "x-1"], 3, "there is no job 'x-1'", "not_found".into()),
        (&["job", "show", "X"], 2, "invalid value 'X' for '<ID>'", Value::Null),
        (&["data", "put"], 2, "arguments were not provided: <NAME> <PATH>", Value::Null),
    ];
    for (words, exit, message, code) in cases {
        let (plain, text) = ended(&server.url, words);
        assert!(text.starts_with("error: "), "{text}");
        let (with_json, said) = ended(&server.url, &[words, &["--output", "json"]].concat());
        assert_eq!((plain, with_json), (exit, exit), "{said}");
        let error = &serde_json::from_str::<Value>(&said).unwrap()["error"];
        assert!(error["message"].as_str().unwrap().contains(message), "{said}");
        assert_eq!((&error["exit_code"], &error["code"]), (&exit.into(), &code), "{said}");
    }
}

fn endpoint(ready: bool) -> Value {
    let at = "2026-11-03T12:00:00Z";
    let revision = serde_json::json!({
        "number": 1, "model": {"name": "m", "version": 1}, "replicas": 1,
        "resources": {"cpu": "1", "memory": "1Gi", "gpu": 0}, "state": if ready { "active" } else { "pending" },
        "reason": null, "created_at": at, "activated_at": null,
    });
    serde_json::json!({
        "name": "m", "project": "default", "state": if ready { "ready" } else { "deploying" },
        "active": ready.then_some(1), "target": (!ready).then_some(1), "revisions": [revision], "replicas": [],
        "created_at": at, "cost_usd": 0.0, "path": "/endpoints/m",
    })
}

#[test]
fn a_deployment_tells_a_pipe_what_it_waits_for_once() {
    let asked = AtomicUsize::new(0);
    let server = Fake::start(move |request| match request {
        "POST /api/v1/endpoints" => json(&endpoint(false)),
        "GET /api/v1/endpoints/m" => json(&endpoint(asked.fetch_add(1, Ordering::Relaxed) == 3)),
        _ => json(&serde_json::json!({"name": "m", "inputs": []})),
    });
    let out = muonic(&server.url, &["deploy", "m"]).output().unwrap();
    assert_eq!(String::from_utf8(out.stderr).unwrap(), "m@1 on m: 0 of 1 ready\n");
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(said.contains("m is ready: m@1") && said.contains("the one you use now will do"), "{said}");
    assert!(!said.contains("takes"), "nothing is known of what it takes: {said}");
}

/// A job with one attempt, as it is in this state.
fn job(state: JobState, phase: Option<Phase>, reason: Option<&str>) -> Value {
    let (over, at) = (state.is_final(), "2026-11-03T12:00:00Z");
    let attempt = serde_json::json!({
        "id": "train-1.1", "number": 1, "state": if over { "finished" } else { "running" }, "phase": phase,
        "exit": null, "message": null, "environment": null, "launched_at": at, "started_at": at,
        "finished_at": over.then_some(at),
    });
    serde_json::json!({
        "id": "train-1", "project": "default", "spec": {"name": "train", "command": ["true"]}, "state": state,
        "reason": reason, "cancel_requested": false, "created_at": at, "started_at": at,
        "finished_at": over.then_some(at), "not_before": null, "attempts": [attempt], "model_version": null,
        "metrics": {}, "cost_usd": 0.0,
    })
}

#[test]
fn what_others_wrote_does_not_steer_the_terminal() {
    let reason = "exited with code 3; the log ends:\n\u{1b}[31mKeyError\r\n\tat\u{9b}2J x\u{7}";
    let server = Fake::start(move |request| match request {
        "GET /api/v1/jobs/train-1/logs" => Answer::Stream(Box::new(|to| to.write_all(b"\x1b[1mraw\r\n").unwrap())),
        "GET /api/v1/status" => error(ErrorCode::Internal, "no\u{1b}]0;title\u{7}room"),
        _ => json(&job(JobState::Failed, None, Some(reason))),
    });
    let (code, said) = ended(&server.url, &["job", "wait", "train-1"]);
    assert_eq!(code, 1);
    assert!(said.contains("the log ends:\n[31mKeyError\n\tat 2J x\nhint:"), "{said:?}");
    assert_eq!(ended(&server.url, &["status"]), (1, "error: no ]0;title room\n".to_owned()));
    let shown = muonic(&server.url, &["job", "show", "train-1"]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("last lines\n  [31mKeyError\n  \tat 2J x\n"), "{shown:?}");
    let json = muonic(&server.url, &["job", "show", "train-1", "--output", "json"]).output().unwrap();
    let json = String::from_utf8(json.stdout).unwrap();
    assert!(json.contains(r"\u001b[31mKeyError\r\n\tat") && json.contains("\\u0007"), "programs get it whole: {json}");
    let log = muonic(&server.url, &["job", "logs", "train-1"]).output().unwrap();
    assert!(log.stdout.ends_with(b"\x1b[1mraw\r\n"), "a log is its owner's bytes: {log:?}");
}

/// A server with one job, which a folder of one file makes. `job` says how it
/// stands; `log` writes the first stream of its log, which is all of it.
fn with_job(
    job: impl Fn() -> Value + Send + Sync + 'static,
    log: impl Fn(&mut dyn Write) + Clone + Send + Sync + 'static,
) -> Fake {
    Fake::start(move |request| {
        let (path, query) = request.split_once('?').unwrap_or((request, ""));
        match path {
            "GET /api/v1/status" => json(&status()),
            "POST /api/v1/blobs/missing" => json(&serde_json::json!({"missing": []})),
            "POST /api/v1/trees" => json(&serde_json::json!({"digest": Digest::of(b""), "files": 1, "bytes": 1})),
            "GET /api/v1/jobs/train-1/logs" if query.contains("offset") => Answer::Stream(Box::new(|_| ())),
            "GET /api/v1/jobs/train-1/logs" => {
                let log = log.clone();
                Answer::Stream(Box::new(move |to| log(to)))
            }
            _ => json(&job()),
        }
    })
}

const RUN: [&str; 7] = ["job", "run", "src", "--name", "train", "--", "true"];

/// Starts the command line with pipes that the test holds.
fn started(server: &Fake, words: &[&str]) -> Child {
    let mut command = muonic(&server.url, words);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Its exit code and what it said.
fn end_of(mut child: Child) -> (i32, String) {
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (child.wait().unwrap().code().unwrap(), said)
}

/// Reads stdout up to this line.
fn read_until(child: &mut Child, line: &str) {
    // Not buffered beyond the line: what comes later is not for this reader.
    let mut lines = BufReader::with_capacity(1, child.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|read| read.unwrap().ends_with(line)), "'{line}' did not come");
}

#[test]
fn a_job_has_its_verdict_though_nobody_reads_its_log() {
    let (gone, over) = (Gate::default(), Gate::default());
    let server = with_job(
        {
            let over = over.clone();
            move || match over.is_open() {
                false => job(JobState::Running, Some(Phase::Running), None),
                true => job(JobState::Failed, None, Some("exited with code 3")),
            }
        },
        {
            let gone = gone.clone();
            move |to| {
                to.write_all(b"first\n").unwrap();
                gone.wait();
                // The program may end too early, and its connection with it.
                let _ = to.write_all(b"second\n");
                over.open();
            }
        },
    );
    let mut child = started(&server, &RUN);
    read_until(&mut child, "first");
    drop(child.stdout.take());
    gone.open();
    let (code, said) = end_of(child);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("error: train-1 failed: exited with code 3"), "{said}");
}

#[test]
fn a_wait_has_its_verdict_though_nobody_reads_it() {
    let (asked, gone) = (Gate::default(), Gate::default());
    let server = Fake::start({
        let (asked, gone) = (asked.clone(), gone.clone());
        move |_| {
            asked.open();
            gone.wait();
            json(&job(JobState::Failed, None, None))
        }
    });
    let mut child = started(&server, &["job", "wait", "train-1"]);
    asked.wait();
    drop(child.stdout.take());
    gone.open();
    assert_eq!(end_of(child).0, 1);
}

#[test]
fn a_log_that_nobody_reads_ends_quietly() {
    let gone = Gate::default();
    let server = with_job(|| job(JobState::Running, Some(Phase::Running), None), {
        let gone = gone.clone();
        move |to| {
            to.write_all(b"first\n").unwrap();
            gone.wait();
            let _ = to.write_all(b"second\n");
        }
    });
    let mut child = started(&server, &["job", "logs", "-f", "train-1"]);
    read_until(&mut child, "first");
    drop(child.stdout.take());
    gone.open();
    assert_eq!(end_of(child), (0, String::new()));
}

#[test]
fn running_is_not_told_after_the_first_words_of_the_command() {
    for speaks in [true, false] {
        let [begun, told, over] = [(); 3].map(|()| Gate::default());
        let server = with_job(
            {
                let [begun, told, over] = [&begun, &told, &over].map(Gate::clone);
                move || match (begun.is_open(), over.is_open()) {
                    (_, true) => job(JobState::Succeeded, None, None),
                    (true, _) => {
                        told.open();
                        job(JobState::Running, Some(Phase::Running), None)
                    }
                    _ => job(JobState::Starting, Some(Phase::Fetching), None),
                }
            },
            {
                let over = over.clone();
                move |to| {
                    to.write_all(if speaks { b"first\n" } else { b"" }).unwrap();
                    over.wait();
                }
            },
        );
        let mut child = started(&server, &RUN);
        if speaks {
            read_until(&mut child, "first");
        }
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(said.any(|line| line == "[train-1] fetching code and inputs"));
        begun.open();
        if !speaks {
            assert_eq!(said.next().unwrap(), "[train-1] running");
        }
        told.wait();
        over.open();
        let rest: Vec<_> = said.collect();
        assert!(rest.iter().all(|line| !line.contains("running")), "{rest:?}");
        assert!(rest.iter().any(|line| line.contains("succeeded")), "{rest:?}");
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}
