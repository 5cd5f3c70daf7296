//! Writes a sample of the newest schema, with a record of every kind. Before a
//! new migration is added, one is checked in:
//!
//! `MUONIC_SAMPLE=<new file> cargo test -p muonic-metastore --test sample`

use muonic_ports::Metastore;
use muonic_ports::blob_store::Blob;
use muonic_ports::metastore::{
    Admission, Blobs, Datasets, Endpoints, Finish, Jobs, Keys, Models, NewJobRecord, NewRevisionRecord, Next,
    ReplicaRecord,
};
use muonic_types::blob::TreeSummary;
use muonic_types::endpoint::ReplicaState;
use muonic_types::job::{Exit, MetricPoint, Phase};
use muonic_types::key::{Key, Role};
use muonic_types::model::SourceDataset;
use muonic_types::task::ExitReport;
use muonic_types::{AttemptId, Cpu, Digest, JobId, KeyId, Memory, Price, ProjectId, ReplicaId, Resources, Timestamp};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).expect("in range")
}

fn project() -> ProjectId {
    ProjectId::default_project()
}

fn key(text: &str, role: Role) -> Key {
    let bytes = *Digest::of(text.as_bytes()).as_bytes();
    Key {
        id: KeyId::from_random(bytes[..12].try_into().expect("12 of 32 bytes")),
        name: "sample".parse().expect("a name"),
        project: project(),
        role,
        created_at: at(0),
        expires_at: None,
        attempt: None,
        replica: None,
        limits: Default::default(),
    }
}

fn job(name: &str, dataset: Option<Digest>) -> NewJobRecord {
    let spec = serde_json::json!({
        "name": name, "command": ["python", "train.py"], "model": "digits", "retries": 1,
        "params": {"lr": 0.1}, "time_limit_s": 600, "metrics": [{"name": "loss", "regex": "loss ([0-9.]+)"}],
    });
    let dataset = dataset.map(|digest| {
        let source = SourceDataset { name: "digits".parse().expect("a name"), version: 2, digest };
        ("train".parse().expect("a name"), source)
    });
    NewJobRecord {
        project: project(),
        spec: serde_json::from_value(spec).expect("a spec"),
        inputs: dataset.into_iter().collect(),
        request_token: Some(format!("token of {name}")),
        at: at(10),
    }
}

fn admission(job: &JobId, number: u32) -> Admission {
    let attempt = AttemptId::new(job, number);
    let key = Key { attempt: Some(attempt.clone()), ..key(attempt.as_str(), Role::Task) };
    Admission { job: job.clone(), attempt, key, price: Price { nano_usd_per_s: 12_345 } }
}

fn finish(attempt: &AttemptId, exit: Exit, model: Option<Digest>, next: Next, seconds: i64) -> Finish {
    let report = ExitReport {
        exit,
        message: Some("it ended".into()),
        command_started_at: Some(at(seconds - 5)),
        command_ended_at: Some(at(seconds - 1)),
        ended_at: None,
        environment: Some(Digest::of(b"environment")),
        model,
        output: None,
    };
    Finish { attempt: attempt.clone(), report, next, at: at(seconds) }
}

async fn jobs(store: &muonic_metastore::Sqlite, tree: Digest) {
    let train = store.job_submit(&job("train", Some(tree))).await.expect("job_submit").id;
    let first = admission(&train, 1);
    store.job_admit(std::slice::from_ref(&first), at(11)).await.expect("job_admit");
    let retry = Next::Retry { reason: "signal 9".into(), not_before: at(21) };
    store.attempt_finish(&finish(&first.attempt, Exit::Signal { signal: 9 }, None, retry, 20)).await.expect("finish");
    let second = admission(&train, 2);
    store.job_admit(std::slice::from_ref(&second), at(21)).await.expect("job_admit");
    store.attempt_claim(&second.attempt, "shim", at(22)).await.expect("attempt_claim");
    let point = |step: i64, value| MetricPoint { name: "accuracy".into(), step, value, at: at(22 + step) };
    store.metrics_append(&second.attempt, 0, &[point(1, 0.9), point(2, 0.975)]).await.expect("metrics_append");
    let end = finish(&second.attempt, Exit::Code { code: 0 }, Some(tree), Next::Succeeded, 40);
    store.attempt_finish(&end).await.expect("finish");

    let mut again = job("train", None);
    again.request_token = None;
    let running = store.job_submit(&again).await.expect("job_submit").id;
    let third = admission(&running, 1);
    store.job_admit(std::slice::from_ref(&third), at(50)).await.expect("job_admit");
    store.attempt_claim(&third.attempt, "shim", at(51)).await.expect("attempt_claim");
    store.attempt_progress(&third.attempt, Phase::Environment, None).await.expect("attempt_progress");
    store.job_submit(&job("wait", None)).await.expect("job_submit");
}

