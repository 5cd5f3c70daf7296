//! Endpoints and their revisions; replicas are in `replicas`.
//!
//! ```text
//! target set:       create, release, retarget      revision pending
//! target ─▶ active: revision_activate              the former active one retired
//! target given up:  revision_failed                failed
//! target replaced:  release, retarget              retired
//! ```
//!
//! The target is always pending and never the active one.

use std::collections::HashMap;

use async_trait::async_trait;
use muonic_ports::metastore::{Endpoints, NewRevisionRecord, ReplicaRecord};
use muonic_ports::{Error, Result};
use muonic_types::endpoint::{Endpoint, Release, ReplicaState, Revision};
use muonic_types::{Name, ProjectId, ReplicaId, Timestamp};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::row::{Columns, all, exec, json, micros, one, optional};
use crate::{Sqlite, replicas, revisions};

macro_rules! select_endpoints {
    ($rest:literal) => {
        concat!("SELECT id, name, project, active, target, spent_usd, created_at, deleting_at FROM endpoints ", $rest)
    };
}

/// An endpoint's row: what guards look at.
struct Head {
    id: i64,
    active: Option<u32>,
    target: Option<u32>,
    deleting: bool,
}

fn read_head(row: &SqliteRow) -> Result<Head> {
    Ok(Head {
        id: row.raw("id")?,
        active: row.number_or_none("active")?,
        target: row.number_or_none("target")?,
        deleting: row.time_or_none("deleting_at")?.is_some(),
    })
}

pub(crate) fn no_endpoint(name: &Name) -> Error {
    Error::NotFound(format!("there is no endpoint '{name}'"))
}

/// Completes rows of endpoints with their revisions and replicas.
async fn assemble(conn: &mut SqliteConnection, rows: &[SqliteRow]) -> Result<Vec<Endpoint>> {
    let ids = json(&rows.iter().map(|r| r.raw("id")).collect::<Result<Vec<i64>>>()?)?;
    let sql = "SELECT endpoint, number, model, model_version, replicas, scale, cpu_milli, memory_bytes, gpu, release,
                      step, state, reason, created_at, activated_at
               FROM revisions WHERE endpoint IN (SELECT value FROM json_each(?)) ORDER BY endpoint, number DESC";
    let mut numbered: HashMap<i64, Vec<Revision>> = HashMap::new();
    for row in &all(conn, sqlx::query(sql).bind(&ids)).await? {
        numbered.entry(row.raw("endpoint")?).or_default().push(revisions::read(row)?);
    }
    let mut replicas = replicas::of_endpoints(conn, &ids).await?;
    rows.iter()
        .map(|row| {
            let head = read_head(row)?;
            let name: Name = row.parsed("name")?;
            let replicas = replicas.remove(&head.id).unwrap_or_default();
            let revisions = numbered.remove(&head.id).unwrap_or_default();
            Ok(Endpoint {
                path: format!("/endpoints/{name}"),
                name,
                project: row.parsed("project")?,
                state: revisions::state_of_endpoint(head.deleting, head.active, head.target, &revisions, &replicas),
                active: head.active,
                target: head.target,
                revisions,
                replicas,
                created_at: row.time("created_at")?,
                cost_usd: row.raw("spent_usd")?,
                progress: None,
            })
        })
        .collect()
}

async fn load(conn: &mut SqliteConnection, project: &ProjectId, name: &Name) -> Result<Endpoint> {
    let find = sqlx::query(select_endpoints!("WHERE name = ? AND project = ?"));
    let row = optional(conn, find.bind(name.as_str()).bind(project.as_str())).await?;
    assemble(conn, row.as_slice()).await?.pop().ok_or_else(|| no_endpoint(name))
}

/// The head of an endpoint, of any project where `project` is `None`.
async fn head(conn: &mut SqliteConnection, project: Option<&ProjectId>, name: &Name) -> Result<Head> {
    let find = sqlx::query(select_endpoints!("WHERE name = ?1 AND (?2 IS NULL OR project = ?2)"));
    let row = optional(conn, find.bind(name.as_str()).bind(project.map(|p| p.as_str()))).await?;
    read_head(&row.ok_or_else(|| no_endpoint(name))?)
}

