//! Pages: what the model does not reach.

use std::collections::BTreeSet;

use muonic_ports::object_store::{After, BucketChange, ListQuery, UploadQuery, Versioning};

use super::*;

#[tokio::test]
async fn every_page_size_gives_the_same() {
    let index = memory().await;
    for n in 0..60 {
        put(&index, &format!("d{}/f{}", n % 7, n), "x").await.unwrap();
        put(&index, &format!("f{n}"), "x").await.unwrap();
    }
    let query = ListQuery { delimiter: Some("/".into()), ..ListQuery::default() };
    let whole = index.list("b", &ListQuery { max: 1000, ..query.clone() }).await.unwrap();
    assert_eq!((whole.objects.len(), whole.prefixes.len(), &whole.next), (60, 7, &None));
    for max in 1..70 {
        let (mut objects, mut prefixes) = (Vec::new(), Vec::new());
        let mut query = ListQuery { max, ..query.clone() };
        loop {
            let page = index.list("b", &query).await.unwrap();
            objects.extend(page.objects);
            prefixes.extend(page.prefixes);
            let Some(next) = page.next else { break };
            query.after = next;
        }
        assert_eq!((&objects, &prefixes), (&whole.objects, &whole.prefixes), "page of {max}");
    }
    let none = index.list("b", &ListQuery::default()).await.unwrap();
    assert_eq!(none, Default::default(), "a page of none is empty and the last");
}

#[tokio::test]
async fn a_key_inside_a_prefix_begins_there() {
    let index = memory().await;
    for key in ["a/1", "a/2", "b/1"] {
        put(&index, key, "x").await.unwrap();
    }
    let after = |key: &str| ListQuery {
        delimiter: Some("/".into()),
        after: After::Key(key.into()),
        max: 10,
        ..ListQuery::default()
    };
    assert_eq!(index.list("b", &after("a/1")).await.unwrap().prefixes, ["a/", "b/"]);
    assert_eq!(index.list("b", &after("a/2")).await.unwrap().prefixes, ["b/"]);
    assert_eq!(index.list("b", &after("a/")).await.unwrap().prefixes, ["b/"]);
    assert_eq!(index.list("b", &after("c")).await.unwrap(), Default::default());
}

#[tokio::test]
async fn many_versions_of_a_key_hide_no_other() {
    let index = memory().await;
    index.bucket_change("b", BucketChange::Versioning(Versioning::On)).await.unwrap();
    for n in 0..40 {
        put(&index, "a", &n.to_string()).await.unwrap();
        if n % 3 == 0 {
            index.delete("b", vec![removal("b", None)], at(3)).await.unwrap();
        }
    }
    put(&index, "c", "x").await.unwrap();
    let query = ListQuery { max: 10, ..ListQuery::default() };
    let keys: Vec<_> = index.list("b", &query).await.unwrap().objects.into_iter().map(|o| o.key).collect();
    assert_eq!(keys, ["a", "c"]);

    // The usual way to empty a bucket: remove each page, then ask on from its end.
    let mut query = ListQuery { max: 7, versions: true, ..ListQuery::default() };
    let mut seen = BTreeSet::new();
    loop {
        let page = index.list("b", &query).await.unwrap();
        for object in &page.objects {
            assert!(seen.insert(object.version.clone()));
        }
        let removals = page.objects.iter().map(|o| removal(&o.key, Some(&o.version))).collect();
        index.delete("b", removals, at(3)).await.unwrap();
        let Some(next) = page.next else { break };
        query.after = next;
    }
    assert_eq!(seen.len(), 55);
    index.bucket_delete("b").await.unwrap();
    sweep(&index).await;
}

#[tokio::test]
async fn uploads_are_listed_by_key_then_by_beginning() {
    let index = memory().await;
    let mut expected = Vec::new();
    for key in ["a", "a", "a", "d/1", "d/2", "e"] {
        let upload = index.upload_create(target(key), NewObject::default(), Encryption::None).await.unwrap();
        expected.push((upload.key, upload.id));
    }
    for max in 1..8 {
        let mut query = UploadQuery { max, ..UploadQuery::default() };
        let (mut flat, mut rolled) = (Vec::new(), Vec::new());
        loop {
            let page = index.uploads("b", &query).await.unwrap();
            flat.extend(page.uploads.into_iter().map(|u| (u.key, u.id)));
            let Some(next) = page.next else { break };
            query.after = Some(next);
        }
        assert_eq!(flat, expected);
        let mut query = UploadQuery { max, delimiter: Some("/".into()), ..UploadQuery::default() };
        loop {
            let page = index.uploads("b", &query).await.unwrap();
            rolled.extend(page.uploads.into_iter().map(|u| u.key));
            rolled.extend(page.prefixes);
            let Some(next) = page.next else { break };
            query.after = Some(next);
        }
        rolled.sort();
        assert_eq!(rolled, ["a", "a", "a", "d/", "e"]);
    }
}
