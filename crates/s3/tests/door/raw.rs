//! What no client library would send.

use std::time::Duration;

use crate::server::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(60);

/// Sends bytes and reads until the server closes, or answers what it wants of us.
async fn exchange(server: &Server, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).await.expect("connect");
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(request).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("an answer in time");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn an_unsigned_body_is_not_even_asked_for() {
    let server = Server::start(16).await;
    server.bucket("bucket").await;
    let mut stream = TcpStream::connect(server.address).await.expect("connect");
    let head = "PUT /bucket/key HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("write");
    let mut answer = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("an answer in time").expect("read");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.contains("<Code>AccessDenied</Code>"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn an_unsigned_document_is_not_even_asked_for() {
    let server = Server::start(16).await;
    server.bucket("bucket").await;
    for target in ["POST /bucket?delete", "PUT /bucket?policy", "PUT /bucket/key?tagging", "PUT /other"] {
        let head = format!("{target} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n");
        let mut stream = TcpStream::connect(server.address).await.expect("connect");
        stream.write_all(head.as_bytes()).await.expect("write");
        let mut answer = Vec::new();
        timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("an answer in time").expect("read");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 403 "), "{target}: {answer}");
        assert!(answer.contains("<Code>AccessDenied</Code>"), "{target}: {answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn browsers_are_answered_without_a_signature() {
    let server = Server::start(16).await;
    server.bucket("bucket").await;
    let ask = |headers: &str| format!("OPTIONS /bucket/key HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    let answer = exchange(&server, ask("").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let whole = "Origin: https://a\r\nAccess-Control-Request-Method: GET\r\n";
    let answer = exchange(&server, ask(whole).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn garbage_is_refused_and_the_server_stays_well() {
    let server = Server::start(16).await;
    let long = format!("GET /?{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(200_000));
    let heads = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-A: b\r\n".repeat(5000));
    let cases: [&[u8]; 8] = [
        b"",
        b"\0\0\0\0",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: AWS4-HMAC-SHA256 Credential=/s3/aws4_request,SignedHeaders=host,Signature=\r\n\r\n",
        long.as_bytes(),
        heads.as_bytes(),
    ];
    for case in cases {
        let answer = exchange(&server, case).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let auth = |credential: &str| {
        format!("GET /?X-Amz-Signature={} HTTP/1.1\r\nHost: x\r\n{credential}\r\n\r\n", "0".repeat(64))
    };
    for case in [auth("Authorization: \u{e9}"), auth("Authorization: AWS4-HMAC-SHA256"), auth("A: b")] {
        let answer = exchange(&server, case.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let answer = exchange(&server, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.contains("x-amz-request-id: "), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn every_refusal_says_what_is_wrong() {
    let server = Server::start(16).await;
    server.bucket("bucket").await;
    let long = format!("/bucket/{}", "k".repeat(1025));
    for (path, code, sentence) in [
        ("/UPPER/key", "InvalidBucketName", "3 to 63 of a-z"),
        ("/ab", "InvalidBucketName", "3 to 63 of a-z"),
        ("/192.168.0.1", "InvalidBucketName", "3 to 63 of a-z"),
        ("/bucket/%ff", "InvalidURI", "cannot be read"),
        (&long, "KeyTooLongError", "1024 bytes"),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = exchange(&server, request.as_bytes()).await;
        assert!(answer.contains(&format!("<Code>{code}</Code><Message>")) && answer.contains(sentence), "{answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_and_a_stop_drains() {
    let server = Server::start(1).await;
    let mut first = TcpStream::connect(server.address).await.expect("connect");
    first.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("write");
    let mut answer = vec![0; 12];
    timeout(DEADLINE, first.read_exact(&mut answer)).await.expect("in time").expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 403");

    // The second is taken only once the first, kept alive, has gone.
    let mut second = TcpStream::connect(server.address).await.expect("connect");
    second.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("write");
    drop(first);
    timeout(DEADLINE, second.read_exact(&mut answer)).await.expect("in time").expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 403");

    // An idle connection does not hold up a stop.
    timeout(DEADLINE, server.stop()).await.expect("the server stops");
}
