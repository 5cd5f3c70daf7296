use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::world::{at, digest, is_conflict, is_missing_blobs, is_not_found, other_project, project};
use crate::Metastore;
use crate::blob_store::Blob;
use crate::metastore::ObjectRecord;

pub async fn run(store: &Arc<dyn Metastore>) {
    let blobs = ["one", "three"].map(|text| Blob { digest: digest(text), size: text.len() as u64 });
    store.blobs_insert(&blobs, at(0)).await.expect("blobs_insert");
    objects(store).await;
    listing(store).await;
    many(store).await;
}

fn object(key: &str, text: &str) -> ObjectRecord {
    ObjectRecord {
        key: key.to_owned(),
        digest: digest(text),
        size: text.len() as u64,
        etag: format!("etag of {text}"),
        headers: BTreeMap::from([
            ("content-type".to_owned(), "text/plain".to_owned()),
            ("x-amz-meta-ü".to_owned(), "\u{1f600}\n".to_owned()),
        ]),
        modified_at: at(1),
    }
}

async fn objects(store: &Arc<dyn Metastore>) {
    let bucket = "b-objects";
    assert!(!store.bucket_exists(&project(), bucket).await.expect("bucket_exists"));
    is_not_found(store.object_put(&project(), bucket, &object("k", "one")).await);
    is_not_found(store.object_get(&project(), bucket, "k").await);
    is_not_found(store.object_list(&project(), bucket, "", None, None, 1).await);
    is_not_found(store.bucket_delete(&project(), bucket).await);
    store.bucket_create(&project(), bucket, at(1)).await.expect("bucket_create");
    is_conflict(store.bucket_create(&project(), bucket, at(2)).await);
    assert!(store.bucket_exists(&project(), bucket).await.expect("bucket_exists"));
    assert!(!store.bucket_exists(&other_project(), bucket).await.expect("bucket_exists"));
    store.bucket_create(&other_project(), bucket, at(2)).await.expect("projects do not share buckets");
    store.bucket_create(&project(), "b-first", at(3)).await.expect("bucket_create");
    let list = store.bucket_list(&project()).await.expect("bucket_list");
    assert_eq!(list[..2], [("b-first".to_owned(), at(3)), (bucket.to_owned(), at(1))], "by name");

    let (one, three) = (object("k", "one"), object("k", "three"));
    store.object_put(&project(), bucket, &one).await.expect("object_put");
    assert_eq!(store.object_get(&project(), bucket, "k").await.expect("object_get"), Some(one));
    store.object_put(&project(), bucket, &three).await.expect("object_put");
    assert_eq!(store.object_get(&project(), bucket, "k").await.expect("object_get"), Some(three), "it is replaced");
    is_missing_blobs(store.object_put(&project(), bucket, &object("k", "never sent")).await);
    assert_eq!(store.object_get(&project(), bucket, "K").await.expect("object_get"), None);
    assert_eq!(store.object_get(&other_project(), bucket, "k").await.expect("object_get"), None);
    is_conflict(store.bucket_delete(&project(), bucket).await);
    assert!(store.object_delete(&project(), bucket, "k").await.expect("object_delete"));
    assert!(!store.object_delete(&project(), bucket, "k").await.expect("object_delete"));
    store.bucket_delete(&project(), bucket).await.expect("bucket_delete");
    assert!(!store.bucket_exists(&project(), bucket).await.expect("bucket_exists"));
    is_not_found(store.bucket_delete(&project(), bucket).await);
}

/// What a listing is, told in the plainest way.
fn expected(keys: &BTreeSet<String>, prefix: &str, delimiter: Option<&str>) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    for key in keys {
        let Some(rest) = key.strip_prefix(prefix) else { continue };
        let item = match delimiter.and_then(|d| rest.find(d).map(|at| at + d.len())) {
            Some(end) => format!("{prefix}{}", &rest[..end]),
            None => key.clone(),
        };
        if items.last() != Some(&item) {
            items.push(item);
        }
    }
    items
}

