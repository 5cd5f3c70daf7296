//! Connections that leave HTTP: WebSocket, byte for byte in both directions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::body::Held;

const BUFFER_BYTES: usize = 16 << 10;

/// Whether a request asks for one.
pub fn is_asked(headers: &HeaderMap) -> bool {
    let names = |name, word: &str| {
        let values = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
        values.flat_map(|v| v.split(',')).any(|v| v.trim().eq_ignore_ascii_case(word))
    };
    names(header::CONNECTION, "upgrade") && names(header::UPGRADE, "websocket")
}

/// What asks for one, or agrees to one.
pub fn mark(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Carries bytes until one end is gone for both, or nothing has come from
/// either for `idle`.
pub async fn run(client: OnUpgrade, replica: OnUpgrade, idle: Duration, held: Held) {
    let (Ok(client), Ok(replica)) = tokio::join!(client, replica) else { return };
    let (client_in, client_out) = tokio::io::split(TokioIo::new(client));
    let (replica_in, replica_out) = tokio::io::split(TokioIo::new(replica));
    let moved = AtomicU64::new(0);
    let both = async { tokio::join!(pump(client_in, replica_out, &moved), pump(replica_in, client_out, &moved)) };
    let silence = async {
        let mut seen = 0;
        loop {
            tokio::time::sleep(idle).await;
            let now = moved.load(Ordering::Relaxed);
            if now == seen {
                return;
            }
            seen = now;
        }
    };
    tokio::select! {
        _ = both => {}
        () = silence => {}
    }
    drop(held);
}

async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, moved: &AtomicU64) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        moved.fetch_add(1, Ordering::Relaxed);
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
