//! Requests that are answered later.

use async_trait::async_trait;
use muonic_ports::metastore::{AsyncRecord, Deferred, Tried};
use muonic_ports::{Error, Result};
use muonic_types::endpoint::{AsyncRequest, AsyncState, NewAsyncRequest};
use muonic_types::{KeyId, Name, ProjectId, Timestamp};
use sqlx::sqlite::SqliteRow;

use crate::Sqlite;
use crate::row::{Columns, all, exec, json, micros, micros_or_none, one, optional, word};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, project, endpoint, key, request, state, tries, status, reason, created_at, ended_at
             FROM async_requests ",
            $rest
        )
    };
}

fn read(row: &SqliteRow) -> Result<AsyncRecord> {
    let asked: NewAsyncRequest = row.json("request")?;
    Ok(AsyncRecord {
        project: row.parsed("project")?,
        key: row.parsed("key")?,
        shown: AsyncRequest {
            id: row.number("id")?,
            endpoint: row.parsed("endpoint")?,
            path: asked.path.clone(),
            output: asked.output.clone(),
            state: row.word("state")?,
            tries: row.number("tries")?,
            status: row.number_or_none("status")?,
            reason: row.text_or_none("reason")?,
            created_at: row.time("created_at")?,
            ended_at: row.time_or_none("ended_at")?,
        },
        asked,
    })
}

/// Of a number that anybody may ask for; no request has the largest.
fn number(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

#[async_trait]
impl Deferred for Sqlite {
    async fn async_add(
        &self,
        project: &ProjectId,
        key: &KeyId,
        endpoint: &Name,
        new: &NewAsyncRequest,
        queued_max: u64,
        at: Timestamp,
    ) -> Result<AsyncRequest> {
        let mut tx = self.write().await?;
        let queued = sqlx::query("SELECT count(*) AS n FROM async_requests WHERE due_at IS NOT NULL AND project = ?");
        if one(&mut tx, queued.bind(project.as_str())).await?.number::<u64>("n")? >= queued_max {
            return Err(Error::Conflict(format!("{queued_max} requests wait already")));
        }
        let insert = sqlx::query(
            "INSERT INTO async_requests (project, endpoint, key, request, state, due_at, created_at)
             VALUES (?, ?, ?, ?, 'queued', ?, ?)
             RETURNING id, project, endpoint, key, request, state, tries, status, reason, created_at, ended_at",
        )
        .bind(project.as_str())
        .bind(endpoint.as_str())
        .bind(key.as_str())
        .bind(json(new)?)
        .bind(micros(at))
        .bind(micros(at));
        let record = read(&one(&mut tx, insert).await?)?;
        tx.commit().await?;
        Ok(record.shown)
    }

    async fn async_get(&self, project: &ProjectId, endpoint: &Name, id: u64) -> Result<AsyncRequest> {
        let mut conn = self.read().await?;
        let get = sqlx::query(select!("WHERE id = ? AND project = ? AND endpoint = ?"));
        let row = optional(&mut conn, get.bind(number(id)).bind(project.as_str()).bind(endpoint.as_str())).await?;
        let row = row.ok_or_else(|| Error::NotFound(format!("endpoint '{endpoint}' has no request {id}")))?;
        Ok(read(&row)?.shown)
    }

    async fn async_list(
        &self,
        project: &ProjectId,
        endpoint: &Name,
        before: Option<u64>,
        max: u32,
    ) -> Result<Vec<AsyncRequest>> {
        let mut conn = self.read().await?;
        let before = before.map_or(i64::MAX, number);
        let list = sqlx::query(select!("WHERE project = ? AND endpoint = ? AND id < ? ORDER BY id DESC LIMIT ?"));
        let rows = all(&mut conn, list.bind(project.as_str()).bind(endpoint.as_str()).bind(before).bind(max)).await?;
        rows.iter().map(|row| Ok(read(row)?.shown)).collect()
    }

    async fn async_due(&self, now: Timestamp, except: &[u64], each: u32, max: u32) -> Result<Vec<AsyncRecord>> {
        let mut conn = self.read().await?;
        let due = sqlx::query(select!(
            "JOIN (SELECT id AS due, due_at AS since, row_number() OVER
                       (PARTITION BY project, endpoint ORDER BY id NOT IN (SELECT value FROM json_each(?2)), due_at, id)
                       AS place
                   FROM async_requests WHERE due_at <= ?1) ON due = id
             WHERE place <= ?3 AND id NOT IN (SELECT value FROM json_each(?2)) ORDER BY since, id LIMIT ?4"
        ));
        let rows = all(&mut conn, due.bind(micros(now)).bind(json(except)?).bind(each).bind(max)).await?;
        rows.iter().map(read).collect()
    }

    async fn async_next_due(&self) -> Result<Option<Timestamp>> {
        let mut conn = self.read().await?;
        let next = sqlx::query("SELECT min(due_at) AS due_at FROM async_requests WHERE due_at IS NOT NULL");
        one(&mut conn, next).await?.time_or_none("due_at")
    }

    async fn async_tried(&self, id: u64, tried: &Tried, at: Timestamp) -> Result<()> {
        let mut tx = self.write().await?;
        let ended_at = (tried.state != AsyncState::Queued).then_some(at);
        let update = sqlx::query(
            "UPDATE async_requests
             SET tries = tries + (ended_at IS NULL), ended_at = coalesce(ended_at, ?2),
                 state = ?3, status = ?4, reason = ?5, due_at = ?6
             WHERE id = ?1",
        )
        .bind(number(id))
        .bind(micros_or_none(ended_at))
        .bind(word(&tried.state)?)
        .bind(tried.status)
        .bind(&tried.reason)
        .bind(micros_or_none(tried.due_at));
        if exec(&mut tx, update).await? == 0 {
            return Err(Error::NotFound(format!("there is no request {id}")));
        }
        tx.commit().await
    }

    async fn async_forget(&self, before: Timestamp) -> Result<u64> {
        let mut tx = self.write().await?;
        let delete = sqlx::query("DELETE FROM async_requests WHERE ended_at < ? AND due_at IS NULL");
        let gone = exec(&mut tx, delete.bind(micros(before))).await?;
        tx.commit().await?;
        Ok(gone)
    }
}