/// All items of a listing, page by page, each page in byte order.
async fn paged(
    store: &Arc<dyn Metastore>,
    bucket: &str,
    prefix: &str,
    delimiter: Option<&str>,
    max: u32,
) -> Vec<String> {
    let mut items = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.object_list(&project(), bucket, prefix, delimiter, after.as_deref(), max).await;
        let page = page.expect("object_list");
        let mut found: Vec<String> = page.objects.into_iter().map(|o| o.key).collect();
        assert!(found.is_sorted() && page.prefixes.is_sorted(), "in byte order");
        found.extend(page.prefixes);
        found.sort();
        assert!(found.len() <= max as usize, "at most {max}, got {}", found.len());
        assert!(page.next_after.is_none() || found.len() == max as usize, "only a full page has one after it");
        items.extend(found);
        after = page.next_after;
        if after.is_none() {
            return items;
        }
    }
}

async fn listing(store: &Arc<dyn Metastore>) {
    let bucket = "b-listing";
    store.bucket_create(&project(), bucket, at(1)).await.expect("bucket_create");
    let keys = [
        "/",
        "//",
        "a",
        "a-b",
        "a/",
        "a//",
        "a/b",
        "a/b/c",
        "a/b/d",
        "a/bc",
        "a0",
        "aa",
        "b/1",
        "b/2",
        "b/3",
        "c",
        " ",
        "%",
        "%2F",
        "_",
        "A",
        "é",
        "e\u{301}",
        "z/\u{7f}",
        "\u{7f}/x",
        "\u{ff}",
        "\u{ff}/y",
        "\u{d7ff}",
        "\u{e000}/k",
        "\u{fffd}",
        "\u{ffff}",
        "\u{10000}",
        "\u{10ffff}",
        "\u{10ffff}/a",
        "\u{10ffff}\u{10ffff}",
        "日本/東京",
        "日本/大阪",
        "日本",
        "tab\there",
        "new\nline",
        "x--y--z",
        "x--y",
        "x-",
        "nul\u{0}after",
        "nul",
    ];
    let keys: BTreeSet<String> = keys.iter().map(|k| (*k).to_owned()).collect();
    for key in &keys {
        store.object_put(&project(), bucket, &object(key, "one")).await.expect("object_put");
    }
    for prefix in ["", "a", "a/", "a/b", "b/", "/", "日本", "日", "\u{ff}", "\u{10ffff}", "x", "nul", "nothing", "z/"]
    {
        for delimiter in [None, Some("/"), Some("--"), Some("b"), Some("\u{10ffff}"), Some("")] {
            let effective = delimiter.filter(|d| !d.is_empty());
            let all = expected(&keys, prefix, effective);
            for max in [1, 2, 3, 7, 1000] {
                let items = paged(store, bucket, prefix, delimiter, max).await;
                assert_eq!(items, all, "prefix {prefix:?}, delimiter {delimiter:?}, {max} at a time");
            }
        }
    }
    let list = async |prefix: &str, delimiter, after, max| {
        store.object_list(&project(), bucket, prefix, delimiter, after, max).await.expect("object_list")
    };
    let none = list("", None, None, 0).await;
    assert!(none.objects.is_empty() && none.next_after.is_none(), "nothing was asked for");
    // `after` need not be a key, nor lie below the prefix.
    assert_eq!(list("b/", None, Some("a"), 1).await.objects[0].key, "b/1");
    assert_eq!(list("b/", None, Some("b/1x"), 1).await.objects[0].key, "b/2");
    assert!(list("b/", None, Some("c"), 9).await.objects.is_empty());
    assert_eq!(list("", Some("/"), Some("b/1"), 1).await.prefixes, ["b/"], "part of a prefix is left");
    let whole = list("a/b", None, None, 1000).await;
    assert_eq!(whole.objects[0], object("a/b", "one"), "a listing has whole records");
}

/// More keys below each prefix than a page is likely to hold.
async fn many(store: &Arc<dyn Metastore>) {
    let bucket = "b-many";
    store.bucket_create(&project(), bucket, at(1)).await.expect("bucket_create");
    let mut keys = BTreeSet::new();
    for folder in 0..5 {
        for n in 0..80 {
            keys.insert(format!("f{folder}/{n:03}"));
        }
        keys.insert(format!("f{folder}"));
    }
    for key in &keys {
        store.object_put(&project(), bucket, &object(key, "one")).await.expect("object_put");
    }
    for delimiter in [None, Some("/"), Some("0")] {
        for max in [1, 31, 32, 33, 100, 1000] {
            let items = paged(store, bucket, "f", delimiter, max).await;
            assert_eq!(items, expected(&keys, "f", delimiter), "delimiter {delimiter:?}, {max} at a time");
        }
    }
}
