//! What every step of a write transaction shares: the sequence, the buckets,
//! and the bookkeeping that is written once per transaction.

use std::collections::HashMap;

use muonic_ports::object_store::{Error, JOURNALED, Versioning};
use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::failure::Failure;
use super::rows;

/// Buckets that are remembered at most.
const BUCKETS: usize = 1024;
/// Numbers of contents leave room for those of parts.
const SEQUENCE_END: i64 = 1 << 49;

#[derive(Debug, Clone, Copy)]
pub(super) struct BucketKey {
    pub(super) id: i64,
    pub(super) versioning: Versioning,
    pub(super) lock: bool,
    /// Whether what happens in it is kept.
    pub(super) journaled: bool,
}

#[derive(Debug, Default)]
struct SegmentDelta {
    live: i64,
    end: u64,
}

/// What the writer remembers between transactions.
#[derive(Debug, Default)]
pub(super) struct State {
    sequence: i64,
    durable_sequence: i64,
    buckets: HashMap<String, BucketKey>,
    changed_buckets: Vec<String>,
    segments: HashMap<u64, SegmentDelta>,
    journaled: bool,
}

/// What others are to hear of a transaction.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Names of the buckets that were changed.
    pub(super) buckets: Vec<String>,
    /// Whether a journal has grown.
    pub(super) journaled: bool,
}

impl State {
    pub(super) fn load(conn: &Connection) -> rusqlite::Result<Self> {
        let sequence = conn.query_row("SELECT value FROM counters WHERE name = 'sequence'", [], |row| row.get(0))?;
        if !(0..SEQUENCE_END).contains(&sequence) {
            return Err(rows::odd("sequence"));
        }
        Ok(Self { sequence, durable_sequence: sequence, ..Self::default() })
    }

    pub(super) fn committed(&mut self) -> News {
        self.durable_sequence = self.sequence;
        self.segments.clear();
        News { buckets: std::mem::take(&mut self.changed_buckets), journaled: std::mem::take(&mut self.journaled) }
    }

    pub(super) fn rolled_back(&mut self) {
        self.buckets.clear();
        self.changed_buckets.clear();
        self.segments.clear();
        self.journaled = false;
    }
}

pub(super) struct Tx<'c> {
    conn: &'c Connection,
    state: &'c mut State,
}

impl<'c> Tx<'c> {
    pub(super) fn new(conn: &'c Connection, state: &'c mut State) -> Self {
        Self { conn, state }
    }

    pub(super) fn conn(&self) -> &'c Connection {
        self.conn
    }

    pub(super) fn sql(&self, sql: &str) -> rusqlite::Result<CachedStatement<'c>> {
        self.conn.prepare_cached(sql)
    }

    /// The next number of the sequence; one that is not used is lost.
    pub(super) fn number(&mut self) -> i64 {
        self.state.sequence += 1;
        self.state.sequence
    }

    pub(super) fn bucket(&mut self, name: &str) -> Result<BucketKey, Failure> {
        if let Some(bucket) = self.state.buckets.get(name) {
            return Ok(*bucket);
        }
        let bucket = self
            .sql("SELECT id, versioning, lock, json_type(documents, '$.' || ?2) FROM buckets WHERE name = ?1")?
            .query_row([name, JOURNALED], |row| {
                Ok(BucketKey {
                    id: row.get(0)?,
                    versioning: rows::versioning(row.get(1)?),
                    lock: row.get(2)?,
                    journaled: row.get_ref(3)? != ValueRef::Null,
                })
            })
            .optional()?
            .ok_or(Error::NoSuchBucket)?;
        if self.state.buckets.len() >= BUCKETS {
            self.state.buckets.clear();
        }
        self.state.buckets.insert(name.to_owned(), bucket);
        Ok(bucket)
    }

    /// Forgets what is remembered of a bucket, here and for readers.
    pub(super) fn bucket_changed(&mut self, name: &str) {
        self.state.buckets.remove(name);
        self.state.changed_buckets.push(name.to_owned());
    }

    /// Those who wait for changes are to look again.
    pub(super) fn journaled(&mut self) {
        self.state.journaled = true;
    }

    pub(super) fn segment_gains(&mut self, segment: u64, offset: u64, length: u64) {
        let delta = self.state.segments.entry(segment).or_default();
        delta.live += length as i64;
        delta.end = delta.end.max(offset.saturating_add(length));
    }

    pub(super) fn segment_loses(&mut self, segment: u64, length: u64) {
        self.state.segments.entry(segment).or_default().live -= length as i64;
    }

    /// Makes a content garbage that nothing names.
    pub(super) fn discard(&mut self, content: i64) -> rusqlite::Result<()> {
        let number = self.number();
        self.sql("INSERT INTO garbage (number, content) VALUES (?1, ?2)")?.execute(params![number, content])?;
        Ok(())
    }

    /// Takes one name from a content; with the last one it becomes garbage.
    pub(super) fn release(&mut self, content: i64) -> rusqlite::Result<()> {
        let shared = self.sql("UPDATE contents SET refs = refs - 1 WHERE id = ?1 AND refs > 1")?.execute([content])?;
        if shared == 0 {
            self.discard(content)?;
        }
        Ok(())
    }

    /// Writes what is written once per transaction.
    pub(super) fn flush(&mut self) -> rusqlite::Result<()> {
        for (segment, delta) in &self.state.segments {
            self.conn
                .prepare_cached(
                    "INSERT INTO segments (id, live, used) VALUES (?1, ?2, ?3)
                     ON CONFLICT (id) DO UPDATE SET live = live + excluded.live, used = max(used, excluded.used)",
                )?
                .execute(params![segment, delta.live, delta.end])?;
        }
        if self.state.sequence != self.state.durable_sequence {
            self.conn
                .prepare_cached("UPDATE counters SET value = ?1 WHERE name = 'sequence'")?
                .execute([self.state.sequence])?;
        }
        Ok(())
    }
}
