//! What the operator asks for, against a store on a disk.

use std::path::Path;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use muonic_ports::object_store::*;
use muonic_ports::{BlobStore, ObjectStore, StoreAdmin};
use muonic_types::store::Run;
use muonic_types::{Digest, ProjectId, Timestamp};

use super::super::EmbeddedStore;
use crate::keys::{KeyProvider, LocalKeys};

const BUCKET: &str = "kept";
/// In the index, in a segment, in a file of its own.
const SIZES: [usize; 3] = [100, 10_000, 300_000];

async fn open(root: &Path) -> EmbeddedStore {
    let options = crate::Options { encrypt: true, sync: false };
    crate::open(&root.join("store"), &root.join("keys"), &options).await.expect("open").0
}

fn keys(root: &Path) -> LocalKeys {
    LocalKeys::open(&root.join("keys"), false).expect("keys")
}

fn versions(root: &Path, name: Option<&str>) -> Vec<u32> {
    let all = keys(root).list().expect("listed");
    let key = all.into_iter().find(|key| key.name.as_deref() == name).expect("there");
    key.versions.into_iter().map(|version| version.version).collect()
}

fn bytes(size: usize) -> Bytes {
    (0..size).map(|at| (at % 251) as u8).collect::<Vec<_>>().into()
}

fn target(key: &str) -> Target {
    Target {
        bucket: BUCKET.to_owned(),
        key: key.to_owned(),
        condition: Precondition::default(),
        at: Timestamp::UNIX_EPOCH,
    }
}

async fn put(store: &EmbeddedStore, key: &str, size: usize, encryption: NewEncryption) {
    let body: ByteStream = stream::iter([Ok(bytes(size))]).boxed();
    let new = NewObject { encryption, ..NewObject::default() };
    ObjectStore::put(store, target(key), new, body, no_check()).await.expect("put");
}

async fn fill(store: &EmbeddedStore) {
    let new = NewBucket {
        name: BUCKET.to_owned(),
        project: ProjectId::default_project(),
        at: Timestamp::UNIX_EPOCH,
        lock: false,
        documents: Default::default(),
    };
    store.bucket_create(new).await.expect("a bucket");
    for size in SIZES {
        put(store, &format!("store-{size}"), size, NewEncryption::Store).await;
        put(store, &format!("named-{size}"), size, NewEncryption::Named(None)).await;
    }
    store.put_batch(vec![(Digest::of(b"blob"), Bytes::from_static(b"blob"))]).await.expect("a blob");
}

async fn whole(store: &EmbeddedStore, key: &str) -> Vec<u8> {
    let object = ObjectStore::get(store, BUCKET, key, None).await.expect("asked").expect("there");
    let pieces: Vec<Bytes> = store.read(&object, None, None).await.expect("read").try_collect().await.expect("all");
    pieces.concat()
}

async fn all_is_there(store: &EmbeddedStore) {
    for size in SIZES {
        for kind in ["store", "named"] {
            assert_eq!(whole(store, &format!("{kind}-{size}")).await, bytes(size), "{kind} {size}");
        }
    }
    assert!(BlobStore::get(store, &Digest::of(b"blob"), None).await.is_ok());
}

