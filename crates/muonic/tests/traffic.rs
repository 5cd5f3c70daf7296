//! Endpoints that sleep, and releases whose traffic comes step by step, with
//! real replicas under load: no request is lost but those that a revision
//! itself fails.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use muonic_client::Client;
use muonic_types::Name;
use muonic_types::endpoint::{
    Canary, Endpoint, EndpointState, NewEndpoint, NewRevision, PerReplica, Release, ReplicaState, Scale, Shadow, Split,
};
use serde_json::json;
use support::{Server, model_file, ready, small, until, upload, write};

fn register(client: &Client, name: &Name, files: &[(&str, &[u8])]) -> u32 {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), files);
    let tree = upload(client, folder.path()).expect("uploaded");
    client.model_register(name, tree.digest).expect("registered").version
}

fn double() -> Vec<u8> {
    std::fs::read(model_file("double.onnx")).expect("the test model")
}

fn revision(name: &Name, version: u32) -> NewRevision {
    support::revision(format!("{name}@{version}").parse().expect("a version"), 1)
}

fn sleeper(name: &Name, idle_s: f64) -> NewRevision {
    let scale = Scale { min: 0, max: 1, per_replica: PerReplica::default(), idle_s: Some(idle_s) };
    NewRevision { replicas: None, scale: Some(scale), ..revision(name, 1) }
}

fn input(n: u32) -> serde_json::Value {
    json!({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [n, 1]}]})
}

fn asks(client: &Client, name: &Name, n: u32) {
    let answer = client.infer(name, &input(n)).unwrap_or_else(|e| panic!("a request failed: {e}"));
    assert_eq!(answer["outputs"][0]["data"], json!([f64::from(n) * 2.0, 2.0]));
}

fn asleep(client: &Client, name: &Name) {
    until("it sleeps", || {
        let endpoint = client.endpoint(name).ok()?;
        let live = endpoint.replicas.iter().any(|r| r.state.is_live());
        (endpoint.state == EndpointState::Sleeping && !live).then_some(())
    });
}

/// `MUONIC_WAKES` first requests to sleeping endpoints (CI: 40), while another
/// endpoint is under load, and the server dies now and then.
#[test]
fn the_first_request_to_a_sleeping_endpoint_is_held_and_answered() {
    let wakes: usize = std::env::var("MUONIC_WAKES").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    let mut server = Server::start();
    let client = server.client();
    let busy: Name = "busy".parse().expect("a name");
    register(&client, &busy, &[("model.onnx", &double())]);
    client.endpoint_create(&NewEndpoint { name: busy.clone(), revision: revision(&busy, 1) }).expect("deployed");
    ready(&client, "busy");
    let names: Vec<Name> = (0..4).map(|n| format!("asleep-{n}").parse().expect("a name")).collect();
    for name in &names {
        register(&client, name, &[("model.onnx", &double())]);
        client.endpoint_create(&NewEndpoint { name: name.clone(), revision: sleeper(name, 0.0) }).expect("deployed");
    }
    names.iter().for_each(|name| asleep(&client, name));

    let over = Arc::new(AtomicBool::new(false));
    let load = {
        let (over, client, busy) = (over.clone(), server.client(), busy.clone());
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                asks(&client, &busy, 3);
                std::thread::sleep(Duration::from_millis(2));
            }
        })
    };
    let sleepers: Vec<_> = names
        .iter()
        .map(|name| {
            let (client, name, rounds) = (server.client(), name.clone(), wakes / names.len());
            std::thread::spawn(move || {
                let mut took = Vec::new();
                for round in 0..rounds {
                    asleep(&client, &name);
                    let began = Instant::now();
                    asks(&client, &name, round as u32);
                    took.push(began.elapsed());
                }
                took
            })
        })
        .collect();
    let mut took: Vec<Duration> = sleepers.into_iter().flat_map(|s| s.join().expect("no request failed")).collect();
    over.store(true, Ordering::Relaxed);
    load.join().expect("no request failed");
    took.sort();
    let at = |q: f64| took[((took.len() - 1) as f64 * q) as usize];
    println!("{} wakes: median {:?}, p99 {:?}, longest {:?}", took.len(), at(0.5), at(0.99), at(1.0));

    // What sleeps needs nothing of the server to be there before.
    server.kill();
    server.up();
    asks(&server.client(), &names[0], 7);
}

