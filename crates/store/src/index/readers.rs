//! Connections that only read, and the buckets that readers remember.
//!
//! Lookups of a few rows take one of a few connections for microseconds, so
//! they run on any thread; lists and scans have connections of their own, on
//! threads that may block.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use muonic_ports::object_store::{Bucket, Error, Result};
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::failure::{self, Failure};
use super::writer::{ended, lock};

#[derive(Clone)]
pub(super) struct Readers {
    points: Arc<[Arc<Mutex<Connection>>]>,
    scans: Arc<[Arc<Mutex<Connection>>]>,
    turns: Arc<Semaphore>,
    next: Arc<AtomicUsize>,
}

impl Readers {
    pub(super) fn new(points: Vec<Arc<Mutex<Connection>>>, scans: Vec<Arc<Mutex<Connection>>>) -> Self {
        let turns = Arc::new(Semaphore::new(scans.len()));
        Self { points: points.into(), scans: scans.into(), turns, next: Arc::default() }
    }

    /// Runs a lookup on this thread.
    pub(super) fn point<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let conn = free(&self.points, self.next.fetch_add(1, Ordering::Relaxed));
        read(&conn).map_err(failure::read)
    }

    /// Runs a longer read, in one read transaction, on a thread that may block.
    pub(super) async fn scan<T, F>(&self, read: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| ended())?;
        let scans = Arc::clone(&self.scans);
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let conn = free(&scans, 0);
            let tx = conn.unchecked_transaction().map_err(failure::read)?;
            read(&tx).map_err(|failure| match failure {
                Failure::Refused(error) => error,
                Failure::Sql(error) => failure::read(error),
            })
        });
        done.await.map_err(|error| {
            Error::Store(muonic_ports::Error::internal("a read of the store's index broke off", error))
        })?
    }
}

/// One that is free, else the one whose turn it is.
fn free(conns: &[Arc<Mutex<Connection>>], first: usize) -> MutexGuard<'_, Connection> {
    let at = |n: usize| &conns[(first.wrapping_add(n)) % conns.len()];
    (0..conns.len()).find_map(|n| at(n).try_lock().ok()).unwrap_or_else(|| lock(at(0)))
}

/// A bucket as readers know it.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) id: i64,
    pub(super) bucket: Arc<Bucket>,
}

/// Buckets that readers have met. The writer takes those it has changed out
/// before it answers, so whoever heard of a change sees it.
#[derive(Debug, Default)]
pub(super) struct BucketCache {
    inner: RwLock<Remembered>,
}

#[derive(Debug, Default)]
struct Remembered {
    /// Grows with every change, so that a read from before it is not kept.
    changes: u64,
    buckets: HashMap<String, Known>,
}

impl BucketCache {
    const MOST: usize = 512;

    pub(super) fn forget(&self, names: Vec<String>) {
        if names.is_empty() {
            return;
        }
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.changes += 1;
        for name in names {
            inner.buckets.remove(&name);
        }
    }

    pub(super) fn get(&self, name: &str, read: impl FnOnce() -> Result<Option<Known>>) -> Result<Option<Known>> {
        let changes = {
            let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = inner.buckets.get(name) {
                return Ok(Some(known.clone()));
            }
            inner.changes
        };
        let Some(known) = read()? else { return Ok(None) };
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if inner.changes == changes {
            if inner.buckets.len() >= Self::MOST {
                inner.buckets.clear();
            }
            inner.buckets.insert(name.to_owned(), known.clone());
        }
        Ok(Some(known))
    }
}
