//! HTTP/2 without TLS, by prior knowledge.

use std::error::Error;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::watch;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Requests of one connection at once.
const STREAMS_MAX: u32 = 256;
/// What a peer may send before anybody reads it, of all its requests together.
const UNREAD_BYTES: u32 = 1 << 20;
/// Of an answer, on its way to the connection.
const UNSENT_BYTES: usize = 128 << 10;
/// Times that a connection may be silent for as long as it may be idle,
/// before it is asked to go and before it is cut off.
const SILENT: [u32; 2] = [1, 3];

/// Whether a connection begins with the preface, and the connection with
/// nothing taken from it; `None` where nothing tells within `wait`.
pub(crate) async fn begins<I: AsyncRead + AsyncWrite + Unpin>(
    mut stream: I,
    wait: Duration,
    mut stopped: watch::Receiver<()>,
) -> Option<(Tracked<I>, bool)> {
    let mut first = [0; PREFACE.len()];
    let mut count = 0;
    let read = async {
        while count < first.len() && PREFACE.starts_with(&first[..count]) {
            match stream.read(&mut first[count..]).await {
                Ok(0) => break,
                Ok(n) => count += n,
                Err(_) => return false,
            }
        }
        count > 0
    };
    let told = tokio::select! {
        told = tokio::time::timeout(wait, read) => told.unwrap_or(false),
        // It has not asked for anything.
        _ = stopped.changed() => false,
    };
    told.then(|| (Tracked { stream, first, from: 0, count, moved: Arc::default() }, first == PREFACE))
}

/// Serves until the connection ends; once `stopped`, it takes no more requests.
pub(crate) async fn serve<I, S, B>(stream: Tracked<I>, service: S, idle: Duration, mut stopped: watch::Receiver<()>)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let moved = Arc::clone(&stream.moved);
    let mut server = http2::Builder::new(TokioExecutor::new());
    server
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(UNREAD_BYTES)
        .initial_connection_window_size(UNREAD_BYTES)
        .max_send_buf_size(UNSENT_BYTES);
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
    let (mut seen, mut silent, mut leaving) = (0, 0, false);
    loop {
        tokio::select! {
            // A broken connection is the peer's business.
            _ = connection.as_mut() => return,
            _ = stopped.changed(), if !leaving => {
                leaving = true;
                connection.as_mut().graceful_shutdown();
            }
            () = tokio::time::sleep(idle) => {
                let now = moved.load(Ordering::Relaxed);
                silent = if now == seen { silent + 1 } else { 0 };
                seen = now;
                if silent >= SILENT[1] {
                    return;
                }
                if silent >= SILENT[0] && !leaving {
                    leaving = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// A connection, with what was read of it first, that counts its bytes.
pub(crate) struct Tracked<I> {
    stream: I,
    first: [u8; PREFACE.len()],
    from: usize,
    count: usize,
    moved: Arc<AtomicU64>,
}

impl<I> Tracked<I> {
    fn moved<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.moved.fetch_add(1, Ordering::Relaxed);
        }
        result
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Tracked<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.from < self.count {
            let size = (self.count - self.from).min(buffer.remaining());
            buffer.put_slice(&self.first[self.from..self.from + size]);
            self.from += size;
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.moved(read)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Tracked<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.moved(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.moved(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
