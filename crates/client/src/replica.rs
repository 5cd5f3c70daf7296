//! What a replica says to the server about itself.

use muonic_types::ReplicaId;
use muonic_types::task::{LogAppended, ReplicaFailed, ReplicaReady, ReplicaSpec};
use serde::de::IgnoredAny;

use crate::url::part;
use crate::{Client, Result};

fn path(id: &ReplicaId, verb: &str) -> String {
    format!("/api/v1/replicas/{}/{verb}", part(id))
}

impl Client {
    /// Everything the replica needs to know. Idempotent.
    pub fn replica_claim(&self, id: &ReplicaId) -> Result<ReplicaSpec> {
        self.post(&path(id, "claim"), &serde_json::json!({}))
    }

    /// It takes requests at `address` from now on. Idempotent.
    pub fn replica_ready(&self, id: &ReplicaId, address: &str) -> Result<()> {
        let body = ReplicaReady { address: address.to_owned() };
        self.post::<IgnoredAny>(&path(id, "ready"), &body).map(drop)
    }

    /// It cannot serve its model, with one sentence why. Idempotent.
    pub fn replica_failed(&self, id: &ReplicaId, message: &str) -> Result<()> {
        let body = ReplicaFailed { message: message.to_owned() };
        self.post::<IgnoredAny>(&path(id, "failed"), &body).map(drop)
    }

    /// Appends to its log. The answer says where the next bytes belong.
    pub fn replica_log(&self, id: &ReplicaId, offset: u64, bytes: &[u8]) -> Result<LogAppended> {
        self.post_bytes(&format!("{}?offset={offset}", path(id, "logs")), "application/octet-stream", bytes)
    }
}
