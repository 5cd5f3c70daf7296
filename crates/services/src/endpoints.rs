//! Endpoints: what people ask of them, and what replicas report. Acting on it
//! is the releaser's work.

use std::sync::Arc;

use bytes::Bytes;
use muonic_ports::blob_store::ByteStream;
use muonic_ports::metastore::NewRevisionRecord;
use muonic_ports::{Clock, Logs, Metastore};
use muonic_types::endpoint::{
    Endpoint, EndpointList, METRIC_NAME_MAX, NewEndpoint, NewMetric, NewRevision, REPLICAS_MAX, RESOURCES, Release,
    Replica, ReplicaState, Revision, RevisionState, Rollback, Scale,
};
use muonic_types::key::Principal;
use muonic_types::model::{ModelVersionId, Serves};
use muonic_types::task::{LogAppended, ReplicaFailed, ReplicaReady, ReplicaSpec};
use muonic_types::{ErrorCode, Name, ReplicaId, Timestamp, UnitId};

use crate::auth::{Action, authorise};
use crate::releases::Releases;
use crate::{Admission, Blobs, Error, Events, Result, jobs_check, logs};

const ENDPOINTS_MAX: usize = 1_000;
/// Bytes of log kept of each replica.
const LOG_BYTES_MAX: u64 = 64 << 20;
const MESSAGE_BYTES_MAX: usize = 16 << 10;
const SERVABLE: &str =
    "register a version with one .onnx file, a handler.py, a serve.toml or MLflow's MLmodel at its top";

pub struct Endpoints {
    pub(crate) meta: Arc<dyn Metastore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) events: Arc<Events>,
    pub(crate) logs: Arc<dyn Logs>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) releases: Releases,
    blobs: Arc<Blobs>,
}

impl Endpoints {
    pub fn new(
        meta: Arc<dyn Metastore>,
        clock: Arc<dyn Clock>,
        events: Arc<Events>,
        logs: Arc<dyn Logs>,
        admission: Arc<Admission>,
        blobs: Arc<Blobs>,
    ) -> Self {
        Self { meta, clock, events, logs, admission, releases: Releases::default(), blobs }
    }

    pub async fn create(&self, caller: &Principal, new: NewEndpoint) -> Result<Endpoint> {
        authorise(caller, Action::Operate)?;
        if self.meta.endpoints_all().await?.len() >= ENDPOINTS_MAX {
            return Err(Error::conflict(format!("there are {ENDPOINTS_MAX} endpoints already")));
        }
        if new.revision.release.as_ref().is_some_and(|release| *release != Release::AllAtOnce) {
            return Err(Error::invalid("release: the first revision of an endpoint gets all traffic at once"));
        }
        let revision = self.revision(caller, &new.revision, None).await?;
        let made = self.meta.endpoint_create(&caller.project, &new.name, &revision, self.clock.now()).await;
        let endpoint = made.map_err(|e| match e {
            muonic_ports::Error::Conflict(m) => Error::conflict(m).hint(format!(
                "to serve another model there, use 'muonic endpoint release {} {}'",
                new.name, new.revision.model
            )),
            other => other.into(),
        })?;
        self.changed(endpoint)
    }

    pub async fn release(&self, caller: &Principal, name: &Name, new: NewRevision) -> Result<Endpoint> {
        authorise(caller, Action::Operate)?;
        let now = self.meta.endpoint_get(&caller.project, name).await?;
        let revision = self.revision(caller, &new, Some(&now)).await?;
        let endpoint = self.meta.endpoint_release(&caller.project, name, &revision, self.clock.now()).await?;
        self.changed(endpoint)
    }

    /// Moves a release on to all traffic at once.
    pub async fn promote(&self, caller: &Principal, name: &Name) -> Result<Endpoint> {
        authorise(caller, Action::Operate)?;
        let endpoint = self.meta.endpoint_promote(&caller.project, name).await?;
        self.changed(endpoint)
    }

    /// A value of a metric of the caller's own, by which a canary is judged.
    pub async fn metric(&self, caller: &Principal, name: &Name, metric: NewMetric) -> Result<()> {
        authorise(caller, Action::Invoke)?;
        let endpoint = self.meta.endpoint_get(&caller.project, name).await?;
        if metric.name.is_empty() || metric.name.len() > METRIC_NAME_MAX {
            return Err(Error::invalid(format!("name: the name of a metric has 1 to {METRIC_NAME_MAX} bytes")));
        }
        if ![endpoint.active, endpoint.target].contains(&Some(metric.revision)) {
            return Err(Error::conflict(format!(
                "revision {} of endpoint {name} neither serves nor is being released",
                metric.revision
            )));
        }
        if !self.releases.add(name, metric, self.clock.now()) {
            return Err(Error::conflict(format!("a revision of endpoint {name} has too many metrics already")));
        }
        Ok(())
    }

