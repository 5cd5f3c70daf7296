//! What nothing needs is freed, and nothing else.

use std::time::Duration;

use bytes::Bytes;
use muonic_ports::Clock;
use muonic_ports::blob_store::Blob;
use muonic_services::Collector;
use muonic_services::collector::Collected;
use muonic_types::blob::{NewTree, pack_head};
use muonic_types::{Digest, Entry};
use support::Cloud;

mod support;

async fn upload(cloud: &Cloud, text: &str) -> Digest {
    let digest = Digest::of(text.as_bytes());
    let pack = Bytes::from(format!("{}{text}", pack_head(&digest, text.len() as u64)));
    let pack = Box::pin(futures_util::stream::once(async { Ok(pack) }));
    cloud.blobs.put_pack(&cloud.admin, pack).await.expect("a blob");
    digest
}

async fn tree(cloud: &Cloud, texts: &[&str]) -> Digest {
    let mut entries = Vec::new();
    for (n, text) in texts.iter().enumerate() {
        let digest = upload(cloud, text).await;
        let path = format!("{n}.txt").parse().expect("a path");
        entries.push(Entry { path, size: text.len() as u64, digest, executable: false });
    }
    cloud.put_tree(NewTree { entries }).await.expect("a tree").digest
}

#[tokio::test]
async fn frees_what_nothing_needs() {
    let cloud = Cloud::new(1000).await;
    let collector = Collector::new(cloud.meta.clone(), cloud.store.clone(), cloud.blobs.clone(), cloud.clock.clone());
    let kept = tree(&cloud, &["kept", "shared"]).await;
    let name = "kept".parse().expect("a name");
    cloud.meta.dataset_put(&cloud.admin.project, &name, &kept, cloud.clock.now()).await.expect("a dataset");
    let unnamed = tree(&cloud, &["only here", "shared"]).await;
    let stray = upload(&cloud, "never in a tree").await;
    assert_eq!(collector.collect().await.expect("a round"), Collected::default(), "all of it is young");

    cloud.clock.forward(Duration::from_secs(25 * 3600));
    let young = upload(&cloud, "young").await;
    let young_tree = tree(&cloud, &["shared", "in a young tree"]).await;
    let before = cloud.meta.counts().await.expect("counts").stored_bytes;
    let done = collector.collect().await.expect("a round");
    assert_eq!(done.blobs, 3, "the stray, the tree without a name, and its own file");
    assert_eq!(cloud.meta.counts().await.expect("counts").stored_bytes, before - done.bytes);
    let is_there = async |digest: &Digest| cloud.store.size(digest).await.expect("asked").is_some();
    for gone in [stray, unnamed, Digest::of(b"only here")] {
        assert!(!is_there(&gone).await);
    }
    for there in [kept, young, young_tree, Digest::of(b"kept"), Digest::of(b"shared"), Digest::of(b"in a young tree")] {
        assert!(is_there(&there).await);
    }
    assert_eq!(collector.collect().await.expect("a round"), Collected::default());
    // What was freed can be sent again.
    assert_eq!(tree(&cloud, &["only here", "shared"]).await, unnamed);
    assert!(is_there(&unnamed).await);
}

#[tokio::test]
async fn frees_what_the_metastore_does_not_know() {
    let cloud = Cloud::new(1000).await;
    let known = tree(&cloud, &["known"]).await;
    let (left, again) = (upload(&cloud, "left behind").await, upload(&cloud, "sent again").await);
    cloud.clock.forward(Duration::from_secs(25 * 3600));
    cloud
        .meta
        .tree_insert(&cloud.meta.tree_get(&known).await.expect("asked").expect("a tree"), cloud.clock.now())
        .await
        .expect("in use");
    // Killed between row and bytes.
    let gone = [("left behind", left), ("sent again", again)];
    let gone = gone.map(|(text, digest)| Blob { digest, size: text.len() as u64 });
    cloud.meta.blobs_forget(&gone, cloud.clock.now()).await.expect("forgotten");
    let collector = Collector::new(cloud.meta.clone(), cloud.store.clone(), cloud.blobs.clone(), cloud.clock.clone());
    // They could be of an upload that is under way.
    assert_eq!(collector.collect().await.expect("a round"), Collected::default());
    assert_eq!(upload(&cloud, "sent again").await, again);
    assert_eq!(collector.collect().await.expect("a round"), Collected { blobs: 1, bytes: 11 });
    let is_there = async |digest: &Digest| cloud.store.size(digest).await.expect("asked").is_some();
    assert!(!is_there(&left).await);
    for there in [known, again, Digest::of(b"known")] {
        assert!(is_there(&there).await);
    }
    assert_eq!(upload(&cloud, "left behind").await, left);
    assert!(is_there(&left).await);
}

#[tokio::test]
async fn uploads_and_collections_at_once_lose_nothing() {
    let cloud = std::sync::Arc::new(Cloud::new(1000).await);
    let collector = Collector::new(cloud.meta.clone(), cloud.store.clone(), cloud.blobs.clone(), cloud.clock.clone());
    // Each round the same files are old and unused, and are sent again while they are collected.
    for round in 0..20 {
        tree(&cloud, &["a", "b", "c"]).await;
        cloud.clock.forward(Duration::from_secs(25 * 3600));
        let sending = {
            let cloud = cloud.clone();
            tokio::spawn(async move { tree(&cloud, &["a", "b", "c"]).await })
        };
        let collected = collector.collect().await;
        if let Ok(sent) = sending.await {
            assert!(cloud.store.size(&sent).await.expect("asked").is_some(), "round {round}");
            let tree = cloud.blobs.get_tree(&cloud.admin, &sent).await.expect("the tree");
            for entry in tree.entries {
                assert!(cloud.store.size(&entry.digest).await.expect("asked").is_some(), "round {round}");
            }
        }
        collected.expect("a round");
    }
}
