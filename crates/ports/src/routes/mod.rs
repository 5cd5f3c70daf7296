//! What the gateway needs to know, pushed to it by watch: no request waits
//! for a database. What the reconciler needs to know of requests is counted in
//! what hangs on the table.

mod activity;
mod tally;

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use muonic_types::endpoint::{Comparison, EndpointState};
use muonic_types::key::Principal;
use muonic_types::{ErrorCode, Name, ProjectId, ReplicaId};

pub use activity::{Activity, Asked, Burst, Visit, Waiting};
pub use tally::{Counts, Tally};

/// One replica that may get requests.
#[derive(Debug, Clone)]
pub struct Backend {
    pub replica: ReplicaId,
    /// `unix:<path>` or `http://host:port`.
    pub address: String,
    /// Requests in it right now. A gateway raises it while it still holds the
    /// table it picked from (`watch::Receiver::borrow`), so once a table
    /// without the backend has been sent, zero means that none will come.
    pub in_flight: Arc<AtomicUsize>,
    /// Since when it is known to be ready: a new one gets its share by and by.
    pub since: Instant,
}

/// One revision with its replicas.
#[derive(Debug, Clone)]
pub struct Arm {
    pub revision: u32,
    pub backends: Vec<Backend>,
    pub tally: Arc<Tally>,
}

/// What comes to the revision that an endpoint moves to.
#[derive(Debug, Clone)]
pub enum Share {
    /// Part of the requests.
    Percent {
        percent: f64,
        /// Requests with the same value of this header go the same way.
        sticky_header: Option<String>,
    },
    /// Copies of part of the requests; its answers are compared and dropped.
    Copies { percent: f64, compared: Arc<Mutex<Comparison>> },
}

#[derive(Debug, Clone)]
pub struct Route {
    pub endpoint: Name,
    pub project: ProjectId,
    pub state: EndpointState,
    pub activity: Arc<Activity>,
    /// The active revision; the first, where none is active yet.
    pub active: Arm,
    pub target: Option<(Arm, Share)>,
}

impl Route {
    pub fn arms(&self) -> impl Iterator<Item = &Arm> {
        std::iter::once(&self.active).chain(self.target.as_ref().map(|(arm, _)| arm))
    }

    pub fn backends(&self) -> impl Iterator<Item = &Backend> {
        self.arms().flat_map(|arm| &arm.backends)
    }
}

#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    /// False before the reconciler has looked for the first time: then that an
    /// endpoint is missing says nothing.
    pub known: bool,
    pub routes: HashMap<Name, Route>,
}

/// A request to an endpoint that the cloud makes itself, for somebody.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// Below the endpoint's own path.
    pub path: String,
    pub content_type: String,
    pub accept: Option<String>,
    pub body: Bytes,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub content_type: Option<String>,
    pub body: Bytes,
}

/// The gateway, for those inside.
#[async_trait]
pub trait Invoker: Send + Sync {
    /// `TooLarge` where the answer has more than `answer_bytes_max`; else the
    /// errors that a caller from outside would get.
    async fn invoke(
        &self,
        caller: &Principal,
        endpoint: &Name,
        invocation: Invocation,
        answer_bytes_max: usize,
    ) -> Result<Answer, (ErrorCode, String)>;
}

/// Tells people's own programs that something has happened.
#[async_trait]
pub trait Callbacks: Send + Sync {
    /// POSTs a JSON document; the error is a sentence: why it was not taken.
    async fn post(&self, url: &str, document: String) -> Result<(), String>;
}

/// Who is calling? Decided in memory, without I/O.
pub trait Authenticator: Send + Sync {
    /// `token` is `<key id>.<secret>`. The error is always
    /// [`ErrorCode::Unauthenticated`] with a sentence.
    fn authenticate(&self, token: &str) -> Result<Principal, (ErrorCode, String)>;
    /// The secret of a key that is valid now, for signatures (S3).
    fn secret(&self, id: &muonic_types::KeyId) -> Option<(Principal, String)>;
}
