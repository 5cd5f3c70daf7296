use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use muonic_types::endpoint::{
    Canary, Endpoint, EndpointState, MetricRule, PerReplica, Release, ReplicaState, RevisionState, Scale,
};
use muonic_types::key::{Key, Role};
use muonic_types::{Digest, Name, ReplicaId};

use super::world::{
    at, digest, is_conflict, is_not_found, key, model_version, other_project, parse, price, project, replica_id,
    resources, tree,
};
use crate::Metastore;
use crate::metastore::{NewRevisionRecord, ReplicaRecord};

pub async fn run(store: &Arc<dyn Metastore>) {
    let tree = tree(store, "an endpoint's model").await;
    releases(store, tree).await;
    stepwise(store, tree).await;
    learned(store, tree).await;
    replicas(store, tree).await;
    deletion(store, tree).await;
    races(store, tree).await;
}

fn revision(tree: Digest, version: u32) -> NewRevisionRecord {
    NewRevisionRecord {
        model: model_version("served", version),
        tree,
        replicas: 2,
        scale: None,
        resources: resources(),
        release: Release::AllAtOnce,
    }
}

fn record(id: &ReplicaId, tree: Digest, launched: i64) -> ReplicaRecord {
    ReplicaRecord {
        id: id.clone(),
        endpoint: id.endpoint(),
        project: project(),
        revision: id.revision(),
        model: model_version("served", 1),
        tree,
        state: ReplicaState::Launching,
        reason: None,
        address: None,
        resources: resources(),
        price: price(),
        key: Key { replica: Some(id.clone()), ..key(id.as_str(), Role::Replica) },
        launched_at: at(launched),
        ready_at: None,
        ended_at: None,
    }
}

/// What is said of scale and release is kept, and where the release stands.
async fn stepwise(store: &Arc<dyn Metastore>, tree: Digest) {
    let name: Name = parse("e-step");
    let scale = Scale { min: 0, max: 3, per_replica: PerReplica::QueueTimeS(0.5), idle_s: Some(60.0) };
    let rule = MetricRule { name: "accuracy".into(), min: Some(0.9), max: None, values_min: 5 };
    let release = Release::Canary(Canary { metric: Some(rule), ..Canary::default() });
    let first = NewRevisionRecord { replicas: 0, scale: Some(scale), ..revision(tree, 1) };
    store.endpoint_create(&project(), &name, &first, at(1)).await.expect("endpoint_create");
    store.revision_activate(&name, 1, at(2)).await.expect("revision_activate");
    let asleep = store.endpoint_get(&project(), &name).await.expect("endpoint_get");
    assert_eq!((asleep.state, asleep.revisions[0].scale), (EndpointState::Sleeping, Some(scale)));
    is_conflict(store.endpoint_promote(&project(), &name).await);
    is_conflict(store.revision_step(&name, 1, 1).await);

    let second = NewRevisionRecord { release: release.clone(), ..revision(tree, 2) };
    let moving = store.endpoint_release(&project(), &name, &second, at(3)).await.expect("endpoint_release");
    assert_eq!((&moving.revisions[0].release, moving.revisions[0].step), (&release, 0));
    store.revision_step(&name, 2, 2).await.expect("revision_step");
    is_conflict(store.revision_step(&name, 1, 1).await);
    let now = store.endpoint_get(&project(), &name).await.expect("endpoint_get");
    assert_eq!((now.revisions[0].step, now.state), (2, EndpointState::Releasing));
    is_not_found(store.endpoint_promote(&other_project(), &name).await);
    let promoted = store.endpoint_promote(&project(), &name).await.expect("endpoint_promote");
    assert_eq!((&promoted.revisions[0].release, promoted.revisions[0].step), (&Release::AllAtOnce, 0));
    assert_eq!((promoted.active, promoted.target), (Some(1), Some(2)), "its replicas may not be ready");
    store.revision_activate(&name, 2, at(4)).await.expect("revision_activate");

    let third = NewRevisionRecord { release, ..revision(tree, 3) };
    store.endpoint_release(&project(), &name, &third, at(5)).await.expect("endpoint_release");
    store.revision_step(&name, 3, 1).await.expect("revision_step");
    store.revision_failed(&name, 3, "it did badly", at(6)).await.expect("revision_failed");
    let again = store.endpoint_retarget(&project(), &name, 3, at(7)).await.expect("endpoint_retarget");
    assert_eq!((&again.revisions[0].release, again.revisions[0].step), (&Release::AllAtOnce, 0));
}

