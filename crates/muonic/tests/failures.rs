//! What goes wrong in users' code and around it ends in the state that the
//! documents say, with one clear sentence, and the server stays well.

mod support;

use std::path::PathBuf;
use std::time::Duration;

use muonic_types::endpoint::{EndpointState, NewEndpoint, NewRevision};
use muonic_types::job::{Exit, JobState};
use muonic_types::{Memory, Name, Resources};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Server, finished, log_of, processes_below, ready, run, shell, small, until, upload, write};

fn pid_in(path: &std::path::Path) -> Option<i32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[test]
fn ends_are_told_apart() {
    let server = Server::start();
    let client = server.client();

    let job = run(&client, &shell("fails", "echo one; echo two >&2; exit 137"));
    assert_eq!((job.state, job.attempts[0].exit.clone()), (JobState::Failed, Some(Exit::Code { code: 137 })));
    let reason = job.reason.expect("a reason");
    assert!(reason.contains("137") && reason.contains("two"), "{reason}");

    let job = run(&client, &shell("signalled", "kill -SEGV $$"));
    assert_eq!(job.attempts[0].exit, Some(Exit::Signal { signal: 11 }));

    let mut missing = shell("missing", "");
    missing.spec.command = vec!["no-such-program".into()];
    let job = run(&client, &missing);
    let reason = job.reason.expect("a reason");
    assert!(reason.contains("no-such-program"), "{reason}");

    let mut forever = shell("forever", "trap '' TERM; while :; do sleep 0.1; done");
    forever.spec.time_limit_s = Some(1);
    forever.spec.grace_s = 1;
    let job = run(&client, &forever);
    assert_eq!(job.attempts[0].exit, Some(Exit::TimeLimit));

    let mut flaky = shell("flaky", "exit 3");
    flaky.spec.retries = 1;
    let job = run(&client, &flaky);
    assert_eq!((job.state, job.attempts.len()), (JobState::Failed, 2));

    let job = run(&client, &shell("well", "echo fine"));
    assert_eq!(job.state, JobState::Succeeded);
}

#[test]
fn memory_beyond_what_was_asked_for_is_said_so() {
    let server = Server::start();
    let mut hungry =
        shell("hungry", "python3 -c 'x = bytearray(600 << 20); print(len(x)); import time; time.sleep(30)'");
    hungry.spec.resources.memory = muonic_types::Memory::mib(64);
    let job = run(&server.client(), &hungry);
    assert_eq!(job.attempts[0].exit, Some(Exit::OutOfMemory), "{job:?}");
    assert!(job.reason.expect("a reason").contains("64Mi"));
}

#[test]
fn what_a_job_leaves_running_is_ended() {
    let server = Server::start();
    let script =
        "setsid sh -c 'sleep 600 & sleep 600' & (sleep 600 &) ; for i in 1 2 3 4 5; do sleep 600 & done; echo done";
    let job = run(&server.client(), &shell("forks", script));
    assert_eq!(job.state, JobState::Succeeded);
    until("nothing is left of the job", || (processes_below(&server.data) == [server.pid()]).then_some(()));
}

#[test]
fn a_cancelled_job_stops_with_all_it_started() {
    let server = Server::start();
    let client = server.client();
    let job = client
        .job_create(&shell("long", "trap '' TERM; sleep 600 & echo started; wait; sleep 600"))
        .expect("submitted");
    until("it has started", || log_of(&client, &job.id).contains("started").then_some(()));
    client.job_cancel(&job.id).expect("cancelled");
    let job = finished(&client, &job.id);
    assert_eq!((job.state, job.attempts[0].exit.clone()), (JobState::Cancelled, Some(Exit::Cancelled)));
    until("nothing is left of the job", || (processes_below(&server.data) == [server.pid()]).then_some(()));
}

