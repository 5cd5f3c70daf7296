//! The plug is pulled again and again while data, jobs and releases run.
//! Afterwards nothing acknowledged is lost, no job ran twice, no process and
//! no half-registered model is left, and the queue has gone on.
//!
//! `MUONIC_TEST_CRASHES` sets how often (200 without), `MUONIC_TEST_SEED`
//! repeats a run.

mod support;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use muonic_client::Client;
use muonic_types::endpoint::{EndpointState, NewEndpoint};
use muonic_types::job::{AttemptState, JobState};
use muonic_types::{Digest, JobId, Name, VersionRef, VersionSelector};
use support::{Dice, Server, insist, model_file, processes_below, shell, until, upload, write};

/// What was acknowledged.
#[derive(Default)]
struct Ledger {
    datasets: Vec<(Name, u32, Digest)>,
    models: Vec<(Name, u32, Digest)>,
    jobs: Vec<JobId>,
}

struct World {
    client: RwLock<Client>,
    ledger: Mutex<Ledger>,
    over: AtomicBool,
    folder: PathBuf,
}

impl World {
    fn client(&self) -> Client {
        self.client.read().expect("a client").clone()
    }

    fn go_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    fn note(&self, add: impl FnOnce(&mut Ledger)) {
        add(&mut self.ledger.lock().expect("the ledger"));
    }
}

fn pause(dice: &mut Dice, most_ms: u64) {
    std::thread::sleep(Duration::from_millis(dice.below(most_ms)));
}

fn put_data(world: &World, mut dice: Dice) {
    let folder = world.folder.join("data-in");
    for n in 0u64.. {
        if !world.go_on() {
            return;
        }
        let files = [
            ("a", dice.next().to_le_bytes().repeat(8)),
            ("b/c", dice.next().to_le_bytes().repeat(dice.below(2000) as usize)),
        ];
        for (name, bytes) in &files {
            write(&folder, &[(name, bytes)]);
        }
        let name: Name = format!("data-{}", n % 3).parse().expect("a name");
        let tree = insist("upload", || upload(&world.client(), &folder));
        let put = insist("dataset", || world.client().dataset_put(&name, tree.digest));
        world.note(|l| l.datasets.push((name, put.version.version, tree.digest)));
        pause(&mut dice, 60);
    }
}

fn submit_jobs(world: &World, mut dice: Dice) {
    let journal = world.folder.join("journal");
    for n in 0u64.. {
        if !world.go_on() {
            return;
        }
        let script = format!(
            "echo \"$MUONIC_JOB begin\" >> {j}; sleep 0.0{ms}; echo \"$MUONIC_JOB end\" >> {j}",
            j = journal.display(),
            ms = dice.below(10)
        );
        let mut new = shell("work", &script);
        new.request_token = Some(format!("crash-{n}"));
        let job = insist("submit", || world.client().job_create(&new));
        world.note(|l| l.jobs.push(job.id));
        pause(&mut dice, 150);
    }
}

