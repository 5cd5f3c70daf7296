//! How a replica takes connections.

use std::future::Future;
use std::time::Duration;

use axum::Router;
use hyper_util::service::TowerToHyperService;
pub use muonic_listen::Listener;
use muonic_listen::{Limits, Linger};

const CONNECTIONS_MAX: usize = 4096;
/// Longer than any client of ours keeps an idle connection for use.
const IDLE: Duration = Duration::from_secs(90);

/// Serves HTTP/1.1 and HTTP/2 until `stop` is done, then at most `drain_time` longer.
pub async fn serve(listener: Listener, router: Router, drain_time: Duration, stop: impl Future<Output = ()>) {
    let limits = Limits { connections_max: CONNECTIONS_MAX, idle: IDLE, drain: drain_time };
    muonic_listen::serve_both(listener, Linger(TowerToHyperService::new(router)), limits, stop).await;
}
