use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;
use muonic_types::model::{ModelSource, SourceDataset};
use muonic_types::{Name, VersionSelector};

use super::world::{at, digest, is_not_found, other_project, parse, project, tree};
use crate::Metastore;

pub async fn run(store: &Arc<dyn Metastore>) {
    let (a, b) = (tree(store, "model a").await, tree(store, "model b").await);
    let name: Name = parse("m-one");
    let none = BTreeMap::new();
    let metrics = BTreeMap::from([("accuracy".to_owned(), 0.1 + 0.2), ("loss".to_owned(), 1e-300)]);
    let source = ModelSource::Attempt {
        attempt: parse("train-1.2"),
        code: Some(digest("code")),
        environment: None,
        inputs: BTreeMap::from([(
            parse("train"),
            SourceDataset { name: parse("digits"), version: 3, digest: digest("input") },
        )]),
        params: BTreeMap::from([("n".to_owned(), serde_json::json!([1, "x", null]))]),
    };
    let one = store.model_register(&project(), &name, &a, &ModelSource::Upload, &none, at(1)).await.expect("register");
    assert_eq!((one.version, one.tree.digest, one.created_at), (1, a, at(1)));
    let two = store.model_register(&project(), &name, &b, &source, &metrics, at(2)).await.expect("register");
    assert_eq!((two.version, &two.source, &two.metrics), (2, &source, &metrics), "numbers survive to the last bit");
    let same = store.model_register(&project(), &name, &b, &source, &metrics, at(3)).await.expect("register");
    assert_eq!(same.version, 3, "every registration is a version");
    is_not_found(store.model_register(&project(), &name, &digest("?"), &source, &none, at(4)).await);

    let get = async |version: VersionSelector| store.model_version(&project(), &name, &version).await;
    assert_eq!(get(VersionSelector::Number(2)).await.expect("number"), two);
    assert_eq!(get(VersionSelector::Latest).await.expect("latest"), same);
    assert!(is_not_found(get(VersionSelector::Number(9)).await).contains("no version 9"));
    is_not_found(get(VersionSelector::Alias(parse("best"))).await);
    is_not_found(store.model_get(&project(), &parse("m-none")).await);
    is_not_found(store.model_versions(&other_project(), &name).await);
    assert_eq!(store.model_versions(&project(), &name).await.expect("versions"), [same.clone(), two.clone(), one]);

    let best: Name = parse("best");
    let model = store.alias_set(&project(), &name, &best, 1).await.expect("alias_set");
    assert_eq!(model.aliases, BTreeMap::from([("best".to_owned(), 1)]));
    let model = store.alias_set(&project(), &name, &best, 2).await.expect("an alias moves");
    assert_eq!(model.aliases, BTreeMap::from([("best".to_owned(), 2)]));
    assert_eq!(model, store.model_get(&project(), &name).await.expect("model_get"));
    assert_eq!(model.latest, same);
    assert_eq!(get(VersionSelector::Alias(best.clone())).await.expect("alias"), two);
    is_not_found(store.alias_set(&project(), &name, &best, 9).await);
    is_not_found(store.alias_set(&project(), &parse("m-none"), &best, 1).await);
    let list = store.model_list(&project()).await.expect("model_list");
    assert!(list.contains(&model), "{list:?}");
    let model = store.alias_delete(&project(), &name, &best).await.expect("alias_delete");
    assert!(model.aliases.is_empty());
    is_not_found(store.alias_delete(&project(), &name, &best).await);
    is_not_found(get(VersionSelector::Alias(best)).await);

    races(store).await;
}

async fn races(store: &Arc<dyn Metastore>) {
    let name: Name = parse("m-raced");
    let tree = tree(store, "model raced").await;
    let registers = (0..16).map(|_| {
        let (store, name) = (Arc::clone(store), name.clone());
        tokio::spawn(async move {
            let none = BTreeMap::new();
            let made = store.model_register(&project(), &name, &tree, &ModelSource::Upload, &none, at(1)).await;
            let version = made.expect("model_register").version;
            let model = store.alias_set(&project(), &name, &parse("newest"), version).await.expect("alias_set");
            assert_eq!(model.aliases["newest"], version, "the answer is the state right after");
            version
        })
    });
    let numbers: BTreeSet<u32> = join_all(registers).await.into_iter().map(|v| v.expect("joined")).collect();
    assert_eq!(numbers, (1..=16).collect(), "registrations at once get distinct numbers, without gaps");
    let model = store.model_get(&project(), &name).await.expect("model_get");
    assert_eq!(model.latest.version, 16);
    assert!(numbers.contains(&model.aliases["newest"]), "the alias points to one of them");
}
