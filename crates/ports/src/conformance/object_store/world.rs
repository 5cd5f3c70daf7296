//! Short ways to say what the suite does again and again.

use bytes::Bytes;
use muonic_types::Timestamp;

use super::BUCKET;
use crate::ObjectStore;
use crate::conformance::blob_store::{collect, pieces};
use crate::object_store::*;

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).expect("in range")
}

pub(super) fn target_in(bucket: &str, key: &str) -> Target {
    Target { bucket: bucket.to_owned(), key: key.to_owned(), condition: Precondition::default(), at: at(1) }
}

pub(super) fn target(key: &str) -> Target {
    target_in(BUCKET, key)
}

pub(super) fn guard() -> LockGuard {
    LockGuard { now: at(2), bypass: false }
}

pub(super) fn owned() -> NewObject {
    NewObject { owner: "default".to_owned(), ..Default::default() }
}

pub(super) async fn put_in(store: &dyn ObjectStore, bucket: &str, key: &str, bytes: &Bytes) -> ObjectVersion {
    let body = pieces(bytes, 60_000);
    store.put(target_in(bucket, key), owned(), body, no_check()).await.expect("put")
}

pub(super) async fn put(store: &dyn ObjectStore, key: &str, bytes: &Bytes) -> ObjectVersion {
    put_in(store, BUCKET, key, bytes).await
}

pub(super) async fn whole(store: &dyn ObjectStore, object: &ObjectVersion) -> Bytes {
    collect(store.read(object, None, None).await.expect("read")).await.expect("the stream ends well")
}

pub(super) async fn latest(store: &dyn ObjectStore, key: &str) -> Option<ObjectVersion> {
    store.get(BUCKET, key, None).await.expect("get")
}

pub(super) fn removal(key: &str, version: Option<&VersionId>) -> Removal {
    let owner = "default".to_owned();
    Removal {
        key: key.to_owned(),
        version: version.cloned(),
        condition: Precondition::default(),
        guard: guard(),
        owner,
        expired: false,
    }
}

pub(super) async fn delete_in(
    store: &dyn ObjectStore,
    bucket: &str,
    key: &str,
    version: Option<&VersionId>,
) -> Result<Deleted> {
    let mut answers = store.delete(bucket, vec![removal(key, version)], at(2)).await.expect("delete");
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

pub(super) async fn delete(store: &dyn ObjectStore, key: &str) -> Deleted {
    delete_in(store, BUCKET, key, None).await.expect("deleted")
}

/// All that a query finds, page by page.
pub(super) async fn pages(
    store: &dyn ObjectStore,
    bucket: &str,
    query: &ListQuery,
) -> (Vec<ObjectVersion>, Vec<String>) {
    let (mut objects, mut prefixes) = (Vec::new(), Vec::new());
    let mut query = query.clone();
    loop {
        let page = store.list(bucket, &query).await.expect("list");
        assert!(page.objects.len() + page.prefixes.len() <= query.max as usize, "a page has at most max entries");
        objects.extend(page.objects);
        prefixes.extend(page.prefixes);
        match page.next {
            Some(next) => {
                assert_ne!(query.after, next, "paging goes on");
                query.after = next;
            }
            None => return (objects, prefixes),
        }
    }
}

/// Leaves the bucket as it was.
pub(super) async fn empty(store: &dyn ObjectStore) {
    let query = ListQuery { max: 1000, ..Default::default() };
    let (objects, _) = pages(store, BUCKET, &query).await;
    let removals = objects.iter().map(|o| removal(&o.key, None)).collect::<Vec<_>>();
    for answer in store.delete(BUCKET, removals, at(3)).await.expect("delete") {
        answer.expect("deleted");
    }
    assert!(pages(store, BUCKET, &query).await.0.is_empty());
}