async fn learned(store: &Arc<dyn Metastore>, tree: Digest) {
    let name: Name = parse("e-learned");
    store.endpoint_create(&project(), &name, &revision(tree, 1), at(1)).await.expect("endpoint_create");
    let own = async || {
        let all = store.endpoints_learned().await.expect("endpoints_learned");
        all.into_iter().find(|(of, _)| *of == name).map(|(_, document)| document)
    };
    assert_eq!(own().await, None);
    for document in ["{}", "{\"gaps\": 1}"] {
        let learned = [(name.clone(), document.to_owned()), (parse("e-gone"), "{}".to_owned())];
        store.endpoints_learn(&learned).await.expect("endpoints_learn");
        assert_eq!(own().await.as_deref(), Some(document));
    }
}

fn states(endpoint: &Endpoint) -> Vec<(u32, RevisionState)> {
    endpoint.revisions.iter().map(|r| (r.number, r.state)).collect()
}

async fn releases(store: &Arc<dyn Metastore>, tree: Digest) {
    use RevisionState::{Active, Failed, Pending, Retired};
    let name: Name = parse("e-release");
    let get = async || store.endpoint_get(&project(), &name).await.expect("endpoint_get");
    is_not_found(store.endpoint_get(&project(), &name).await);
    is_not_found(store.endpoint_release(&project(), &name, &revision(tree, 1), at(1)).await);
    is_not_found(store.endpoint_create(&project(), &name, &revision(digest("no such tree"), 1), at(1)).await);
    let made = store.endpoint_create(&project(), &name, &revision(tree, 1), at(1)).await.expect("endpoint_create");
    assert_eq!(made, get().await);
    assert_eq!((made.active, made.target, made.state), (None, Some(1), EndpointState::Deploying));
    assert_eq!((made.path.as_str(), made.created_at, made.cost_usd), ("/endpoints/e-release", at(1), 0.0));
    assert_eq!(made.revisions[0].model, model_version("served", 1));
    assert_eq!((made.revisions[0].replicas, made.revisions[0].resources), (2, resources()));
    is_conflict(store.endpoint_create(&project(), &name, &revision(tree, 1), at(2)).await);
    is_conflict(store.endpoint_create(&other_project(), &name, &revision(tree, 1), at(2)).await);
    is_not_found(store.endpoint_get(&other_project(), &name).await);

    store.revision_waits(&name, 1, Some("the machine is full")).await.expect("revision_waits");
    assert_eq!(get().await.revisions[0].reason.as_deref(), Some("the machine is full"));
    is_conflict(store.revision_activate(&name, 2, at(3)).await);
    is_conflict(store.revision_failed(&name, 2, "no", at(3)).await);
    store.revision_activate(&name, 1, at(3)).await.expect("revision_activate");
    let now = get().await;
    assert_eq!((now.active, now.target, now.state), (Some(1), None, EndpointState::Unavailable));
    assert_eq!((now.revisions[0].activated_at, &now.revisions[0].reason), (Some(at(3)), &None));
    is_conflict(store.revision_activate(&name, 1, at(4)).await);
    store.revision_waits(&name, 1, Some("late")).await.expect("revision_waits");
    assert_eq!(get().await, now, "only a pending revision waits");

    let now = store.endpoint_release(&project(), &name, &revision(tree, 2), at(5)).await.expect("endpoint_release");
    assert_eq!((now.active, now.target, now.state), (Some(1), Some(2), EndpointState::Releasing));
    let now = store.endpoint_release(&project(), &name, &revision(tree, 3), at(6)).await.expect("endpoint_release");
    assert_eq!(
        states(&now),
        [(3, Pending), (2, Retired), (1, Active)],
        "newest first; a target passed over is retired"
    );
    store.revision_failed(&name, 3, "does not load", at(7)).await.expect("revision_failed");
    let now = get().await;
    assert_eq!(states(&now), [(3, Failed), (2, Retired), (1, Active)]);
    assert_eq!((now.target, now.revisions[0].reason.as_deref()), (None, Some("does not load")));

    let now = store.endpoint_retarget(&project(), &name, 2, at(8)).await.expect("endpoint_retarget");
    assert_eq!((states(&now), now.target), (vec![(3, Failed), (2, Pending), (1, Active)], Some(2)));
    let now = store.endpoint_retarget(&project(), &name, 3, at(8)).await.expect("endpoint_retarget");
    assert_eq!(states(&now), [(3, Pending), (2, Retired), (1, Active)]);
    assert_eq!(now.revisions[0].reason, None);
    store.revision_activate(&name, 3, at(9)).await.expect("revision_activate");
    assert_eq!(states(&get().await), [(3, Active), (2, Retired), (1, Retired)]);
    store.endpoint_retarget(&project(), &name, 1, at(10)).await.expect("endpoint_retarget");
    let now = store.endpoint_retarget(&project(), &name, 3, at(11)).await.expect("back to the active one");
    assert_eq!((states(&now), now.target), (vec![(3, Active), (2, Retired), (1, Retired)], None));
    assert_eq!(now.revisions[0].activated_at, Some(at(9)), "nothing else changes");
    is_not_found(store.endpoint_retarget(&project(), &name, 9, at(12)).await);
    is_not_found(store.endpoint_retarget(&other_project(), &name, 1, at(12)).await);
}

