//! Endpoints, and calling them through the gateway.

use std::io::Read;

use muonic_types::endpoint::{Endpoint, EndpointList, NewEndpoint, NewRevision, Rollback};
use muonic_types::{Name, ReplicaId};
use serde_json::Value;

use crate::url::{Query, part};
use crate::{Client, Result};

fn path(name: &Name) -> String {
    format!("/api/v1/endpoints/{}", part(name))
}

/// Inside an endpoint's path the model bears the endpoint's name.
fn model_path(name: &Name) -> String {
    format!("/endpoints/{0}/v2/models/{0}", part(name))
}

impl Client {
    pub fn endpoint_create(&self, endpoint: &NewEndpoint) -> Result<Endpoint> {
        self.post("/api/v1/endpoints", endpoint)
    }

    pub fn endpoints(&self) -> Result<EndpointList> {
        self.get("/api/v1/endpoints")
    }

    pub fn endpoint(&self, name: &Name) -> Result<Endpoint> {
        self.get(&path(name))
    }

    pub fn endpoint_release(&self, name: &Name, revision: &NewRevision) -> Result<Endpoint> {
        self.post(&format!("{}/releases", path(name)), revision)
    }

    pub fn endpoint_promote(&self, name: &Name) -> Result<Endpoint> {
        self.post(&format!("{}/promote", path(name)), &serde_json::json!({}))
    }

    pub fn endpoint_rollback(&self, name: &Name, revision: Option<u32>) -> Result<Endpoint> {
        self.post(&format!("{}/rollback", path(name)), &Rollback { revision })
    }

    pub fn endpoint_delete(&self, name: &Name) -> Result<Endpoint> {
        self.delete(&path(name))
    }

    /// The newest replica's log without `replica`.
    pub fn endpoint_logs(
        &self,
        name: &Name,
        replica: Option<&ReplicaId>,
        follow: bool,
        offset: u64,
    ) -> Result<impl Read + Send + use<>> {
        let query = Query::default()
            .with("follow", follow.then_some(true))
            .with("replica", replica)
            .with("offset", Some(offset).filter(|o| *o > 0));
        self.read("GET", &format!("{}/logs{query}", path(name)), None)
    }

    /// Names, types and shapes of what the endpoint's model takes and gives
    /// (Open Inference Protocol v2).
    pub fn endpoint_metadata(&self, name: &Name) -> Result<Value> {
        self.get(&model_path(name))
    }

    /// One inference request, in the Open Inference Protocol v2.
    pub fn infer(&self, name: &Name, request: &Value) -> Result<Value> {
        self.post(&format!("{}/infer", model_path(name)), request)
    }
}