#[test]
fn a_queued_job_says_why_it_waits_and_can_be_cancelled() {
    let server = Server::with(&["--set", "resources.cpu=0.1"]);
    let client = server.client();
    let first = client.job_create(&shell("first", "sleep 600")).expect("submitted");
    until("the first has started", || (client.job(&first.id).ok()?.state == JobState::Running).then_some(()));
    let second = client.job_create(&shell("second", "true")).expect("submitted");
    let reason = until("the second says why", || client.job(&second.id).ok()?.reason);
    assert!(reason.contains("cpu") && reason.contains("first-1"), "{reason}");
    assert!(client.job(&second.id).expect("a job").estimate.is_some());
    assert_eq!(client.job_cancel(&second.id).expect("cancelled").state, JobState::Cancelled);
    client.job_cancel(&first.id).expect("cancelled");
    assert_eq!(finished(&client, &first.id).state, JobState::Cancelled);
    let mut vast = shell("vast", "true");
    vast.spec.resources.cpu = muonic_types::Cpu::milli(64_000);
    assert_eq!(client.job_create(&vast).unwrap_err().code(), Some(muonic_types::ErrorCode::Unschedulable));
}

#[test]
fn a_great_log_is_cut_and_a_binary_one_is_kept() {
    let server = Server::with(&["--set", "jobs.log_bytes_max=1000000"]);
    let client = server.client();
    // A whole core: the limit of the small ones would be what is tested.
    let mut chatty = shell("chatty", "yes \"$(printf %0999d 0)\" | head -c 1000000000; echo; echo the-end");
    chatty.spec.resources.cpu = muonic_types::Cpu::milli(1000);
    let job = run(&client, &chatty);
    assert_eq!(job.state, JobState::Succeeded, "{job:?}");
    let log = log_of(&client, &job.id);
    assert!(log.len() < 2_100_000, "{}", log.len());
    assert!(log.trim_end().ends_with("the-end") && log.contains("bytes"), "{}", &log[log.len() - 200..]);

    let job = run(&client, &shell("binary", "head -c 100000 /dev/urandom; echo; echo after"));
    assert_eq!(job.state, JobState::Succeeded, "{job:?}");
    assert!(log_of(&client, &job.id).ends_with("after\n"));
}

#[test]
fn a_shim_that_dies_takes_its_job_along_and_the_job_is_tried_again() {
    let server = Server::start();
    let client = server.client();
    let job = client
        .job_create(&shell("orphaned", "echo started; test $MUONIC_ATTEMPT = orphaned-1.1 && sleep 600; echo second"))
        .expect("submitted");
    until("it has started", || log_of(&client, &job.id).contains("started").then_some(()));
    let pid = pid_in(&server.unit_folder("task.orphaned-1.1").file("pid")).expect("a pid");
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("a signal");
    let job = finished(&client, &job.id);
    let exits: Vec<_> = job.attempts.iter().map(|a| a.exit.clone()).collect();
    assert_eq!(
        (job.state, exits),
        (JobState::Succeeded, vec![Some(Exit::Lost), Some(Exit::Code { code: 0 })]),
        "{job:?}"
    );
    until("nothing is left of either attempt", || (processes_below(&server.data) == [server.pid()]).then_some(()));
}

#[test]
fn a_users_process_that_is_killed_fails_its_job() {
    let server = Server::start();
    let client = server.client();
    let job = client.job_create(&shell("shot", "echo pid=$$; sleep 600")).expect("submitted");
    let pid: i32 =
        until("it has started", || log_of(&client, &job.id).lines().find_map(|l| l.strip_prefix("pid=")?.parse().ok()));
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("a signal");
    let job = finished(&client, &job.id);
    assert_eq!(
        (job.state, job.attempts[0].exit.clone()),
        (JobState::Failed, Some(Exit::Signal { signal: 9 })),
        "{job:?}"
    );
}

#[test]
fn a_job_outlives_the_server() {
    let mut server = Server::start();
    let job = server.client().job_create(&shell("survivor", "echo before; sleep 1.5; echo after")).expect("submitted");
    until("it has started", || log_of(&server.client(), &job.id).contains("before").then_some(()));
    server.kill();
    std::thread::sleep(Duration::from_secs(2)); // The job ends while nobody listens.
    server.up();
    let job = finished(&server.client(), &job.id);
    assert_eq!((job.state, job.attempts.len()), (JobState::Succeeded, 1), "{job:?}");
    assert_eq!(log_of(&server.client(), &job.id), "before\nafter\n");
}

