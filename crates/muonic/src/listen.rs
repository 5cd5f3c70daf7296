//! The server's own sockets.

use std::net::SocketAddr;

use anyhow::anyhow;
use tokio::net::TcpListener;

/// Binds, with a sentence for the usual failures.
pub async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| {
        anyhow!("cannot listen on {address}: {e}; choose another address with {flag}, such as {flag} 127.0.0.1:0")
    })
}