async fn replicas(store: &Arc<dyn Metastore>, tree: Digest) {
    let name: Name = parse("e-replicas");
    store.endpoint_create(&project(), &name, &revision(tree, 1), at(1)).await.expect("endpoint_create");
    let get = async || store.endpoint_get(&project(), &name).await.expect("endpoint_get");
    assert_eq!(store.replica_next(&name, 1).await.expect("replica_next"), 1);
    let (a, b) = (replica_id("e-replicas", 1, 1), replica_id("e-replicas", 1, 2));
    store.replica_insert(&record(&a, tree, 10)).await.expect("replica_insert");
    is_conflict(store.replica_insert(&record(&a, tree, 10)).await);
    store.replica_insert(&record(&b, tree, 11)).await.expect("replica_insert");
    is_not_found(store.replica_insert(&record(&replica_id("e-replicas", 9, 1), tree, 10)).await);
    is_not_found(store.replica_insert(&record(&replica_id("e-none", 1, 1), tree, 10)).await);
    assert_eq!(store.replica_next(&name, 1).await.expect("replica_next"), 3);
    assert!(store.key_list().await.expect("key_list").contains(&record(&a, tree, 10).key));
    let launched = store.replica_get(&a).await.expect("replica_get");
    assert_eq!((&launched.key, launched.tree, launched.price), (&record(&a, tree, 10).key, tree, price()));
    assert_eq!((launched.state, launched.launched_at), (ReplicaState::Launching, at(10)));
    is_not_found(store.replica_get(&replica_id("e-replicas", 1, 9)).await);

    is_not_found(store.replica_ready(&replica_id("e-replicas", 1, 9), "unix:/x", at(12)).await);
    store.replica_ready(&a, "unix:/a", at(12)).await.expect("replica_ready");
    store.replica_ready(&a, "unix:/a", at(13)).await.expect("the same again");
    assert_eq!(store.replica_get(&a).await.expect("replica_get").ready_at, Some(at(12)), "changes nothing");
    is_conflict(store.replica_ready(&a, "unix:/elsewhere", at(13)).await);
    store.revision_activate(&name, 1, at(14)).await.expect("revision_activate");
    assert_eq!(get().await.state, EndpointState::Ready);
    store.replica_drain(&a).await.expect("replica_drain");
    store.replica_drain(&a).await.expect("draining a draining one");
    is_conflict(store.replica_ready(&a, "unix:/a", at(15)).await);
    assert_eq!(get().await.state, EndpointState::Unavailable);
    store.replica_drain(&b).await.expect("a launching one may be drained");

    store.replica_end(&a, ReplicaState::Stopped, None, at(20)).await.expect("replica_end");
    store.replica_end(&a, ReplicaState::Failed, Some("late"), at(30)).await.expect("ending an ended one");
    let ended = store.replica_get(&a).await.expect("replica_get");
    assert_eq!((ended.state, ended.ended_at, ended.reason), (ReplicaState::Stopped, Some(at(20)), None));
    is_conflict(store.replica_drain(&a).await);
    is_conflict(store.replica_ready(&a, "unix:/a", at(21)).await);
    is_not_found(store.replica_end(&replica_id("e-replicas", 1, 9), ReplicaState::Stopped, None, at(20)).await);
    assert!(store.replica_end(&b, ReplicaState::Ready, None, at(20)).await.is_err(), "ready is not an end");
    let keys: BTreeSet<_> = store.key_list().await.expect("key_list").into_iter().map(|k| k.id).collect();
    assert!(!keys.contains(&ended.key.id), "an ended replica's key is revoked");
    assert!((get().await.cost_usd - 1.0).abs() < 1e-9, "ten seconds at ten cents");

    let live = store.replicas_live().await.expect("replicas_live");
    let live: Vec<_> = live.iter().filter(|r| r.endpoint == name).map(|r| &r.id).collect();
    assert_eq!(live, [&b]);
    for n in 3..=9 {
        let id = replica_id("e-replicas", 1, n);
        store.replica_insert(&record(&id, tree, 30)).await.expect("replica_insert");
        let end = at(30 + i64::from(n));
        store.replica_end(&id, ReplicaState::Failed, Some("broke"), end).await.expect("replica_end");
    }
    let shown = get().await.replicas;
    let shown: Vec<_> = shown.iter().map(|r| r.id.as_str()).collect();
    let newest = [9, 8, 7, 6, 5].map(|n| format!("e-replicas.1.{n}"));
    assert_eq!(shown[0], b.as_str(), "live ones first");
    assert_eq!(shown[1..], newest, "then up to five ended ones, newest first");
}

