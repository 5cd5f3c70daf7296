//! What is kept of what happens in a bucket.

use std::sync::Arc;
use std::time::Duration;

use super::new_bucket;
use super::world::*;
use crate::ObjectStore;
use crate::conformance::blob_store::{noise, pieces};
use crate::object_store::*;

const JOURNAL: &str = "journaled-bucket";
const NO_WAIT: Duration = Duration::ZERO;

async fn put(store: &dyn ObjectStore, key: &str, origin: Origin) -> ObjectVersion {
    let new = NewObject { origin, ..owned() };
    store.put(target_in(JOURNAL, key), new, pieces(&noise(7, 100), 30), no_check()).await.expect("put")
}

async fn happened(store: &dyn ObjectStore, after: u64) -> Vec<Change> {
    store.changes(JOURNAL, after, 100, NO_WAIT).await.expect("changes").changes
}

pub(super) async fn all(store: Arc<dyn ObjectStore>) {
    store.bucket_create(new_bucket(JOURNAL, false)).await.expect("a bucket");
    put(&*store, "before", Origin::Put).await;
    let set = |text: Option<&str>| BucketChange::Document(JOURNALED.to_owned(), text.map(str::to_owned));
    store.bucket_change(JOURNAL, set(Some("any"))).await.expect("a journal");
    assert_eq!(happened(&*store, 0).await, [], "what happened before is not told");

    let first = put(&*store, "a", Origin::Put).await;
    put(&*store, "form", Origin::Post).await;
    let new = NewObject { origin: Origin::Copy, ..owned() };
    store.copy(&first, None, target_in(JOURNAL, "b"), new).await.expect("copy");
    let upload = store.upload_create(target_in(JOURNAL, "up"), owned()).await.expect("upload");
    let part = store.upload_part(&upload, 1, pieces(&noise(1, 50), 50), no_check(), None, at(2)).await.expect("part");
    let part = CompletedPart { number: 1, etag: part.etag, sum: None };
    let done = store.upload_complete(&upload, vec![part], Precondition::default(), None, at(3)).await.expect("done");
    store.change(JOURNAL, "a", None, ObjectChange::Tags([("k".into(), "v".into())].into())).await.expect("tags");
    store.change(JOURNAL, "a", None, ObjectChange::Tags(Default::default())).await.expect("no tags");
    store.change(JOURNAL, "a", None, ObjectChange::Acl(Some("{}".into()))).await.expect("list");
    let expired = Removal { expired: true, ..removal("b", None) };
    let removals = vec![removal("a", None), expired, removal("never there", None)];
    store.delete(JOURNAL, removals, at(4)).await.expect("deletes");
    // What is refused has not happened.
    let condition = Precondition { if_none_match: Some(EtagMatch::Any), ..Precondition::default() };
    let again = Target { condition, ..target_in(JOURNAL, "form") };
    store.put(again, owned(), pieces(&noise(7, 10), 10), no_check()).await.expect_err("it is there");

    let found = happened(&*store, 0).await;
    let told: Vec<_> = found.iter().map(|change| (change.key.as_str(), change.what, change.size)).collect();
    let expected = [
        ("a", Happened::Created(Origin::Put), 100),
        ("form", Happened::Created(Origin::Post), 100),
        ("b", Happened::Created(Origin::Copy), 100),
        ("up", Happened::Created(Origin::Upload), 50),
        ("a", Happened::Tagged, 100),
        ("a", Happened::Untagged, 100),
        ("a", Happened::AclSet, 100),
        ("a", Happened::Removed { expired: false }, 100),
        ("b", Happened::Removed { expired: true }, 100),
    ];
    assert_eq!(told, expected);
    assert_eq!((&found[3].etag, &found[3].version), (&done.etag, &done.version));
    assert!(found.windows(2).all(|pair| pair[0].number < pair[1].number));
    assert_eq!(happened(&*store, found[6].number).await, found[7..]);
    let page = store.changes(JOURNAL, 0, 2, NO_WAIT).await.expect("a page").changes;
    assert_eq!(page, found[..2]);

    store.bucket_change(JOURNAL, BucketChange::Versioning(Versioning::On)).await.expect("versions");
    let last = found[8].number;
    let version = put(&*store, "v", Origin::Put).await.version;
    let expired = Removal { expired: true, ..removal("v", None) };
    let marked = store.delete(JOURNAL, vec![removal("v", None), expired], at(5)).await.expect("markers");
    let of_marked = |n: usize| marked[n].as_ref().expect("a marker").version.clone().expect("its version");
    store.delete(JOURNAL, vec![removal("v", Some(&version))], at(6)).await.expect("for good");
    let found = happened(&*store, last).await;
    let told: Vec<_> = found.into_iter().map(|change| (change.what, change.version)).collect();
    let expected = [
        (Happened::Created(Origin::Put), version.clone()),
        (Happened::Marked { expired: false }, of_marked(0)),
        (Happened::Marked { expired: true }, of_marked(1)),
        (Happened::Removed { expired: false }, version),
    ];
    assert_eq!(told, expected);

    // A wait ends with what it waits for.
    let last = happened(&*store, 0).await.last().expect("changes").number;
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.changes(JOURNAL, last, 100, Duration::from_secs(60)).await }
    });
    tokio::task::yield_now().await;
    put(&*store, "awaited", Origin::Put).await;
    let found = waiting.await.expect("no panic").expect("changes").changes;
    assert_eq!(found.iter().map(|change| change.key.as_str()).collect::<Vec<_>>(), ["awaited"]);

    store.bucket_change(JOURNAL, set(None)).await.expect("no journal");
    put(&*store, "after", Origin::Put).await;
    assert_eq!(happened(&*store, found[0].number).await, [], "nothing is kept any longer");
    let missing = store.changes("not-there", 0, 1, NO_WAIT).await;
    assert!(matches!(missing, Err(Error::NoSuchBucket)), "{missing:?}");
}
