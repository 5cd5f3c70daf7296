//! Replicas, within the transactions of `endpoints`.
//!
//! Rows are never deleted, so numbers go on counting when an endpoint is made
//! again under an old name, and no id is used twice.

use std::collections::HashMap;

use muonic_ports::metastore::ReplicaRecord;
use muonic_ports::{Error, Result};
use muonic_types::cost::Usage;
use muonic_types::endpoint::{Replica, ReplicaState};
use muonic_types::model::ModelVersionId;
use muonic_types::{Name, ProjectId, ReplicaId, Timestamp};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::keys::{insert_key, key_columns, read_key};
use crate::row::{Columns, all, cost_usd, exec, micros, one, optional, signed, word};

macro_rules! select_records {
    ($rest:literal) => {
        concat!(
            "SELECT r.id, r.name, r.project, r.revision, r.model, r.model_version, r.tree, r.state, r.reason,
                    r.address, r.cpu_milli, r.memory_bytes, r.gpu, r.price_nano_usd_per_s, r.launched_at, r.ready_at,
                    r.ended_at, ",
            key_columns!(),
            " FROM replicas r ",
            $rest
        )
    };
}

fn read_record(row: &SqliteRow) -> Result<ReplicaRecord> {
    Ok(ReplicaRecord {
        id: row.parsed("id")?,
        endpoint: row.parsed("name")?,
        project: row.parsed("project")?,
        revision: row.number("revision")?,
        model: ModelVersionId { name: row.parsed("model")?, version: row.number("model_version")? },
        tree: row.digest("tree")?,
        state: row.word("state")?,
        reason: row.text_or_none("reason")?,
        address: row.text_or_none("address")?,
        resources: row.resources()?,
        price: row.price()?,
        key: read_key(row)?,
        launched_at: row.time("launched_at")?,
        ready_at: row.time_or_none("ready_at")?,
        ended_at: row.time_or_none("ended_at")?,
    })
}

fn no_replica(id: &ReplicaId) -> Error {
    Error::NotFound(format!("there is no replica '{id}'"))
}

/// The replicas people see, by endpoint: live ones in order of launch, then
/// up to five ended ones, newest first.
pub(crate) async fn of_endpoints(conn: &mut SqliteConnection, ids: &str) -> Result<HashMap<i64, Vec<Replica>>> {
    let live =
        "SELECT r.endpoint, r.id, r.revision, r.state, r.reason, r.address, r.launched_at, r.ready_at, r.ended_at
                FROM json_each(?) e CROSS JOIN replicas r ON r.endpoint = e.value AND r.ended_at IS NULL
                ORDER BY r.launched_at, r.revision, r.number";
    let ended =
        "SELECT r.endpoint, r.id, r.revision, r.state, r.reason, r.address, r.launched_at, r.ready_at, r.ended_at
                 FROM json_each(?) e CROSS JOIN replicas r ON r.id IN (
                     SELECT id FROM replicas WHERE endpoint = e.value AND ended_at IS NOT NULL
                     ORDER BY ended_at DESC LIMIT 5)
                 ORDER BY r.ended_at DESC, r.revision DESC, r.number DESC";
    let mut replicas: HashMap<i64, Vec<Replica>> = HashMap::new();
    for sql in [live, ended] {
        for row in all(conn, sqlx::query(sql).bind(ids)).await? {
            let replica = Replica {
                id: row.parsed("id")?,
                revision: row.number("revision")?,
                state: row.word("state")?,
                reason: row.text_or_none("reason")?,
                address: row.text_or_none("address")?,
                launched_at: row.time("launched_at")?,
                ready_at: row.time_or_none("ready_at")?,
                ended_at: row.time_or_none("ended_at")?,
            };
            replicas.entry(row.raw("endpoint")?).or_default().push(replica);
        }
    }
    Ok(replicas)
}

pub(crate) async fn live(conn: &mut SqliteConnection) -> Result<Vec<ReplicaRecord>> {
    let sql = select_records!(
        "INDEXED BY replicas_live JOIN keys k ON k.id = r.key
         WHERE r.ended_at IS NULL ORDER BY r.name, r.revision, r.number"
    );
    all(conn, sqlx::query(sql)).await?.iter().map(read_record).collect()
}

pub(crate) async fn get(conn: &mut SqliteConnection, id: &ReplicaId) -> Result<ReplicaRecord> {
    let row =
        optional(conn, sqlx::query(select_records!("JOIN keys k ON k.id = r.key WHERE r.id = ?")).bind(id.as_str()))
            .await?;
    read_record(&row.ok_or_else(|| no_replica(id))?)
}

pub(crate) async fn next(conn: &mut SqliteConnection, name: &Name, revision: u32) -> Result<u32> {
    let sql = "SELECT coalesce(max(number), 0) + 1 AS next FROM replicas WHERE name = ? AND revision = ?";
    one(conn, sqlx::query(sql).bind(name.as_str()).bind(revision)).await?.number("next")
}

