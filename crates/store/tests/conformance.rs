//! Every backend passes the suites of its ports.

use std::sync::Arc;

use muonic_ports::conformance::{self, object_store};
use muonic_ports::{BlobStore, ObjectStore};
use muonic_store::{EmbeddedStore, MemoryLogs, MemoryStore, Options};

async fn open(root: &std::path::Path, options: Options) -> EmbeddedStore {
    muonic_store::open(&root.join("store"), &root.join("store.keys"), &options).await.expect("open").0
}

fn kinds() -> [Options; 2] {
    [Options::default(), Options { encrypt: false, ..Options::default() }]
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_embedded() {
    for options in kinds() {
        let root = tempfile::tempdir().expect("a folder");
        let store: Arc<dyn ObjectStore> = Arc::new(open(root.path(), options).await);
        store.bucket_create(object_store::new_bucket(object_store::BUCKET, false)).await.expect("a bucket");
        object_store::suite(store.clone()).await;
        object_store::buckets(store).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_embedded() {
    for options in kinds() {
        let root = tempfile::tempdir().expect("a folder");
        let store: Arc<dyn BlobStore> = Arc::new(open(root.path(), options).await);
        conformance::blob_store::suite(store).await;
    }
}

#[tokio::test]
async fn blobs_in_memory() {
    conformance::blob_store::suite(Arc::new(MemoryStore::new())).await;
}

#[tokio::test]
async fn logs_on_disk() {
    let root = tempfile::tempdir().expect("a folder");
    let logs = muonic_store::open_logs(root.path()).expect("open");
    conformance::logs::suite(Arc::new(logs)).await;
}

#[tokio::test]
async fn logs_in_memory() {
    conformance::logs::suite(Arc::new(MemoryLogs::new())).await;
}
