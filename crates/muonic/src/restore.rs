//! What the command line does with backups without a server: listing
//! snapshots, and restoring one.

use std::collections::BTreeMap;
use std::path::Path;

use muonic_backup::Destination;
use muonic_cli::{Exit, Failure, Offline, Restore};
use muonic_ports::Error;
use muonic_types::backup::Snapshot;

use crate::folder::Folder;

pub struct Backups;

impl Offline for Backups {
    fn snapshots(&self, place: &str, options: &BTreeMap<String, String>) -> Result<Vec<Snapshot>, Failure> {
        let from = destination(place, options)?;
        run(async { muonic_backup::snapshots(&from).await.map_err(|e| failure(&e)) })
    }

    fn restore(&self, restore: Restore<'_>) -> Result<(Snapshot, bool), Failure> {
        let Restore { place, options, snapshot, data, passphrase, progress } = restore;
        let from = destination(place, options)?;
        may_be_filled(data)?;
        run(async {
            // Before the folder is made: there may be nothing to restore.
            let found = muonic_backup::snapshots(&from).await.map_err(|e| failure(&e))?;
            if found.is_empty() {
                return Err(Failure::new(Exit::NotFound, format!("there is no snapshot in {place}")));
            }
            let folder = Folder::to_restore(data).map_err(|e| Failure::new(Exit::Failed, format!("{e:#}")))?;
            let done = muonic_backup::restore(&from, snapshot, folder.path(), passphrase, progress).await;
            let done = done.map_err(|e| {
                failure(&e).hint(format!(
                    "the folder {} is not whole, and no server starts on it; run this again",
                    data.display()
                ))
            })?;
            Ok((done.snapshot, done.has_keys))
        })
    }
}

fn destination(place: &str, options: &BTreeMap<String, String>) -> Result<Destination, Failure> {
    Destination::parse(place, options).map_err(|e| Failure::new(Exit::BadInput, e.to_string()))
}

/// Nothing that somebody has put there is written over.
fn may_be_filled(data: &Path) -> Result<(), Failure> {
    if data.join(muonic_backup::UNFINISHED).exists() {
        return Ok(());
    }
    match std::fs::read_dir(data) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(Failure::new(Exit::BadInput, format!("the folder {} is not empty", data.display()))
                .hint("name an empty folder, or one that is not there yet, with --data")),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Failure::new(Exit::BadInput, format!("{} cannot be read: {e}", data.display()))),
    }
}

fn run<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|e| Failure::new(Exit::Failed, format!("threads cannot be started: {e}")))?.block_on(work)
}

fn failure(error: &Error) -> Failure {
    let exit = match error {
        Error::NotFound(_) => Exit::NotFound,
        Error::Conflict(_) => Exit::BadInput,
        Error::Unavailable(_) | Error::DiskFull => Exit::Unavailable,
        _ => Exit::Failed,
    };
    Failure::new(exit, error.to_string())
}
