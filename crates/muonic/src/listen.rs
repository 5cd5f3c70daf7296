//! The server's own sockets.

use std::net::SocketAddr;

use anyhow::Context;
use tokio::net::TcpListener;

/// Binds, with a sentence for the usual failures.
pub async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; choose another address with {flag}, such as {flag} 127.0.0.1:0")
    })
}
