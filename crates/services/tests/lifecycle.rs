//! Lifecycles on the real store: what is due goes, and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use muonic_policy::lifecycle::{And, Expiration, Filter, Lifecycle as Rules, NoncurrentExpiration, Rule, Tag};
use muonic_ports::object_store::*;
use muonic_ports::{Clock, ObjectStore};
use muonic_services::Lifecycle;
use muonic_services::lifecycle::Done;
use muonic_types::{ProjectId, Timestamp};

/// Shorter than a day, so that nothing is rounded to midnight.
const DAY: Duration = Duration::from_secs(100);
const BUCKET: &str = "kept-for-days";

struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).expect("an instant")
    }
}

struct World {
    store: Arc<dyn ObjectStore>,
    clock: Arc<TestClock>,
    lifecycle: Lifecycle,
    _root: tempfile::TempDir,
}

impl World {
    async fn new(versioning: bool, lock: bool, rules: Vec<Rule>) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let keys = root.path().join("store.keys");
        let opened = muonic_store::open(&root.path().join("store"), &keys, &Default::default()).await.expect("a store");
        let store: Arc<dyn ObjectStore> = Arc::new(opened.0);
        let clock = Arc::new(TestClock(AtomicI64::new(1_790_000_000)));
        let rules = Rules::new(rules).expect("good rules");
        let documents = BTreeMap::from([("lifecycle".to_owned(), serde_json::to_string(&rules).expect("JSON"))]);
        let project = ProjectId::default_project();
        let new = NewBucket { name: BUCKET.to_owned(), project, at: clock.now(), lock, documents };
        store.bucket_create(new).await.expect("a bucket");
        if versioning {
            store.bucket_change(BUCKET, BucketChange::Versioning(Versioning::On)).await.expect("versioning");
        }
        let lifecycle = Lifecycle::new(store.clone(), clock.clone(), DAY);
        Self { store, clock, lifecycle, _root: root }
    }

    async fn put_as(&self, key: &str, new: NewObject) -> VersionId {
        let target = self.target(key);
        let body = Bytes::from(format!("{key} at {}", self.clock.now()));
        let body = Box::pin(futures_util::stream::once(async { Ok(body) }));
        self.store.put(target, new, body, no_check()).await.expect("put").version
    }

    async fn put(&self, key: &str) -> VersionId {
        self.put_as(key, NewObject::default()).await
    }

    fn target(&self, key: &str) -> Target {
        let condition = Precondition::default();
        Target { bucket: BUCKET.to_owned(), key: key.to_owned(), condition, at: self.clock.now() }
    }

    fn days_pass(&self, days: i64) {
        self.clock.0.fetch_add(days * DAY.as_secs() as i64 + 1, Ordering::SeqCst);
    }

    async fn listed(&self, versions: bool) -> Vec<String> {
        let query = ListQuery { max: 1000, versions, ..ListQuery::default() };
        let page = self.store.list(BUCKET, &query).await.expect("a list");
        page.objects.iter().map(|o| format!("{}{}", o.key, if o.is_delete_marker { " (marker)" } else { "" })).collect()
    }

    async fn round(&self) -> Done {
        self.lifecycle.round().await.expect("a round")
    }
}

fn rule(filter: Filter) -> Rule {
    Rule {
        id: String::new(),
        enabled: true,
        filter,
        expiration: None,
        noncurrent: None,
        abort_incomplete_days: None,
        transitions: false,
        transition_dates: Vec::new(),
    }
}

fn expires(filter: Filter, days: i32) -> Rule {
    Rule { expiration: Some(Expiration { days: Some(days), ..Expiration::default() }), ..rule(filter) }
}

#[tokio::test]
async fn objects_expire_by_prefix_and_tag() {
    let tag = Tag { key: "keep".to_owned(), value: "no".to_owned() };
    let tagged = Filter::And(And { prefix: Some("t/".to_owned()), tags: vec![tag], ..And::default() });
    let rules = vec![expires(Filter::Prefix("logs/".to_owned()), 2), expires(tagged, 1)];
    let world = World::new(false, false, rules).await;
    let tags = BTreeMap::from([("keep".to_owned(), "no".to_owned())]);
    for key in ["a", "logs/1", "logs/2", "t/stays"] {
        world.put(key).await;
    }
    world.put_as("t/goes", NewObject { tags, ..NewObject::default() }).await;
    assert_eq!(world.round().await, Done::default());
    world.days_pass(1);
    assert_eq!(world.round().await, Done { removed: 1, aborted: 0 });
    assert_eq!(world.listed(false).await, ["a", "logs/1", "logs/2", "t/stays"]);
    world.put("logs/2").await;
    world.days_pass(1);
    assert_eq!(world.round().await.removed, 1, "what was written again starts anew");
    assert_eq!(world.listed(false).await, ["a", "logs/2", "t/stays"]);
}

#[tokio::test]
async fn old_versions_and_lonely_markers_go() {
    let noncurrent = Some(NoncurrentExpiration { days: 1, newer_versions: Some(1) });
    let world = World::new(true, false, vec![Rule { noncurrent, ..expires(Filter::All, 3) }]).await;
    for _ in 0..4 {
        world.put("key").await;
    }
    world.days_pass(1);
    assert_eq!(world.round().await.removed, 2, "the latest and one more are kept");
    assert_eq!(world.listed(true).await, ["key", "key"]);
    world.days_pass(2);
    assert_eq!(world.round().await.removed, 1, "the latest gets a marker over it");
    assert_eq!(world.listed(true).await, ["key (marker)", "key", "key"]);
    // One noncurrent version is kept for good by the rule, so remove it by hand.
    world.days_pass(1);
    world.round().await;
    let query = ListQuery { max: 10, versions: true, ..ListQuery::default() };
    for object in world.store.list(BUCKET, &query).await.expect("a list").objects {
        if !object.is_delete_marker {
            let guard = LockGuard { now: world.clock.now(), bypass: false };
            let removal = Removal {
                key: object.key,
                version: Some(object.version),
                condition: Precondition::default(),
                guard,
                owner: String::new(),
                expired: false,
            };
            world.store.delete(BUCKET, vec![removal], world.clock.now()).await.expect("delete");
        }
    }
    assert_eq!(world.listed(true).await, ["key (marker)"]);
    world.days_pass(3);
    assert_eq!(world.round().await.removed, 1);
    assert!(world.listed(true).await.is_empty());
}

#[tokio::test]
async fn uploads_nobody_finishes_are_aborted() {
    let world = World::new(false, false, vec![Rule { abort_incomplete_days: Some(2), ..rule(Filter::All) }]).await;
    let old = world.store.upload_create(world.target("old"), NewObject::default()).await.expect("an upload");
    world.days_pass(2);
    let young = world.store.upload_create(world.target("young"), NewObject::default()).await.expect("an upload");
    assert_eq!(world.round().await, Done { removed: 0, aborted: 1 });
    assert!(matches!(world.store.upload(BUCKET, "old", &old.id).await, Err(Error::NoSuchUpload)));
    world.store.upload(BUCKET, "young", &young.id).await.expect("it is open");
}

#[tokio::test]
async fn what_is_locked_stays() {
    let noncurrent = Some(NoncurrentExpiration { days: 1, newer_versions: None });
    let world = World::new(true, true, vec![Rule { noncurrent, ..rule(Filter::All) }]).await;
    world.put_as("key", NewObject { legal_hold: true, ..NewObject::default() }).await;
    world.put("key").await;
    world.put("key").await;
    world.days_pass(1);
    assert_eq!(world.round().await.removed, 1);
    assert_eq!(world.listed(true).await, ["key", "key"]);
}