/// The head of an endpoint that may still change.
async fn living(conn: &mut SqliteConnection, project: Option<&ProjectId>, name: &Name) -> Result<Head> {
    let head = head(conn, project, name).await?;
    if head.deleting { Err(Error::Conflict(format!("endpoint '{name}' is being deleted"))) } else { Ok(head) }
}

/// The head of an endpoint that is moving to `revision`.
async fn moving(conn: &mut SqliteConnection, name: &Name, revision: u32) -> Result<Head> {
    let head = living(conn, None, name).await?;
    if head.target == Some(revision) {
        Ok(head)
    } else {
        Err(Error::Conflict(format!("endpoint '{name}' is not moving to revision {revision} any more")))
    }
}

/// Moves the target, and retires the one it pointed to before.
async fn set_target(conn: &mut SqliteConnection, head: &Head, target: Option<u32>) -> Result<()> {
    if let Some(before) = head.target.filter(|before| Some(*before) != target) {
        revisions::set_state(conn, head.id, before, "retired", None).await?;
    }
    let update = sqlx::query("UPDATE endpoints SET target = ? WHERE id = ?").bind(target).bind(head.id);
    exec(conn, update).await.map(drop)
}

#[async_trait]
impl Endpoints for Sqlite {
    async fn endpoint_create(
        &self,
        project: &ProjectId,
        name: &Name,
        revision: &NewRevisionRecord,
        at: Timestamp,
    ) -> Result<Endpoint> {
        let mut tx = self.write().await?;
        let insert = sqlx::query(
            "INSERT INTO endpoints (name, project, target, created_at) VALUES (?, ?, 1, ?)
             ON CONFLICT (name) DO NOTHING RETURNING id",
        );
        let insert = insert.bind(name.as_str()).bind(project.as_str()).bind(micros(at));
        let Some(row) = optional(&mut tx, insert).await? else {
            return Err(Error::Conflict(format!(
                "there is an endpoint '{name}' already: release to it, or use another name"
            )));
        };
        revisions::insert(&mut tx, row.raw("id")?, 1, revision, at).await?;
        let endpoint = load(&mut tx, project, name).await?;
        tx.commit().await?;
        Ok(endpoint)
    }

    async fn endpoint_release(
        &self,
        project: &ProjectId,
        name: &Name,
        revision: &NewRevisionRecord,
        at: Timestamp,
    ) -> Result<Endpoint> {
        let mut tx = self.write().await?;
        let head = living(&mut tx, Some(project), name).await?;
        let next = sqlx::query("SELECT max(number) + 1 AS next FROM revisions WHERE endpoint = ?").bind(head.id);
        let number = one(&mut tx, next).await?.number("next")?;
        revisions::insert(&mut tx, head.id, number, revision, at).await?;
        set_target(&mut tx, &head, Some(number)).await?;
        let endpoint = load(&mut tx, project, name).await?;
        tx.commit().await?;
        Ok(endpoint)
    }

    async fn endpoint_retarget(
        &self,
        project: &ProjectId,
        name: &Name,
        revision: u32,
        _at: Timestamp,
    ) -> Result<Endpoint> {
        let mut tx = self.write().await?;
        let head = living(&mut tx, Some(project), name).await?;
        let known = sqlx::query("SELECT 1 FROM revisions WHERE endpoint = ? AND number = ?");
        if optional(&mut tx, known.bind(head.id).bind(revision)).await?.is_none() {
            return Err(Error::NotFound(format!("endpoint '{name}' has no revision {revision}")));
        }
        if head.active == Some(revision) {
            set_target(&mut tx, &head, None).await?;
        } else if head.target != Some(revision) {
            set_target(&mut tx, &head, Some(revision)).await?;
            let release = json(&Release::AllAtOnce)?;
            let again = sqlx::query(
                "UPDATE revisions SET state = 'pending', reason = NULL, release = ?, step = 0
                 WHERE endpoint = ? AND number = ?",
            );
            exec(&mut tx, again.bind(release).bind(head.id).bind(revision)).await?;
        }
        let endpoint = load(&mut tx, project, name).await?;
        tx.commit().await?;
        Ok(endpoint)
    }

