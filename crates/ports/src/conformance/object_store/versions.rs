//! Buckets, and versions in them.

use bytes::Bytes;

use super::new_bucket;
use super::world::*;
use crate::ObjectStore;
use crate::object_store::*;

pub(super) async fn all(store: &dyn ObjectStore) {
    buckets_come_and_go(store).await;
    keeps_versions(store).await;
    suspended_versions(store).await;
}

async fn versioned(store: &dyn ObjectStore, name: &str) {
    store.bucket_create(new_bucket(name, false)).await.expect("a bucket");
    store.bucket_change(name, BucketChange::Versioning(Versioning::On)).await.expect("versioning");
}

async fn all_versions(store: &dyn ObjectStore, bucket: &str) -> Vec<(String, VersionId, bool, bool)> {
    let mut found = Vec::new();
    for max in [1, 2, 1000] {
        let query = ListQuery { max, versions: true, ..Default::default() };
        let (objects, _) = pages(store, bucket, &query).await;
        found = objects.into_iter().map(|o| (o.key, o.version, o.latest, o.is_delete_marker)).collect();
    }
    found
}

async fn clear(store: &dyn ObjectStore, bucket: &str) {
    assert!(matches!(store.bucket_delete(bucket).await, Err(Error::BucketNotEmpty)));
    for (key, version, ..) in all_versions(store, bucket).await {
        delete_in(store, bucket, &key, Some(&version)).await.expect("deleted");
    }
    store.bucket_delete(bucket).await.expect("empty");
}

async fn buckets_come_and_go(store: &dyn ObjectStore) {
    let made = store.bucket_create(new_bucket("first-bucket", false)).await.expect("a bucket");
    assert_eq!((made.versioning, made.lock), (Versioning::Off, false));
    assert!(matches!(store.bucket_create(new_bucket("first-bucket", false)).await, Err(Error::BucketExists)));
    let set = BucketChange::Document("policy".to_owned(), Some("{}".to_owned()));
    store.bucket_change("first-bucket", set).await.expect("a document");
    let found = store.bucket("first-bucket").await.expect("asked").expect("there");
    assert_eq!(found.documents.get("policy").map(String::as_str), Some("{}"));
    store.bucket_change("first-bucket", BucketChange::Document("policy".to_owned(), None)).await.expect("gone");
    assert!(store.bucket("first-bucket").await.expect("asked").expect("there").documents.is_empty());
    assert!(store.buckets(Some(&made.project)).await.expect("a list").iter().any(|b| b.name == "first-bucket"));
    store.bucket_delete("first-bucket").await.expect("deleted");
    assert!(store.bucket("first-bucket").await.expect("asked").is_none());
    assert!(matches!(store.bucket_delete("first-bucket").await, Err(Error::NoSuchBucket)));
    let refused = store.bucket_change("first-bucket", BucketChange::Lock).await;
    assert!(matches!(refused, Err(Error::NoSuchBucket)), "{refused:?}");
}

async fn keeps_versions(store: &dyn ObjectStore) {
    let bucket = "versioned-bucket";
    versioned(store, bucket).await;
    let texts: Vec<Bytes> = ["one", "two", "three"].into_iter().map(|t| Bytes::from_static(t.as_bytes())).collect();
    let mut versions = Vec::new();
    for text in &texts {
        versions.push(put_in(store, bucket, "key", text).await.version);
    }
    for (version, text) in versions.iter().zip(&texts) {
        let found = store.get(bucket, "key", Some(version)).await.expect("get").expect("there");
        assert_eq!(found.latest, *version == versions[2]);
        assert_eq!(whole(store, &found).await, text);
    }
    let marker = delete_in(store, bucket, "key", None).await.expect("deleted");
    assert!(marker.delete_marker);
    let marker = marker.version.expect("a marker has an id");
    let found = store.get(bucket, "key", None).await.expect("get").expect("a marker");
    assert!(found.is_delete_marker && found.version == marker);
    let query = ListQuery { max: 10, ..Default::default() };
    assert!(pages(store, bucket, &query).await.0.is_empty(), "a deleted key is not listed");
    let listed = all_versions(store, bucket).await;
    let wanted = [(&marker, true), (&versions[2], false), (&versions[1], false), (&versions[0], false)];
    assert_eq!(listed.iter().map(|(_, v, latest, _)| (v, *latest)).collect::<Vec<_>>(), wanted);

    // Without the marker the one before is the latest again.
    let removed = delete_in(store, bucket, "key", Some(&marker)).await.expect("deleted");
    assert!(removed.delete_marker && removed.version == Some(marker));
    let found = store.get(bucket, "key", None).await.expect("get").expect("there");
    assert_eq!((found.version.clone(), found.latest), (versions[2].clone(), true));
    delete_in(store, bucket, "key", Some(&versions[2])).await.expect("deleted");
    assert!(store.get(bucket, "key", Some(&versions[2])).await.expect("get").is_none());
    let found = store.get(bucket, "key", None).await.expect("get").expect("there");
    assert_eq!(whole(store, &found).await, texts[1]);
    clear(store, bucket).await;
}

async fn suspended_versions(store: &dyn ObjectStore) {
    let bucket = "suspended-bucket";
    store.bucket_create(new_bucket(bucket, false)).await.expect("a bucket");
    let text = |t: &'static str| Bytes::from_static(t.as_bytes());
    let first = put_in(store, bucket, "key", &text("before")).await;
    assert!(first.version.is_null());
    let change = |versioning| store.bucket_change(bucket, BucketChange::Versioning(versioning));
    change(Versioning::On).await.expect("on");
    let kept = put_in(store, bucket, "key", &text("kept")).await;
    assert!(!kept.version.is_null());
    assert!(matches!(change(Versioning::Off).await, Err(Error::BucketState(_))));
    change(Versioning::Suspended).await.expect("suspended");
    // The null version of before is replaced, the other stays.
    let null = put_in(store, bucket, "key", &text("after")).await;
    assert!(null.version.is_null());
    let listed = all_versions(store, bucket).await;
    assert_eq!(
        listed.iter().map(|(_, v, ..)| v.clone()).collect::<Vec<_>>(),
        [VersionId::null(), kept.version.clone()]
    );
    // A delete puts a null marker in its place.
    let marker = delete_in(store, bucket, "key", None).await.expect("deleted");
    assert!(marker.delete_marker && marker.version.as_ref().is_some_and(VersionId::is_null));
    assert_eq!(all_versions(store, bucket).await.len(), 2);
    let found = store.get(bucket, "key", Some(&kept.version)).await.expect("get").expect("there");
    assert_eq!(whole(store, &found).await, text("kept"));
    clear(store, bucket).await;
}