#[test]
fn more_is_asked_more_replicas_come_and_they_go_again() {
    let server = Server::start();
    let client = server.client();
    let name: Name = "elastic".parse().expect("a name");
    let handler = b"import time\nclass Handler:\n    def __init__(self, path):\n        pass\n    def predict(self, inputs):\n        time.sleep(0.3)\n        return {\"y\": inputs[\"x\"]}\n";
    register(&client, &name, &[("handler.py", handler)]);
    let scale = Scale { min: 1, max: 3, per_replica: PerReplica::Concurrency(1.0), idle_s: None };
    let revision = NewRevision { replicas: None, scale: Some(scale), ..revision(&name, 1) };
    client.endpoint_create(&NewEndpoint { name: name.clone(), revision }).expect("deployed");
    ready(&client, "elastic");
    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..6)
        .map(|n| {
            let (over, client, name) = (over.clone(), server.client(), name.clone());
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    client.infer(&name, &input(n)).unwrap_or_else(|e| panic!("a request failed: {e}"));
                }
            })
        })
        .collect();
    let serving = |endpoint: &Endpoint| endpoint.replicas.iter().filter(|r| r.state == ReplicaState::Ready).count();
    until("three replicas serve", || client.endpoint(&name).ok().filter(|e| serving(e) == 3));
    over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.join().expect("no request failed");
    }
}

/// Callers who note which revision answered them and how.
struct Callers {
    over: Arc<AtomicBool>,
    /// Who has answered since it was last emptied.
    replicas: Arc<Mutex<BTreeSet<String>>>,
    threads: Vec<std::thread::JoinHandle<BTreeMap<(u32, u16), u64>>>,
}

impl Callers {
    fn start(server: &Server, name: &Name, many: u32) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let replicas = Arc::<Mutex<BTreeSet<String>>>::default();
        let local = server.local();
        let threads = (0..many)
            .map(|n| {
                let (over, local, name) = (over.clone(), local.clone(), name.clone());
                let replicas = replicas.clone();
                std::thread::spawn(move || {
                    let agent =
                        ureq::Agent::new_with_config(ureq::Agent::config_builder().http_status_as_error(false).build());
                    let url = format!("{}/endpoints/{name}/v2/models/{name}/infer", local.url);
                    let mut seen = BTreeMap::new();
                    while !over.load(Ordering::Relaxed) {
                        let request = agent.post(&url).header("authorization", &format!("Bearer {}", local.token));
                        let mut answer = request
                            .header("x-user", &n.to_string())
                            .content_type("application/json")
                            .send(input(n).to_string())
                            .expect("an answer");
                        let text = answer.body_mut().read_to_string().expect("a whole answer");
                        let header = |name| {
                            let value = answer.headers().get(name).unwrap_or_else(|| panic!("no {name} with: {text}"));
                            value.to_str().expect("text").to_owned()
                        };
                        replicas.lock().expect("a set").insert(header("x-muonic-replica"));
                        let revision = header("x-muonic-revision").parse().expect("a number");
                        *seen.entry((revision, answer.status().as_u16())).or_default() += 1;
                    }
                    seen
                })
            })
            .collect();
        Self { over, replicas, threads }
    }

    /// What each caller saw, by revision and status.
    fn stop(self) -> Vec<BTreeMap<(u32, u16), u64>> {
        self.over.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().expect("every request was answered")).collect()
    }
}

fn settled(client: &Client, name: &Name) -> Endpoint {
    until("the release is over", || client.endpoint(name).ok().filter(|e| e.target.is_none()))
}

#[test]
fn canaries_are_promoted_or_rolled_back_and_nobody_else_fails() {
    let server = Server::start();
    let client = server.client();
    let name: Name = "live".parse().expect("a name");
    register(&client, &name, &[("model.onnx", &double())]);
    register(&client, &name, &[("model.onnx", &double()), ("note", b"two")]);
    let sick = b"class Handler:\n    def __init__(self, path):\n        pass\n    def predict(self, inputs):\n        raise RuntimeError('sick')\n";
    register(&client, &name, &[("handler.py", sick)]);
    client.endpoint_create(&NewEndpoint { name: name.clone(), revision: revision(&name, 1) }).expect("deployed");
    ready(&client, "live");
    let callers = Callers::start(&server, &name, 4);

    let canary = Release::Canary(Canary { steps: vec![10.0, 50.0], step_s: 0.5, ..Canary::default() });
    let good = NewRevision { release: Some(canary.clone()), ..revision(&name, 2) };
    client.endpoint_release(&name, &good).expect("released");
    let promoted = settled(&client, &name);
    assert_eq!(promoted.active, Some(2), "{promoted:?}");

    let bad = NewRevision { release: Some(canary), ..revision(&name, 3) };
    client.endpoint_release(&name, &bad).expect("released");
    let back = settled(&client, &name);
    assert_eq!(back.active, Some(2));
    let reason = back.revisions[0].reason.clone().expect("a reason");
    assert!(reason.starts_with("rolled back: "), "{reason}");
    std::thread::sleep(Duration::from_millis(200));

    let mut all: BTreeMap<(u32, u16), u64> = BTreeMap::new();
    for seen in callers.stop() {
        seen.into_iter().for_each(|(what, n)| *all.entry(what).or_default() += n);
    }
    println!("by revision and status: {all:?}; {reason}");
    assert!(all[&(1, 200)] > 0 && all[&(2, 200)] > 0);
    assert!(all.keys().all(|what| *what == (1, 200) || *what == (2, 200) || *what == (3, 500)), "{all:?}");
}

