//! The request path to endpoints: `/endpoints/{name}/...` goes to one of the
//! endpoint's replicas.
//!
//! ```text
//! request ─▶ who calls? ─▶ which endpoint? ─▶ room? ─▶ pick a replica ─▶ connection ─▶ stream the answer
//!            (auth)        (route table)      (limit)   (pick)            (pool)        (body)
//!                                                                                         └▶ a copy for a shadow
//! ```
//!
//! Invariants: no database and no disk on this path; routes and keys are in
//! memory. A request that may have reached a replica is sent to another at most
//! once, where that is safe and nothing of an answer has come. A
//! replica's `in_flight` is raised while the table it was picked from is
//! borrowed and lowered when the answer has been streamed or dropped, so that
//! a replica that left the table can be waited for.

mod auth;
mod body;
mod call;
mod compare;
mod copied;
mod forward;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod headers;
mod host;
mod limits;
mod metrics;
mod pick;
mod pool;
mod refusal;
mod shadow;
mod tunnel;

pub use host::by_host;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::routing::any;
use muonic_ports::routes::{Authenticator, RouteTable};
use muonic_types::Name;
use prometheus_client::registry::Registry;
use tokio::sync::{Semaphore, watch};

#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub body_bytes_max: u64,
    /// Requests of one endpoint in the gateway at once.
    pub endpoint_requests_max: usize,
    /// From the request to the head of its answer, and between two pieces of
    /// the answer.
    pub request_time: Duration,
    /// How long a request waits for the first replica of an endpoint that is
    /// being deployed.
    pub hold_time: Duration,
    /// How long it waits where one served before: another replica is mostly
    /// there in a moment, and where it is not, callers should hear of it soon.
    pub replace_time: Duration,
    /// Requests of all endpoints that wait so.
    pub held_max: usize,
    pub connect_time: Duration,
    /// How long both ends of a WebSocket may say nothing.
    pub tunnel_idle: Duration,
    /// Copies of requests that shadows work on at once.
    pub shadows_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            body_bytes_max: 64 << 20,
            endpoint_requests_max: 1024,
            request_time: Duration::from_secs(60),
            hold_time: Duration::from_secs(30),
            replace_time: Duration::from_secs(5),
            held_max: 4096,
            connect_time: Duration::from_secs(2),
            tunnel_idle: Duration::from_secs(600),
            shadows_max: 64,
        }
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    routes: watch::Receiver<Arc<RouteTable>>,
    auth: Arc<dyn Authenticator>,
    metrics: metrics::Metrics,
    pools: pool::Pools,
    health: pick::Health,
    /// Room of each endpoint.
    rooms: Mutex<HashMap<Name, Arc<Semaphore>>>,
    limits: Arc<limits::Limits>,
    held: Arc<Semaphore>,
    shadows: Arc<Semaphore>,
}

impl Gateway {
    pub fn new(
        routes: watch::Receiver<Arc<RouteTable>>,
        auth: Arc<dyn Authenticator>,
        registry: &mut Registry,
    ) -> Self {
        Self::with_settings(routes, auth, registry, Settings::default())
    }

    pub fn with_settings(
        routes: watch::Receiver<Arc<RouteTable>>,
        auth: Arc<dyn Authenticator>,
        registry: &mut Registry,
        settings: Settings,
    ) -> Self {
        let shared = Shared {
            settings,
            metrics: metrics::Metrics::new(registry, routes.clone()),
            routes,
            auth,
            pools: pool::Pools::new(settings.connect_time),
            health: pick::Health::default(),
            rooms: Mutex::default(),
            limits: Arc::default(),
            held: Arc::new(Semaphore::new(settings.held_max)),
            shadows: Arc::new(Semaphore::new(settings.shadows_max)),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Handles `/endpoints/{name}/...`. Bodies are limited in here.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/endpoints/{name}/", any(forward::handle))
            .route("/endpoints/{name}/{*path}", any(forward::handle))
            .route("/inference.GRPCInferenceService/{method}", any(forward::grpc))
            .with_state(self.clone())
    }
}

impl Shared {
    /// A connection whose answer has been read to its end.
    fn give_back(&self, address: &str, connection: pool::Connection) {
        if self.pools.give_back(address, connection) {
            self.pools.prune(&self.routes.borrow());
        }
    }

    fn room(&self, endpoint: &Name, table: &RouteTable) -> Arc<Semaphore> {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(room) = rooms.get(endpoint) {
            return Arc::clone(room);
        }
        // A new endpoint is the moment to forget those that are gone.
        rooms.retain(|name, room| table.routes.contains_key(name) || Arc::strong_count(room) > 1);
        let room = Arc::new(Semaphore::new(self.settings.endpoint_requests_max));
        rooms.insert(endpoint.clone(), Arc::clone(&room));
        room
    }
}
