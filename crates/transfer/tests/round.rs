//! Out of a store and back into another one.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use muonic_ports::ObjectStore;
use muonic_ports::object_store::*;
use muonic_store::{EmbeddedStore, Options};
use muonic_transfer::{Report, export, import};
use muonic_types::{ProjectId, Timestamp};

const BUCKET: &str = "data";
/// Plain, hidden, and of all kinds that can be no path.
const KEYS: [&str; 13] =
    ["a", "a-b", "a/b", "a/b/c", "plain", "ü/ö", ".hidden", "/abs", "up/../up", "..", "x/", "y//z", "manifest.jsonl"];

async fn store(root: &Path) -> EmbeddedStore {
    let options = Options { encrypt: true, sync: false };
    let store = muonic_store::open(&root.join("store"), &root.join("keys"), &options).await.expect("open").0;
    let new = NewBucket {
        name: BUCKET.to_owned(),
        project: ProjectId::default_project(),
        at: Timestamp::UNIX_EPOCH,
        lock: false,
        documents: Default::default(),
    };
    match store.bucket_create(new).await {
        Ok(_) | Err(Error::BucketExists) => store,
        Err(e) => panic!("{e}"),
    }
}

async fn put(store: &EmbeddedStore, key: &str, bytes: Vec<u8>, new: NewObject) -> ObjectVersion {
    let body: ByteStream = stream::iter([Ok(Bytes::from(bytes))]).boxed();
    let (condition, at) = (Precondition::default(), Timestamp::UNIX_EPOCH);
    let target = Target { bucket: BUCKET.to_owned(), key: key.to_owned(), condition, at };
    ObjectStore::put(store, target, new, body, no_check()).await.expect("put")
}

async fn get(store: &EmbeddedStore, key: &str) -> ObjectVersion {
    ObjectStore::get(store, BUCKET, key, None).await.expect("asked").unwrap_or_else(|| panic!("there is no {key}"))
}

async fn whole(store: &EmbeddedStore, key: &str) -> Vec<u8> {
    let object = get(store, key).await;
    let pieces: Vec<Bytes> = store.read(&object, None, None).await.expect("read").try_collect().await.expect("all");
    pieces.concat()
}

fn content(key: &str) -> Vec<u8> {
    key.repeat(key.len() * 3000).into_bytes()
}

fn described() -> NewObject {
    NewObject {
        headers: [("content-type".to_owned(), "text/x-test".to_owned())].into(),
        tags: [("team".to_owned(), "vision".to_owned())].into(),
        encryption: NewEncryption::Named(None),
        ..NewObject::default()
    }
}

async fn out(store: &EmbeddedStore, folder: &Path) -> Report {
    export(store, BUCKET, folder, &mut |_| {}).await.expect("exported")
}

async fn back(store: &EmbeddedStore, folder: &Path) -> Report {
    import(store, BUCKET, "default", folder, &mut |_| {}).await.expect("imported")
}

