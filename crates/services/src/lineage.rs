//! Lineage: from an endpoint down to the data, read from what was recorded as
//! it happened.

use std::sync::Arc;

use muonic_ports::Metastore;
use muonic_types::endpoint::{Endpoint, Revision};
use muonic_types::job::{Attempt, Job};
use muonic_types::key::Principal;
use muonic_types::lineage::{LineageKind, LineageNode, NodeKind};
use muonic_types::model::{ModelSource, ModelVersion, SourceDataset};
use muonic_types::{Digest, JobId, VersionRef, VersionSelector};
use serde_json::{Map, Value, json};

use crate::Result;
use crate::auth::{Action, authorise};

pub struct Lineage {
    meta: Arc<dyn Metastore>,
}

impl Lineage {
    pub fn new(meta: Arc<dyn Metastore>) -> Self {
        Self { meta }
    }

    /// `name`: an endpoint's name, a model or dataset with or without a
    /// version, or a job's id.
    pub async fn of(&self, caller: &Principal, kind: LineageKind, name: &str) -> Result<LineageNode> {
        authorise(caller, Action::Read)?;
        match kind {
            LineageKind::Endpoint => {
                let endpoint = self.meta.endpoint_get(&caller.project, &name.parse()?).await?;
                self.endpoint(caller, &endpoint).await
            }
            LineageKind::Model => {
                let wanted: VersionRef = name.parse()?;
                let version = self.meta.model_version(&caller.project, &wanted.name, &wanted.version).await?;
                self.model(caller, &version).await
            }
            LineageKind::Job => {
                let id: JobId = name.parse()?;
                let job = self.meta.job_get(&caller.project, &id).await?;
                self.job(caller, &job).await
            }
            LineageKind::Dataset => {
                let wanted: VersionRef = name.parse()?;
                let found = self.meta.dataset_get(&caller.project, &wanted.name, &wanted.version).await?;
                let source = SourceDataset { name: found.name, version: found.version, digest: found.tree.digest };
                let mut node = dataset(None, &source);
                node.detail.extend(object(
                    json!({"files": found.tree.files, "bytes": found.tree.bytes, "created_at": found.created_at}),
                ));
                Ok(node)
            }
        }
    }

    async fn endpoint(&self, caller: &Principal, endpoint: &Endpoint) -> Result<LineageNode> {
        let mut revisions = Vec::new();
        let serving = [endpoint.active, endpoint.target];
        for revision in endpoint.revisions.iter().filter(|r| serving.contains(&Some(r.number))) {
            revisions.push(self.revision(caller, endpoint, revision).await?);
        }
        Ok(LineageNode {
            kind: NodeKind::Endpoint,
            id: endpoint.name.to_string(),
            digest: None,
            detail: object(json!({"state": endpoint.state, "created_at": endpoint.created_at})),
            made_from: revisions,
        })
    }

    async fn revision(&self, caller: &Principal, endpoint: &Endpoint, revision: &Revision) -> Result<LineageNode> {
        let number = VersionSelector::Number(revision.model.version);
        let version = self.meta.model_version(&caller.project, &revision.model.name, &number).await?;
        Ok(LineageNode {
            kind: NodeKind::Revision,
            id: format!("{}/{}", endpoint.name, revision.number),
            digest: None,
            detail: object(json!({"state": revision.state, "activated_at": revision.activated_at})),
            made_from: vec![self.model(caller, &version).await?],
        })
    }

    async fn model(&self, caller: &Principal, version: &ModelVersion) -> Result<LineageNode> {
        let mut detail = object(json!({"created_at": version.created_at}));
        if !version.metrics.is_empty() {
            detail.insert("metrics".into(), json!(version.metrics));
        }
        let made_from = match &version.source {
            ModelSource::Upload => {
                detail.insert("source".into(), json!("upload"));
                Vec::new()
            }
            ModelSource::Attempt { attempt, code, environment, inputs, params } => {
                let job = self.meta.job_get(&caller.project, &attempt.job()).await?;
                let made = job.attempts.iter().find(|a| a.id == *attempt);
                vec![attempt_node(&job, made, attempt.to_string(), *code, *environment, inputs.iter(), params)]
            }
        };
        Ok(LineageNode {
            kind: NodeKind::ModelVersion,
            id: format!("{}@{}", version.name, version.version),
            digest: Some(version.tree.digest),
            detail,
            made_from,
        })
    }

    async fn job(&self, caller: &Principal, job: &Job) -> Result<LineageNode> {
        let mut inputs = Vec::new();
        for (channel, wanted) in &job.spec.inputs {
            let found = self.meta.dataset_get(&caller.project, &wanted.name, &wanted.version).await?;
            inputs.push((
                channel.clone(),
                SourceDataset { name: found.name, version: found.version, digest: found.tree.digest },
            ));
        }
        let last = job.attempts.iter().max_by_key(|a| a.number);
        let id = last.map_or_else(|| job.id.to_string(), |a| a.id.to_string());
        let environment = last.and_then(|a| a.environment);
        let inputs = inputs.iter().map(|(channel, source)| (channel, source));
        Ok(attempt_node(job, last, id, job.spec.code, environment, inputs, &job.spec.params))
    }
}

fn attempt_node<'a>(
    job: &Job,
    attempt: Option<&Attempt>,
    id: String,
    code: Option<Digest>,
    environment: Option<Digest>,
    inputs: impl Iterator<Item = (&'a muonic_types::Name, &'a SourceDataset)>,
    params: &std::collections::BTreeMap<String, Value>,
) -> LineageNode {
    let hashed = |kind, digest: Digest| LineageNode {
        kind,
        id: digest.short(),
        digest: Some(digest),
        detail: Map::new(),
        made_from: Vec::new(),
    };
    let mut made_from = Vec::new();
    made_from.extend(code.map(|digest| hashed(NodeKind::Code, digest)));
    made_from.extend(environment.map(|digest| hashed(NodeKind::Environment, digest)));
    made_from.extend(inputs.map(|(channel, source)| dataset(Some(channel.as_str()), source)));
    if !params.is_empty() {
        let detail = params.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        made_from.push(LineageNode {
            kind: NodeKind::Params,
            id: "params".to_owned(),
            digest: None,
            detail,
            made_from: Vec::new(),
        });
    }
    let mut detail = object(json!({"command": job.spec.command}));
    if let Some(attempt) = attempt {
        detail.extend(object(json!({"started_at": attempt.started_at, "finished_at": attempt.finished_at})));
    }
    LineageNode { kind: NodeKind::Attempt, id, digest: None, detail, made_from }
}

fn dataset(channel: Option<&str>, source: &SourceDataset) -> LineageNode {
    let mut detail = Map::new();
    if let Some(channel) = channel {
        detail.insert("channel".into(), json!(channel));
    }
    LineageNode {
        kind: NodeKind::DatasetVersion,
        id: format!("{}@{}", source.name, source.version),
        digest: Some(source.digest),
        detail,
        made_from: Vec::new(),
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map.into_iter().filter(|(_, v)| !v.is_null()).collect(),
        _ => Map::new(),
    }
}