async fn deletion(store: &Arc<dyn Metastore>, tree: Digest) {
    let name: Name = parse("e-deleted");
    store.endpoint_create(&project(), &name, &revision(tree, 1), at(1)).await.expect("endpoint_create");
    let id = replica_id("e-deleted", 1, 1);
    store.replica_insert(&record(&id, tree, 10)).await.expect("replica_insert");
    is_conflict(store.endpoint_remove(&name).await);
    is_not_found(store.endpoint_delete(&other_project(), &name, at(11)).await);
    let going = store.endpoint_delete(&project(), &name, at(11)).await.expect("endpoint_delete");
    assert_eq!(going, store.endpoint_get(&project(), &name).await.expect("endpoint_get"));
    store.endpoint_delete(&project(), &name, at(12)).await.expect("deleting twice");
    let now = store.endpoint_get(&project(), &name).await.expect("endpoint_get");
    assert_eq!(now.state, EndpointState::Deleting);
    is_conflict(store.endpoint_release(&project(), &name, &revision(tree, 2), at(12)).await);
    is_conflict(store.endpoint_retarget(&project(), &name, 1, at(12)).await);
    is_conflict(store.replica_insert(&record(&replica_id("e-deleted", 1, 2), tree, 12)).await);
    is_conflict(store.endpoint_create(&project(), &name, &revision(tree, 1), at(12)).await);
    is_conflict(store.endpoint_remove(&name).await);
    store.replica_end(&id, ReplicaState::Stopped, None, at(20)).await.expect("replica_end");
    let before = store.counts().await.expect("counts").endpoints;
    store.endpoint_remove(&name).await.expect("endpoint_remove");
    assert_eq!(store.counts().await.expect("counts").endpoints, before - 1);
    is_not_found(store.endpoint_get(&project(), &name).await);
    is_not_found(store.endpoint_remove(&name).await);
    is_not_found(store.endpoint_delete(&project(), &name, at(21)).await);

    // Its replica is still known, its usage stays, its ids are not used again.
    assert_eq!(store.replica_get(&id).await.expect("replica_get").tree, tree);
    let usage = store.usage(&project()).await.expect("usage");
    let usage: Vec<_> = usage.iter().filter(|u| u.kind == "endpoint" && u.name == name.as_str()).collect();
    assert_eq!((usage.len(), usage[0].unit.as_str()), (1, id.as_str()));
    assert_eq!((usage[0].started_at, usage[0].ended_at, usage[0].price), (at(10), Some(at(20)), price()));
    let again = store.endpoint_create(&project(), &name, &revision(tree, 1), at(30)).await.expect("endpoint_create");
    assert!(again.replicas.is_empty() && again.cost_usd == 0.0 && again.revisions.len() == 1, "a fresh start");
    assert_eq!(store.replica_next(&name, 1).await.expect("replica_next"), 2);
    is_conflict(store.replica_insert(&record(&id, tree, 31)).await);

    let other = NewRevisionRecord { replicas: 1, ..revision(tree, 1) };
    store.endpoint_create(&other_project(), &parse("e-other"), &other, at(1)).await.expect("endpoint_create");
    let mine = store.endpoint_list(&project()).await.expect("endpoint_list");
    assert!(mine.is_sorted_by_key(|e| e.name.clone()) && mine.iter().all(|e| e.project == project()));
    let all = store.endpoints_all().await.expect("endpoints_all");
    assert_eq!(all.len(), mine.len() + store.endpoint_list(&other_project()).await.expect("endpoint_list").len());
    assert!(mine.iter().all(|e| all.contains(e)));
}