    /// Back to the given revision, or to the one that was active before.
    pub async fn rollback(&self, caller: &Principal, name: &Name, rollback: Rollback) -> Result<Endpoint> {
        authorise(caller, Action::Operate)?;
        let endpoint = self.meta.endpoint_get(&caller.project, name).await?;
        let number = match rollback.revision {
            Some(number) => {
                if !endpoint.revisions.iter().any(|r| r.number == number) {
                    return Err(Error::not_found(format!("endpoint {name} has no revision {number}")));
                }
                number
            }
            None => rollback_target(&endpoint)
                .ok_or_else(|| Error::conflict(format!("endpoint {name} has no earlier revision that served")))?,
        };
        if endpoint.active == Some(number) && endpoint.target.is_none() {
            return Err(Error::conflict(format!("revision {number} of endpoint {name} is the active one already")));
        }
        let endpoint = self.meta.endpoint_retarget(&caller.project, name, number, self.clock.now()).await?;
        self.changed(endpoint)
    }

    pub async fn delete(&self, caller: &Principal, name: &Name) -> Result<Endpoint> {
        authorise(caller, Action::Operate)?;
        let endpoint = self.meta.endpoint_delete(&caller.project, name, self.clock.now()).await?;
        self.changed(endpoint)
    }

    pub async fn get(&self, caller: &Principal, name: &Name) -> Result<Endpoint> {
        authorise(caller, Action::Read)?;
        let endpoint = self.meta.endpoint_get(&caller.project, name).await?;
        Ok(self.as_it_is_now(endpoint))
    }

    pub async fn list(&self, caller: &Principal) -> Result<EndpointList> {
        authorise(caller, Action::Read)?;
        let endpoints = self.meta.endpoint_list(&caller.project).await?;
        Ok(EndpointList { endpoints: endpoints.into_iter().map(|e| self.as_it_is_now(e)).collect() })
    }

    /// The log of one replica: the given one, or the newest.
    pub async fn logs(
        &self,
        caller: &Principal,
        name: &Name,
        replica: Option<ReplicaId>,
        offset: u64,
        follow: bool,
    ) -> Result<(Option<ReplicaId>, ByteStream)> {
        authorise(caller, Action::Read)?;
        let endpoint = self.meta.endpoint_get(&caller.project, name).await?;
        let found = match &replica {
            Some(id) => {
                let found = self.meta.replica_get(id).await?;
                if found.endpoint != *name || found.project != caller.project {
                    return Err(Error::not_found(format!("{id} is not a replica of endpoint {name}")));
                }
                Some(found.id)
            }
            None => endpoint.replicas.iter().max_by_key(|r| r.launched_at).map(|r| r.id.clone()),
        };
        let Some(id) = found else {
            return Ok((None, Box::pin(futures_util::stream::empty())));
        };
        let unit = UnitId::Replica(id.clone());
        let follow = follow.then(|| self.still_writing(id.clone()));
        Ok((Some(id), logs::stream(self.logs.clone(), self.events.clone(), unit, offset, follow)))
    }

    fn still_writing(&self, id: ReplicaId) -> logs::StillWriting {
        let meta = self.meta.clone();
        Arc::new(move || {
            let (meta, id) = (meta.clone(), id.clone());
            Box::pin(async move {
                match meta.replica_get(&id).await {
                    Ok(replica) => replica.state.is_live(),
                    // Not to know is not to know that it ended.
                    Err(e) => !matches!(e, muonic_ports::Error::NotFound(_)),
                }
            })
        })
    }

    // What replicas report. Each call is about the caller itself only.

    pub async fn claim(&self, caller: &Principal, id: &ReplicaId) -> Result<ReplicaSpec> {
        own_replica(caller, id)?;
        let replica = self.meta.replica_get(id).await?;
        if !replica.state.is_live() {
            return Err(Error::conflict(format!("replica {id} has ended")));
        }
        Ok(ReplicaSpec {
            replica: replica.id,
            endpoint: replica.endpoint,
            revision: replica.revision,
            model: replica.model.name,
            version: replica.model.version,
            tree: replica.tree,
            resources: replica.resources,
        })
    }

    pub async fn ready(&self, caller: &Principal, id: &ReplicaId, ready: ReplicaReady) -> Result<()> {
        own_replica(caller, id)?;
        // Requests will go there: a model's code must not send them elsewhere.
        if !self.admission.may_serve_at(&UnitId::Replica(id.clone()), &ready.address) {
            return Err(Error::invalid("address is not one at which this replica may listen"));
        }
        self.meta.replica_ready(id, &ready.address, self.clock.now()).await?;
        self.events.wake_releaser();
        Ok(())
    }

