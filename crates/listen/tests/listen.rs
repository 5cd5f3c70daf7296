//! The loop against clients that do not behave.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use muonic_listen::{Limits, Linger, Lingering, Listener, serve, serve_both};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
const SLOW: &[u8] = b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n";

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == "/slow" {
        std::future::pending::<()>().await;
    }
    Ok(Response::new(Full::from("here")))
}

async fn start(listener: Listener, limits: Limits) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = oneshot::channel();
    let until = async {
        let _ = stopped.await;
    };
    (stop, tokio::spawn(serve(listener, service_fn(answer), limits, until)))
}

fn limits(connections_max: usize, idle_ms: u64) -> Limits {
    Limits { connections_max, idle: Duration::from_millis(idle_ms), drain: Duration::from_millis(200) }
}

async fn asked(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> String {
    stream.write_all(ASK).await.expect("written");
    let mut text = vec![0; 4096];
    let n = stream.read(&mut text).await.expect("an answer");
    String::from_utf8_lossy(&text[..n]).into_owned()
}

#[tokio::test]
async fn connections_that_say_nothing_give_their_places_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (stop, task) = start(Listener::Tcp(listener), limits(4, 100)).await;
    let mut silent = Vec::new();
    for first in [&b""[..], b"PRI * HT", b"GET / HTTP/1.1\r\n", b"x"] {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.write_all(first).await.expect("written");
        silent.push(stream);
    }
    let mut stream = TcpStream::connect(address).await.expect("connected");
    assert!(asked(&mut stream).await.ends_with("here"));
    stop.send(()).expect("it runs");
    task.await.expect("it ends");
}

#[tokio::test]
async fn requests_say_who_sent_them() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let tell = service_fn(|request: Request<Incoming>| async move {
        let peer = request.extensions().get::<SocketAddr>().expect("a peer").to_string();
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(peer)))
    });
    let (stop, stopped) = oneshot::channel::<()>();
    let until = async {
        let _ = stopped.await;
    };
    let task = tokio::spawn(serve(Listener::Tcp(listener), tell, limits(4, 60_000), until));
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let me = stream.local_addr().expect("an address").to_string();
    let said = asked(&mut stream).await;
    assert!(said.ends_with(&me), "{said} is not from {me}");
    drop((stream, stop));
    task.await.expect("it ends");
}

/// Who sends a large body that is refused reads the refusal.
#[tokio::test]
async fn a_refusal_arrives_though_the_body_is_still_on_its_way() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let refuse = service_fn(|request: Request<Lingering>| async move {
        drop(request);
        Ok::<_, Infallible>(
            Response::builder().status(404).body(Full::<Bytes>::from("no such thing")).expect("a response"),
        )
    });
    let (stop, stopped) = oneshot::channel::<()>();
    let until = async {
        let _ = stopped.await;
    };
    let task = tokio::spawn(serve(Listener::Tcp(listener), Linger(refuse), limits(4, 60_000), until));
    for _ in 0..50 {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        let head = format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", 8 << 20);
        stream.write_all(head.as_bytes()).await.expect("written");
        for _ in 0..8 {
            stream.write_all(&vec![0; 1 << 20]).await.expect("all of it is taken");
        }
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        assert!(text.starts_with("HTTP/1.1 404") && text.ends_with("no such thing"), "{text}");
    }
    drop(stop);
    task.await.expect("it ends");
}

#[tokio::test]
async fn what_does_not_finish_is_cut_off() {
    let folder = std::env::temp_dir().join(format!("muonic-listen-{}", std::process::id()));
    let _ = std::fs::remove_file(&folder);
    let listener = UnixListener::bind(&folder).expect("a socket");
    let (stop, task) = start(Listener::Unix(listener), limits(4, 60_000)).await;
    let mut slow = UnixStream::connect(&folder).await.expect("connected");
    slow.write_all(SLOW).await.expect("written");
    let mut idle = UnixStream::connect(&folder).await.expect("connected");
    assert!(asked(&mut idle).await.ends_with("here"));
    stop.send(()).expect("it runs");
    task.await.expect("it ends");
    assert_eq!(slow.read(&mut [0; 9]).await.unwrap_or(0), 0, "the connection is closed");
    std::fs::remove_file(&folder).expect("removed");
}

async fn start_both(limits: Limits) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (stop, stopped) = oneshot::channel::<()>();
    let until = async {
        let _ = stopped.await;
    };
    (address, stop, tokio::spawn(serve_both(Listener::Tcp(listener), service_fn(answer), limits, until)))
}

async fn http2(address: SocketAddr) -> (hyper::client::conn::http2::SendRequest<Full<Bytes>>, JoinHandle<()>) {
    let stream = TcpStream::connect(address).await.expect("connected");
    let io = hyper_util::rt::TokioIo::new(stream);
    let made = hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await;
    let (send, connection) = made.expect("HTTP/2");
    (send, tokio::spawn(async { drop(connection.await) }))
}

fn ask(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("http://x{path}")).body(Full::default()).expect("a request")
}

#[tokio::test]
async fn both_versions_are_understood() {
    let (address, stop, task) = start_both(limits(4, 60_000)).await;
    let (mut send, _connection) = http2(address).await;
    for _ in 0..3 {
        assert_eq!(send.send_request(ask("/")).await.expect("an answer").version(), http::Version::HTTP_2);
    }
    let mut stream = TcpStream::connect(address).await.expect("connected");
    // However its first bytes come.
    for byte in &b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"[..8] {
        stream.write_all(&[*byte]).await.expect("written");
        tokio::task::yield_now().await;
    }
    stream.write_all(b"TTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await.expect("written");
    let mut text = vec![0; 4096];
    let n = stream.read(&mut text).await.expect("an answer");
    assert!(text[..n].ends_with(b"here"), "{}", String::from_utf8_lossy(&text[..n]));
    assert!(asked(&mut stream).await.ends_with("here"));
    stop.send(()).expect("it runs");
    tokio::time::timeout(Duration::from_secs(10), task).await.expect("idle connections go at once").expect("it ends");
}

/// The one place is free again in the end.
#[tokio::test]
async fn silent_connections_of_http2_give_their_places_back() {
    let (address, stop, task) = start_both(limits(1, 100)).await;
    for first in [&b""[..], b"PRI * HT", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut silent = TcpStream::connect(address).await.expect("connected");
        silent.write_all(first).await.expect("written");
        let mut rest = Vec::new();
        // What it is told, until it is cut off.
        let _ = silent.read_to_end(&mut rest).await;
    }
    // One with a request that is never answered.
    let (mut send, _connection) = http2(address).await;
    send.send_request(ask("/slow")).await.expect_err("it is cut off");
    let (mut send, _connection) = http2(address).await;
    send.send_request(ask("/")).await.expect("an answer");
    stop.send(()).expect("it runs");
    task.await.expect("it ends");
}

#[tokio::test]
async fn what_http2_does_not_finish_is_cut_off() {
    let (address, stop, task) = start_both(limits(4, 60_000)).await;
    let (mut send, _connection) = http2(address).await;
    send.send_request(ask("/")).await.expect("an answer");
    let slow = tokio::spawn(send.send_request(ask("/slow")));
    send.send_request(ask("/")).await.expect("an answer");
    stop.send(()).expect("it runs");
    tokio::time::timeout(Duration::from_secs(10), task).await.expect("within the limit").expect("it ends");
    slow.await.expect("it ran").expect_err("cut off");
}
