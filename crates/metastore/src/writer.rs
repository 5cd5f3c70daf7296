//! The one writing connection, with group commit.
//!
//! A write is a transaction to its caller: all of it or nothing, durable when
//! `commit` answers. Under load, writes that wait for the connection are put
//! into one SQLite transaction, each inside a savepoint, so that they share
//! one sync of the disk:
//!
//! ```text
//! writer 1   BEGIN … ─┐ queues again to commit ────────────┐ COMMIT ─▶ answers 1, 2, 3
//! writer 2            └▶ SAVEPOINT … RELEASE ─┐             │
//! writer 3                                    └▶ SAVEPOINT … RELEASE
//! ```
//!
//! The lock is fair, so the commit comes right after those that were waiting
//! when it queued; without others it comes at once. Readers use other
//! connections and see a write only once it is durable.
//!
//! Invariants:
//! - `under_way` is set from before BEGIN or SAVEPOINT until the write has
//!   ended, so a caller that goes away mid-way is always undone.
//! - A batch exists exactly while committed-to-be writes wait; a task of its
//!   own commits it, whatever becomes of the callers.
//! - After a failed COMMIT with an I/O error nothing is written any more: the
//!   kernel may have dropped pages that a later sync would not report.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use muonic_ports::{Error, Result};
use sqlx::{Connection, SqliteConnection};
use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, watch};

use crate::fault::Fault;
use crate::row::exec;

/// Most writes that may wait at once.
const WRITES_MAX: usize = 4096;

pub(crate) struct Writer {
    slots: Arc<Semaphore>,
    state: Arc<Mutex<State>>,
}

struct State {
    /// `None` once closed.
    conn: Option<SqliteConnection>,
    batch: Option<watch::Sender<Outcome>>,
    under_way: Option<Depth>,
    /// Why nothing can be written until the next start.
    broken: Option<String>,
}

/// `None` until the batch is committed or has failed.
type Outcome = Option<Result<(), Fault>>;

#[derive(Clone, Copy, PartialEq)]
enum Depth {
    /// The first write of a batch: the transaction itself.
    Transaction,
    /// A later one: a savepoint.
    Savepoint,
}

impl Writer {
    pub fn new(conn: SqliteConnection) -> Self {
        let state = State { conn: Some(conn), batch: None, under_way: None, broken: None };
        Self { slots: Arc::new(Semaphore::new(WRITES_MAX)), state: Arc::new(Mutex::new(state)) }
    }

    pub async fn begin(&self) -> Result<Write> {
        let slot = Arc::clone(&self.slots)
            .try_acquire_owned()
            .map_err(|_| Error::Unavailable("too many writes are waiting for the metastore; try again".into()))?;
        let mut state = Arc::clone(&self.state).lock_owned().await;
        state.undo().await;
        if state.conn.is_none() {
            return Err(closed());
        }
        if let Some(why) = &state.broken {
            return Err(Error::ReadOnly(why.clone()));
        }
        let (depth, sql) = match state.batch {
            None => (Depth::Transaction, "BEGIN IMMEDIATE"),
            Some(_) => (Depth::Savepoint, "SAVEPOINT part"),
        };
        state.under_way = Some(depth);
        let mut write = Write { state: Some(state), shared: Arc::clone(&self.state), depth, _slot: slot };
        exec(&mut write, sqlx::query(sql)).await?;
        Ok(write)
    }

    /// For stores without a reader pool: the connection between two writes.
    pub async fn read(&self) -> Result<Exclusive> {
        let mut state = Arc::clone(&self.state).lock_owned().await;
        state.undo().await;
        if state.conn.is_some() { Ok(Exclusive(state)) } else { Err(closed()) }
    }

    /// Commits what waits for it and closes the connection.
    pub async fn close(&self) {
        let mut state = Arc::clone(&self.state).lock_owned().await;
        state.commit().await;
        if let Some(conn) = state.conn.take()
            && let Err(e) = conn.close().await
        {
            tracing::warn!("closing the metastore failed: {e}");
        }
    }
}

