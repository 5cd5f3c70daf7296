//! The index of the store: what is where. Buckets, versions of objects,
//! uploads, blobs by digest, and the extents that hold their bytes, in SQLite.
//!
//! Invariants:
//! - An answer that a change was made means that its transaction is synced.
//! - All changes go through one thread (`writer`), which decides and writes;
//!   readers see whole transactions.
//! - A version names one content, a content has one extent or one for each
//!   part. What nothing names any longer is in `garbage` from the same
//!   transaction on, and its rows stay until the reclaimer is done with it.
//! - The caller has made an extent durable before it is named here. On a
//!   refusal the extent is the caller's again; after [`Error::Store`] it may be
//!   named or not, so it stays until a check for unnamed files finds it.
//! - A caller that stops waiting does not undo its change.

mod blobs;
mod buckets;
mod checkpoint;
mod complete;
mod copied;
mod extents;
mod failure;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod garbage;
mod guard;
mod journal;
mod list;
mod list_uploads;
mod objects;
mod readers;
mod removals;
mod rows;
mod schema;
mod snapshot;
mod stats;
mod sums;
#[cfg(test)]
mod tests;
mod tx;
mod upkeep;
mod uploads;
mod versions;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use muonic_ports::Error as Port;
use muonic_ports::object_store::{Error, Result};
use tokio::sync::{oneshot, watch};

pub use copied::{StoreCopy, StoredFile};
#[allow(unused_imports)]
pub(crate) use garbage::Garbage;
#[allow(unused_imports)]
pub(crate) use objects::NewContent;
#[allow(unused_imports)]
pub(crate) use stats::Stats;
#[allow(unused_imports)]
pub(crate) use upkeep::{Located, Moved, Segment};
#[allow(unused_imports)]
pub(crate) use uploads::NewPart;

use checkpoint::Checkpoints;
use failure::{Failure, Fault, Gate};
use readers::{BucketCache, Readers};
use tx::{State, Tx};
use writer::{Message, Queue, Writer};

const POINT_READERS: usize = 4;
const SCAN_READERS: usize = 4;

/// Cheap to clone. The last one to go waits for the changes that are queued
/// and closes the database.
#[derive(Clone)]
pub(crate) struct Index {
    inner: Arc<Inner>,
}

struct Inner {
    queue: Option<Queue>,
    thread: Option<JoinHandle<()>>,
    readers: Readers,
    cache: Arc<BucketCache>,
    gate: Arc<Gate>,
    journal: watch::Receiver<()>,
}

impl Index {
    /// Opens the index at `path`, and makes it where there is none. Blocks.
    /// Without `sync` nothing survives a power loss for certain.
    pub(crate) fn open(path: &Path, sync: bool) -> Result<Self> {
        let failed = |error: rusqlite::Error| match Fault::of(&error) {
            Fault::Full => Error::Store(Port::DiskFull),
            _ => Error::Store(Port::internal(
                format!("cannot open the store's index {}: {error}", path.display()),
                error,
            )),
        };
        let conn = schema::writer(path, sync).map_err(failed)?;
        sync_parent(path)?;
        let gate = Arc::new(Gate::default());
        checkpoint::watch(&conn);
        let checkpoints = Checkpoints::start(schema::checkpointer(path).map_err(failed)?, Arc::clone(&gate))
            .map_err(|error| no_thread(&error))?;
        let readers = |n: usize| {
            (0..n).map(|_| Ok(Arc::new(Mutex::new(schema::reader(path)?)))).collect::<rusqlite::Result<Vec<_>>>()
        };
        let readers = Readers::new(readers(POINT_READERS).map_err(failed)?, readers(SCAN_READERS).map_err(failed)?);
        let state = State::load(&conn).map_err(failed)?;
        Self::start(Arc::new(Mutex::new(conn)), state, readers, gate, Some(checkpoints))
    }

    /// One that is gone with its last handle.
    #[cfg(test)]
    pub(crate) fn open_in_memory() -> Result<Self> {
        let conn = schema::in_memory().map_err(failure::read)?;
        let state = State::load(&conn).map_err(failure::read)?;
        let conn = Arc::new(Mutex::new(conn));
        let readers = Readers::new(vec![Arc::clone(&conn)], vec![Arc::clone(&conn)]);
        Self::start(conn, state, readers, Arc::default(), None)
    }

    fn start(
        conn: Arc<Mutex<rusqlite::Connection>>,
        state: State,
        readers: Readers,
        gate: Arc<Gate>,
        checkpoints: Option<Checkpoints>,
    ) -> Result<Self> {
        let cache = Arc::new(BucketCache::default());
        let (grown, journal) = watch::channel(());
        let writer =
            Writer { conn, state, gate: Arc::clone(&gate), cache: Arc::clone(&cache), checkpoints, journal: grown };
        let (queue, thread) = writer::start(writer).map_err(|error| no_thread(&error))?;
        let inner = Inner { queue: Some(queue), thread: Some(thread), readers, cache, gate, journal };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Why it takes no changes any more; `None` while it does.
    pub(crate) fn read_only(&self) -> Option<&str> {
        self.inner.gate.reason()
    }

    /// Copies the whole index to a new file and syncs it, while changes go on;
    /// they are in the copy up to the moment it ends. One at a time.
    pub(crate) async fn snapshot(&self, to: &Path) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        let request = snapshot::Request { to: to.to_owned(), answer };
        self.queue()?.send(Message::Snapshot(request)).await?;
        answered.await.map_err(|_| writer::ended())?
    }

    async fn step<T, F>(&self, decide: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T, Failure> + Send + 'static,
    {
        self.queue()?.step(decide).await
    }

    fn queue(&self) -> Result<&Queue> {
        self.inner.queue.as_ref().ok_or_else(writer::ended)
    }

    fn readers(&self) -> &Readers {
        &self.inner.readers
    }

    /// Tells when a journal has grown from now on.
    fn news(&self) -> watch::Receiver<()> {
        let mut news = self.inner.journal.clone();
        news.mark_unchanged();
        news
    }

    fn cache(&self) -> &BucketCache {
        &self.inner.cache
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The last connection to go copies the WAL to its place, if it may write.
        self.readers = Readers::new(Vec::new(), Vec::new());
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the writer of the store's index has panicked");
        }
    }
}

/// The file's name has to survive as its bytes do.
fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(parent).and_then(|folder| folder.sync_all()).map_err(|error| {
        Error::Store(Port::internal(format!("cannot sync the folder {}: {error}", parent.display()), error))
    })
}

fn no_thread(error: &std::io::Error) -> Error {
    Error::Store(Port::Unavailable(format!("cannot start a thread for the store's index: {error}")))
}
