//! Checkpoints: what the WAL holds goes to its place in the database file.
//!
//! A thread of its own copies most of it while the writer goes on; the writer
//! copies the little that is left once the WAL has grown long, since a WAL
//! starts again only where a commit finds nothing left to copy.

use std::cell::Cell;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::hooks::Wal;

use super::failure::{Fault, Gate};

/// Pages in the WAL from which on it is copied beside the writer, by the
/// writer where nobody else is at it, and by the writer in any case.
const BESIDE: i32 = 1000;
const INLINE: i32 = 8000;
const WAIT: i32 = 4 * INLINE;

thread_local! {
    /// Pages in the WAL after this thread's last commit.
    static PAGES: Cell<i32> = const { Cell::new(0) };
}

pub(super) fn watch(conn: &Connection) {
    conn.wal_hook(Some(|_: &Wal, pages| {
        PAGES.set(pages);
        Ok(())
    }));
}

pub(super) struct Checkpoints {
    wake: SyncSender<()>,
    thread: JoinHandle<()>,
    shared: Arc<Shared>,
}

struct Shared {
    gate: Arc<Gate>,
    /// Held until a failure has closed the gate, so that no other checkpoint
    /// takes a failed one's pages for written.
    one: Mutex<()>,
}

impl Checkpoints {
    pub(super) fn start(conn: Connection, gate: Arc<Gate>) -> std::io::Result<Self> {
        let (wake, woken) = sync_channel::<()>(1);
        let shared = Arc::new(Shared { gate, one: Mutex::new(()) });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("store-checkpoint".into()).spawn(move || {
            while woken.recv().is_ok() {
                theirs.run(&conn, false);
            }
            if theirs.gate.reason().is_some() {
                let _ = never_again(&conn);
            }
        })?;
        Ok(Self { wake, thread, shared })
    }

    pub(super) fn after_commit(&self, conn: &Connection) {
        let pages = PAGES.get();
        if pages >= INLINE {
            self.shared.run(conn, pages >= WAIT);
        } else if pages >= BESIDE {
            // Where one waits already, one is enough.
            let _ = self.wake.try_send(());
        }
    }

    pub(super) fn close(self) {
        drop(self.wake);
        let _ = self.thread.join();
    }
}

impl Shared {
    fn run(&self, conn: &Connection, wait: bool) {
        let _one = match self.one.try_lock() {
            Ok(one) => one,
            Err(_) if wait => self.one.lock().unwrap_or_else(PoisonError::into_inner),
            Err(_) => return,
        };
        if self.gate.reason().is_some() {
            return;
        }
        let done = conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if let Err(error) = done {
            match Fault::of(&error) {
                Fault::Dead(reason) => self.gate.close(&reason),
                // The WAL keeps it all; a later one does it.
                _ => tracing::warn!(%error, "a checkpoint of the store's index failed, it will be tried again"),
            }
        }
    }
}

/// No checkpoint when the last connection closes either: after a failed sync
/// only a new process knows what the disk holds.
pub(super) fn never_again(conn: &Connection) -> rusqlite::Result<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(|_| ())
}
