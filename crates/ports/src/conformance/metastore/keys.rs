use std::sync::Arc;

use muonic_types::key::{Key, KeyLimits, Role};

use super::world::{at, is_conflict, is_not_found, key, key_id, other_project, parse, replica_id};
use crate::Metastore;

pub async fn run(store: &Arc<dyn Metastore>) {
    let roles = [Role::Admin, Role::Member, Role::Viewer, Role::Invoker, Role::Task, Role::Replica];
    for (n, role) in roles.into_iter().enumerate() {
        let expires_at = (n % 2 == 0).then(|| at(9));
        let key = Key {
            project: other_project(),
            expires_at,
            attempt: (role == Role::Task).then(|| parse("keyed-1.1")),
            replica: (role == Role::Replica).then(|| replica_id("keyed", 1, 1)),
            limits: KeyLimits { requests_per_minute: expires_at.map(|_| 60), tokens_per_minute: None },
            ..key(&format!("keys {n}"), role)
        };
        store.key_insert(&key).await.expect("key_insert");
        let listed = store.key_list().await.expect("key_list");
        assert!(listed.contains(&key), "a key comes back as it was stored: {key:?} in {listed:?}");
        is_conflict(store.key_insert(&key).await);
    }
    let id = key_id("keys 0");
    store.key_revoke(&id).await.expect("key_revoke");
    store.key_revoke(&id).await.expect("revoking a revoked key changes nothing");
    let listed = store.key_list().await.expect("key_list");
    assert!(listed.iter().all(|k| k.id != id), "a revoked key is not listed");
    assert!(listed.iter().any(|k| k.id == key_id("keys 2")), "an expired key is listed");
    is_conflict(store.key_insert(&key("keys 0", Role::Admin)).await);
    is_not_found(store.key_revoke(&key_id("keys never made")).await);
}
