//! Mounting, unmounting, and where calls go.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{Embedded, at, body, new_bucket, pairs, target, whole};
use muonic_mounts::{DOCUMENT, Mounts};
use muonic_ports::conformance::object_store::{BUCKET, Keys, suite_with};
use muonic_ports::object_store::*;
use muonic_ports::store_admin::MountError;
use muonic_ports::{Mounting, ObjectStore};
use muonic_types::ProjectId;

struct World {
    embedded: Embedded,
    mounts: Arc<Mounts>,
    folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let (embedded, folder) = (Embedded::new().await, tempfile::tempdir().expect("a folder"));
        let mounts = embedded.mounts(1, &[folder.path()]);
        Self { embedded, mounts, folder }
    }

    fn url(&self) -> String {
        format!("file://{}", self.folder.path().display())
    }

    async fn mount(&self, bucket: &str) -> Result<Bucket, MountError> {
        self.mounts.mount(new_bucket(bucket), &self.url(), &BTreeMap::new()).await
    }

    async fn put(&self, bucket: &str, key: &str, bytes: &[u8]) -> ObjectVersion {
        self.mounts.put(target(bucket, key), NewObject::default(), body(bytes), no_check()).await.expect("put")
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.folder.path()).expect("read").count()
    }
}

#[tokio::test]
async fn a_mounted_bucket_is_a_bucket() {
    let world = World::new().await;
    world.mount(BUCKET).await.expect("mounted");
    suite_with(world.mounts.clone(), Keys::Files, false).await;
    world.mounts.unmount(BUCKET).await.expect("unmounted");
    // And so is one that is not mounted.
    world.mounts.bucket_create(new_bucket(BUCKET)).await.expect("created");
    assert!(world.mounts.abilities(BUCKET).versions);
}

#[tokio::test]
async fn calls_go_where_the_bucket_lies() {
    let world = World::new().await;
    world.mounts.bucket_create(new_bucket("own")).await.expect("created");
    world.mount("outer").await.expect("mounted");
    world.put("own", "a", b"in").await;
    assert_eq!(world.files(), 0);
    world.put("outer", "b", b"out").await;
    assert_eq!(std::fs::read(world.folder.path().join("b")).expect("a file"), b"out");
    let names: Vec<String> = world
        .mounts
        .buckets(Some(&ProjectId::default_project()))
        .await
        .expect("asked")
        .into_iter()
        .map(|b| b.name)
        .collect();
    assert_eq!(names, ["outer", "own"]);
    assert!(world.mounts.get("own", "b", None).await.expect("asked").is_none());
    world.mounts.bucket("outer").await.expect("asked");
    assert!(!world.mounts.abilities("outer").versions && world.mounts.abilities("own").versions);

    // Copies go through, both ways.
    for size in [2, 3_000_000] {
        let inner = world.put("own", "a", &vec![b'i'; size]).await;
        world.mounts.copy(&inner, None, target("outer", "c"), NewObject::default()).await.expect("copied");
        let copied = world.mounts.get("outer", "c", None).await.expect("asked").expect("there");
        world.mounts.copy(&copied, None, target("own", "d"), NewObject::default()).await.expect("copied");
        let back = world.mounts.get("own", "d", None).await.expect("asked").expect("there");
        assert!(whole(&*world.mounts, &back).await == vec![b'i'; size]);
    }

    // Documents are those of any bucket; versions are not.
    let policy = BucketChange::Document("policy".to_owned(), Some("{}".to_owned()));
    assert_eq!(world.mounts.bucket_change("outer", policy).await.expect("changed").documents["policy"], "{}");
    for change in [BucketChange::Versioning(Versioning::On), BucketChange::Lock] {
        assert!(matches!(world.mounts.bucket_change("outer", change).await, Err(Error::NotSupported(_))));
    }
    assert!(matches!(world.mounts.bucket_delete("outer").await, Err(Error::NotSupported(_))));
}

