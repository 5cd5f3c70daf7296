//! Listings: byte order, prefixes, delimiters, pages.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::world::*;
use super::{BUCKET, Keys};
use crate::ObjectStore;
use crate::object_store::*;

const ALL: [&str; 14] = [
    "list/a",
    "list/a b",
    "list/a/1",
    "list/a/2",
    "list/a/b/1",
    "list/a/b/2",
    "list/b",
    "list/b/",
    "list/c%2F+x",
    "list/d/1",
    "list/d0",
    "list/z",
    "list/ä",
    "list/日本/1",
];

pub(super) async fn all(store: &dyn ObjectStore, keys: Keys) {
    empty(store).await;
    let keys = taken(keys);
    for key in &keys {
        put(store, key, &Bytes::from_static(b"some bytes")).await;
    }
    finds_the_same_in_any_pages(store, &keys).await;
    begins_where_it_is_told(store, &keys).await;
    empty(store).await;
}

fn taken(keys: Keys) -> BTreeSet<&'static str> {
    let is_folder = |key: &str| ALL.iter().any(|other| other.starts_with(&format!("{key}/")));
    let takes = |key: &str| match keys {
        Keys::Any => true,
        Keys::Paths => !key.ends_with('/'),
        Keys::Files => !key.ends_with('/') && !is_folder(key),
    };
    ALL.into_iter().filter(|key| takes(key)).collect()
}

/// What a naive reader of the rules would answer.
fn expected(all: &BTreeSet<&str>, prefix: &str, delimiter: Option<&str>) -> (Vec<String>, Vec<String>) {
    let (mut keys, mut prefixes) = (Vec::new(), BTreeSet::new());
    for key in all {
        let Some(rest) = key.strip_prefix(prefix) else { continue };
        match delimiter.and_then(|d| rest.find(d).map(|at| at + d.len())) {
            Some(end) => {
                prefixes.insert(format!("{prefix}{}", &rest[..end]));
            }
            None => keys.push((*key).to_owned()),
        }
    }
    (keys, prefixes.into_iter().collect())
}

async fn finds_the_same_in_any_pages(store: &dyn ObjectStore, all: &BTreeSet<&str>) {
    for prefix in ["", "list/", "list/a", "list/a/", "list/d", "list/日", "nothing"] {
        for delimiter in [None, Some("/")] {
            let (keys, prefixes) = expected(all, prefix, delimiter);
            for max in [1, 2, 3, 5, 1000] {
                let delimiter = delimiter.map(str::to_owned);
                let query = ListQuery { prefix: prefix.to_owned(), delimiter, max, ..Default::default() };
                let (found, rolled) = pages(store, BUCKET, &query).await;
                let found: Vec<String> = found.into_iter().map(|o| o.key).collect();
                assert_eq!((&found, &rolled), (&keys, &prefixes), "{query:?}");
            }
        }
    }
    let query = ListQuery { max: 1000, ..Default::default() };
    for object in pages(store, BUCKET, &query).await.0 {
        let known = latest(store, &object.key).await.expect("there");
        assert_eq!((object.size, object.etag, object.latest), (10, known.etag, true));
    }
    let none = store.list(BUCKET, &ListQuery::default()).await.expect("list");
    assert!(none.objects.is_empty() && none.next.is_none(), "no entry was asked for");
}

async fn begins_where_it_is_told(store: &dyn ObjectStore, all: &BTreeSet<&str>) {
    for after in ["", "list/a", "list/a!", "list/d", "list/zz", "zzz", "a"] {
        let query = ListQuery { after: After::Key(after.to_owned()), max: 4, ..Default::default() };
        let found: Vec<String> = pages(store, BUCKET, &query).await.0.into_iter().map(|o| o.key).collect();
        let wanted: Vec<&str> = all.iter().copied().filter(|key| *key > after).collect();
        assert_eq!(found, wanted, "after {after}");
    }
}
