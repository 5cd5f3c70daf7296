//! What happened in journaled buckets, written in the step that did it.

use std::time::Duration;

use muonic_ports::object_store::{Change, Changes, Happened, Origin, Result, VersionId};
use muonic_types::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::Index;
use super::rows;
use super::tx::{BucketKey, Tx};

type Sql<T> = rusqlite::Result<T>;

/// The version that something happened to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) key: &'a str,
    pub(super) version: &'a VersionId,
    pub(super) size: u64,
    pub(super) etag: &'a str,
}

pub(super) fn record(
    tx: &mut Tx<'_>,
    bucket: &BucketKey,
    what: Happened,
    subject: Subject<'_>,
    at: Timestamp,
) -> Sql<()> {
    if !bucket.journaled {
        return Ok(());
    }
    let number = tx.number();
    tx.journaled();
    tx.sql("INSERT INTO changes (number, bucket, what, key, version, size, etag, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
        .execute(params![
            number,
            bucket.id,
            number_of(what),
            subject.key.as_bytes(),
            subject.version.0,
            subject.size,
            subject.etag,
            rows::micros(at)
        ])?;
    Ok(())
}

const ALL: [(i64, Happened); 11] = [
    (1, Happened::Created(Origin::Put)),
    (2, Happened::Created(Origin::Post)),
    (3, Happened::Created(Origin::Copy)),
    (4, Happened::Created(Origin::Upload)),
    (5, Happened::Removed { expired: false }),
    (6, Happened::Removed { expired: true }),
    (7, Happened::Marked { expired: false }),
    (8, Happened::Marked { expired: true }),
    (9, Happened::Tagged),
    (10, Happened::Untagged),
    (11, Happened::AclSet),
];

fn number_of(what: Happened) -> i64 {
    ALL.iter().find(|(_, kind)| *kind == what).map_or(0, |(number, _)| *number)
}

impl Index {
    /// `NoSuchBucket`; see the port.
    pub(crate) async fn changes(&self, bucket: &str, after: u64, max: u32, wait: Duration) -> Result<Changes> {
        let bucket = self.known(bucket)?.id;
        let until = tokio::time::Instant::now() + wait;
        let mut news = self.news();
        loop {
            let found = self.readers().scan(move |conn| Ok(read(conn, bucket, after, max)?)).await?;
            if !found.changes.is_empty() || max == 0 || tokio::time::Instant::now() >= until {
                return Ok(found);
            }
            // Whichever it was: the next look tells.
            let _ = tokio::time::timeout_at(until, news.changed()).await;
        }
    }

    /// Forgets the changes before a time, and all but the `most` latest.
    /// In small steps; answers how many.
    pub(crate) async fn forget_changes(&self, before: Timestamp, most: u32) -> Result<u64> {
        const STEP: i64 = 5_000;
        let upto = self.readers().scan(move |conn| Ok(forgettable(conn, before, most)?)).await?;
        let Some(upto) = upto else { return Ok(0) };
        let mut forgotten = 0;
        loop {
            let done = self
                .step(move |tx| {
                    let page = "SELECT number FROM changes WHERE number <= ?1 ORDER BY number LIMIT ?2";
                    let last: Option<i64> = tx
                        .sql(&format!("SELECT max(number) FROM ({page})"))?
                        .query_row([upto, STEP], |row| row.get(0))?;
                    let Some(last) = last else { return Ok(0) };
                    let gone = tx.sql("DELETE FROM changes WHERE number <= ?1")?.execute([last])?;
                    tx.sql("UPDATE counters SET value = ?1 WHERE name = 'forgotten'")?.execute([last])?;
                    Ok(gone as u64)
                })
                .await?;
            forgotten += done;
            if done == 0 {
                return Ok(forgotten);
            }
        }
    }
}

fn read(conn: &Connection, bucket: i64, after: u64, max: u32) -> Sql<Changes> {
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let mut page = conn.prepare_cached(
        "SELECT number, what, key, version, size, etag, at FROM changes WHERE bucket = ?1 AND number > ?2 ORDER BY number LIMIT ?3",
    )?;
    let page = page.query_map(params![bucket, after, max], |row| {
        let what: i64 = row.get(1)?;
        Ok(Change {
            number: row.get(0)?,
            what: ALL
                .iter()
                .find(|(number, _)| *number == what)
                .map(|(_, kind)| *kind)
                .ok_or_else(|| rows::odd("change"))?,
            key: String::from_utf8(row.get(2)?).map_err(|_| rows::odd("key"))?,
            version: VersionId(row.get(3)?),
            size: row.get(4)?,
            etag: row.get(5)?,
            at: rows::timestamp(row.get(6)?)?,
        })
    })?;
    let changes = page.collect::<Sql<_>>()?;
    let forgotten =
        conn.prepare_cached("SELECT value FROM counters WHERE name = 'forgotten'")?.query_row([], |row| row.get(0))?;
    Ok(Changes { changes, forgotten })
}

/// The last number that is to be forgotten.
fn forgettable(conn: &Connection, before: Timestamp, most: u32) -> Sql<Option<i64>> {
    let old = conn
        .prepare_cached("SELECT max(number) FROM changes WHERE number < coalesce((SELECT number FROM changes WHERE at >= ?1 ORDER BY number LIMIT 1), 9223372036854775807)")?
        .query_row([rows::micros(before)], |row| row.get::<_, Option<i64>>(0))?;
    let many = conn
        .prepare_cached("SELECT number FROM changes ORDER BY number DESC LIMIT 1 OFFSET ?1")?
        .query_row([most], |row| row.get::<_, i64>(0))
        .optional()?;
    Ok(old.max(many))
}
