//! The gateway in front of replicas on unix sockets.

mod common;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::IntoResponse;
use axum::{Json, Router};
use common::{Answer, PATIENCE, RealReplica, World, add, backend, fake, listen, post, send, until};
use http::{HeaderMap, Request, Uri};
use http_body_util::{BodyExt, Full, StreamBody, channel::Channel};
use muonic_gateway::Settings;
use muonic_types::endpoint::EndpointState;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tower::ServiceExt;

fn ok() -> Router {
    Router::new().fallback(async || "ok")
}

fn chunked(size: usize) -> Body {
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(4);
    tokio::spawn(async move {
        for _ in 0..size {
            if sender.send_data(Bytes::from_static(&[b'x'; 1024])).await.is_err() {
                return;
            }
        }
    });
    Body::new(body)
}

#[tokio::test]
async fn a_real_replica_answers() {
    let world = World::new();
    // A path that no socket address has room for.
    let folder = world.dir.path().join("long".repeat(40));
    let replica = RealReplica::start(&folder, 3, 1);
    world.route(EndpointState::Ready, 3, std::slice::from_ref(&replica.backend));
    for n in 0..3 {
        let answer = send(&world.router, add(n)).await;
        assert_eq!(answer.status, 200, "{:?}", answer.bytes);
        assert_eq!(answer.json()["outputs"][0]["data"], json!([n as f64 + 1.0, n as f64 + 2.0, n as f64 + 3.0]));
        assert_eq!(answer.headers["x-muonic-revision"], "3");
        assert_eq!(answer.headers["x-muonic-replica"], "e.3.1");
        assert!(!answer.headers["x-request-id"].is_empty());
    }
    let bad = send(&world.router, post("/v2/models/e/infer", "{}")).await;
    assert_eq!(bad.status, 400);
    assert_eq!(bad.headers["x-muonic-error"], "invalid_request");
    let metrics = world.metrics();
    for line in [
        "muonic_gateway_requests_total{endpoint=\"e\",revision=\"3\",code=\"200\"} 3",
        "muonic_gateway_requests_total{endpoint=\"e\",revision=\"3\",code=\"400\"} 1",
        "muonic_gateway_request_duration_seconds_count{endpoint=\"e\"} 4",
        "muonic_gateway_in_flight{endpoint=\"e\"} 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    assert_eq!(replica.backend.in_flight.load(Ordering::SeqCst), 0);
    replica.drain().await;
}

#[tokio::test]
async fn what_a_replica_gets_to_see() {
    let world = World::new();
    let echo = Router::new().fallback(async |uri: Uri, headers: HeaderMap, body: Bytes| {
        let headers: HashMap<String, String> =
            headers.iter().map(|(k, v)| (k.to_string(), v.to_str().unwrap().to_owned())).collect();
        let answer = json!({ "uri": uri.to_string(), "headers": headers, "body": body.len() });
        ([("connection", "x-inner"), ("x-inner", "1"), ("x-outer", "2")], Json(answer))
    });
    world.route(EndpointState::Ready, 1, &[fake(&world, 1, 1, echo)]);
    let mut request = post("/v2/a%2Fb//c?q=%20&r", "hello");
    for (name, value) in [("connection", "x-hop"), ("x-hop", "1"), ("x-request-id", "mine"), ("x-kept", "2")] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let answer = send(&world.router, request).await;
    let seen = answer.json();
    assert_eq!(seen["uri"], "/v2/a%2Fb//c?q=%20&r");
    assert_eq!(seen["body"], 5);
    assert_eq!(seen["headers"]["x-kept"], "2");
    assert_eq!(seen["headers"]["x-request-id"], "mine");
    assert!(seen["headers"]["authorization"].is_null() && seen["headers"]["x-hop"].is_null());
    assert_eq!(answer.headers["x-request-id"], "mine");
    assert_eq!(answer.headers["x-outer"], "2");
    assert!(!answer.headers.contains_key("x-inner") && !answer.headers.contains_key("connection"));
}

#[tokio::test]
async fn who_may_call() {
    let world = World::new();
    world.route(EndpointState::Ready, 1, &[fake(&world, 1, 1, ok())]);
    let ask = async |header: Option<&str>, path: &str| {
        // Refused callers must not make us read a body.
        let unread = unread_body();
        let mut request = Request::post(path).body(Body::new(unread)).unwrap();
        if let Some(header) = header {
            request.headers_mut().insert("authorization", header.parse().unwrap());
        }
        send(&world.router, request).await
    };
    for (header, path, status) in [
        (None, "/endpoints/e/v2", 401),
        (Some("Bearer"), "/endpoints/e/v2", 401),
        (Some("Basic x"), "/endpoints/e/v2", 401),
        (Some("Bearer nobody"), "/endpoints/e/v2", 401),
        (None, "/endpoints/unknown/v2", 401),
        (Some("Bearer replica"), "/endpoints/e/v2", 403),
        (Some("Bearer other"), "/endpoints/e/v2", 404),
        (Some("Bearer admin"), "/endpoints/unknown/v2", 404),
        (Some("Bearer admin"), "/endpoints/Not%20A%20Name/v2", 404),
    ] {
        let answer = ask(header, path).await;
        assert_eq!(answer.status, status, "{header:?} {path}");
        assert!(!answer.error().is_empty());
        assert!(answer.headers.contains_key("x-muonic-error"));
        assert_eq!(answer.headers.contains_key("www-authenticate"), status == 401);
    }
    for role in ["admin", "member", "viewer", "invoker", "task"] {
        let request = Request::get("/endpoints/e/v2")
            .header("authorization", format!("bearer {role}"))
            .body(Body::empty())
            .unwrap();
        assert_eq!(send(&world.router, request).await.status, 200, "{role}");
    }
    // Elsewhere the native form.
    let answer = ask(None, "/endpoints/e/other").await;
    assert_eq!(answer.json()["error"]["code"], "unauthenticated");
}

/// A body that fails the test when it is read.
fn unread_body() -> StreamBody<Unread> {
    StreamBody::new(Unread)
}

struct Unread;

impl futures_util::Stream for Unread {
    type Item = Result<http_body::Frame<Bytes>, Infallible>;
    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        panic!("the body was read before the caller was known");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switching_revisions_under_load_loses_nothing() {
    let world = World::new();
    let mut old = vec![RealReplica::start(world.dir.path(), 1, 1), RealReplica::start(world.dir.path(), 1, 2)];
    let backends = |replicas: &[RealReplica]| replicas.iter().map(|r| r.backend.clone()).collect::<Vec<_>>();
    world.route(EndpointState::Ready, 1, &backends(&old));
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let (router, done) = (world.router.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                let mut seen = HashMap::new();
                let mut n = client;
                while !done.load(Ordering::SeqCst) {
                    n += 1;
                    let answer = send(&router, add(n)).await;
                    assert_eq!(answer.status, 200, "{:?}", answer.bytes);
                    assert_eq!(answer.json()["outputs"][0]["data"][0], json!(n as f64 + 1.0));
                    let revision = answer.headers["x-muonic-revision"].to_str().unwrap().to_owned();
                    assert_eq!(answer.json()["model_version"], revision.as_str());
                    *seen.entry(revision).or_insert(0) += 1;
                }
                seen
            })
        })
        .collect();
    let answered = async |revision: u32| {
        let line = format!("muonic_gateway_requests_total{{endpoint=\"e\",revision=\"{revision}\",code=\"200\"}}");
        until("the revision answers", || world.metrics().contains(&line)).await;
    };
    answered(1).await;
    for revision in 2..=12 {
        let new =
            vec![RealReplica::start(world.dir.path(), revision, 1), RealReplica::start(world.dir.path(), revision, 2)];
        world.route(EndpointState::Releasing, revision, &backends(&new));
        for replica in std::mem::replace(&mut old, new) {
            replica.drain().await;
        }
        answered(revision).await;
    }
    done.store(true, Ordering::SeqCst);
    let mut revisions = std::collections::BTreeSet::new();
    for client in clients {
        revisions.extend(client.await.unwrap().into_keys());
    }
    assert_eq!(revisions.len(), 12);
    assert!(!world.metrics().contains("code=\"5"), "{}", world.metrics());
}

