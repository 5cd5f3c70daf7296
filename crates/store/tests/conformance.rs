//! The suites of the ports, on every backend of this crate.

use std::sync::Arc;

use muonic_ports::conformance;
use muonic_store::{MemoryLogs, MemoryStore};

#[tokio::test]
async fn blobs_on_disk() {
    let root = tempfile::tempdir().expect("a folder");
    let store = muonic_store::open(root.path()).expect("open");
    conformance::blob_store::suite(Arc::new(store)).await;
}

#[tokio::test]
async fn blobs_in_memory() {
    conformance::blob_store::suite(Arc::new(MemoryStore::new())).await;
}

#[tokio::test]
async fn logs_on_disk() {
    let root = tempfile::tempdir().expect("a folder");
    let logs = muonic_store::open_logs(&root.path().join("deeper/logs")).expect("open");
    conformance::logs::suite(Arc::new(logs)).await;
}

#[tokio::test]
async fn logs_in_memory() {
    conformance::logs::suite(Arc::new(MemoryLogs::new())).await;
}
