//! What the gateway needs to know, pushed to it by watch: no request waits
//! for a database.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use muonic_types::endpoint::EndpointState;
use muonic_types::key::Principal;
use muonic_types::model::ModelVersionId;
use muonic_types::{ErrorCode, Name, ProjectId, ReplicaId};

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
}

#[derive(Debug, Clone)]
pub struct Route {
    pub endpoint: Name,
    pub project: ProjectId,
    pub state: EndpointState,
    pub revision: u32,
    pub model: ModelVersionId,
    pub backends: Vec<Backend>,
}

#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    pub routes: HashMap<Name, Route>,
}

/// Who is calling? Decided in memory, without I/O.
pub trait Authenticator: Send + Sync {
    /// `token` is `<key id>.<secret>`. The error is always
    /// [`ErrorCode::Unauthenticated`] with a sentence.
    fn authenticate(&self, token: &str) -> Result<Principal, (ErrorCode, String)>;
    /// The secret of a key that is valid now, for signatures (S3).
    fn secret(&self, id: &muonic_types::KeyId) -> Option<(Principal, String)>;
}
