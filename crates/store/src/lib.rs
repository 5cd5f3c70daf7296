//! The store: blobs by content address on a local disk, and the logs of units
//! beside them; both also in memory, for tests and for throw-away servers.
//!
//! Durability is decided in `disk`: a put returns after its bytes, its name
//! and nothing less have been synced. All file operations of a write go
//! through `disk::files`, so that tests can fail each of them in turn.

#[allow(dead_code)]
mod content;
#[allow(dead_code)]
mod data;
mod disk;
mod gate;
#[allow(dead_code)]
mod index;
#[allow(dead_code)]
mod keys;
mod logs;
mod memory;

use std::path::Path;

use muonic_ports::Result;

pub use disk::DiskStore;
pub use keys::{DataKey, KeyProvider, LocalKeys};
pub use logs::DiskLogs;
pub use memory::{MemoryLogs, MemoryStore};

/// Opens the store under `root`, and makes it where there is none. Blocks:
/// it reads and writes a few hundred directory entries.
///
/// One process at a time: the caller holds the lock of the data folder.
pub fn open(root: &Path) -> Result<DiskStore> {
    DiskStore::open(root)
}

/// Opens the logs under `root`, and makes the folder where there is none.
pub fn open_logs(root: &Path) -> Result<DiskLogs> {
    DiskLogs::open(root)
}
