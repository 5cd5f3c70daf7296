//! Endpoints from deployment over release and rollback to deletion, with an
//! engine that the test moves.

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use muonic_ports::routes::{Arm, Share};
use muonic_types::endpoint::{Endpoint, EndpointState, NewEndpoint, NewMetric, NewRevision, Rollback};
use muonic_types::model::NewModelVersion;
use muonic_types::task::{ReplicaFailed, ReplicaReady};
use muonic_types::{ErrorCode, Name, ReplicaId};
use support::{Cloud, replica, until};

fn name() -> Name {
    "live".parse().expect("a name")
}

/// Registers `versions` versions of a model that could be served.
async fn models(cloud: &Cloud, versions: u32) {
    register(cloud, &["model.onnx"], versions).await;
}

async fn register(cloud: &Cloud, files: &[&str], versions: u32) {
    let tree = cloud.put_empty_files(files).await;
    let models = muonic_services::Models::new(cloud.meta.clone(), cloud.clock.clone());
    for _ in 0..versions {
        models.register(&cloud.admin, &name(), NewModelVersion { tree: tree.digest }).await.expect("registered");
    }
}

fn revision(version: u32) -> NewRevision {
    serde_json::from_str(&format!(r#"{{"model": "live@{version}"}}"#)).expect("a revision")
}

async fn deploy(cloud: &Cloud) {
    let new = NewEndpoint { name: name(), revision: revision(1) };
    cloud.endpoints.create(&cloud.admin, new).await.expect("deployed");
}

/// Waits for the launch and says that the replica is ready.
async fn become_ready(cloud: &Cloud, id: &str) {
    until(&format!("{id} is launched"), async || cloud.engine.launched().contains(&replica(id)).then_some(())).await;
    let id: ReplicaId = id.parse().expect("a replica");
    let caller = cloud.unit(&replica(id.as_str()));
    let ready = ReplicaReady { address: format!("unix:/run/{id}") };
    cloud.endpoints.ready(&caller, &id, ready).await.expect("ready");
}

async fn look(cloud: &Cloud) -> Endpoint {
    cloud.endpoints.get(&cloud.admin, &name()).await.expect("an endpoint")
}

async fn active(cloud: &Cloud, number: u32) -> Endpoint {
    until(&format!("revision {number} is active"), async || {
        let endpoint = look(cloud).await;
        (endpoint.active == Some(number) && endpoint.target.is_none()).then_some(endpoint)
    })
    .await
}

async fn routed_to(cloud: &Cloud, id: &str) {
    until(&format!("traffic goes to {id}"), async || {
        let table = cloud.routes.borrow().clone();
        let route = table.routes.get(&name())?;
        (route.active.backends.len() == 1 && route.active.backends[0].replica.as_str() == id).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_and_nothing_is_made() {
    let cloud = Cloud::new(4000).await;
    models(&cloud, 1).await;
    register(&cloud, &["weights.bin", "src/handler.py"], 1).await;
    let refused = |e: muonic_services::Error| {
        assert_eq!(e.code, ErrorCode::InvalidRequest);
        assert!(e.message.starts_with("live@2 cannot be served: the model has no .onnx file"), "{e}");
    };
    let new = NewEndpoint { name: name(), revision: revision(2) };
    refused(cloud.endpoints.create(&cloud.admin, new).await.expect_err("it cannot be served"));
    assert!(cloud.endpoints.list(&cloud.admin).await.expect("a list").endpoints.is_empty());
    deploy(&cloud).await;
    refused(cloud.endpoints.release(&cloud.admin, &name(), revision(2)).await.expect_err("it cannot be served"));
    assert_eq!(look(&cloud).await.revisions.len(), 1);
}

#[tokio::test]
async fn a_release_moves_traffic_once_ready_and_lets_the_old_replica_finish() {
    let cloud = Cloud::new(4000).await;
    models(&cloud, 2).await;
    deploy(&cloud).await;
    assert_eq!(look(&cloud).await.state, EndpointState::Deploying);
    become_ready(&cloud, "live.1.1").await;
    active(&cloud, 1).await;
    routed_to(&cloud, "live.1.1").await;
    let in_flight = cloud.routes.borrow().routes[&name()].active.backends[0].in_flight.clone();
    in_flight.fetch_add(1, Ordering::SeqCst);

    cloud.endpoints.release(&cloud.admin, &name(), revision(2)).await.expect("released");
    assert_eq!(look(&cloud).await.state, EndpointState::Releasing);
    routed_to(&cloud, "live.1.1").await;
    become_ready(&cloud, "live.2.1").await;
    active(&cloud, 2).await;
    routed_to(&cloud, "live.2.1").await;
    // The old one has a request in it.
    assert!(!cloud.engine.stops.lock().expect("stops").contains(&replica("live.1.1")));
    in_flight.fetch_sub(1, Ordering::SeqCst);
    until("the old replica is stopped", async || {
        cloud.engine.stops.lock().expect("stops").contains(&replica("live.1.1")).then_some(())
    })
    .await;
    cloud.engine.end(&replica("live.1.1"), "ended");
    until("the old unit is forgotten", async || (cloud.engine.units.lock().expect("units").len() == 1).then_some(()))
        .await;

    cloud.endpoints.rollback(&cloud.admin, &name(), Rollback::default()).await.expect("rolled back");
    become_ready(&cloud, "live.1.2").await;
    active(&cloud, 1).await;
    routed_to(&cloud, "live.1.2").await;
}

#[tokio::test]
async fn a_release_that_keeps_failing_is_given_up_and_the_active_revision_stays() {
    let cloud = Cloud::new(4000).await;
    models(&cloud, 2).await;
    deploy(&cloud).await;
    become_ready(&cloud, "live.1.1").await;
    active(&cloud, 1).await;
    cloud.endpoints.release(&cloud.admin, &name(), revision(2)).await.expect("released");
    for n in 1..=3 {
        let id = format!("live.2.{n}");
        until(&format!("{id} is launched"), async || cloud.engine.launched().contains(&replica(&id)).then_some(()))
            .await;
        let caller = cloud.unit(&replica(&id));
        let failed = ReplicaFailed { message: "the model is broken".into() };
        cloud.endpoints.failed(&caller, &id.parse().expect("a replica"), failed).await.expect("noted");
        cloud.engine.end(&replica(&id), "exited with code 1");
    }
    let endpoint =
        until("the release is given up", async || Some(look(&cloud).await).filter(|e| e.target.is_none())).await;
    assert_eq!((endpoint.active, endpoint.state), (Some(1), EndpointState::Ready));
    assert!(endpoint.revisions[0].reason.as_ref().is_some_and(|r| r.contains("the model is broken")), "{endpoint:?}");
    assert_eq!(cloud.engine.launched().len(), 4);
}

#[tokio::test]
async fn a_replica_that_dies_is_replaced_and_a_deleted_endpoint_leaves_nothing() {
    let cloud = Cloud::new(4000).await;
    models(&cloud, 1).await;
    deploy(&cloud).await;
    become_ready(&cloud, "live.1.1").await;
    active(&cloud, 1).await;
    cloud.engine.leave_unstarted(&replica("live.9.9"));
    cloud.engine.end(&replica("live.1.1"), "killed by signal 9");
    become_ready(&cloud, "live.1.2").await;
    routed_to(&cloud, "live.1.2").await;
    cloud.endpoints.delete(&cloud.admin, &name()).await.expect("deleted");
    until("the replica is stopped", async || {
        cloud.engine.stops.lock().expect("stops").contains(&replica("live.1.2")).then_some(())
    })
    .await;
    cloud.engine.end(&replica("live.1.2"), "ended");
    until("the endpoint is gone", async || {
        let gone = cloud.endpoints.get(&cloud.admin, &name()).await;
        gone.err().filter(|e| e.code == ErrorCode::NotFound)
    })
    .await;
    until("no unit is left", async || cloud.engine.units.lock().expect("units").is_empty().then_some(())).await;
    assert!(cloud.routes.borrow().routes.is_empty());
}

#[tokio::test]
async fn what_cannot_be_done_is_said_so() {
    let cloud = Cloud::new(1000).await;
    models(&cloud, 1).await;
    let missing = cloud.endpoints.release(&cloud.admin, &name(), revision(1)).await;
    assert_eq!(missing.unwrap_err().code, ErrorCode::NotFound);
    deploy(&cloud).await;
    let twice =
        cloud.endpoints.create(&cloud.admin, NewEndpoint { name: name(), revision: revision(1) }).await.unwrap_err();
    assert_eq!(twice.code, ErrorCode::Conflict);
    assert!(twice.hint.is_some_and(|h| h.contains("release")));
    let back = cloud.endpoints.rollback(&cloud.admin, &name(), Rollback::default()).await.unwrap_err();
    assert_eq!(back.code, ErrorCode::Conflict);
    let mut vast = revision(1);
    vast.resources = Some(serde_json::from_str(r#"{"cpu": "64", "memory": "1Gi"}"#).expect("resources"));
    let vast = cloud.endpoints.release(&cloud.admin, &name(), vast).await.unwrap_err();
    assert_eq!(vast.code, ErrorCode::Unschedulable);
}

/// A revision with more said of it, as JSON.
fn revision_with(version: u32, more: serde_json::Value) -> NewRevision {
    let mut whole = serde_json::json!({ "model": format!("live@{version}") });
    whole.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    serde_json::from_value(whole).expect("a revision")
}

#[tokio::test]
async fn an_endpoint_sleeps_and_a_request_that_waits_wakes_it() {
    let cloud = Cloud::new(4000).await;
    models(&cloud, 1).await;
    let revision = revision_with(1, serde_json::json!({ "scale": { "min": 0, "max": 2, "idle_s": 0.0 } }));
    cloud.endpoints.create(&cloud.admin, NewEndpoint { name: name(), revision }).await.expect("deployed");
    for round in 1..=3 {
        let id = format!("live.1.{round}");
        become_ready(&cloud, &id).await;
        if round == 1 {
            active(&cloud, 1).await;
        }
        until("nobody asks, so its replica is stopped", async || {
            cloud.engine.stops.lock().expect("stops").contains(&replica(&id)).then_some(())
        })
        .await;
        cloud.engine.end(&replica(&id), "ended");
        until("it sleeps", async || (look(&cloud).await.state == EndpointState::Sleeping).then_some(())).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(cloud.engine.launched().len(), round, "nothing wakes it by itself");
        let activity = cloud.routes.borrow().routes[&name()].activity.clone();
        let (visit, waiting) = (activity.enter(), activity.wait());
        until("it wakes", async || (cloud.engine.launched().len() == round + 1).then_some(())).await;
        assert_eq!(look(&cloud).await.state, EndpointState::Waking);
        drop((visit, waiting));
    }
}

/// What comes to the target now.
fn target(cloud: &Cloud) -> Option<(Arm, Share)> {
    cloud.routes.borrow().routes[&name()].target.clone()
}

/// An endpoint on revision 1, and revision 2 under release with a ready replica.
async fn releasing(cloud: &Cloud, release: serde_json::Value) -> (Arm, Share) {
    models(cloud, 2).await;
    deploy(cloud).await;
    become_ready(cloud, "live.1.1").await;
    active(cloud, 1).await;
    let new = revision_with(2, serde_json::json!({ "release": release }));
    cloud.endpoints.release(&cloud.admin, &name(), new).await.expect("released");
    until("its replica is launched", async || cloud.engine.launched().contains(&replica("live.2.1")).then_some(()))
        .await;
    assert!(target(cloud).is_none(), "it is not ready");
    become_ready(cloud, "live.2.1").await;
    until("it gets requests", async || target(cloud)).await
}

fn canary(more: serde_json::Value) -> serde_json::Value {
    let mut canary = serde_json::json!({ "kind": "canary", "steps": [10, 50], "step_s": 0.0, "requests_min": 5 });
    canary.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    canary
}

#[tokio::test]
async fn a_canary_that_does_well_walks_its_steps_and_is_promoted() {
    let cloud = Cloud::new(4000).await;
    let (arm, share) = releasing(&cloud, canary(serde_json::json!({}))).await;
    assert!(matches!(share, Share::Percent { percent: 10.0, .. }), "{share:?}");
    let answers = |n| (0..n).for_each(|_| arm.tally.count(Duration::from_millis(2), false));
    let progress = until("it is shown", async || look(&cloud).await.progress).await;
    assert_eq!((progress.revision, progress.percent, progress.new.requests), (2, 10.0, 0));
    answers(5);
    until("the second step", async || {
        target(&cloud).filter(|(_, share)| matches!(share, Share::Percent { percent: 50.0, .. }))
    })
    .await;
    // What came in the first step does not count in the second.
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(look(&cloud).await.target, Some(2));
    answers(5);
    let promoted = active(&cloud, 2).await;
    assert!(promoted.progress.is_none());
    routed_to(&cloud, "live.2.1").await;
    assert!(target(&cloud).is_none());
}

#[tokio::test]
async fn a_canary_that_fails_is_rolled_back_at_once() {
    let cloud = Cloud::new(4000).await;
    let (arm, _) = releasing(&cloud, canary(serde_json::json!({ "step_s": 3600.0 }))).await;
    (0..3).for_each(|_| arm.tally.count(Duration::from_millis(2), true));
    let back = until("it is rolled back", async || Some(look(&cloud).await).filter(|e| e.target.is_none())).await;
    assert_eq!((back.active, back.state), (Some(1), EndpointState::Ready));
    let reason = back.revisions[0].reason.as_deref();
    assert_eq!(
        reason,
        Some("rolled back: 3 of its 3 requests failed, of the active revision's 0 of 0"),
        "{:?}",
        back.revisions
    );
    until("its replica goes", async || {
        cloud.engine.stops.lock().expect("stops").contains(&replica("live.2.1")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_canary_is_judged_by_a_metric_of_ones_own() {
    let cloud = Cloud::new(4000).await;
    let rule = serde_json::json!({ "name": "clicks", "min": 0.5, "values_min": 4 });
    releasing(&cloud, canary(serde_json::json!({ "metric": rule }))).await;
    until("it is judged", async || look(&cloud).await.progress).await;
    for n in 0..4 {
        let metric = NewMetric { name: "clicks".into(), value: f64::from(n % 2) * 0.4, revision: 2 };
        cloud.endpoints.metric(&cloud.admin, &name(), metric).await.expect("counted");
    }
    let back = until("it is rolled back", async || Some(look(&cloud).await).filter(|e| e.target.is_none())).await;
    assert_eq!(
        back.revisions[0].reason.as_deref(),
        Some("rolled back: the mean of 'clicks' over 4 values is 0.2, below 0.5")
    );
    let gone = NewMetric { name: "clicks".into(), value: 1.0, revision: 2 };
    assert_eq!(cloud.endpoints.metric(&cloud.admin, &name(), gone).await.unwrap_err().code, ErrorCode::Conflict);
}

#[tokio::test]
async fn a_split_stays_until_somebody_decides() {
    let cloud = Cloud::new(4000).await;
    let split = serde_json::json!({ "kind": "split", "percent": 20, "sticky_header": "x-user" });
    let (arm, share) = releasing(&cloud, split.clone()).await;
    let stuck = matches!(share, Share::Percent { percent: 20.0, sticky_header: Some(name) } if name == "x-user");
    assert!(stuck);
    (0..50).for_each(|_| arm.tally.count(Duration::from_millis(2), true));
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(look(&cloud).await.target, Some(2), "nobody judges it");
    cloud.endpoints.rollback(&cloud.admin, &name(), Rollback::default()).await.expect("rolled back");
    until("the active revision has all", async || target(&cloud).is_none().then_some(())).await;
    assert_eq!(look(&cloud).await.target, None);
    cloud
        .endpoints
        .release(&cloud.admin, &name(), revision_with(2, serde_json::json!({ "release": split })))
        .await
        .expect("released");
    become_ready(&cloud, "live.3.1").await;
    until("it gets requests", async || target(&cloud)).await;
    cloud.endpoints.promote(&cloud.admin, &name()).await.expect("promoted");
    active(&cloud, 3).await;
    routed_to(&cloud, "live.3.1").await;
    assert_eq!(cloud.endpoints.promote(&cloud.admin, &name()).await.unwrap_err().code, ErrorCode::Conflict);
}

#[tokio::test]
async fn what_is_wrong_about_scale_and_release_is_said() {
    let cloud = Cloud::new(4000).await;
    models(&cloud, 1).await;
    let refused = async |more: serde_json::Value, says: &str| {
        let new = NewEndpoint { name: name(), revision: revision_with(1, more) };
        let error = cloud.endpoints.create(&cloud.admin, new).await.expect_err("it is wrong");
        assert!(error.code == ErrorCode::InvalidRequest && error.message.contains(says), "{error}");
    };
    refused(serde_json::json!({ "replicas": 1, "scale": { "min": 0, "max": 1 } }), "exclude each other").await;
    refused(serde_json::json!({ "scale": { "min": 2, "max": 1 } }), "are more than the most").await;
    refused(serde_json::json!({ "scale": { "min": 1, "max": 1, "idle_s": 5 } }), "may sleep").await;
    let none = serde_json::json!({ "scale": { "min": 0, "max": 1, "per_replica": { "rate_per_s": 0 } } });
    refused(none, "greater than 0").await;
    refused(serde_json::json!({ "release": { "kind": "shadow" } }), "first revision").await;
    deploy(&cloud).await;
    let wrong = revision_with(1, serde_json::json!({ "release": { "kind": "split", "percent": 0 } }));
    let error = cloud.endpoints.release(&cloud.admin, &name(), wrong).await.expect_err("it is wrong");
    assert_eq!(error.message, "release: percent must be greater than 0 and at most 100");
}
