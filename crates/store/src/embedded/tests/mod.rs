//! The store as a whole, where it hurts: killed, without power, on a disk that
//! fails or lies. What must hold is the ledger's: all that was acknowledged is
//! there, and what was not is there wholly or not at all.

mod body;
mod care;
mod choose;
mod damage;
mod dice;
mod faults;
mod foreign;
mod kill;
mod ledger;
mod op;
mod ops;
mod power;
mod samples;
mod seen;
mod vfs;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::{EmbeddedStore, Options};
use crate::data::Settings;
use crate::data::files::{Files, RealFiles};
use crate::keys::LocalKeys;

/// So small that segments roll, empty and are compacted all the time.
fn small() -> Settings {
    Settings { inline_max: 1024, segment_content_max: 16 << 10, segment_bytes: 64 << 10, fill_bytes: 16 << 10 }
}

/// In memory where that is possible: what a sync means is another test's.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

async fn open_on(
    root: &Path,
    encrypt: bool,
    files: Box<dyn Files>,
) -> muonic_ports::Result<(EmbeddedStore, Arc<LocalKeys>)> {
    let store = root.join("store");
    let keys = LocalKeys::open(&root.join("keys"), !super::is_encrypted(&store)).map_err(super::plain)?;
    let keys = Arc::new(keys);
    let options = Options { encrypt, sync: true };
    Ok((EmbeddedStore::open_on(&store, keys.clone(), &options, files, small()).await?, keys))
}

async fn open(root: &Path) -> (EmbeddedStore, Arc<LocalKeys>) {
    open_on(root, true, Box::new(RealFiles)).await.expect("the store opens")
}

/// A folder and all that is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}