    async fn revision_activate(&self, name: &Name, revision: u32, at: Timestamp) -> Result<()> {
        let mut tx = self.write().await?;
        let head = moving(&mut tx, name, revision).await?;
        if let Some(before) = head.active {
            revisions::set_state(&mut tx, head.id, before, "retired", None).await?;
        }
        let activate = sqlx::query(
            "UPDATE revisions SET state = 'active', reason = NULL, activated_at = ? WHERE endpoint = ? AND number = ?",
        );
        exec(&mut tx, activate.bind(micros(at)).bind(head.id).bind(revision)).await?;
        let point = sqlx::query("UPDATE endpoints SET active = ?, target = NULL WHERE id = ?");
        exec(&mut tx, point.bind(revision).bind(head.id)).await?;
        tx.commit().await
    }

    async fn revision_failed(&self, name: &Name, revision: u32, reason: &str, _at: Timestamp) -> Result<()> {
        let mut tx = self.write().await?;
        let head = moving(&mut tx, name, revision).await?;
        revisions::set_state(&mut tx, head.id, revision, "failed", Some(reason)).await?;
        exec(&mut tx, sqlx::query("UPDATE endpoints SET target = NULL WHERE id = ?").bind(head.id)).await?;
        tx.commit().await
    }

    async fn endpoint_promote(&self, project: &ProjectId, name: &Name) -> Result<Endpoint> {
        let mut tx = self.write().await?;
        let head = living(&mut tx, Some(project), name).await?;
        let Some(target) = head.target else {
            return Err(Error::Conflict(format!("endpoint '{name}' is not moving to another revision")));
        };
        let at_once = sqlx::query("UPDATE revisions SET release = ?, step = 0 WHERE endpoint = ? AND number = ?");
        exec(&mut tx, at_once.bind(json(&Release::AllAtOnce)?).bind(head.id).bind(target)).await?;
        let endpoint = load(&mut tx, project, name).await?;
        tx.commit().await?;
        Ok(endpoint)
    }

    async fn revision_step(&self, name: &Name, revision: u32, step: u32) -> Result<()> {
        let mut tx = self.write().await?;
        let head = moving(&mut tx, name, revision).await?;
        let update = sqlx::query("UPDATE revisions SET step = ? WHERE endpoint = ? AND number = ?");
        exec(&mut tx, update.bind(step).bind(head.id).bind(revision)).await?;
        tx.commit().await
    }

    async fn revision_waits(&self, name: &Name, revision: u32, reason: Option<&str>) -> Result<()> {
        let mut tx = self.write().await?;
        let update = sqlx::query(
            "UPDATE revisions SET reason = ?3
             WHERE endpoint = (SELECT id FROM endpoints WHERE name = ?1) AND number = ?2
               AND state = 'pending' AND reason IS NOT ?3",
        );
        exec(&mut tx, update.bind(name.as_str()).bind(revision).bind(reason)).await?;
        tx.commit().await
    }

    async fn endpoint_delete(&self, project: &ProjectId, name: &Name, at: Timestamp) -> Result<Endpoint> {
        let mut tx = self.write().await?;
        let head = head(&mut tx, Some(project), name).await?;
        let mark = sqlx::query("UPDATE endpoints SET deleting_at = ? WHERE id = ? AND deleting_at IS NULL");
        exec(&mut tx, mark.bind(micros(at)).bind(head.id)).await?;
        let endpoint = load(&mut tx, project, name).await?;
        tx.commit().await?;
        Ok(endpoint)
    }

