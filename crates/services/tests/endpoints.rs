//! Endpoints from deployment over release and rollback to deletion, with an
//! engine that the test moves.

mod support;

use std::sync::atomic::Ordering;

use muonic_types::endpoint::{Endpoint, EndpointState, NewEndpoint, NewRevision, Rollback};
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
        (route.backends.len() == 1 && route.backends[0].replica.as_str() == id).then_some(())
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
        assert!(e.message.starts_with("live@2 cannot be served: the model has neither an .onnx file"), "{e}");
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
    let in_flight = cloud.routes.borrow().routes[&name()].backends[0].in_flight.clone();
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
