//! Connections to replicas, kept for the next request.
//!
//! A pool of our own, because the gateway must know two things exactly: that
//! a connection could not be made, and that a request was given back unsent.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::Request;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use muonic_ports::routes::{Route, RouteTable};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::Shared;
use crate::body::Upload;

/// Idle connections kept for each replica.
const IDLE_MAX: usize = 256;
/// Well below the time after which a replica closes an idle connection, so
/// that both never meet.
const IDLE_TIME_MAX: Duration = Duration::from_secs(20);
/// Longest path that fits a unix socket's address, with room to spare.
const SOCKET_PATH_MAX: usize = 100;

/// What a request is sent in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// A connection for each request at a time.
    Http1,
    /// One connection for all: gRPC.
    Http2,
}

pub enum Connection {
    Http1(http1::SendRequest<Upload>),
    Http2(http2::SendRequest<Upload>),
}

impl Connection {
    pub async fn try_send_request(
        &mut self,
        request: Request<Upload>,
    ) -> Result<http::Response<Incoming>, TrySendError<Request<Upload>>> {
        match self {
            Self::Http1(connection) => connection.try_send_request(request).await,
            Self::Http2(connection) => connection.try_send_request(request).await,
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_closed(),
            Self::Http2(connection) => connection.is_closed(),
        }
    }

    fn is_ready(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_ready(),
            Self::Http2(connection) => connection.is_ready(),
        }
    }
}

pub struct Pools {
    connect_time: Duration,
    idle: Mutex<HashMap<String, Vec<Idle>>>,
    shared: Mutex<HashMap<String, http2::SendRequest<Upload>>>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pools {
    pub fn new(connect_time: Duration) -> Self {
        Self { connect_time, idle: Mutex::default(), shared: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&self) -> MutexGuard<'_, HashMap<String, http2::SendRequest<Upload>>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that is there: an idle one, the one used last, or the one
    /// for all.
    pub fn take(&self, address: &str, protocol: Protocol) -> Option<Connection> {
        if protocol == Protocol::Http2 {
            let shared = self.shared().get(address).cloned().filter(|connection| !connection.is_closed())?;
            return Some(Connection::Http2(shared));
        }
        let mut idle = self.lock();
        let connections = idle.get_mut(address)?;
        // One that has just ended its answer may need a moment.
        let mut busy = Vec::new();
        let found = loop {
            match connections.pop() {
                // Those before it are older still.
                Some(last) if last.since.elapsed() >= IDLE_TIME_MAX => connections.clear(),
                Some(last) if last.connection.is_closed() => {}
                Some(last) if last.connection.is_ready() => break Some(last.connection),
                Some(last) => busy.push(last),
                None => break None,
            }
        };
        connections.extend(busy.into_iter().rev());
        found
    }

    /// True for the first connection to a replica: the moment to [`prune`].
    ///
    /// [`prune`]: Self::prune
    #[must_use]
    pub fn give_back(&self, address: &str, connection: Connection) -> bool {
        if connection.is_closed() || matches!(connection, Connection::Http2(_)) {
            return false;
        }
        let mut idle = self.lock();
        let is_first = !idle.contains_key(address);
        let connections = idle.entry(address.to_owned()).or_default();
        if connections.len() < IDLE_MAX {
            connections.push(Idle { connection, since: Instant::now() });
        }
        is_first
    }

    /// Forgets connections to replicas that are in no route.
    pub fn prune(&self, table: &RouteTable) {
        let mut idle = self.lock();
        let known: HashSet<&str> =
            table.routes.values().flat_map(Route::backends).map(|b| b.address.as_str()).collect();
        idle.retain(|address, _| known.contains(address.as_str()));
        self.shared().retain(|address, connection| known.contains(address.as_str()) && !connection.is_closed());
    }

    pub async fn connect(&self, address: &str, protocol: Protocol) -> io::Result<Connection> {
        let connect = async {
            if let Some(path) = address.strip_prefix("unix:") {
                handshake(unix(Path::new(path)).await?, protocol).await
            } else if let Some(authority) = address.strip_prefix("http://") {
                let stream = TcpStream::connect(authority.trim_end_matches('/')).await?;
                stream.set_nodelay(true)?;
                handshake(stream, protocol).await
            } else {
                Err(io::Error::new(io::ErrorKind::InvalidInput, format!("'{address}' is no address of a replica")))
            }
        };
        let connection = tokio::time::timeout(self.connect_time, connect)
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "it does not take connections")))?;
        if let Connection::Http2(connection) = &connection {
            self.shared().insert(address.to_owned(), connection.clone());
        }
        Ok(connection)
    }
}

async fn unix(path: &Path) -> io::Result<UnixStream> {
    let folder = path.parent().filter(|_| path.as_os_str().len() > SOCKET_PATH_MAX && path.ends_with("socket"));
    match folder {
        None => UnixStream::connect(path).await,
        Some(folder) => {
            let (_open, short) = muonic_unit::socket_path(folder)?;
            UnixStream::connect(short).await
        }
    }
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    protocol: Protocol,
) -> io::Result<Connection> {
    let stream = TokioIo::new(stream);
    // A connection ends when the replica closes it or the last sender is
    // dropped; whoever waits for an answer hears of errors.
    match protocol {
        Protocol::Http1 => {
            let (sender, connection) = http1::handshake(stream).await.map_err(io::Error::other)?;
            tokio::spawn(connection.with_upgrades());
            Ok(Connection::Http1(sender))
        }
        Protocol::Http2 => {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .handshake(stream)
                .await
                .map_err(io::Error::other)?;
            tokio::spawn(connection);
            Ok(Connection::Http2(sender))
        }
    }
}

/// Gives a connection back when an answer has been read to its end.
pub struct Return {
    pub shared: Arc<Shared>,
    pub address: String,
    pub connection: Option<Connection>,
}

impl Return {
    pub fn now(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.shared.give_back(&self.address, connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn keeps_connections_that_live() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let address = format!("unix:{}", path.display());
        let pools = Pools::new(Duration::from_secs(5));
        assert!(pools.connect(&address, Protocol::Http1).await.is_err());
        assert!(pools.connect("gopher://x", Protocol::Http1).await.is_err());
        let listener = UnixListener::bind(&path).unwrap();
        let connection = pools.connect(&address, Protocol::Http1).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        assert!(pools.give_back(&address, connection), "the first of its address");
        // Fresh from the handshake it may need a moment.
        let deadline = Instant::now() + Duration::from_secs(60);
        let connection = loop {
            if let Some(connection) = pools.take(&address, Protocol::Http1) {
                break connection;
            }
            assert!(Instant::now() < deadline, "the connection was lost");
            tokio::task::yield_now().await;
        };
        assert!(pools.take(&address, Protocol::Http1).is_none());
        assert!(!pools.give_back(&address, connection));
        // Closed at the other end: it is not handed out again.
        drop(stream);
        while pools.take(&address, Protocol::Http1).map(|c| pools.give_back(&address, c)).is_some() {
            assert!(Instant::now() < deadline, "a closed connection is handed out");
            tokio::task::yield_now().await;
        }
        assert!(pools.lock()[&address].is_empty());
        pools.prune(&RouteTable::default());
        assert!(pools.lock().is_empty());
    }
}