fn lines(folder: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(folder.join("manifest.jsonl")).expect("a manifest");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_comes_back() {
    let (from, to, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = store(from.path()).await;
    for key in KEYS {
        put(&source, key, content(key), described()).await;
    }
    put(&source, "empty", Vec::new(), NewObject::default()).await;
    let report = out(&source, folder.path()).await;
    assert_eq!((report.objects, report.unchanged, report.left_out), (14, 0, 0), "{report:?}");
    for key in ["a-b", "a/b/c", "plain", "ü/ö", ".hidden", "manifest.jsonl"] {
        assert_eq!(fs::read(folder.path().join("objects").join(key)).unwrap(), content(key), "{key}");
    }
    // What is file and folder at once is a folder, and its file lies elsewhere.
    assert!(folder.path().join("objects/a/b").is_dir());
    assert_eq!(fs::read_dir(folder.path().join("escaped")).unwrap().count(), 7);
    let all = lines(folder.path());
    assert_eq!((all.len(), &all[0]["bucket"]), (15, &"data".into()));
    let plain = all.iter().find(|line| line["key"] == "plain").unwrap();
    assert_eq!((&plain["etag"], &plain["headers"]["content-type"]), (&plain["md5"], &"text/x-test".into()));

    let target = store(to.path()).await;
    let report = back(&target, folder.path()).await;
    assert_eq!((report.objects, report.left_out), (14, 0), "{report:?}");
    for key in KEYS {
        assert_eq!(whole(&target, key).await, content(key), "{key}");
        let (was, is) = (get(&source, key).await, get(&target, key).await);
        assert_eq!((is.etag, is.headers, is.tags, is.encryption), (was.etag, was.headers, was.tags, was.encryption));
    }
    // Both again: nothing is copied twice.
    assert_eq!(out(&source, folder.path()).await.unchanged, 14);
    assert_eq!(back(&target, folder.path()).await, Report { unchanged: 14, ..Report::default() });

    // What has changed is.
    put(&source, "plain", b"new".to_vec(), NewObject::default()).await;
    let report = out(&source, folder.path()).await;
    assert_eq!((report.objects, report.unchanged), (1, 13));
    assert_eq!(back(&target, folder.path()).await.objects, 1);
    assert_eq!(whole(&target, "plain").await, b"new");
    // So is what somebody took away, and what has another content is refused.
    fs::remove_file(folder.path().join("objects/a-b")).unwrap();
    assert_eq!(out(&source, folder.path()).await.objects, 1);
    fs::write(folder.path().join("objects/ü/ö"), b"other").unwrap();
    let report = back(&target, folder.path()).await;
    assert_eq!((report.left_out, report.unchanged), (1, 13), "{report:?}");
    assert!(report.left_out_names[0].why.contains("the manifest says"), "{report:?}");
    assert_eq!(whole(&target, "ü/ö").await, content("ü/ö"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_was_cut_off_goes_on() {
    let (root, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = store(root.path()).await;
    for n in 0..1300 {
        put(&store, &format!("{n:04}"), n.to_string().into_bytes(), NewObject::default()).await;
    }
    for at in [1100, 1050, 1250] {
        let seen = AtomicU64::new(0);
        let mut told = |report: &Report| seen.store(report.objects + report.unchanged, Ordering::Relaxed);
        let mut going = std::pin::pin!(export(&store, BUCKET, folder.path(), &mut told));
        // Dropped in the middle.
        std::future::poll_fn(|context| {
            if seen.load(Ordering::Relaxed) >= at || going.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
        assert!(seen.load(Ordering::Relaxed) < 1300);
    }
    // Half a line, as a power loss may leave it.
    let part = folder.path().join("manifest.jsonl.part");
    if part.exists() {
        let text = fs::read(&part).unwrap();
        fs::write(&part, &text[..text.len() - 7]).unwrap();
    }
    let report = out(&store, folder.path()).await;
    assert_eq!(report.objects + report.unchanged, 1300);
    assert!(report.unchanged >= 1000, "{report:?}");
    assert_eq!(lines(folder.path()).len(), 1301);
    for n in 0..1300 {
        assert_eq!(fs::read_to_string(folder.path().join(format!("objects/{n:04}"))).unwrap(), n.to_string());
    }
    assert!(!part.exists() && !folder.path().join("manifest.jsonl.cut").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_copied_is_named() {
    let (root, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = store(root.path()).await;
    let customer = NewEncryption::Customer(CustomerKey { key: [1; 32] });
    put(&source, "sealed", b"x".to_vec(), NewObject { encryption: customer, ..NewObject::default() }).await;
    put(&source, "open", b"x".to_vec(), NewObject::default()).await;
    put(&source, "torn", content("torn-by-somebody"), NewObject::default()).await;
    let files = fs::read_dir(root.path().join("store/files")).unwrap().flatten();
    for file in files.flat_map(|f| fs::read_dir(f.path()).unwrap().flatten()) {
        let mut bytes = fs::read(file.path()).unwrap();
        bytes[70_000] ^= 1;
        fs::write(file.path(), bytes).unwrap();
    }
    let report = out(&source, folder.path()).await;
    assert_eq!((report.objects, report.left_out), (1, 2), "{report:?}");
    assert!(report.left_out_names[0].why.contains("customer's key"), "{report:?}");
    assert!(report.left_out_names[1].why.contains("cannot be read"), "{report:?}");
    let report = back(&source, folder.path()).await;
    assert_eq!((report.unchanged, report.left_out), (1, 2), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_folder_is_imported_by_its_paths() {
    let (root, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = store(root.path()).await;
    fs::create_dir_all(folder.path().join("b/c")).unwrap();
    fs::write(folder.path().join("a"), b"one").unwrap();
    fs::write(folder.path().join("b/c/d"), vec![7; 300_000]).unwrap();
    // No manifest of ours.
    fs::write(folder.path().join("manifest.jsonl"), b"{\"x\": 1}\n").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
    let report = back(&store, folder.path()).await;
    assert_eq!((report.objects, report.left_out), (3, 1), "{report:?}");
    assert_eq!(report.left_out_names[0].why, "it is no file");
    assert_eq!(whole(&store, "b/c/d").await, vec![7; 300_000]);
    assert_eq!(back(&store, folder.path()).await.unchanged, 3);

    // A manifest that leads elsewhere is not followed.
    let secret = tempfile::tempdir().unwrap();
    fs::write(secret.path().join("s"), b"hush").unwrap();
    for path in [format!("../{}/s", secret.path().file_name().unwrap().to_str().unwrap()), "objects/link".into()] {
        let entry = serde_json::json!({"key": "stolen", "version": "null", "etag": "", "size": 4, "md5": "",
            "modified_at": "2026-01-01T00:00:00Z", "path": path});
        fs::create_dir_all(folder.path().join("objects")).unwrap();
        let _ = std::os::unix::fs::symlink(secret.path().join("s"), folder.path().join("objects/link"));
        fs::write(folder.path().join("manifest.jsonl"), format!("{{\"muonic_export\":1,\"bucket\":\"b\"}}\n{entry}\n"))
            .unwrap();
        assert_eq!(back(&store, folder.path()).await.left_out, 1);
        assert!(ObjectStore::get(&store, BUCKET, "stolen", None).await.unwrap().is_none());
    }
}
