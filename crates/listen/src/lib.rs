//! The one loop behind every HTTP listener: connections bounded in number, in
//! the time they may take to ask and in the time they may leave our bytes
//! lying; drained on request, and cut off when that takes too long.
//!
//! HTTP/1.1, whose timer for heads starts before the first byte, so a
//! connection that says nothing holds its place for a moment, not for ever;
//! and HTTP/2 without TLS where a listener wants it ([`serve_both`]).

mod hop;
mod http2;
mod linger;
mod peer;
mod stream;

use stream::Stream;

pub use hop::strip_hop_by_hop;
pub use linger::{Linger, Lingering};

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Also what is read from a connection at once.
const HEAD_BYTES_MAX: usize = 128 << 10;
/// After an accept failed, mostly for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; further ones wait in the kernel's queue.
    pub connections_max: usize,
    /// For the head of a request, and between two requests.
    pub idle: Duration,
    /// For requests under way once `stop` is done.
    pub drain: Duration,
}

/// Serves until `stop` is done, then lets requests under way finish for up to
/// `limits.drain`, and cuts off what is left. Each request has its peer's
/// `SocketAddr` among its extensions, unless it came over a Unix socket.
pub async fn serve<S, B>(listener: Listener, service: S, limits: Limits, stop: impl Future<Output = ()>)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    run(listener, service, limits, false, stop).await;
}

/// As [`serve`], and takes HTTP/2 from peers that begin with its preface. A
/// connection of theirs that no byte crosses for `limits.idle` is asked to go,
/// and cut off when it stays as silent for twice as long again.
pub async fn serve_both<S, B>(listener: Listener, service: S, limits: Limits, stop: impl Future<Output = ()>)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    run(listener, service, limits, true, stop).await;
}

async fn run<S, B>(listener: Listener, service: S, limits: Limits, both: bool, stop: impl Future<Output = ()>)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(limits.idle).max_buf_size(HEAD_BYTES_MAX);
    let graceful = GracefulShutdown::new();
    let connections = Arc::new(Semaphore::new(limits.connections_max.min(Semaphore::MAX_PERMITS)));
    // Dropped when draining is over: every connection sees that and ends.
    let (cut, is_cut) = watch::channel(());
    let (stopping, is_stopping) = watch::channel(());
    let mut stop = pin!(stop);
    loop {
        let (stream, peer, place) = tokio::select! {
            biased;
            () = &mut stop => break,
            next = next(&listener, &connections) => next,
        };
        let service = peer::FromPeer { service: service.clone(), peer };
        let (server, mut is_cut) = (server.clone(), is_cut.clone());
        // Draining waits for whoever holds one.
        let (watcher, stopped) = (graceful.watcher(), is_stopping.clone());
        tokio::spawn(async move {
            let connection = async {
                if !both {
                    return one(&server, stream, service, stopped).await;
                }
                match http2::begins(stream, limits.idle, stopped.clone()).await {
                    Some((stream, true)) => http2::serve(stream, service, limits.idle, stopped).await,
                    Some((stream, false)) => one(&server, stream, service, stopped).await,
                    None => {}
                }
            };
            tokio::select! {
                () = connection => {}
                _ = is_cut.changed() => {}
            }
            drop((place, watcher));
        });
    }
    drop(listener);
    drop(stopping);
    if tokio::time::timeout(limits.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not finish within {} s and were cut off", limits.drain.as_secs());
    }
    drop(cut);
}

/// Serves until the connection ends or leaves HTTP; once `stopped`, it takes no
/// more requests.
async fn one<I, S, B>(server: &http1::Builder, stream: I, service: S, mut stopped: watch::Receiver<()>)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service).with_upgrades());
    tokio::select! {
        // A broken connection is the peer's business.
        _ = connection.as_mut() => return,
        _ = stopped.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// The next connection, with its peer and its place.
async fn next(listener: &Listener, connections: &Arc<Semaphore>) -> (Stream, Option<SocketAddr>, OwnedSemaphorePermit) {
    loop {
        // The semaphore is never closed.
        let Ok(place) = connections.clone().acquire_owned().await else { std::future::pending().await };
        let accepted = match listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, peer)| (Stream::tcp(stream), Some(peer))),
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| (Stream::Unix(stream), None)),
        };
        match accepted {
            Ok((stream, peer)) => return (stream, peer, place),
            Err(e) if is_of_one_connection(&e) => {}
            Err(e) => {
                tracing::warn!(error = %e, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(e: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(e.kind(), Kind::ConnectionAborted | Kind::ConnectionReset | Kind::ConnectionRefused)
}
