use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use muonic_types::{Name, VersionSelector};

use super::world::{at, digest, is_not_found, other_project, parse, project, tree};
use crate::Metastore;

pub async fn run(store: &Arc<dyn Metastore>) {
    let (a, b) = (tree(store, "dataset a").await, tree(store, "dataset b").await);
    let name: Name = parse("d-one");
    let one = store.dataset_put(&project(), &name, &a, at(1)).await.expect("dataset_put");
    assert!(one.created && one.version.version == 1 && one.version.created_at == at(1));
    assert_eq!((one.version.tree.digest, one.version.tree.bytes), (a, 9));
    let again = store.dataset_put(&project(), &name, &a, at(2)).await.expect("dataset_put");
    assert!(!again.created, "equal content makes no new version");
    assert_eq!(again.version, one.version);
    let two = store.dataset_put(&project(), &name, &b, at(3)).await.expect("dataset_put");
    assert!(two.created && two.version.version == 2);
    let three = store.dataset_put(&project(), &name, &a, at(4)).await.expect("dataset_put");
    assert_eq!(three.version.version, 3, "only the newest version is compared");
    is_not_found(store.dataset_put(&project(), &name, &digest("no such tree"), at(5)).await);

    let get = async |version: VersionSelector| store.dataset_get(&project(), &name, &version).await;
    assert_eq!(get(VersionSelector::Latest).await.expect("latest"), three.version);
    assert_eq!(get(VersionSelector::Number(2)).await.expect("number"), two.version);
    assert!(is_not_found(get(VersionSelector::Number(7)).await).contains("no version 7"));
    is_not_found(get(VersionSelector::Alias(parse("best"))).await);
    let what = is_not_found(store.dataset_get(&project(), &parse("d-none"), &VersionSelector::Latest).await);
    assert!(what.contains("no dataset 'd-none'"), "{what}");
    is_not_found(store.dataset_versions(&project(), &parse("d-none")).await);

    let versions = store.dataset_versions(&project(), &name).await.expect("dataset_versions");
    assert_eq!(versions, [three.version.clone(), two.version, one.version]);
    let elsewhere = store.dataset_put(&other_project(), &name, &b, at(6)).await.expect("dataset_put");
    assert_eq!(elsewhere.version.version, 1, "projects do not share datasets");
    store.dataset_put(&project(), &parse("d-a"), &b, at(7)).await.expect("dataset_put");
    let list = store.dataset_list(&project()).await.expect("dataset_list");
    let names: Vec<_> = list.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["d-a", "d-one"], "by name");
    assert_eq!((list[1].created_at, &list[1].latest), (at(1), &three.version));

    races(store).await;
}

async fn races(store: &Arc<dyn Metastore>) {
    let name: Name = parse("d-raced");
    let trees = join_all((0..16).map(|n| async move { tree(store, &format!("raced {n}")).await })).await;
    let puts = trees.iter().map(|t| {
        let (store, name, tree) = (Arc::clone(store), name.clone(), *t);
        tokio::spawn(async move { store.dataset_put(&project(), &name, &tree, at(1)).await })
    });
    let numbers: BTreeSet<u32> =
        join_all(puts).await.into_iter().map(|p| p.expect("joined").expect("dataset_put").version.version).collect();
    assert_eq!(numbers, (1..=16).collect(), "different contents at once make as many versions, without gaps");
    let versions = store.dataset_versions(&project(), &name).await.expect("dataset_versions");
    let stored: BTreeSet<_> = versions.iter().map(|v| v.tree.digest).collect();
    assert_eq!(stored, trees.into_iter().collect());
}