fn release_models(world: &World, mut dice: Dice) {
    let folder = world.folder.join("model-in");
    let name: Name = "live".parse().expect("a name");
    let model = std::fs::read(model_file("double.onnx")).expect("the test model");
    let mut deployed = false;
    while world.go_on() {
        write(&folder, &[("model.onnx", &model), ("note", &dice.next().to_le_bytes())]);
        let tree = insist("upload", || upload(&world.client(), &folder));
        let version = insist("register", || world.client().model_register(&name, tree.digest));
        world.note(|l| l.models.push((name.clone(), version.version, tree.digest)));
        let model = VersionRef { name: name.clone(), version: VersionSelector::Number(version.version) };
        let revision = support::revision(model, 1);
        if !deployed {
            let new = NewEndpoint { name: name.clone(), revision };
            // A create that was acknowledged to nobody is a conflict the second time.
            until("deploy", || match world.client().endpoint_create(&new) {
                Ok(_) => Some(()),
                Err(e) if e.code() == Some(muonic_types::ErrorCode::Conflict) => Some(()),
                Err(e) if e.is_transient() => None,
                Err(e) => panic!("deploy: {e}"),
            });
            deployed = true;
        } else if dice.below(4) > 0 {
            insist("release", || world.client().endpoint_release(&name, &revision));
        } else {
            match world.client().endpoint_rollback(&name, None) {
                Ok(_) => {}
                Err(e) if e.is_transient() || e.code() == Some(muonic_types::ErrorCode::Conflict) => {}
                Err(e) => panic!("rollback: {e}"),
            }
        }
        pause(&mut dice, 700);
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_server_dies() {
    let crashes: u32 = std::env::var("MUONIC_TEST_CRASHES").ok().and_then(|s| s.parse().ok()).unwrap_or(200);
    let mut dice = Dice::new();
    let folder = tempfile::Builder::new().prefix("muonic-crash-").tempdir().expect("a folder");
    let mut server = Server::start();
    let world = Arc::new(World {
        client: RwLock::new(server.client()),
        ledger: Mutex::default(),
        over: AtomicBool::new(false),
        folder: folder.path().to_owned(),
    });
    let workers: [fn(&World, Dice); 3] = [put_data, submit_jobs, release_models];
    let workers = workers.map(|work| {
        let (world, dice) = (world.clone(), dice.split());
        std::thread::spawn(move || work(&world, dice))
    });
    for _ in 0..crashes {
        pause(&mut dice, 400);
        server.kill();
        server.up();
        *world.client.write().expect("a client") = server.client();
        if workers.iter().any(|w| w.is_finished()) {
            break;
        }
    }
    world.over.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.join().expect("a worker found nothing wrong");
    }
    let ledger = world.ledger.lock().expect("the ledger");
    println!(
        "{crashes} crashes: {} dataset versions, {} model versions, {} jobs",
        ledger.datasets.len(),
        ledger.models.len(),
        ledger.jobs.len()
    );
    assert!(!ledger.datasets.is_empty() && !ledger.models.is_empty() && !ledger.jobs.is_empty());
    check_data(&server.client(), &ledger, folder.path());
    check_jobs(&server.client(), &ledger, &folder.path().join("journal"));
    check_endpoint(&server);
}

fn check_data(client: &Client, ledger: &Ledger, folder: &Path) {
    for (name, number, digest) in &ledger.datasets {
        let wanted = VersionRef { name: name.clone(), version: VersionSelector::Number(*number) };
        let found = client.dataset_version(&wanted).unwrap_or_else(|e| panic!("{wanted}: {e}"));
        assert_eq!(found.tree.digest, *digest, "{wanted}");
    }
    for (name, number, digest) in &ledger.models {
        let wanted = VersionRef { name: name.clone(), version: VersionSelector::Number(*number) };
        assert_eq!(client.model_version(&wanted).unwrap_or_else(|e| panic!("{wanted}: {e}")).tree.digest, *digest);
    }
    // Every version there is, acknowledged or not, is whole.
    let mut trees: Vec<Digest> = Vec::new();
    for dataset in client.datasets().expect("datasets").datasets {
        trees.extend(client.dataset_versions(&dataset.name).expect("versions").versions.iter().map(|v| v.tree.digest));
    }
    for model in client.models().expect("models").models {
        trees.extend(client.model_versions(&model.name).expect("versions").versions.iter().map(|v| v.tree.digest));
    }
    for (n, digest) in trees.iter().enumerate() {
        // The client checks every byte against its digest.
        client.tree_download(digest, &folder.join(format!("out-{n}")), &()).unwrap_or_else(|e| panic!("{digest}: {e}"));
    }
}

fn check_jobs(client: &Client, ledger: &Ledger, journal: &Path) {
    for id in &ledger.jobs {
        let job = support::finished(client, id);
        assert_eq!(job.state, JobState::Succeeded, "{job:?}");
        assert!(job.attempts.iter().all(|a| a.state == AttemptState::Finished), "{job:?}");
    }
    let text = std::fs::read_to_string(journal).expect("the journal");
    let mut counts: HashMap<&str, u32> = HashMap::new();
    for line in text.lines() {
        *counts.entry(line).or_default() += 1;
    }
    for id in &ledger.jobs {
        for mark in ["begin", "end"] {
            let line = format!("{id} {mark}");
            assert_eq!(counts.get(line.as_str()), Some(&1), "'{line}' stands in the journal");
        }
    }
}

fn check_endpoint(server: &Server) {
    let client = server.client();
    let name: Name = "live".parse().expect("a name");
    until("the last release is through", || {
        let endpoint = client.endpoint(&name).ok()?;
        (endpoint.state == EndpointState::Ready && endpoint.target.is_none()).then_some(())
    });
    let input = serde_json::json!({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.5, 2.0]}]});
    let answer = insist("infer", || client.infer(&name, &input));
    assert_eq!(answer["outputs"][0]["data"], serde_json::json!([3.0, 4.0]), "{answer}");
    insist("delete", || client.endpoint_delete(&name));
    until("the endpoint is gone", || {
        client.endpoint(&name).err().filter(|e| e.code() == Some(muonic_types::ErrorCode::NotFound))
    });
    until("no process is left but the server", || (processes_below(&server.data) == [server.pid()]).then_some(()));
    let units = server.data.join("local/units");
    until("no unit is left", || {
        let left: Vec<_> =
            std::fs::read_dir(&units).expect("units").map(|e| e.expect("an entry").file_name()).collect();
        if !left.is_empty() {
            println!("left: {left:?}");
            std::thread::sleep(Duration::from_millis(500));
        }
        left.is_empty().then_some(())
    });
}