fn replica(number: u32, tree: Digest) -> ReplicaRecord {
    let name: muonic_types::Name = "digits".parse().expect("a name");
    let id = ReplicaId::new(&name, 1, number);
    ReplicaRecord {
        key: Key { replica: Some(id.clone()), ..key(id.as_str(), Role::Replica) },
        id,
        endpoint: name,
        project: project(),
        revision: 1,
        model: muonic_types::model::ModelVersionId { name: "digits".parse().expect("a name"), version: 1 },
        tree,
        state: ReplicaState::Launching,
        reason: None,
        address: None,
        resources: resources(),
        price: Price { nano_usd_per_s: 54_321 },
        launched_at: at(60),
        ready_at: None,
        ended_at: None,
    }
}

fn resources() -> Resources {
    Resources { cpu: Cpu::milli(500), memory: Memory::mib(256), gpu: 0 }
}

async fn endpoint(store: &muonic_metastore::Sqlite, tree: Digest) {
    let name: muonic_types::Name = "digits".parse().expect("a name");
    let record = |version| NewRevisionRecord {
        model: muonic_types::model::ModelVersionId { name: name.clone(), version },
        tree,
        replicas: 1,
        scale: None,
        resources: resources(),
        release: muonic_types::endpoint::Release::AllAtOnce,
    };
    store.endpoint_create(&project(), &name, &record(1), at(60)).await.expect("endpoint_create");
    let (one, two) = (replica(1, tree), replica(2, tree));
    store.replica_insert(&one).await.expect("replica_insert");
    store.replica_end(&one.id, ReplicaState::Failed, Some("it did not load"), at(61)).await.expect("replica_end");
    store.replica_insert(&two).await.expect("replica_insert");
    store.replica_ready(&two.id, "unix:/tmp/replica", at(62)).await.expect("replica_ready");
    store.revision_activate(&name, 1, at(63)).await.expect("revision_activate");
    store.endpoint_release(&project(), &name, &record(1), at(64)).await.expect("endpoint_release");
    store.revision_failed(&name, 2, "it did not load", at(65)).await.expect("revision_failed");
}

#[tokio::test]
async fn a_sample_is_written_and_read_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = std::env::var_os("MUONIC_SAMPLE").map_or_else(|| folder.path().join("sample.db"), Into::into);
    let path = path.as_path();
    assert!(!path.exists(), "{} exists: samples are never changed", path.display());
    let store = muonic_metastore::open(path).await.expect("open");
    store.key_insert(&key("administrator", Role::Admin)).await.expect("key_insert");
    let mut trees = Vec::new();
    for text in ["tree one", "tree two"] {
        let digest = Digest::of(text.as_bytes());
        let blobs = [text, "file one", "file two"].map(|t| Blob { digest: Digest::of(t.as_bytes()), size: 10 });
        store.blobs_insert(&blobs, at(1)).await.expect("blobs_insert");
        store.tree_insert(&TreeSummary { digest, files: 2, bytes: 20 }, at(1)).await.expect("tree_insert");
        store.dataset_put(&project(), &"digits".parse().expect("a name"), &digest, at(2)).await.expect("dataset_put");
        trees.push(digest);
    }
    jobs(&store, trees[1]).await;
    let (model, alias) = ("digits".parse().expect("a name"), "champion".parse().expect("a name"));
    store.alias_set(&project(), &model, &alias, 1).await.expect("alias_set");
    endpoint(&store, trees[0]).await;
    store.close().await;

    let again = muonic_metastore::open(path).await.expect("open again");
    again.check().await.expect("check");
    again.close().await;
}