#[test]
fn shares_stick_and_shadows_answer_nobody() {
    let server = Server::start();
    let client = server.client();
    let name: Name = "live".parse().expect("a name");
    register(&client, &name, &[("model.onnx", &double())]);
    register(&client, &name, &[("model.onnx", &double()), ("note", b"two")]);
    client.endpoint_create(&NewEndpoint { name: name.clone(), revision: revision(&name, 1) }).expect("deployed");
    ready(&client, "live");

    let shadow = NewRevision { release: Some(Release::Shadow(Shadow { percent: 100.0 })), ..revision(&name, 2) };
    client.endpoint_release(&name, &shadow).expect("released");
    let callers = Callers::start(&server, &name, 2);
    let progress = until("copies are compared", || {
        let progress = client.endpoint(&name).ok()?.progress?;
        (progress.compared?.answered >= 20).then_some(progress)
    });
    let compared = progress.compared.expect("a comparison");
    assert_eq!((compared.same, compared.different), (compared.answered, 0), "{compared:?}");
    let seen = callers.stop();
    assert!(seen.iter().all(|one| one.keys().all(|what| *what == (1, 200))), "{seen:?}");

    let share = Split { percent: 50.0, sticky_header: Some("x-user".into()) };
    let split = NewRevision { release: Some(Release::Split(share)), ..revision(&name, 2) };
    client.endpoint_release(&name, &split).expect("released");
    until("it gets its share", || client.endpoint(&name).ok()?.progress.filter(|p| p.percent == 50.0));
    std::thread::sleep(Duration::from_millis(100));
    let callers = Callers::start(&server, &name, 16);
    until("both have answered", || {
        let progress = client.endpoint(&name).ok()?.progress?;
        (progress.new.requests > 20 && progress.active.requests > 20).then_some(())
    });
    let seen = callers.stop();
    let of = |revision: u32| seen.iter().filter(|one| one.keys().all(|what| *what == (revision, 200))).count();
    assert_eq!(of(1) + of(3), seen.len(), "each goes one way: {seen:?}");
    assert!(of(1) > 0 && of(3) > 0, "{seen:?}");

    // Promoted, all go there; rolled back, at once none does.
    client.endpoint_promote(&name).expect("promoted");
    assert_eq!(settled(&client, &name).active, Some(3));
    assert_eq!(small(), client.endpoint(&name).expect("an endpoint").revisions[0].resources);
}

/// `MUONIC_KILLS` replicas (CI: 4) die by kill -9, one at a time, while callers
/// ask: what they had is asked of the other.
#[test]
fn a_replica_that_is_killed_loses_no_request() {
    let kills: usize = std::env::var("MUONIC_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let server = Server::start();
    let client = server.client();
    let name: Name = "live".parse().expect("a name");
    register(&client, &name, &[("model.onnx", &double())]);
    let two = NewRevision { replicas: Some(2), ..revision(&name, 1) };
    client.endpoint_create(&NewEndpoint { name: name.clone(), revision: two }).expect("deployed");
    let both = || {
        until("both replicas are ready", || {
            let endpoint = client.endpoint(&name).ok()?;
            let ready = endpoint.replicas.into_iter().filter(|r| r.state == ReplicaState::Ready);
            let ready: Vec<_> = ready.map(|r| r.id).collect();
            (ready.len() == 2).then_some(ready)
        })
    };
    both();
    let callers = Callers::start(&server, &name, 6);
    for _ in 0..kills {
        let victim = both().remove(0);
        callers.replicas.lock().expect("a set").clear();
        until("both answer", || (callers.replicas.lock().expect("a set").len() == 2).then_some(()));
        let folder = server.unit_folder(&format!("replica.{victim}"));
        let pid = folder.read_pid().expect("its pid");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("a signal");
        until("it is gone", || {
            let endpoint = client.endpoint(&name).ok()?;
            endpoint.replicas.iter().any(|r| r.id == victim && !r.state.is_live()).then_some(())
        });
    }
    let seen = callers.stop();
    let all: u64 = seen.iter().flat_map(BTreeMap::values).sum();
    println!("{all} answers over {kills} kills");
    assert!(seen.iter().all(|one| one.keys().all(|what| *what == (1, 200))), "{seen:?}");
}
