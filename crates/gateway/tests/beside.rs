//! What the gateway does beside forwarding HTTP/1.1 below `/endpoints/`: limits
//! of keys, names of hosts, WebSockets and gRPC.

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use common::{RealReplica, World, fake, send, until};
use http::{Request, Uri};
use http_body_util::BodyExt;
use muonic_gateway::Settings;
use muonic_types::endpoint::EndpointState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::ServiceExt;

fn as_key(key: &str, path: &str) -> Request<Body> {
    Request::post(format!("/endpoints/e{path}"))
        .header("authorization", format!("Bearer {key}"))
        .body(Body::empty())
        .unwrap()
}

#[tokio::test]
async fn a_key_has_its_limits_and_others_are_not_touched() {
    let world = World::new();
    let usage = Router::new().fallback(async || r#"{"usage": {"total_tokens": 15}}"#);
    world.route(EndpointState::Ready, 1, &[fake(&world, 1, 1, usage)]);
    for status in [200, 200, 429] {
        assert_eq!(send(&world.router, as_key("limited", "/v2")).await.status, status);
    }
    let refused = send(&world.router, as_key("limited", "/v1/models")).await;
    assert_eq!(refused.headers["retry-after"], "30");
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("2 requests in a minute"));
    assert_eq!(send(&world.router, as_key("metered", "/v1/chat/completions")).await.status, 200);
    let spent = send(&world.router, as_key("metered", "/v1/chat/completions")).await;
    assert_eq!((spent.status.as_u16(), spent.headers["retry-after"].to_str().unwrap()), (429, "36"));
    assert_eq!(send(&world.router, as_key("invoker", "/v2")).await.status, 200);
    assert!(world.metrics().contains("code=\"429\""), "{}", world.metrics());
}

#[tokio::test]
async fn names_of_hosts_are_endpoints() {
    let world = World::new();
    let echo = Router::new().fallback(async |uri: Uri| uri.to_string());
    world.route(EndpointState::Ready, 1, &[fake(&world, 1, 1, echo)]);
    let door = muonic_gateway::by_host(world.router.clone(), vec!["localhost".into(), "models.example".into()]);
    let ask = async |host: &str, path: &str| {
        let request = Request::get(path).header("host", host).header("authorization", "Bearer invoker");
        let response = door.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        (status, String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
    };
    for host in ["e.localhost", "e.localhost:7070", "E.Models.Example", "e.models.example.:80"] {
        assert_eq!(ask(host, "/v2/a%2Fb?q=1").await, (200, "/v2/a%2Fb?q=1".into()), "{host}");
        assert_eq!(ask(host, "/").await, (200, "/".into()), "{host}");
    }
    // Below the name of an endpoint there is nothing else.
    assert_eq!(ask("e.localhost", "/endpoints/e/v2").await, (200, "/endpoints/e/v2".into()));
    assert_eq!(ask("other.localhost", "/v2").await.0, 404);
    for host in ["localhost", "e.example", "a.e.localhost", "127.0.0.1:7070", ""] {
        assert_eq!(ask(host, "/endpoints/e/v2").await, (200, "/v2".into()), "{host}");
    }
}

/// Agrees to a WebSocket and sends back what comes.
async fn parrot(mut request: axum::extract::Request) -> axum::response::Response {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let stream = upgrade.await.expect("an upgrade");
        let (mut from, mut to) = tokio::io::split(hyper_util::rt::TokioIo::new(stream));
        let _ = tokio::io::copy(&mut from, &mut to).await;
    });
    let headers = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", "yes")];
    (http::StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

#[tokio::test]
async fn a_websocket_is_carried_both_ways_and_let_go_when_silent() {
    let world = World::with(Settings { tunnel_idle: Duration::from_millis(300), ..Settings::default() });
    let replica = fake(&world, 1, 1, Router::new().fallback(parrot));
    world.route(EndpointState::Ready, 1, std::slice::from_ref(&replica));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, world.router.clone()).into_future());
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = "GET /endpoints/e/ws HTTP/1.1\r\nhost: h\r\nauthorization: Bearer invoker\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap().to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 101 ") && answer.contains("upgrade: websocket"), "{answer}");
    assert!(answer.contains("sec-websocket-accept: yes"), "{answer}");
    for n in 0..3u8 {
        stream.write_all(&[n; 5]).await.unwrap();
        let mut back = [0; 5];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(back, [n; 5]);
    }
    assert_eq!(replica.in_flight.load(Ordering::SeqCst), 1, "it counts as a request");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    until("it is let go", || replica.in_flight.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn a_call_of_grpc_names_its_endpoint_and_is_refused_in_its_words() {
    let world = World::new();
    let call = async |headers: &[(&str, &str)]| {
        let path = "/inference.GRPCInferenceService/ServerLive";
        let mut request = Request::post(path).header("content-type", "application/grpc");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = send(&world.router, request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, 200);
        (answer.headers["grpc-status"].to_str().unwrap().to_owned(), answer.headers["grpc-message"].clone())
    };
    assert_eq!(call(&[]).await.0, "3");
    assert_eq!(call(&[("muonic-endpoint", "e")]).await.0, "16");
    let (status, message) = call(&[("muonic-endpoint", "e"), ("authorization", "Bearer invoker")]).await;
    assert_eq!((status.as_str(), message.to_str().unwrap()), ("5", "there is no endpoint 'e'"));
}

#[tokio::test]
async fn a_call_of_grpc_reaches_a_real_replica_with_its_trailers() {
    let world = World::new();
    let replica = RealReplica::start(world.dir.path(), 1, 1);
    world.route(EndpointState::Ready, 1, std::slice::from_ref(&replica.backend));
    for _ in 0..3 {
        let request = Request::post("/inference.GRPCInferenceService/ServerLive")
            .header("content-type", "application/grpc")
            .header("muonic-endpoint", "e")
            .header("authorization", "Bearer invoker")
            .body(Body::from(&[0; 5][..]))
            .unwrap();
        let response = world.router.clone().oneshot(request).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-muonic-replica"]),
            (200, &"e.1.1".parse().unwrap())
        );
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        // One message: live is true.
        assert_eq!(&body.to_bytes()[..], [0, 0, 0, 0, 2, 8, 1]);
    }
    assert_eq!(replica.backend.in_flight.load(Ordering::SeqCst), 0);
    replica.drain().await;
}