async fn ended(mut report: impl FnMut() -> Run) -> Run {
    loop {
        let run = report();
        if !run.running {
            return run;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_key_opens_everything_and_the_old_version_goes() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path()).await;
    fill(&store).await;
    for (name, wrapped) in [(None, 4), (Some("default"), 3)] {
        store.rotation_start(name).await.expect("begun");
        assert!(ended(|| store.rotation_report().run).await.finished_at.is_some(), "{:?}", store.rotation_report());
        let report = store.rotation_report();
        assert_eq!((report.version, report.rewrapped, report.retired), (2, wrapped, vec![1]));
        assert_eq!(versions(root.path(), name), [2]);
        all_is_there(&store).await;
    }
    drop(store);
    all_is_there(&open(root.path()).await).await;
    let missing = open(root.path()).await.rotation_start(Some("nobody")).await;
    assert!(matches!(missing, Err(muonic_ports::Error::NotFound(_))), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_was_cut_off_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path()).await;
    fill(&store).await;
    // The process ended after the first seals.
    store.inner.keys.rotate(None).unwrap();
    let page = store.index().all_extents(0, 2).await.unwrap();
    for located in page {
        let old = located.extent.seal.expect("sealed");
        if let Some(new) = store.data().rewrap(located.extent.id, &old).await.unwrap() {
            assert_eq!(store.index().set_seals(vec![(located.row, old, new)]).await.unwrap(), [true]);
        }
    }
    drop(store);

    let store = open(root.path()).await;
    assert_eq!(versions(root.path(), None), [1, 2]);
    all_is_there(&store).await;
    store.end_rotations().await.unwrap();
    assert_eq!(versions(root.path(), None), [2]);
    assert_eq!(store.rotation_report().retired, [1]);
    drop(store);
    all_is_there(&open(root.path()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_a_write_under_way_uses_is_kept_until_it_is_named() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path()).await;
    fill(&store).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let body: ByteStream = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece: Bytes| (Ok(piece), receiver))
    })
    .boxed();
    let writing = tokio::spawn({
        let store = store.clone();
        async move { ObjectStore::put(&store, target("slow"), NewObject::default(), body, no_check()).await }
    });
    // Taken from the channel, so its data key is wrapped.
    for _ in 0..3 {
        sender.send(bytes(100_000)).await.unwrap();
    }
    store.rotation_start(None).await.expect("begun");
    assert!(matches!(store.rotation_start(None).await, Err(muonic_ports::Error::Conflict(_))));
    put(&store, "meanwhile", 10, NewEncryption::Store).await;
    assert_eq!(versions(root.path(), None), [1, 2], "the old one waits");
    drop(sender);
    writing.await.unwrap().expect("put");
    assert!(ended(|| store.rotation_report().run).await.finished_at.is_some());
    assert_eq!(versions(root.path(), None), [2]);
    drop(store);
    let store = open(root.path()).await;
    assert_eq!(whole(&store, "slow").await, bytes(100_000).repeat(3));
    assert_eq!(whole(&store, "meanwhile").await, bytes(10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_wrapped_anew_keeps_its_version() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path()).await;
    fill(&store).await;
    let located = store.index().all_extents(0, 1).await.unwrap().remove(0);
    let old = located.extent.seal.expect("sealed");
    let mut damaged = old.clone();
    damaged.wrapped[20] ^= 1;
    store.index().set_seals(vec![(located.row, old, damaged)]).await.unwrap();
    store.rotation_start(None).await.expect("begun");
    let run = ended(|| store.rotation_report().run).await;
    assert!(run.finished_at.is_none() && run.error.is_some_and(|error| error.contains("does not open")));
    assert_eq!(versions(root.path(), None), [1, 2]);
    assert_eq!(whole(&store, "store-300000").await, bytes(300_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_finds_what_is_missing_and_the_scrub_what_is_damaged() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path()).await;
    fill(&store).await;
    store.check_start().await.expect("begun");
    ended(|| store.check_report().run).await;
    assert_eq!((store.check_report().problems, store.check_report().extents), (Vec::new(), 7));
    store.scrub_start(0).await.expect("begun");
    ended(|| store.scrub_report().run).await;
    assert_eq!((store.scrub_report().damaged, store.scrub_report().extents), (Vec::new(), 7));

    let files = std::fs::read_dir(root.path().join("store/files")).unwrap().flatten();
    let files: Vec<_> = files.flat_map(|folder| std::fs::read_dir(folder.path()).unwrap().flatten()).collect();
    std::fs::remove_file(files[0].path()).unwrap();
    std::fs::OpenOptions::new().write(true).open(files[1].path()).unwrap().set_len(10).unwrap();
    store.check_start().await.expect("begun");
    assert!(ended(|| store.check_report().run).await.error.is_none());
    let problems = store.check_report().problems;
    assert_eq!(problems.len(), 2, "{problems:?}");
    for word in ["is missing: kept/", "has 10 bytes", "-300000 (version "] {
        assert!(problems.iter().any(|problem| problem.contains(word)), "{word}: {problems:?}");
    }
    store.scrub_start(0).await.expect("begun");
    ended(|| store.scrub_report().run).await;
    assert_eq!(store.scrub_report().damaged.len(), 2);

    store.reclaim_start().await.expect("begun");
    assert!(ended(|| store.reclaim_report().run).await.finished_at.is_some());
    assert_eq!(store.stats().await.unwrap().objects, 6);
}
