//! The one loop behind every HTTP listener: connections bounded in number, in
//! the time they may take to ask and in the time they may leave our bytes
//! lying; drained on request, and cut off when that takes too long.
//!
//! HTTP/1.1 only: its timer for heads starts before the first byte, so a
//! connection that says nothing holds its place for a moment, not for ever.

mod linger;
mod peer;

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
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// A peer that takes none of our bytes for this long is gone.
const SEND_TIMEOUT_MS: u32 = 60_000;
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
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(limits.idle).max_buf_size(HEAD_BYTES_MAX);
    let graceful = GracefulShutdown::new();
    let connections = Arc::new(Semaphore::new(limits.connections_max.min(Semaphore::MAX_PERMITS)));
    // Dropped when draining is over: every connection sees that and ends.
    let (cut, is_cut) = watch::channel(());
    let mut stop = pin!(stop);
    loop {
        let (stream, peer, place) = tokio::select! {
            biased;
            () = &mut stop => break,
            next = next(&listener, &connections) => next,
        };
        let service = peer::FromPeer { service: service.clone(), peer };
        let connection = graceful.watch(server.serve_connection(TokioIo::new(stream), service));
        let mut is_cut = is_cut.clone();
        tokio::spawn(async move {
            tokio::select! {
                // A broken connection is the peer's business.
                _ = connection => {}
                _ = is_cut.changed() => {}
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(limits.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not finish within {} s and were cut off", limits.drain.as_secs());
    }
    drop(cut);
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

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn tcp(stream: TcpStream) -> Self {
        // Small answers must not wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let _ = setsockopt(&stream, sockopt::TcpUserTimeout, &SEND_TIMEOUT_MS);
        Self::Tcp(stream)
    }
}

/// Passes a call on to whichever stream it is.
macro_rules! forward {
    ($this:expr, $call:ident $(, $argument:expr)*) => {
        match $this.get_mut() {
            Self::Tcp(stream) => std::pin::Pin::new(stream).$call($($argument),*),
            Self::Unix(stream) => std::pin::Pin::new(stream).$call($($argument),*),
        }
    };
}

type Context<'a, 'b> = &'a mut std::task::Context<'b>;
type Poll<T> = std::task::Poll<io::Result<T>>;

impl AsyncRead for Stream {
    fn poll_read(self: std::pin::Pin<&mut Self>, cx: Context, buffer: &mut tokio::io::ReadBuf<'_>) -> Poll<()> {
        forward!(self, poll_read, cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: std::pin::Pin<&mut Self>, cx: Context, bytes: &[u8]) -> Poll<usize> {
        forward!(self, poll_write, cx, bytes)
    }

    fn poll_write_vectored(self: std::pin::Pin<&mut Self>, cx: Context, parts: &[io::IoSlice<'_>]) -> Poll<usize> {
        forward!(self, poll_write_vectored, cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: std::pin::Pin<&mut Self>, cx: Context) -> Poll<()> {
        forward!(self, poll_flush, cx)
    }

    fn poll_shutdown(self: std::pin::Pin<&mut Self>, cx: Context) -> Poll<()> {
        forward!(self, poll_shutdown, cx)
    }
}
