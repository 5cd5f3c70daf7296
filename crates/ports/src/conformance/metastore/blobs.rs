use std::collections::HashMap;
use std::sync::Arc;

use muonic_types::blob::TreeSummary;

use super::world::{at, digest, is_conflict, is_missing_blobs, new_job, project, tree};
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

    forgets_what_is_not_in_use(store).await;
}

async fn forgets_what_is_not_in_use(store: &Arc<dyn Metastore>) {
    let stored = async || store.counts().await.expect("counts").stored_bytes;
    let names = ["old tree", "new tree", "named tree", "job tree"];
    let mut trees = Vec::new();
    for name in names {
        trees.push(tree(store, name).await);
    }
    store.dataset_put(&project(), &"forgets".parse().expect("a name"), &trees[2], at(1)).await.expect("a dataset");
    let mut submitted = new_job("forgets");
    submitted.spec.code = Some(trees[3]);
    store.job_submit(&submitted).await.expect("a job");
    let made_again = TreeSummary { digest: trees[1], files: 1, bytes: names[1].len() as u64 };
    store.tree_insert(&made_again, at(500)).await.expect("a known tree made again");

    let used = store.trees_in_use(at(400)).await.expect("trees_in_use");
    assert_eq!(trees.iter().map(|t| used.contains(t)).collect::<Vec<_>>(), [false, true, true, true]);
    let mut found = Vec::new();
    while let Some(page) =
        Some(store.blobs_before(at(3), found.last().map(|b: &Blob| b.digest), 7).await.expect("a page"))
            .filter(|page| !page.is_empty())
    {
        found.extend(page);
    }
    assert!(found.is_sorted_by_key(|b| *b.digest.as_bytes()) && found.iter().any(|b| b.digest == trees[0]));
    assert!(store.blobs_before(at(0), None, 9).await.expect("a page").is_empty());

    let blob = |n: usize| Blob { digest: trees[n], size: names[n].len() as u64 };
    let before = stored().await;
    for n in 1..4 {
        is_conflict(store.blobs_forget(&[blob(0), blob(n)], at(400)).await);
    }
    assert!(store.blobs_missing(&trees).await.expect("blobs_missing").is_empty(), "nothing was forgotten");
    store.blobs_forget(&[blob(0)], at(400)).await.expect("it is not in use");
    assert_eq!(store.blobs_missing(&trees).await.expect("blobs_missing"), [trees[0]]);
    assert_eq!(store.tree_get(&trees[0]).await.expect("tree_get"), None);
    assert_eq!(before - stored().await, names[0].len() as u64);
    store.blobs_forget(&[blob(0)], at(400)).await.expect("what is gone is gone");
}
