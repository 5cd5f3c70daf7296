//! A copy of the index while it is written to: SQLite's online backup, run on
//! the writer's own connection, so that what is written meanwhile goes into
//! the copy too and it never starts again. Steps of changes run between.

use std::fs::File;
use std::path::{Path, PathBuf};

use muonic_ports::Error as Port;
use muonic_ports::object_store::{Error, Result};
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use tokio::sync::oneshot;

use super::failure::Fault;

/// Pages that are copied while changes wait.
const PAGES: i32 = 256;

pub(super) struct Request {
    pub(super) to: PathBuf,
    pub(super) answer: oneshot::Sender<Result<()>>,
}

impl Request {
    pub(super) fn refuse(self) {
        let wait = "a snapshot of the store's index is being made; try again when it is done";
        let _ = self.answer.send(Err(Error::Store(Port::Unavailable(wait.into()))));
    }
}

/// Blocks until the copy is made and synced; `between` runs after each step.
pub(super) fn run(request: Request, conn: &Connection, between: impl FnMut()) {
    let result = copy(&request.to, conn, between).map_err(|error| match Fault::of(&error) {
        Fault::Full => Error::Store(Port::DiskFull),
        _ => Error::Store(Port::internal(
            format!("cannot copy the store's index to {}: {error}", request.to.display()),
            error,
        )),
    });
    let result = result.and_then(|()| sync(&request.to));
    let _ = request.answer.send(result);
}

fn copy(to: &Path, conn: &Connection, mut between: impl FnMut()) -> rusqlite::Result<()> {
    let mut target = Connection::open(to)?;
    // It counts once it is synced as a whole.
    target.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")?;
    {
        let backup = Backup::new(conn, &mut target)?;
        while backup.step(PAGES)? != StepResult::Done {
            between();
        }
    }
    target.close().map_err(|(_, error)| error)
}

fn sync(path: &Path) -> Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(path)
        .and_then(|file| file.sync_all())
        .and_then(|()| File::open(parent)?.sync_all())
        .map_err(|error| Error::Store(Port::internal(format!("cannot sync {}: {error}", path.display()), error)))
}
