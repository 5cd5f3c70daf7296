use std::collections::HashMap;
use std::sync::Arc;

use muonic_types::blob::TreeSummary;

use super::world::{at, digest, is_missing_blobs};
use crate::Metastore;
use crate::blob_store::Blob;

pub async fn run(store: &Arc<dyn Metastore>) {
    let before = store.counts().await.expect("counts").stored_bytes;
    let blobs: Vec<Blob> = (0..300).map(|n| Blob { digest: digest(&format!("blobs {n}")), size: n }).collect();
    let (first, rest) = blobs.split_at(100);
    store.blobs_insert(first, at(0)).await.expect("blobs_insert");
    store.blobs_insert(&[], at(0)).await.expect("no blobs are fine");
    store.blobs_insert(&blobs[..200], at(1)).await.expect("known blobs stay");
    let asked: Vec<_> = blobs.iter().rev().map(|b| b.digest).collect();
    let missing = store.blobs_missing(&asked).await.expect("blobs_missing");
    assert_eq!(missing, asked[..100], "what is missing comes in the order of the question");
    assert!(store.blobs_missing(&[]).await.expect("blobs_missing").is_empty());

    let sizes = store.blob_sizes(&asked).await.expect("blob_sizes");
    let expected: HashMap<_, _> = blobs[..200].iter().map(|b| (b.digest, b.size)).collect();
    assert_eq!(sizes, expected);

    store.blobs_insert(rest, at(2)).await.expect("blobs_insert");
    let big = Blob { digest: digest("blobs big"), size: 1 << 40 };
    store.blobs_insert(&[big, big], at(2)).await.expect("the same blob twice");
    let after = store.counts().await.expect("counts").stored_bytes;
    assert_eq!(after - before, (0..300).sum::<u64>() + (1 << 40), "each blob counts once");

    let tree = TreeSummary { digest: digest("blobs 7"), files: 3, bytes: 1 << 41 };
    assert_eq!(store.tree_get(&tree.digest).await.expect("tree_get"), None, "a blob is not yet a tree");
    store.tree_insert(&tree, at(3)).await.expect("tree_insert");
    store.tree_insert(&tree, at(4)).await.expect("a known tree stays");
    assert_eq!(store.tree_get(&tree.digest).await.expect("tree_get"), Some(tree));
    let lost = TreeSummary { digest: digest("blobs never sent"), files: 0, bytes: 0 };
    is_missing_blobs(store.tree_insert(&lost, at(3)).await);
    assert_eq!(store.tree_get(&lost.digest).await.expect("tree_get"), None);
}