    /// The replica says why it cannot serve, and ends.
    pub async fn failed(&self, caller: &Principal, id: &ReplicaId, failed: ReplicaFailed) -> Result<()> {
        own_replica(caller, id)?;
        let mut message = failed.message;
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        self.meta.replica_end(id, ReplicaState::Failed, Some(&message), self.clock.now()).await?;
        self.events.wake_releaser();
        Ok(())
    }

    pub async fn append_log(
        &self,
        caller: &Principal,
        id: &ReplicaId,
        offset: u64,
        bytes: Bytes,
    ) -> Result<LogAppended> {
        own_replica(caller, id)?;
        if offset.saturating_add(bytes.len() as u64) > LOG_BYTES_MAX {
            return Err(Error::new(
                ErrorCode::TooLarge,
                format!("the log of a replica may have {LOG_BYTES_MAX} bytes"),
            ));
        }
        let unit = UnitId::Replica(id.clone());
        let next_offset = self.logs.append(&unit, offset, bytes).await?;
        self.events.log_grew(&unit);
        Ok(LogAppended { next_offset })
    }

    fn changed(&self, endpoint: Endpoint) -> Result<Endpoint> {
        self.events.wake_releaser();
        Ok(self.as_it_is_now(endpoint))
    }

    /// What is not said is as in the newest revision, or the default.
    async fn revision(
        &self,
        caller: &Principal,
        new: &NewRevision,
        now: Option<&Endpoint>,
    ) -> Result<NewRevisionRecord> {
        let before = now.and_then(|e| e.revisions.first());
        let (replicas, scale) = size(new, before)?;
        let release = new.release.clone().unwrap_or_default();
        release.check().map_err(|why| Error::invalid(format!("release: {}", why.0)))?;
        let resources = new.resources.or(before.map(|r| r.resources)).unwrap_or(RESOURCES);
        jobs_check::check_resources(&resources, &self.admission.capacity().await?)?;
        let model = self.meta.model_version(&caller.project, &new.model.name, &new.model.version).await?;
        let id = ModelVersionId { name: model.name, version: model.version };
        let tree = self.blobs.read_tree(&model.tree.digest).await?;
        Serves::of_tree(tree.entries().iter().map(|e| e.path.as_str()))
            .map_err(|why| Error::invalid(format!("{id} cannot be served: {}", why.0)).hint(SERVABLE))?;
        Ok(NewRevisionRecord { model: id, tree: model.tree.digest, replicas, scale, resources, release })
    }

    fn as_it_is_now(&self, mut endpoint: Endpoint) -> Endpoint {
        endpoint.progress = self.releases.progress(&endpoint);
        let now = self.clock.now();
        let spent: f64 =
            endpoint.replicas.iter().filter(|r| r.state.is_live()).map(|r| self.cost(&endpoint, r, now)).sum();
        endpoint.cost_usd += spent;
        endpoint
    }

    fn cost(&self, endpoint: &Endpoint, replica: &Replica, now: Timestamp) -> f64 {
        let revision = endpoint.revisions.iter().find(|r| r.number == replica.revision);
        let price = revision.map(|r| self.admission.price(&r.resources)).unwrap_or_default();
        price.usd(crate::cost::seconds(replica.launched_at, now))
    }
}

/// How many replicas a new revision has: as said, as the one before, or one.
fn size(new: &NewRevision, before: Option<&Revision>) -> Result<(u32, Option<Scale>)> {
    match (new.replicas, new.scale) {
        (Some(_), Some(_)) => Err(Error::invalid("replicas and scale exclude each other: give one of them")),
        (Some(replicas), None) if !(1..=REPLICAS_MAX).contains(&replicas) => {
            Err(Error::invalid(format!("replicas must be between 1 and {REPLICAS_MAX}")))
        }
        (Some(replicas), None) => Ok((replicas, None)),
        (None, Some(scale)) => {
            scale.check().map_err(|why| Error::invalid(format!("scale: {}", why.0)))?;
            Ok((scale.min, Some(scale)))
        }
        (None, None) => Ok(before.map_or((1, None), |before| (before.replicas, before.scale))),
    }
}

/// The revision that served before the present one: a release under way is
/// undone by going back to the active revision.
fn rollback_target(endpoint: &Endpoint) -> Option<u32> {
    if endpoint.target.is_some() && endpoint.active.is_some() {
        return endpoint.active;
    }
    let served =
        endpoint.revisions.iter().filter(|r| Some(r.number) != endpoint.active && r.state == RevisionState::Retired);
    served.filter(|r| r.activated_at.is_some()).max_by_key(|r| r.activated_at).map(|r| r.number)
}

fn own_replica(caller: &Principal, id: &ReplicaId) -> Result<()> {
    if caller.replica.as_ref() == Some(id) {
        return Ok(());
    }
    Err(Error::new(ErrorCode::Forbidden, format!("only the key given to {id} may report on it")))
}
