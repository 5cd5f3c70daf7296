//! Object lock.

use muonic_types::Timestamp;

use super::new_bucket;
use super::world::*;
use crate::ObjectStore;
use crate::conformance::blob_store::{noise, pieces};
use crate::object_store::*;

const LOCKED: &str = "locked-bucket";

fn guard_at(now: Timestamp, bypass: bool) -> LockGuard {
    LockGuard { now, bypass }
}

async fn remove(store: &dyn ObjectStore, version: &VersionId, guard: LockGuard) -> Result<Deleted> {
    let removal = Removal { guard, ..removal("key", Some(version)) };
    store.delete(LOCKED, vec![removal], guard.now).await.expect("delete").remove(0)
}

pub(super) async fn all(store: &dyn ObjectStore) {
    let made = store.bucket_create(new_bucket(LOCKED, true)).await.expect("a bucket");
    assert_eq!((made.versioning, made.lock), (Versioning::On, true));
    let refused = store.bucket_change(LOCKED, BucketChange::Versioning(Versioning::Suspended)).await;
    assert!(matches!(refused, Err(Error::BucketState(_))), "{refused:?}");

    let retained = |mode| Retention { mode, until: at(100) };
    let mut left = Vec::new();
    for mode in [RetentionMode::Governance, RetentionMode::Compliance] {
        let new = NewObject { retention: Some(retained(mode)), ..owned() };
        let body = pieces(&noise(1, 10), 10);
        let version = store.put(target_in(LOCKED, "key"), new, body, no_check()).await.expect("put").version;
        let refused = remove(store, &version, guard_at(at(99), false)).await;
        assert!(matches!(refused, Err(Error::Retained(m)) if m == mode), "{refused:?}");

        let shorter = ObjectChange::Retention(Some(Retention { mode, until: at(50) }), guard_at(at(10), false));
        let refused = store.change(LOCKED, "key", Some(&version), shorter).await;
        assert!(matches!(refused, Err(Error::Retained(_))), "{refused:?}");
        let longer = ObjectChange::Retention(Some(Retention { mode, until: at(200) }), guard_at(at(10), false));
        let longer = store.change(LOCKED, "key", Some(&version), longer).await.expect("longer is no weakening");
        assert_eq!(longer.retention, Some(Retention { mode, until: at(200) }));
        let other = match mode {
            RetentionMode::Governance => RetentionMode::Compliance,
            RetentionMode::Compliance => RetentionMode::Governance,
        };
        let other = ObjectChange::Retention(Some(Retention { mode: other, until: at(300) }), guard_at(at(10), false));
        let refused = store.change(LOCKED, "key", Some(&version), other).await;
        assert!(matches!(refused, Err(Error::Retained(_))), "{refused:?}");

        let bypassed = remove(store, &version, guard_at(at(150), true)).await;
        match mode {
            RetentionMode::Governance => assert!(bypassed.is_ok(), "{bypassed:?}"),
            RetentionMode::Compliance => {
                assert!(matches!(bypassed, Err(Error::Retained(_))), "{bypassed:?}");
                left.push(version);
            }
        }
    }
    for version in left {
        store.change(LOCKED, "key", Some(&version), ObjectChange::LegalHold(true)).await.expect("a hold");
        let refused = remove(store, &version, guard_at(at(300), true)).await;
        assert!(matches!(refused, Err(Error::LegalHold)), "{refused:?}");
        store.change(LOCKED, "key", Some(&version), ObjectChange::LegalHold(false)).await.expect("no hold");
        remove(store, &version, guard_at(at(300), false)).await.expect("its time is over");
    }
    store.bucket_delete(LOCKED).await.expect("empty");
}