#[tokio::test]
async fn a_replica_that_takes_no_connection_is_passed_over() {
    let world = World::with(Settings { replace_time: Duration::from_millis(100), ..Settings::default() });
    let dead = backend(1, 1, &world.dir.path().join("nobody").join("socket"));
    let live = fake(&world, 1, 2, ok());
    world.route(EndpointState::Ready, 1, &[dead.clone(), live.clone()]);
    for _ in 0..20 {
        let answer = send(&world.router, post("/v2", "x")).await;
        assert_eq!((answer.status.as_u16(), answer.headers["x-muonic-replica"].to_str().unwrap()), (200, "e.1.2"));
    }
    world.route(EndpointState::Ready, 1, std::slice::from_ref(&dead));
    let answer = send(&world.router, post("/v2", "x")).await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().as_str()),
        (503, "endpoint 'e' has no replica: none of those it has takes connections")
    );
    assert_eq!(answer.headers["x-muonic-error"], "no_replica");
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!((dead.in_flight.load(Ordering::SeqCst), live.in_flight.load(Ordering::SeqCst)), (0, 0));
}

#[tokio::test]
async fn a_request_waits_for_the_replica_that_replaces_a_dead_one() {
    let world = World::new();
    let dead = backend(1, 1, &world.dir.path().join("nobody").join("socket"));
    world.route(EndpointState::Ready, 1, &[dead]);
    let router = world.router.clone();
    let waiting = tokio::spawn(async move { send(&router, post("/v2", "x")).await });
    until("it waits", || world.metrics().contains("muonic_gateway_in_flight{endpoint=\"e\"} 1")).await;
    world.route(EndpointState::Unavailable, 1, &[]);
    world.route(EndpointState::Ready, 1, &[fake(&world, 1, 2, ok())]);
    assert_eq!(waiting.await.unwrap().headers["x-muonic-replica"], "e.1.2");
}