#[test]
fn a_replica_that_dies_is_replaced() {
    let server = Server::start();
    let client = server.client();
    let folder = tempfile::tempdir().expect("a folder");
    write(
        folder.path(),
        &[("model.onnx", &std::fs::read(support::model_file("double.onnx")).expect("the test model"))],
    );
    let tree = upload(&client, folder.path()).expect("uploaded");
    let name = "m".parse().expect("a name");
    client.model_register(&name, tree.digest).expect("registered");
    let revision = support::revision("m@1".parse().expect("a version"), 1);
    client.endpoint_create(&muonic_types::endpoint::NewEndpoint { name: name.clone(), revision }).expect("deployed");
    let first = ready(&client, "m").replicas[0].id.clone();
    let pid = pid_in(&server.unit_folder(&format!("replica.{first}")).file("pid")).expect("a pid");
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("a signal");
    until("another replica serves", || {
        let endpoint = client.endpoint(&name).ok()?;
        endpoint
            .replicas
            .iter()
            .find(|r| r.id != first && r.state == muonic_types::endpoint::ReplicaState::Ready)
            .map(|_| ())
    });
    let input = serde_json::json!({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]});
    let answer = support::insist("infer", || client.infer(&name, &input));
    assert_eq!(answer["outputs"][0]["data"], serde_json::json!([2.0, 4.0]));
}

#[test]
fn a_model_that_cannot_be_served_fails_its_release_with_a_sentence() {
    let server = Server::start();
    let client = server.client();
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &[("model.onnx", b"this is no model")]);
    let tree = upload(&client, folder.path()).expect("uploaded");
    let name = "bad".parse().expect("a name");
    client.model_register(&name, tree.digest).expect("registered");
    let revision = support::revision("bad@1".parse().expect("a version"), 1);
    client.endpoint_create(&muonic_types::endpoint::NewEndpoint { name: name.clone(), revision }).expect("deployed");
    let reason = until("the release is given up", || {
        let endpoint = client.endpoint(&name).ok()?;
        (endpoint.state == muonic_types::endpoint::EndpointState::Failed)
            .then(|| endpoint.revisions[0].reason.clone().expect("a reason"))
    });
    assert!(reason.contains("model.onnx"), "{reason}");
}

/// Deploys a model of one file.
fn deploy(client: &muonic_client::Client, name: &Name, file: &str, content: &[u8], resources: Resources) {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &[(file, content)]);
    let tree = upload(client, folder.path()).expect("uploaded");
    client.model_register(name, tree.digest).expect("registered");
    let model = format!("{name}@1").parse().expect("a version");
    let revision = NewRevision { resources: Some(resources), ..support::revision(model, 1) };
    client.endpoint_create(&NewEndpoint { name: name.clone(), revision }).expect("deployed");
}

/// The control groups of every replica of this endpoint.
fn groups_of(server: &Server, name: &Name) -> Vec<PathBuf> {
    let mine = format!("replica.{name}.");
    let units = std::fs::read_dir(server.data.join("local/units")).expect("units").flatten();
    let units = units.filter(|e| e.file_name().to_string_lossy().starts_with(&mine));
    units.flat_map(|e| muonic_unit::Folder::new(e.path()).read_groups()).collect()
}

fn no_limit_of_memory_here() -> bool {
    let none = !muonic_unit::Limiter::probe().limits_memory();
    if none {
        println!("not tried: no memory controller here");
    }
    none
}