fn closed() -> Error {
    Error::Unavailable("the metastore is closed".into())
}

impl State {
    async fn run(&mut self, sql: &'static str) -> Result<(), Fault> {
        match &mut self.conn {
            Some(conn) => sqlx::query(sql).execute(conn).await.map(drop).map_err(|e| Fault::from(&e)),
            None => Err(Fault::Unavailable("the metastore is closed".into())),
        }
    }

    /// Undoes a write that began and did not end.
    async fn undo(&mut self) {
        match self.under_way {
            None => return,
            // It fails only where SQLite has rolled back by itself.
            Some(Depth::Transaction) => drop(self.run("ROLLBACK").await),
            Some(Depth::Savepoint) => {
                if self.run("ROLLBACK TO part").await.is_err() || self.run("RELEASE part").await.is_err() {
                    // On a full disk or an I/O error SQLite may roll all back,
                    // earlier parts included.
                    drop(self.run("ROLLBACK").await);
                    let why = "the write was undone with another one that failed on the disk; try again";
                    self.settle(Err(Fault::Unavailable(why.into())));
                }
            }
        }
        self.under_way = None;
    }

    async fn commit(&mut self) {
        self.undo().await;
        if self.batch.is_none() {
            return;
        }
        let outcome = self.run("COMMIT").await;
        if let Err(fault) = &outcome {
            tracing::error!("a commit failed: {fault:?}");
            if let Fault::Io(why) = fault {
                self.broken = Some(format!("{why}; nothing is written until the server has been started again"));
            }
            drop(self.run("ROLLBACK").await);
        }
        self.settle(outcome);
    }

    fn settle(&mut self, outcome: Result<(), Fault>) {
        if let Some(batch) = self.batch.take() {
            batch.send_replace(Some(outcome));
        }
    }
}

/// A write under way. Dropped without `commit`, it is undone.
pub(crate) struct Write {
    /// Taken only by `commit` and `drop`.
    state: Option<OwnedMutexGuard<State>>,
    shared: Arc<Mutex<State>>,
    depth: Depth,
    _slot: OwnedSemaphorePermit,
}

impl Write {
    /// Waits until the write is durable.
    pub async fn commit(mut self) -> Result<()> {
        if self.depth == Depth::Savepoint {
            exec(&mut self, sqlx::query("RELEASE part")).await?;
        }
        let Some(mut state) = self.state.take() else { return Err(Error::bug("a write was committed twice")) };
        state.under_way = None;
        let mut outcome = match &state.batch {
            Some(batch) => batch.subscribe(),
            None => {
                let (batch, outcome) = watch::channel(None);
                state.batch = Some(batch);
                let shared = Arc::clone(&self.shared);
                tokio::spawn(async move { shared.lock_owned().await.commit().await });
                outcome
            }
        };
        drop(state);
        match outcome.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Ok(()))) => Ok(()),
            Ok(Some(Err(fault))) => Err(fault.clone().into()),
            Ok(None) | Err(_) => Err(Error::bug("a commit ended without an outcome")),
        }
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        // Undone at once, so that no open transaction lingers. Without a
        // runtime the next write does it.
        if let Some(mut state) = self.state.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { state.undo().await });
        }
    }
}

impl Deref for Write {
    type Target = SqliteConnection;
    fn deref(&self) -> &SqliteConnection {
        self.state.as_ref().and_then(|s| s.conn.as_ref()).expect("open as long as the write holds the lock")
    }
}

impl DerefMut for Write {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        self.state.as_mut().and_then(|s| s.conn.as_mut()).expect("open as long as the write holds the lock")
    }
}

/// The writing connection, lent for reading.
pub(crate) struct Exclusive(OwnedMutexGuard<State>);

impl Deref for Exclusive {
    type Target = SqliteConnection;
    fn deref(&self) -> &SqliteConnection {
        self.0.conn.as_ref().expect("checked when it was lent")
    }
}

impl DerefMut for Exclusive {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        self.0.conn.as_mut().expect("checked when it was lent")
    }
}

#[cfg(test)]
mod tests;
