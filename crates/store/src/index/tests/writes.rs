//! Conditions under races, group commit, locks, and what is refused.

use muonic_ports::object_store::{
    BucketChange, Error, EtagMatch, LockGuard, NewObject, ObjectChange, Precondition, Retention, RetentionMode,
    UploadQuery, VersionId, Versioning,
};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_create_one_key_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(&dir.path().join("index.sqlite"), true).unwrap();
    index.bucket_create(new_bucket("b", false)).await.unwrap();
    let tasks: Vec<_> = (0..100)
        .map(|n| {
            let index = index.clone();
            tokio::spawn(async move {
                let mut target = target("one");
                target.condition.if_none_match = Some(EtagMatch::Any);
                index.put(target, NewObject::default(), content(format!("{n}").as_bytes())).await
            })
        })
        .collect();
    let mut winners = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(object) => winners.push(object),
            Err(Error::PreconditionFailed("If-None-Match")) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(index.get("b", "one", None).unwrap().unwrap(), winners[0]);
    sweep(&index).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_that_are_committed_together_are_answered_and_survive() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.sqlite");
    let index = Index::open(&path, true).unwrap();
    index.bucket_create(new_bucket("b", false)).await.unwrap();
    let tasks: Vec<_> = (0..2000)
        .map(|n| {
            let index = index.clone();
            tokio::spawn(async move { put(&index, &format!("{n:05}"), "x").await })
        })
        .collect();
    let mut objects = Vec::new();
    for task in tasks {
        objects.push(task.await.unwrap().unwrap());
    }
    let ids: std::collections::BTreeSet<u64> = objects.iter().map(|o| o.content).collect();
    assert_eq!(ids.len(), objects.len());
    drop(index);

    let index = Index::open(&path, true).unwrap();
    for object in &objects {
        assert_eq!(index.get("b", &object.key, None).unwrap().as_ref(), Some(object));
    }
    let newer = put(&index, "more", "x").await.unwrap();
    assert!(objects.iter().all(|o| o.content < newer.content), "numbers go on where they ended");
    sweep(&index).await;
}

#[tokio::test]
async fn attributes_are_given_back() {
    let index = Index::open_in_memory().unwrap();
    index.bucket_create(new_bucket("b", true)).await.unwrap();
    let text = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let retention = Retention { mode: RetentionMode::Governance, until: at(100) };
    let new = NewObject {
        headers: text(&[("content-type", "text/plain"), ("x-amz-meta-a", "é")]),
        tags: text(&[("t", "1")]),
        owner: "o".into(),
        acl: Some("acl".into()),
        retention: Some(retention),
        legal_hold: true,
        ..NewObject::default()
    };
    let mut content = content(b"body");
    content.encryption = Encryption::Named("key".into());
    let object = index.put(target("k"), new, content).await.unwrap();
    assert_eq!(object.encryption, Encryption::Named("key".into()));
    assert_eq!((object.retention, object.legal_hold), (Some(retention), true));
    assert_eq!(index.get("b", "k", Some(&object.version)).unwrap().unwrap(), object);

    let changed = index.change("b", "k", None, ObjectChange::Tags(text(&[("t", "2")])), at(2)).await.unwrap();
    assert_eq!(changed.tags, text(&[("t", "2")]));
    assert_eq!(changed.headers, object.headers);
    assert_eq!(index.get("b", "k", None).unwrap().unwrap(), changed);
}

#[tokio::test]
async fn what_is_locked_stays() {
    let index = Index::open_in_memory().unwrap();
    index.bucket_create(new_bucket("b", true)).await.unwrap();
    let retention = Some(Retention { mode: RetentionMode::Governance, until: at(100) });
    let object = index.put(target("k"), NewObject { retention, ..NewObject::default() }, content(b"1")).await.unwrap();
    let mut remove = removal("k", Some(&object.version));
    let answers = index.delete("b", vec![remove.clone(), removal("k", None)], at(3)).await.unwrap();
    assert!(matches!(answers[0], Err(Error::Retained(RetentionMode::Governance))));
    assert!(answers[1].as_ref().unwrap().delete_marker, "a delete marker removes nothing");

    let guard = LockGuard { now: at(3), bypass: false };
    let weaker = ObjectChange::Retention(None, guard);
    let id = Some(&object.version);
    assert!(matches!(index.change("b", "k", id, weaker, at(2)).await, Err(Error::Retained(_))));
    index.change("b", "k", id, ObjectChange::LegalHold(true), at(2)).await.unwrap();
    remove.guard.bypass = true;
    let answer = index.delete("b", vec![remove.clone()], at(3)).await.unwrap().remove(0);
    assert!(matches!(answer, Err(Error::LegalHold)));
    index.change("b", "k", id, ObjectChange::LegalHold(false), at(2)).await.unwrap();
    assert!(index.delete("b", vec![remove], at(3)).await.unwrap().remove(0).unwrap().found);

    let suspend = BucketChange::Versioning(Versioning::Suspended);
    assert!(matches!(index.bucket_change("b", suspend).await, Err(Error::BucketState(_))));
}