#[tokio::test]
async fn unmounting_touches_nothing() {
    let world = World::new().await;
    world.mount("data").await.expect("mounted");
    world.put("data", "kept", b"x").await;
    world.mounts.unmount("data").await.expect("unmounted");
    assert!(world.mounts.bucket("data").await.expect("asked").is_none());
    assert!(matches!(world.mounts.get("data", "kept", None).await, Err(Error::NoSuchBucket)));
    assert!(matches!(world.mounts.unmount("data").await, Err(Error::NoSuchBucket)));
    assert_eq!(std::fs::read(world.folder.path().join("kept")).expect("there"), b"x");
    // A bucket of the same name is another one.
    world.mounts.bucket_create(new_bucket("data")).await.expect("created");
    assert!(world.mounts.get("data", "kept", None).await.expect("asked").is_none());
    assert!(matches!(world.mounts.unmount("data").await, Err(Error::BucketState(_))));
    world.mounts.bucket_delete("data").await.expect("deleted");
    world.mount("data").await.expect("mounted again");
    assert!(world.mounts.get("data", "kept", None).await.expect("asked").is_some());
}

#[tokio::test]
async fn only_what_can_be_used_is_recorded() {
    let world = World::new().await;
    let elsewhere = tempfile::tempdir().expect("a folder");
    let missing = format!("{}/missing", world.url());
    for (url, says) in [
        (format!("file://{}", elsewhere.path().display()), "not in a folder that this server lets be mounted"),
        (format!("{}/..", world.url()), "not in a folder"),
        (missing, "not in a folder"),
        ("hdfs://nn:1/x".to_owned(), if cfg!(feature = "hdfs") { "" } else { "not implemented: hdfs" }),
    ] {
        let refused = world.mounts.mount(new_bucket("data"), &url, &BTreeMap::new()).await;
        let said = refused.expect_err("refused").to_string();
        assert!(said.contains(says), "{url}: {said}");
    }
    let nobody = pairs(&[
        ("access_key_id", "a"),
        ("secret_access_key", "hush-hush"),
        ("endpoint", "http://127.0.0.1:1"),
        ("allow_http", "true"),
    ]);
    let refused = world.mounts.mount(new_bucket("data"), "s3://data", &nobody).await;
    assert!(
        matches!(&refused, Err(MountError::Store(Error::Store(muonic_ports::Error::Unavailable(_))))),
        "{refused:?}"
    );
    assert!(world.embedded.store.bucket("data").await.expect("asked").is_none());

    world.mount("data").await.expect("mounted");
    assert!(matches!(world.mount("data").await, Err(MountError::Store(Error::BucketExists))));
    // By no other way than mounting.
    let document =
        world.embedded.store.bucket("data").await.expect("asked").expect("there").documents[DOCUMENT].clone();
    let mut forged = new_bucket("forged");
    forged.documents.insert(DOCUMENT.to_owned(), document.clone());
    assert!(matches!(world.mounts.bucket_create(forged).await, Err(Error::BucketState(_))));
    for text in [None, Some(document)] {
        let change = BucketChange::Document(DOCUMENT.to_owned(), text);
        assert!(matches!(world.mounts.bucket_change("data", change).await, Err(Error::BucketState(_))));
    }
}

#[tokio::test]
async fn mounts_outlive_the_server() {
    let world = World::new().await;
    world.mount("data").await.expect("mounted");
    world.put("data", "a", b"x").await;
    let again = world.embedded.mounts(1, &[world.folder.path()]);
    assert!(again.get("data", "a", None).await.expect("asked").is_some());

    // With another master key, or where folders are no longer allowed, the
    // bucket is there and cannot be used.
    for other in [world.embedded.mounts(2, &[world.folder.path()]), world.embedded.mounts(1, &[])] {
        assert!(other.bucket("data").await.expect("asked").is_some());
        let refused = other.get("data", "a", None).await;
        let Err(Error::Store(muonic_ports::Error::Unavailable(said))) = refused else { panic!("{refused:?}") };
        assert!(said.contains("'data' cannot be used"), "{said}");
        let refused = other.delete("data", Vec::new(), at(1)).await;
        assert!(refused.is_err(), "nothing reaches the embedded bucket in its place");
    }
}
