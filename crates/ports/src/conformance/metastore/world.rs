//! What the cases are made of. Times count up from a fixed instant, so that
//! every run is the same.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::str::FromStr;
use std::sync::Arc;

use muonic_types::blob::TreeSummary;
use muonic_types::job::{Exit, Job, JobSpec};
use muonic_types::key::{Key, Role};
use muonic_types::model::{ModelVersionId, SourceDataset};
use muonic_types::task::ExitReport;
use muonic_types::{AttemptId, Cpu, Digest, JobId, KeyId, Memory, Price, ProjectId, ReplicaId, Resources, Timestamp};

use crate::blob_store::Blob;
use crate::metastore::{Admission, Finish, NewJobRecord, Next};
use crate::{Error, Metastore, Result};

/// Seconds after the fixed instant.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).expect("in range")
}

pub fn parse<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().unwrap_or_else(|e| panic!("'{text}' is not valid: {e:?}"))
}

pub fn project() -> ProjectId {
    ProjectId::default_project()
}

pub fn other_project() -> ProjectId {
    parse("other")
}

pub fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

/// A key id made from a text.
pub fn key_id(text: &str) -> KeyId {
    let bytes = *digest(text).as_bytes();
    KeyId::from_random(bytes[..12].try_into().expect("12 of 32 bytes"))
}

pub fn key(text: &str, role: Role) -> Key {
    Key {
        id: key_id(text),
        name: parse("k"),
        project: project(),
        role,
        created_at: at(0),
        expires_at: None,
        attempt: None,
        replica: None,
        limits: Default::default(),
    }
}

pub fn resources() -> Resources {
    Resources { cpu: Cpu::milli(1500), memory: Memory::mib(512), gpu: 1 }
}

/// One tenth of a US dollar per second, so that costs are easy to tell.
pub fn price() -> Price {
    Price { nano_usd_per_s: 100_000_000 }
}

/// Records a tree with its blob.
pub async fn tree(store: &Arc<dyn Metastore>, text: &str) -> Digest {
    let digest = digest(text);
    let size = text.len() as u64;
    store.blobs_insert(&[Blob { digest, size }], at(0)).await.expect("blobs_insert");
    store.tree_insert(&TreeSummary { digest, files: 1, bytes: size }, at(0)).await.expect("tree_insert");
    digest
}

pub fn new_job(name: &str) -> NewJobRecord {
    let spec = JobSpec {
        name: parse(name),
        command: vec!["true".into(), "ü \u{1f600} \"'".into()],
        code: Some(digest("code")),
        resources: resources(),
        inputs: BTreeMap::from([(parse("train"), parse("digits@1"))]),
        params: BTreeMap::from([("lr".into(), serde_json::json!(0.1))]),
        params_as_args: true,
        env: BTreeMap::from([("A".into(), "b".into())]),
        model: None,
        priority: -7,
        time_limit_s: Some(60),
        grace_s: 5,
        retries: 2,
        metrics: Vec::new(),
    };
    let input = SourceDataset { name: parse("digits"), version: 1, digest: digest("input") };
    let inputs = BTreeMap::from([(parse("train"), input)]);
    NewJobRecord { project: project(), spec, inputs, request_token: None, at: at(1) }
}

pub async fn job(store: &Arc<dyn Metastore>, name: &str) -> Job {
    store.job_submit(&new_job(name)).await.expect("job_submit")
}

pub fn admission(job: &JobId, number: u32) -> Admission {
    let attempt = AttemptId::new(job, number);
    let key = Key { attempt: Some(attempt.clone()), ..key(attempt.as_str(), Role::Task) };
    Admission { job: job.clone(), attempt, key, price: price() }
}

/// Admits the job's next attempt, `launched` seconds after the instant.
pub async fn admit(store: &Arc<dyn Metastore>, job: &JobId, number: u32, launched: i64) -> AttemptId {
    let admission = admission(job, number);
    let admitted = store.job_admit(std::slice::from_ref(&admission), at(launched)).await.expect("job_admit");
    assert_eq!(admitted, std::slice::from_ref(&admission.attempt), "a queued job's next attempt is admitted");
    admission.attempt
}

pub async fn admit_and_claim(store: &Arc<dyn Metastore>, job: &JobId, number: u32, launched: i64) -> AttemptId {
    let attempt = admit(store, job, number, launched).await;
    store.attempt_claim(&attempt, "shim", at(launched + 1)).await.expect("attempt_claim");
    attempt
}

pub fn report(exit: Exit) -> ExitReport {
    ExitReport {
        exit,
        message: Some("told".into()),
        command_started_at: None,
        command_ended_at: None,
        ended_at: None,
        environment: None,
        model: None,
        output: None,
    }
}

pub fn finish(attempt: &AttemptId, next: Next, seconds: i64) -> Finish {
    let code = if next == Next::Succeeded { 0 } else { 1 };
    Finish { attempt: attempt.clone(), report: report(Exit::Code { code }), next, at: at(seconds) }
}

pub fn model_version(name: &str, version: u32) -> ModelVersionId {
    ModelVersionId { name: parse(name), version }
}

pub fn replica_id(endpoint: &str, revision: u32, number: u32) -> ReplicaId {
    ReplicaId::new(&parse(endpoint), revision, number)
}

#[track_caller]
pub fn is_not_found<T: Debug>(result: Result<T>) -> String {
    match result {
        Err(Error::NotFound(what)) => what,
        other => panic!("expected NotFound, got {other:?}"),
    }
}

#[track_caller]
pub fn is_conflict<T: Debug>(result: Result<T>) -> String {
    match result {
        Err(Error::Conflict(what)) => what,
        other => panic!("expected Conflict, got {other:?}"),
    }
}

#[track_caller]
pub fn is_missing_blobs<T: Debug>(result: Result<T>) {
    match result {
        Err(Error::MissingBlobs(_)) => {}
        other => panic!("expected MissingBlobs, got {other:?}"),
    }
}