pub(crate) async fn insert(conn: &mut SqliteConnection, endpoint: i64, r: &ReplicaRecord) -> Result<()> {
    let number = r.id.as_str().rsplit('.').next().and_then(|n| n.parse::<u32>().ok()).unwrap_or(0);
    if ReplicaId::new(&r.endpoint, r.revision, number) != r.id {
        return Err(Error::bug(format!("replica '{}' is not one of endpoint '{}'", r.id, r.endpoint)));
    }
    let known = sqlx::query("SELECT 1 FROM revisions WHERE endpoint = ? AND number = ?");
    if optional(conn, known.bind(endpoint).bind(r.revision)).await?.is_none() {
        return Err(Error::NotFound(format!("endpoint '{}' has no revision {}", r.endpoint, r.revision)));
    }
    let taken = sqlx::query("SELECT 1 FROM replicas WHERE id = ?").bind(r.id.as_str());
    if optional(conn, taken).await?.is_some() {
        return Err(Error::Conflict(format!("there is, or was, a replica '{}' already", r.id)));
    }
    insert_key(conn, &r.key).await?;
    let insert = sqlx::query(
        "INSERT INTO replicas (id, endpoint, name, project, revision, number, model, model_version, tree, state, key,
                               cpu_milli, memory_bytes, gpu, price_nano_usd_per_s, launched_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'launching', ?, ?, ?, ?, ?, ?)",
    )
    .bind(r.id.as_str())
    .bind(endpoint)
    .bind(r.endpoint.as_str())
    .bind(r.project.as_str())
    .bind(r.revision)
    .bind(number)
    .bind(r.model.name.as_str())
    .bind(r.model.version)
    .bind(r.tree.as_bytes().as_slice())
    .bind(r.key.id.as_str())
    .bind(signed(r.resources.cpu.milli)?)
    .bind(signed(r.resources.memory.bytes)?)
    .bind(r.resources.gpu)
    .bind(signed(r.price.nano_usd_per_s)?)
    .bind(micros(r.launched_at));
    exec(conn, insert).await.map(drop)
}

pub(crate) async fn ready(conn: &mut SqliteConnection, id: &ReplicaId, address: &str, at: Timestamp) -> Result<()> {
    let update = sqlx::query(
        "UPDATE replicas SET state = 'ready', address = ?2, ready_at = ?3 WHERE id = ?1 AND state = 'launching'",
    );
    if exec(conn, update.bind(id.as_str()).bind(address).bind(micros(at))).await? > 0 {
        return Ok(());
    }
    let now = get(conn, id).await?;
    if now.state == ReplicaState::Ready && now.address.as_deref() == Some(address) {
        return Ok(());
    }
    let state = word(&now.state)?;
    Err(Error::Conflict(format!("replica '{id}' cannot become ready: it is {state}")))
}

pub(crate) async fn drain(conn: &mut SqliteConnection, id: &ReplicaId) -> Result<()> {
    let update = sqlx::query(
        "UPDATE replicas SET state = 'draining' WHERE id = ? AND state IN ('launching', 'ready', 'draining')",
    );
    if exec(conn, update.bind(id.as_str())).await? > 0 {
        return Ok(());
    }
    let state = word(&get(conn, id).await?.state)?;
    Err(Error::Conflict(format!("replica '{id}' cannot be drained: it is {state}")))
}

pub(crate) async fn end(
    conn: &mut SqliteConnection,
    id: &ReplicaId,
    state: ReplicaState,
    reason: Option<&str>,
    at: Timestamp,
) -> Result<()> {
    if state.is_live() {
        return Err(Error::bug(format!("replica '{id}' cannot end as {}", word(&state)?)));
    }
    let update = sqlx::query(
        "UPDATE replicas SET state = ?2, reason = ?3, ended_at = ?4 WHERE id = ?1 AND ended_at IS NULL
         RETURNING endpoint, key, price_nano_usd_per_s, launched_at",
    );
    let update = update.bind(id.as_str()).bind(word(&state)?).bind(reason).bind(micros(at));
    let Some(row) = optional(conn, update).await? else {
        // Either it has ended already, or there is none.
        return get(conn, id).await.map(drop);
    };
    exec(conn, sqlx::query("UPDATE keys SET revoked = 1 WHERE id = ?").bind(row.raw::<&str>("key")?)).await?;
    let cost = cost_usd(row.price()?, row.time("launched_at")?, at);
    let add = sqlx::query("UPDATE endpoints SET spent_usd = spent_usd + ? WHERE id = ?");
    exec(conn, add.bind(cost).bind(row.raw::<i64>("endpoint")?)).await.map(drop)
}

pub(crate) async fn usage(conn: &mut SqliteConnection, project: &ProjectId) -> Result<Vec<Usage>> {
    let sql = "SELECT id, name, cpu_milli, memory_bytes, gpu, price_nano_usd_per_s, launched_at, ended_at
               FROM replicas WHERE project = ? ORDER BY launched_at, name, revision, number";
    let rows = all(conn, sqlx::query(sql).bind(project.as_str())).await?;
    rows.iter()
        .map(|row| {
            Ok(Usage {
                kind: "endpoint".into(),
                name: row.raw("name")?,
                unit: row.raw("id")?,
                resources: row.resources()?,
                price: row.price()?,
                started_at: row.time("launched_at")?,
                ended_at: row.time_or_none("ended_at")?,
            })
        })
        .collect()
}