#[tokio::test]
async fn a_request_that_was_sent_is_sent_once_more_where_that_is_safe() {
    let world = World::new();
    let requests = Arc::new(AtomicUsize::new(0));
    let mut backends = Vec::new();
    // Two replicas that die with each request.
    for number in 1..=2 {
        let path = world.dir.path().join(number.to_string()).join("socket");
        let (listener, requests) = (listen(&path), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut bytes = [0; 1024];
                if stream.read(&mut bytes).await.unwrap_or(0) > 0 {
                    requests.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        backends.push(backend(1, number, &path));
    }
    world.route(EndpointState::Ready, 1, &backends);
    let counted = async |path: &str, body: &'static str| {
        let before = requests.load(Ordering::SeqCst);
        let answer = send(&world.router, post(path, body)).await;
        assert_eq!(answer.status, 503);
        requests.load(Ordering::SeqCst) - before
    };
    assert_eq!(counted("/v2/models/e/infer", "x").await, 2);
    // A program of somebody's own may have done something.
    assert_eq!(counted("/v2/order", "x").await, 1);
    let long: &'static str = "x".repeat(100_000).leak();
    assert_eq!(counted("/invocations", long).await, 1, "too large to be kept");
    let answer = send(&world.router, post("/v2/order", "x")).await;
    assert!(answer.error().starts_with("replica e.1."), "{}", answer.error());
    assert!(answer.error().ends_with("it may have begun to work on the request"), "{}", answer.error());
    // Where another replica lives, nobody hears of it.
    let one_lives = [backends.remove(0), fake(&world, 1, 3, ok())];
    world.route(EndpointState::Ready, 1, &one_lives);
    for _ in 0..4 {
        assert_eq!(send(&world.router, post("/v2/models/e/infer", "x")).await.status, 200);
    }
}

#[tokio::test]
async fn a_request_waits_for_the_first_replica() {
    let world = World::with(Settings { hold_time: Duration::from_millis(200), ..Settings::default() });
    world.route(EndpointState::Deploying, 1, &[]);
    let answer = send(&world.router, post("/v2", "x")).await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().as_str()),
        (503, "endpoint 'e' has no replica: none became ready within 0.2 s")
    );
    for state in [EndpointState::Ready, EndpointState::Unavailable, EndpointState::Failed, EndpointState::Deleting] {
        world.route(state, 1, &[]);
        let answer = send(&world.router, post("/v2", "x")).await;
        assert_eq!(answer.headers["x-muonic-error"], "no_replica", "{state:?}");
    }
    let world = World::new();
    world.route(EndpointState::Deploying, 1, &[]);
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let router = world.router.clone();
            tokio::spawn(async move { send(&router, post("/v2", "x")).await })
        })
        .collect();
    until("all wait", || world.metrics().contains("muonic_gateway_in_flight{endpoint=\"e\"} 50")).await;
    world.route(EndpointState::Ready, 1, &[fake(&world, 1, 1, ok())]);
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().status, 200);
    }
    // Deleted meanwhile.
    world.route(EndpointState::Deploying, 1, &[]);
    let router = world.router.clone();
    let waiting = tokio::spawn(async move { send(&router, post("/v2", "x")).await });
    until("it waits", || world.metrics().contains("muonic_gateway_in_flight{endpoint=\"e\"} 1")).await;
    world.routes.send_replace(Arc::default());
    assert_eq!(waiting.await.unwrap().status, 404);
}