    async fn endpoint_remove(&self, name: &Name) -> Result<()> {
        let mut tx = self.write().await?;
        let head = head(&mut tx, None, name).await?;
        if !head.deleting {
            return Err(Error::Conflict(format!("endpoint '{name}' is not being deleted")));
        }
        let live = sqlx::query("SELECT 1 FROM replicas WHERE endpoint = ? AND ended_at IS NULL LIMIT 1").bind(head.id);
        if optional(&mut tx, live).await?.is_some() {
            return Err(Error::Conflict(format!("endpoint '{name}' still has live replicas")));
        }
        exec(&mut tx, sqlx::query("DELETE FROM endpoints WHERE id = ?").bind(head.id)).await?;
        tx.commit().await
    }

    async fn endpoint_get(&self, project: &ProjectId, name: &Name) -> Result<Endpoint> {
        let mut conn = self.snapshot().await?;
        load(&mut conn, project, name).await
    }

    async fn endpoint_list(&self, project: &ProjectId) -> Result<Vec<Endpoint>> {
        let mut conn = self.snapshot().await?;
        let list = sqlx::query(select_endpoints!("WHERE project = ? ORDER BY name")).bind(project.as_str());
        let rows = all(&mut conn, list).await?;
        assemble(&mut conn, &rows).await
    }

    async fn endpoints_learned(&self) -> Result<Vec<(Name, String)>> {
        let mut conn = self.read().await?;
        let learned = sqlx::query("SELECT name, learned FROM endpoints WHERE learned IS NOT NULL");
        let rows = all(&mut conn, learned).await?;
        rows.iter().map(|row| Ok((row.parsed("name")?, row.raw("learned")?))).collect()
    }

    async fn endpoints_learn(&self, learned: &[(Name, String)]) -> Result<()> {
        let mut tx = self.write().await?;
        for (name, document) in learned {
            let update = sqlx::query("UPDATE endpoints SET learned = ? WHERE name = ?");
            exec(&mut tx, update.bind(document).bind(name.as_str())).await?;
        }
        tx.commit().await
    }

    async fn endpoints_all(&self) -> Result<Vec<Endpoint>> {
        let mut conn = self.snapshot().await?;
        let rows = all(&mut conn, sqlx::query(select_endpoints!("ORDER BY name"))).await?;
        assemble(&mut conn, &rows).await
    }

    async fn replicas_live(&self) -> Result<Vec<ReplicaRecord>> {
        let mut conn = self.read().await?;
        replicas::live(&mut conn).await
    }

    async fn replica_get(&self, id: &ReplicaId) -> Result<ReplicaRecord> {
        let mut conn = self.read().await?;
        replicas::get(&mut conn, id).await
    }

    async fn replica_next(&self, name: &Name, revision: u32) -> Result<u32> {
        let mut conn = self.read().await?;
        replicas::next(&mut conn, name, revision).await
    }

    async fn replica_insert(&self, replica: &ReplicaRecord) -> Result<()> {
        let mut tx = self.write().await?;
        let head = living(&mut tx, Some(&replica.project), &replica.endpoint).await?;
        replicas::insert(&mut tx, head.id, replica).await?;
        tx.commit().await
    }

    async fn replica_ready(&self, id: &ReplicaId, address: &str, at: Timestamp) -> Result<()> {
        let mut tx = self.write().await?;
        replicas::ready(&mut tx, id, address, at).await?;
        tx.commit().await
    }

    async fn replica_drain(&self, id: &ReplicaId) -> Result<()> {
        let mut tx = self.write().await?;
        replicas::drain(&mut tx, id).await?;
        tx.commit().await
    }

    async fn replica_end(
        &self,
        id: &ReplicaId,
        state: ReplicaState,
        reason: Option<&str>,
        at: Timestamp,
    ) -> Result<()> {
        let mut tx = self.write().await?;
        replicas::end(&mut tx, id, state, reason, at).await?;
        tx.commit().await
    }
}