#[tokio::test]
async fn locks_need_a_bucket_that_has_them() {
    let index = memory().await;
    let new = NewObject { legal_hold: true, ..NewObject::default() };
    assert!(matches!(index.put(target("k"), new, content(b"1")).await, Err(Error::BucketState(_))));
    put(&index, "k", "1").await.unwrap();
    let change = index.change("b", "k", None, ObjectChange::LegalHold(true), at(2)).await;
    assert!(matches!(change, Err(Error::BucketState(_))));
    assert!(matches!(index.bucket_change("b", BucketChange::Lock).await, Err(Error::BucketState(_))));
    let off = BucketChange::Versioning(Versioning::Off);
    assert!(matches!(index.bucket_change("b", off).await, Err(Error::BucketState(_))));
    index.bucket_change("b", BucketChange::Versioning(Versioning::On)).await.unwrap();
    assert!(index.bucket_change("b", BucketChange::Lock).await.unwrap().lock);
}

#[tokio::test]
async fn conditions_of_removals_look_at_what_is_removed() {
    let index = memory().await;
    index.bucket_change("b", BucketChange::Versioning(Versioning::On)).await.unwrap();
    let old = put(&index, "k", "12").await.unwrap();
    put(&index, "k", "345").await.unwrap();
    let mut wrong = removal("k", Some(&old.version));
    wrong.condition = Precondition { if_size: Some(3), ..Precondition::default() };
    let mut right = wrong.clone();
    right.condition = Precondition { if_size: Some(2), if_modified_at: Some(at(1)), ..Precondition::default() };
    let mut nothing = removal("nothing", None);
    nothing.condition.if_match = Some(EtagMatch::Any);
    let answers = index.delete("b", vec![wrong, right, nothing], at(3)).await.unwrap();
    assert!(matches!(answers[0], Err(Error::PreconditionFailed(_))));
    assert!(answers[1].as_ref().unwrap().found);
    assert!(matches!(answers[2], Err(Error::NoSuchKey)));
    assert!(index.get("b", "nothing", None).unwrap().is_none(), "a refusal leaves no marker");
}

#[tokio::test]
async fn buckets_come_and_go() {
    let index = memory().await;
    assert!(matches!(index.bucket_create(new_bucket("b", false)).await, Err(Error::BucketExists)));
    put(&index, "k", "1").await.unwrap();
    assert!(matches!(index.bucket_delete("b").await, Err(Error::BucketNotEmpty)));
    index.delete("b", vec![removal("k", None)], at(3)).await.unwrap();
    for n in 0..5 {
        index.upload_create(target(&format!("u{n}")), NewObject::default(), Encryption::None).await.unwrap();
    }
    index.bucket_delete("b").await.unwrap();
    assert!(index.bucket("b").unwrap().is_none());
    assert!(matches!(index.get("b", "k", None), Err(Error::NoSuchBucket)));
    assert!(matches!(index.delete("b", vec![], at(3)).await, Err(Error::NoSuchBucket)));
    index.bucket_create(new_bucket("b", false)).await.unwrap();
    let all = UploadQuery { max: 10, ..UploadQuery::default() };
    assert!(index.uploads("b", &all).await.unwrap().uploads.is_empty());
    // The uploads of a bucket become garbage after the bucket did.
    sweep(&index).await;
    sweep(&index).await;
    let stats = index.stats().await.unwrap();
    assert_eq!((stats.buckets, stats.uploads, stats.garbage), (1, 0, 0));

    let set = |text: Option<&str>| BucketChange::Document("policy".into(), text.map(str::to_owned));
    index.bucket_change("b", set(Some("{}"))).await.unwrap();
    assert_eq!(index.bucket("b").unwrap().unwrap().documents["policy"], "{}");
    index.bucket_change("b", set(None)).await.unwrap();
    assert!(index.bucket("b").unwrap().unwrap().documents.is_empty());
    assert_eq!(index.buckets(Some(&ProjectId::default_project())).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_content_with_two_names_goes_with_the_second() {
    let index = memory().await;
    let first = put(&index, "a", "body").await.unwrap();
    let second = index.put_shared(first.clone(), target("b"), NewObject::default()).await.unwrap();
    assert_eq!((second.content, &second.etag), (first.content, &first.etag));
    let onto_itself = NewObject { owner: "other".into(), ..NewObject::default() };
    let first = index.put_shared(first, target("a"), onto_itself).await.unwrap();
    sweep(&index).await;
    index.delete("b", vec![removal("a", None)], at(3)).await.unwrap();
    sweep(&index).await;
    assert_eq!(body(&index, &second), b"body");
    let gone = index.put_shared(first, target("c"), NewObject::default()).await;
    assert!(matches!(gone, Err(Error::NoSuchVersion)));
    index.delete("b", vec![removal("b", None)], at(3)).await.unwrap();
    assert_eq!(body(&index, &second), b"body", "who has read its name can read it until it is reclaimed");
    sweep(&index).await;
    assert!(index.extents(second.content, 0..4).unwrap().is_none());
    assert!(index.get("b", "a", Some(&VersionId("no such id".into()))).unwrap().is_none());
}