#[tokio::test]
async fn bodies_have_a_limit() {
    let world = World::with(Settings { body_bytes_max: 10 << 10, ..Settings::default() });
    let count = Router::new().fallback(async |body: Bytes| body.len().to_string());
    world.route(EndpointState::Ready, 1, &[fake(&world, 1, 1, count)]);
    assert_eq!(send(&world.router, post("/v2", chunked(10))).await.bytes, "10240");
    let announced = post("/v2", Body::new(Full::new(Bytes::from(vec![0; (10 << 10) + 1]))));
    for request in [announced, post("/v2", chunked(11))] {
        let answer = send(&world.router, request).await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (413, "the body is larger than 10240 bytes"));
    }
    assert_eq!(send(&world.router, post("/v2", "x")).await.bytes, "1");
}

#[tokio::test]
async fn a_silent_replica_is_given_up() {
    let world = World::with(Settings { request_time: Duration::from_millis(200), ..Settings::default() });
    let silent =
        Router::new().route("/v2/never", axum::routing::any(async || std::future::pending::<()>().await)).route(
            "/v2/half",
            axum::routing::any(async || {
                let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
                tokio::spawn(async move {
                    let _ = sender.send_data(Bytes::from_static(b"half")).await;
                    std::future::pending::<()>().await;
                });
                Body::new(body).into_response()
            }),
        );
    let replica = fake(&world, 1, 1, silent);
    world.route(EndpointState::Ready, 1, std::slice::from_ref(&replica));
    let answer = send(&world.router, post("/v2/never", "x")).await;
    assert_eq!((answer.status.as_u16(), answer.error().as_str()), (504, "endpoint 'e' did not answer within 0.2 s"));
    let response = world.router.clone().oneshot(post("/v2/half", "x")).await.unwrap();
    let mut body = response.into_body();
    // What came is passed on at once; then it breaks off rather than end.
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
    assert_eq!(replica.in_flight.load(Ordering::SeqCst), 1);
    assert!(body.frame().await.unwrap().is_err());
    drop(body);
    assert_eq!(replica.in_flight.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_caller_who_leaves_ends_the_work() {
    let world = World::new();
    let path = world.dir.path().join("1").join("socket");
    let listener = listen(&path);
    let ended = Arc::new(Mutex::new(false));
    let (began, ends) = (Arc::new(tokio::sync::Notify::new()), Arc::clone(&ended));
    let begins = Arc::clone(&began);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = [0; 4096];
        let _ = stream.read(&mut bytes).await;
        begins.notify_one();
        while stream.read(&mut bytes).await.unwrap_or(0) > 0 {}
        *ends.lock().unwrap() = true;
    });
    let replica = backend(1, 1, &path);
    world.route(EndpointState::Ready, 1, std::slice::from_ref(&replica));
    let router = world.router.clone();
    let call = tokio::spawn(async move { send(&router, post("/v2", "x")).await });
    tokio::time::timeout(PATIENCE, began.notified()).await.unwrap();
    call.abort();
    until("the replica sees the end", || *ended.lock().unwrap()).await;
    assert_eq!(replica.in_flight.load(Ordering::SeqCst), 0);
    assert!(world.metrics().contains("code=\"499\"} 1"), "{}", world.metrics());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_stays_within_its_bounds() {
    let world = World::with(Settings { endpoint_requests_max: 100, ..Settings::default() });
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut backends = Vec::new();
    for number in 1..=3 {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        let slow = Router::new().fallback(async move || {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            "ok"
        });
        backends.push(fake(&world, 1, number, slow));
    }
    world.route(EndpointState::Ready, 1, &backends);
    let calls: Vec<_> = (0..10_000)
        .map(|_| {
            let router = world.router.clone();
            tokio::spawn(async move { send(&router, post("/v2", "x")).await })
        })
        .collect();
    let (mut good, mut refused) = (0, 0);
    for call in calls {
        let Answer { status, headers, .. } = call.await.unwrap();
        match status.as_u16() {
            200 => good += 1,
            429 => {
                assert_eq!(headers["retry-after"], "1");
                refused += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert!(good >= 100 && refused > 0, "{good} answered, {refused} refused");
    assert!(most.load(Ordering::SeqCst) <= 100);
    assert!(backends.iter().all(|b| b.in_flight.load(Ordering::SeqCst) == 0));
    assert!(world.metrics().contains("muonic_gateway_in_flight{endpoint=\"e\"} 0"));
}

#[tokio::test]
async fn what_is_gone_is_measured_no_more() {
    let world = World::new();
    let backend = fake(&world, 1, 1, ok());
    let deployed = |name: &str| {
        let mut table = common::table(EndpointState::Ready, 1, std::slice::from_ref(&backend));
        let mut route = table.routes.remove(&"e".parse().unwrap()).unwrap();
        route.endpoint = name.parse().unwrap();
        table.routes.insert(route.endpoint.clone(), route);
        world.routes.send_replace(Arc::new(table));
    };
    let call = async |name: &str| {
        let request = Request::get(format!("/endpoints/{name}/x")).header("authorization", "Bearer invoker");
        assert_eq!(send(&world.router, request.body(Body::empty()).unwrap()).await.status, 200);
    };
    for n in 0..50 {
        deployed(&format!("e{n}"));
        call(&format!("e{n}")).await;
    }
    let metrics = world.metrics();
    for gone in 0..49 {
        assert!(!metrics.contains(&format!("endpoint=\"e{gone}\"")), "{metrics}");
    }
    assert!(metrics.contains("muonic_gateway_requests_total{endpoint=\"e49\",revision=\"1\",code=\"200\"} 1"));
    // Also where no request comes any more, and one that ends late.
    let late = Router::new().fallback(async || {
        tokio::time::sleep(PATIENCE).await;
    });
    world.route(EndpointState::Ready, 1, &[fake(&world, 1, 2, late)]);
    let router = world.router.clone();
    let waiting = tokio::spawn(async move { router.oneshot(post("/x", "")).await });
    until("it waits", || world.metrics().contains("muonic_gateway_in_flight{endpoint=\"e\"} 1")).await;
    world.routes.send_replace(Arc::default());
    assert!(!world.metrics().contains("endpoint="), "{}", world.metrics());
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    assert!(!world.metrics().contains("endpoint="), "{}", world.metrics());
}

#[tokio::test]
async fn before_anything_is_known_a_request_waits_a_moment() {
    let world = World::with(Settings { replace_time: Duration::from_millis(200), ..Settings::default() });
    world.routes.send_replace(Arc::default());
    assert_eq!(send(&world.router, post("/v2", "")).await.status, 503);
    let (answer, ()) = tokio::join!(send(&world.router, post("/v2", "")), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        world.route(EndpointState::Ready, 1, &[fake(&world, 1, 1, ok())]);
    });
    assert_eq!(answer.status, 200);
}
