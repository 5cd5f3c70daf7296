//! Files: who may read them, what is refused, what older programs wrote.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muonic_ports::metastore::{Blobs, Datasets, Endpoints, Former, JobFilter, Jobs, Keys, Models};
use muonic_ports::{Error, Metastore};
use muonic_types::endpoint::EndpointState;
use muonic_types::job::JobState;
use muonic_types::model::ModelSource;
use muonic_types::{Digest, Name, ProjectId, VersionSelector};
use sqlx::{ConnectOptions, Connection};

async fn sql(path: &Path, statement: &'static str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).busy_timeout(Duration::from_secs(1));
    let mut conn = options.connect().await.expect("connect");
    sqlx::query(statement).execute(&mut conn).await.expect("execute");
    conn.close().await.expect("close");
}

/// The files in a folder with their modes.
fn modes(folder: &Path) -> Vec<(String, u32)> {
    let mut modes: Vec<_> = std::fs::read_dir(folder)
        .expect("read_dir")
        .map(|e| e.expect("an entry"))
        .map(|e| {
            (e.file_name().into_string().expect("UTF-8"), e.metadata().expect("metadata").permissions().mode() & 0o777)
        })
        .collect();
    modes.sort();
    modes
}

#[tokio::test]
async fn only_the_owner_may_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("meta ü?%20.sqlite");
    let store = muonic_metastore::open(&path).await.expect("open");
    store.check().await.expect("check");
    assert_eq!(store.counts().await.expect("counts").jobs_queued, 0);
    let modes_open = modes(folder.path());
    assert!(modes_open.iter().all(|(_, mode)| *mode == 0o600), "{modes_open:?}");
    store.close().await;
    assert_eq!(modes(folder.path()), [("meta ü?%20.sqlite".to_owned(), 0o600)], "closing leaves one whole file");
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("meta.sqlite");
    muonic_metastore::open(&path).await.expect("open").close().await;
    sql(
        &path,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'from the future', TRUE, x'00', 0)",
    )
    .await;
    let Err(error) = muonic_metastore::open(&path).await else { panic!("it was opened") };
    let text = error.to_string();
    assert!(text.contains("written by a newer muonic (schema 9999; this program knows"), "{text}");
    assert!(text.contains("meta.sqlite"), "{text}");
}

#[tokio::test]
async fn what_is_not_a_store_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("meta.sqlite");
    std::fs::write(&path, "not a database, but long enough to be taken for one".repeat(100)).expect("write");
    let Err(error) = muonic_metastore::open(&path).await else { panic!("it was opened") };
    assert!(error.to_string().contains("meta.sqlite cannot be opened"), "{error}");
    let Err(error) = muonic_metastore::open(&folder.path().join("no/such/folder/meta.sqlite")).await else {
        panic!("it was opened")
    };
    assert!(error.to_string().contains("cannot be created"), "{error}");
    let Err(error) = muonic_metastore::open(folder.path()).await else { panic!("a folder was opened") };
    assert!(error.to_string().contains("cannot be opened"), "{error}");
}

#[tokio::test]
async fn another_program_that_holds_the_lock_is_waited_for_then_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("meta.sqlite");
    let store = muonic_metastore::open(&path).await.expect("open");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut other = options.connect().await.expect("connect");
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.expect("begin");
    assert!(matches!(store.check().await, Err(Error::Unavailable(_))));
    assert_eq!(store.counts().await.expect("reading goes on").jobs_queued, 0);
    sqlx::query("ROLLBACK").execute(&mut other).await.expect("rollback");
    store.check().await.expect("it goes on");
}

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples/v1.sqlite")
}

/// `samples/v1.sqlite` was written by the first program with schema 1 (see
/// `sample.rs`); every later one must read it.
#[tokio::test]
async fn version_1_is_still_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("meta.sqlite");
    std::fs::copy(sample(), &path).expect("copy");
    let store = muonic_metastore::open(&path).await.expect("open");
    let project = ProjectId::default_project();
    let name = |s: &str| -> Name { s.parse().expect("a name") };

    let digits = store.dataset_get(&project, &name("digits"), &VersionSelector::Latest).await.expect("dataset_get");
    assert_eq!((digits.version, digits.tree.files, digits.tree.bytes), (2, 2, 20));
    let job = store.job_get(&project, &"train-1".parse().expect("an id")).await.expect("job_get");
    assert_eq!((job.state, job.attempts.len(), job.metrics["accuracy"]), (JobState::Succeeded, 2, 0.975));
    assert_eq!(job.spec.command, ["python", "train.py"]);
    let points = store.metrics_get(&project, &job.id, None, 10).await.expect("metrics_get");
    assert_eq!(points.len(), 2);
    let made = job.model_version.expect("a model version");
    let version = VersionSelector::Alias(name("champion"));
    let version = store.model_version(&project, &name("digits"), &version).await.expect("model_version");
    assert_eq!((version.version, &version.name), (made.version, &made.name));
    let ModelSource::Attempt { attempt, inputs, .. } = version.source else { panic!("lineage is lost") };
    assert_eq!((attempt.as_str(), inputs[&name("train")].version), ("train-1.2", 2));

    let live = store.jobs_live().await.expect("jobs_live");
    assert_eq!(live.iter().map(|j| j.id.as_str()).collect::<Vec<_>>(), ["train-2", "wait-1"]);
    assert!(live[0].attempt_claimed && live[0].attempt_key.is_some());
    let filter = JobFilter { name: Some(name("train")), state: None, limit: 9 };
    assert_eq!(store.job_list(&project, &filter).await.expect("job_list").len(), 2);

    let endpoint = store.endpoint_get(&project, &name("digits")).await.expect("endpoint_get");
    assert_eq!((endpoint.state, endpoint.active, endpoint.revisions.len()), (EndpointState::Ready, Some(1), 2));
    assert_eq!(endpoint.replicas.len(), 2);
    assert_eq!(store.usage(&project).await.expect("usage").len(), 5);
    let buckets = store.former_buckets().await.expect("former_buckets");
    let [bucket] = &buckets[..] else { panic!("{buckets:?}") };
    assert_eq!((bucket.name.as_str(), &bucket.project), ("bucket", &project));
    let objects = store.former_objects(bucket, None, 9).await.expect("former_objects");
    let [object] = &objects[..] else { panic!("{objects:?}") };
    assert_eq!((object.key.as_str(), object.digest), ("folder/ü", Digest::of(b"file one")));
    assert_eq!(object.headers["content-type"], "text/plain");
    assert_eq!(store.blobs_missing(&[object.digest]).await.expect("blobs_missing"), []);
    assert_eq!(store.former_objects(bucket, Some("folder/ü"), 9).await.expect("former_objects"), []);
    let keys = store.key_list().await.expect("key_list");
    assert_eq!(keys.len(), 3, "one of an administrator, one of a task, one of a replica");

    // And written.
    store.job_cancel(&project, &live[1].id, job.created_at).await.expect("job_cancel");
    store.former_bucket_forget(bucket).await.expect("former_bucket_forget");
    assert_eq!(store.former_buckets().await.expect("former_buckets"), []);
    store.check().await.expect("check");
    store.close().await;
}