#[test]
fn a_model_that_takes_more_memory_than_asked_for_fails_its_release_and_says_so() {
    if no_limit_of_memory_here() {
        return;
    }
    let server = Server::start();
    let client = server.client();
    let handler = b"class Handler:\n def __init__(self, path): self.x = bytearray(b'x' * (300 << 20))\n def predict(self, inputs): return {}\n";
    let onnx = std::fs::read(support::model_file("double.onnx")).expect("the test model");
    // The one is in a process of its own, the other in the replica's.
    for (name, file, content, mib) in [("worker", "handler.py", &handler[..], 128), ("whole", "model.onnx", &onnx, 4)] {
        let name: Name = name.parse().expect("a name");
        deploy(&client, &name, file, content, Resources { memory: Memory::mib(mib), ..small() });
        let mut groups = Vec::new();
        let reason = until("the release is given up", || {
            groups.extend(groups_of(&server, &name));
            let endpoint = client.endpoint(&name).ok()?;
            (endpoint.state == EndpointState::Failed).then(|| endpoint.revisions[0].reason.clone().expect("a reason"))
        });
        let wanted = format!("was ended by the kernel: it used more memory than memory={mib}Mi");
        assert!(reason.contains(&wanted), "{reason}");
        assert!(!groups.is_empty());
        until("its groups are gone", || groups.iter().all(|g| !g.exists()).then_some(()));
    }
}

#[test]
fn a_replica_serves_within_its_limits_and_its_groups_go_with_its_endpoint() {
    if no_limit_of_memory_here() {
        return;
    }
    let server = Server::start();
    let client = server.client();
    let name: Name = "grows".parse().expect("a name");
    let handler = b"class Handler:\n def __init__(self, path): pass\n def predict(self, inputs): return {'n': len(b'x' * (300 << 20))}\n";
    deploy(&client, &name, "handler.py", handler, small());
    let first = ready(&client, "grows").replicas[0].id.clone();
    let groups = groups_of(&server, &name);
    let pid = pid_in(&server.unit_folder(&format!("replica.{first}")).file("pid")).expect("a pid");
    let inside = |group: &PathBuf| std::fs::read_to_string(group.join("cgroup.procs")).expect("a group");
    for group in &groups {
        let pids = inside(group);
        assert!(pids.lines().any(|l| l == pid.to_string()) && pids.lines().count() >= 2, "{group:?}: {pids}");
    }
    assert!(!groups.is_empty());
    // Version 1 ends the worker alone, version 2 the whole replica.
    let error = client.infer(&name, &serde_json::json!({"inputs": []})).expect_err("too much").to_string();
    let wanted = "was ended by the kernel: it used more memory than memory=128Mi";
    until("it is said why", || {
        let replicas = client.endpoint(&name).ok()?.replicas;
        let told =
            replicas.iter().filter_map(|r| r.reason.as_deref()).chain([error.as_str()]).any(|r| r.contains(wanted));
        told.then_some(())
    });
    client.endpoint_delete(&name).expect("deleted");
    until("its groups are gone", || groups.iter().all(|g| !g.exists()).then_some(()));
}

#[test]
fn a_broken_environment_fails_with_the_installers_words() {
    let server = Server::start();
    let client = server.client();
    let folder = tempfile::tempdir().expect("a folder");
    write(
        folder.path(),
        &[("requirements.txt", b"this-package-does-not-exist-muonic==9.9.9\n"), ("x.py", b"print(1)\n")],
    );
    let tree = upload(&client, folder.path()).expect("uploaded");
    let mut new = shell("broken", "python x.py");
    new.spec.code = Some(tree.digest);
    let job = run(&client, &new);
    assert_eq!(job.attempts[0].exit, Some(Exit::EnvironmentFailed), "{job:?}");
    assert!(job.reason.expect("a reason").contains("this-package-does-not-exist-muonic"));
}

#[test]
fn no_python_is_said_so() {
    let server = Server::with(&["--set", "python.interpreter=/no/such/python"]);
    let client = server.client();
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &[("requirements.txt", b"six\n")]);
    let tree = upload(&client, folder.path()).expect("uploaded");
    let mut new = shell("snakeless", "python -c 'print(1)'");
    new.spec.code = Some(tree.digest);
    let job = run(&client, &new);
    let reason = job.reason.expect("a reason");
    assert!(reason.contains("/no/such/python"), "{reason}");
}
