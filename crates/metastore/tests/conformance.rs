//! The port's suite, in a file and in memory.

use std::sync::Arc;

use muonic_ports::Metastore;
use muonic_ports::conformance::metastore;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let stores = std::sync::atomic::AtomicUsize::new(0);
    metastore::run(async || {
        let n = stores.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let store = muonic_metastore::open(&folder.path().join(format!("{n}.sqlite"))).await.expect("open");
        Arc::new(store) as Arc<dyn Metastore>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_memory() {
    metastore::run(async || Arc::new(muonic_metastore::in_memory().await.expect("in_memory")) as Arc<dyn Metastore>)
        .await;
}
