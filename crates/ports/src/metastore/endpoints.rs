use async_trait::async_trait;
use muonic_types::endpoint::{Endpoint, Release, ReplicaState, Scale};
use muonic_types::key::Key;
use muonic_types::model::ModelVersionId;
use muonic_types::{Digest, Name, Price, ProjectId, ReplicaId, Resources, Timestamp};

use crate::Result;

#[derive(Debug, Clone)]
pub struct NewRevisionRecord {
    pub model: ModelVersionId,
    pub tree: Digest,
    pub replicas: u32,
    pub scale: Option<Scale>,
    pub resources: Resources,
    pub release: Release,
}

/// A replica with what is needed to launch it again.
#[derive(Debug, Clone)]
pub struct ReplicaRecord {
    pub id: ReplicaId,
    pub endpoint: Name,
    pub project: ProjectId,
    pub revision: u32,
    pub model: ModelVersionId,
    pub tree: Digest,
    pub state: ReplicaState,
    pub reason: Option<String>,
    pub address: Option<String>,
    pub resources: Resources,
    pub price: Price,
    pub key: Key,
    pub launched_at: Timestamp,
    pub ready_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
}

/// Endpoint names are unique over all projects: a replica's id begins with
/// one, and engines know units by id alone.
#[async_trait]
pub trait Endpoints {
    /// Makes the endpoint with revision 1 as its target. `Conflict` where the
    /// name is taken.
    async fn endpoint_create(
        &self,
        project: &ProjectId,
        name: &Name,
        revision: &NewRevisionRecord,
        at: Timestamp,
    ) -> Result<Endpoint>;
    /// Adds the next revision and makes it the target; an earlier target that
    /// was not yet active is retired. `Conflict` where it is being deleted.
    async fn endpoint_release(
        &self,
        project: &ProjectId,
        name: &Name,
        revision: &NewRevisionRecord,
        at: Timestamp,
    ) -> Result<Endpoint>;
    /// Makes an existing revision the target again (rollback): its state
    /// becomes pending, its release all at once. Where it is the active one, an
    /// unfinished target is retired and nothing else changes.
    async fn endpoint_retarget(
        &self,
        project: &ProjectId,
        name: &Name,
        revision: u32,
        at: Timestamp,
    ) -> Result<Endpoint>;
    /// Makes the target active and the formerly active revision retired; only
    /// where `revision` still is the target (else `Conflict`).
    async fn revision_activate(&self, name: &Name, revision: u32, at: Timestamp) -> Result<()>;
    /// Gives a target up; only where `revision` still is the target.
    async fn revision_failed(&self, name: &Name, revision: u32, reason: &str, at: Timestamp) -> Result<()>;
    /// Moves the target on to all at once; `Conflict` where there is no target.
    async fn endpoint_promote(&self, project: &ProjectId, name: &Name) -> Result<Endpoint>;
    /// Which step of its release the target has come to, from 1; 0 before the
    /// first. Only where `revision` still is the target (else `Conflict`).
    async fn revision_step(&self, name: &Name, revision: u32, step: u32) -> Result<()>;
    /// Notes what a pending revision waits for.
    async fn revision_waits(&self, name: &Name, revision: u32, reason: Option<&str>) -> Result<()>;
    /// Marks the endpoint as being deleted.
    async fn endpoint_delete(&self, project: &ProjectId, name: &Name, at: Timestamp) -> Result<Endpoint>;
    /// Removes an endpoint that is being deleted and has no live replica.
    /// Its usage stays for the cost report.
    async fn endpoint_remove(&self, name: &Name) -> Result<()>;
    /// With revisions newest first, live replicas in order of launch, then up
    /// to five ended ones, newest first. `cost_usd` is that of ended replicas,
    /// here and in every endpoint answered: services add what is running.
    async fn endpoint_get(&self, project: &ProjectId, name: &Name) -> Result<Endpoint>;
    async fn endpoint_list(&self, project: &ProjectId) -> Result<Vec<Endpoint>>;
    /// What was learned of when requests come, as it was kept last: a document
    /// of the reconciler's own.
    async fn endpoints_learned(&self) -> Result<Vec<(Name, String)>>;
    /// Keeps what was learned of endpoints; those that are gone are passed over.
    async fn endpoints_learn(&self, learned: &[(Name, String)]) -> Result<()>;
    /// Every endpoint of every project, for the reconciler.
    async fn endpoints_all(&self) -> Result<Vec<Endpoint>>;
    /// Every live replica, for the reconciler.
    async fn replicas_live(&self) -> Result<Vec<ReplicaRecord>>;
    async fn replica_get(&self, id: &ReplicaId) -> Result<ReplicaRecord>;
    /// The next unused replica number of a revision; numbers of a removed
    /// endpoint of the same name count as used.
    async fn replica_next(&self, name: &Name, revision: u32) -> Result<u32>;
    /// Adds a launching replica with its key. `Conflict` where the id is or
    /// was taken, or the endpoint is being deleted.
    async fn replica_insert(&self, replica: &ReplicaRecord) -> Result<()>;
    /// Launching → ready with its address; the same again changes nothing.
    /// `Conflict` in any other state.
    async fn replica_ready(&self, id: &ReplicaId, address: &str, at: Timestamp) -> Result<()>;
    /// Launching or ready → draining; `Conflict` where it has ended.
    async fn replica_drain(&self, id: &ReplicaId) -> Result<()>;
    /// Live → stopped or failed, and revokes its key. Ending an ended one
    /// changes nothing.
    async fn replica_end(&self, id: &ReplicaId, state: ReplicaState, reason: Option<&str>, at: Timestamp)
    -> Result<()>;
}