async fn races(store: &Arc<dyn Metastore>, tree: Digest) {
    let name: Name = parse("e-raced");
    store.endpoint_create(&project(), &name, &revision(tree, 1), at(1)).await.expect("endpoint_create");
    let releases = (0..8).map(|_| {
        let (store, name) = (Arc::clone(store), name.clone());
        tokio::spawn(async move {
            let now = store.endpoint_release(&project(), &name, &revision(tree, 2), at(2)).await;
            now.expect("endpoint_release").target.expect("a target")
        })
    });
    let targets: BTreeSet<u32> = join_all(releases).await.into_iter().map(|t| t.expect("joined")).collect();
    assert_eq!(targets, (2..=9).collect(), "releases at once are distinct revisions");
    let now = store.endpoint_get(&project(), &name).await.expect("endpoint_get");
    let pending = now.revisions.iter().filter(|r| r.state == RevisionState::Pending).count();
    assert_eq!(pending, 1, "only one of them is the target");
    let target = now.target.expect("a target");
    let moves = (0..8).map(|n| {
        let (store, name) = (Arc::clone(store), name.clone());
        tokio::spawn(async move {
            match n % 2 {
                0 => store.revision_activate(&name, target, at(3)).await.is_ok(),
                _ => store.revision_failed(&name, target, "no", at(3)).await.is_ok(),
            }
        })
    });
    let moved = join_all(moves).await.into_iter().filter(|m| *m.as_ref().expect("joined")).count();
    assert_eq!(moved, 1, "a target is activated or given up, once");
}
