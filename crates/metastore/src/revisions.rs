//! Rows of revisions, within the transactions of `endpoints`.

use muonic_ports::Result;
use muonic_ports::metastore::NewRevisionRecord;
use muonic_types::Timestamp;
use muonic_types::endpoint::{EndpointState, Replica, ReplicaState, Revision};
use muonic_types::model::ModelVersionId;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::row::{Columns, exec, json, micros, signed};

/// What people see, in order of importance.
pub(crate) fn state_of_endpoint(
    deleting: bool,
    active: Option<u32>,
    target: Option<u32>,
    revisions: &[Revision],
    replicas: &[Replica],
) -> EndpointState {
    let has = |revision, state| replicas.iter().any(|r| r.revision == revision && r.state == state);
    let may_sleep =
        |revision| revisions.iter().any(|r| r.number == revision && r.scale.is_some_and(|scale| scale.min == 0));
    match (deleting, active, target) {
        (true, _, _) => EndpointState::Deleting,
        (_, Some(_), Some(_)) => EndpointState::Releasing,
        (_, None, Some(_)) => EndpointState::Deploying,
        (_, Some(active), None) if has(active, ReplicaState::Ready) => EndpointState::Ready,
        (_, Some(active), None) if !may_sleep(active) => EndpointState::Unavailable,
        (_, Some(active), None) if has(active, ReplicaState::Launching) => EndpointState::Waking,
        (_, Some(_), None) => EndpointState::Sleeping,
        (_, None, None) => EndpointState::Failed,
    }
}

pub(crate) fn read(row: &SqliteRow) -> Result<Revision> {
    Ok(Revision {
        number: row.number("number")?,
        model: ModelVersionId { name: row.parsed("model")?, version: row.number("model_version")? },
        replicas: row.number("replicas")?,
        scale: row.json_or_none("scale")?,
        resources: row.resources()?,
        release: row.json("release")?,
        step: row.number("step")?,
        state: row.word("state")?,
        reason: row.text_or_none("reason")?,
        created_at: row.time("created_at")?,
        activated_at: row.time_or_none("activated_at")?,
    })
}

pub(crate) async fn insert(
    conn: &mut SqliteConnection,
    endpoint: i64,
    number: u32,
    r: &NewRevisionRecord,
    at: Timestamp,
) -> Result<()> {
    crate::blobs::need_tree(conn, &r.tree).await?;
    let insert = sqlx::query(
        "INSERT INTO revisions (endpoint, number, model, model_version, tree, replicas, scale, cpu_milli, memory_bytes,
                                gpu, release, state, created_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?)",
    )
    .bind(endpoint)
    .bind(number)
    .bind(r.model.name.as_str())
    .bind(r.model.version)
    .bind(r.tree.as_bytes().as_slice())
    .bind(r.replicas)
    .bind(r.scale.as_ref().map(json).transpose()?)
    .bind(signed(r.resources.cpu.milli)?)
    .bind(signed(r.resources.memory.bytes)?)
    .bind(r.resources.gpu)
    .bind(json(&r.release)?)
    .bind(micros(at));
    exec(conn, insert).await.map(drop)
}

pub(crate) async fn set_state(
    conn: &mut SqliteConnection,
    endpoint: i64,
    revision: u32,
    state: &str,
    reason: Option<&str>,
) -> Result<()> {
    let update = sqlx::query("UPDATE revisions SET state = ?, reason = ? WHERE endpoint = ? AND number = ?");
    exec(conn, update.bind(state).bind(reason).bind(endpoint).bind(revision)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use muonic_types::endpoint::{PerReplica, Release, RevisionState, Scale};
    use muonic_types::{ReplicaId, Resources};

    use super::*;

    fn replica(revision: u32, state: ReplicaState) -> Replica {
        let at = Timestamp::UNIX_EPOCH;
        let id = ReplicaId::new(&"digits".parse().expect("a name"), revision, 1);
        Replica { id, revision, state, reason: None, address: None, launched_at: at, ready_at: None, ended_at: None }
    }

    #[test]
    fn states_in_their_order() {
        let ready = [replica(1, ReplicaState::Ready)];
        let other = [replica(2, ReplicaState::Ready), replica(1, ReplicaState::Draining)];
        let revisions = |min: u32| {
            [1, 2].map(|number| Revision {
                number,
                model: ModelVersionId { name: "digits".parse().expect("a name"), version: 1 },
                replicas: min,
                scale: Some(Scale { min, max: 4, per_replica: PerReplica::default(), idle_s: None }),
                resources: Resources::default(),
                release: Release::AllAtOnce,
                step: 0,
                state: RevisionState::Active,
                reason: None,
                created_at: Timestamp::UNIX_EPOCH,
                activated_at: None,
            })
        };
        let state = |deleting, active, target, replicas: &[Replica]| {
            state_of_endpoint(deleting, active, target, &revisions(1), replicas)
        };
        let sleeper = |replicas: &[Replica]| state_of_endpoint(false, Some(1), None, &revisions(0), replicas);
        assert_eq!(sleeper(&ready), EndpointState::Ready);
        assert_eq!(sleeper(&[replica(1, ReplicaState::Launching)]), EndpointState::Waking);
        assert_eq!(sleeper(&other), EndpointState::Sleeping);
        assert_eq!(state(true, Some(1), Some(2), &ready), EndpointState::Deleting);
        assert_eq!(state(false, Some(1), Some(2), &ready), EndpointState::Releasing);
        assert_eq!(state(false, None, Some(1), &[]), EndpointState::Deploying);
        assert_eq!(state(false, Some(1), None, &ready), EndpointState::Ready);
        assert_eq!(state(false, Some(1), None, &other), EndpointState::Unavailable);
        assert_eq!(state(false, None, None, &ready), EndpointState::Failed);
    }
}
