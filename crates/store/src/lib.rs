//! The store: objects in buckets and blobs by content address on a local disk,
//! and the logs of units beside them.
//!
//! `embedded` is both ports. Behind it, `data` holds bytes (segments and files,
//! encrypted by `keys`) and `index` knows what is where (SQLite); they share
//! `content` and nothing else. What was written is synced by `data` before
//! `index` names it, and named before anything is answered.

mod content;
mod data;
mod embedded;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod index;
mod keys;
mod logs;
mod memory;

use std::path::Path;
use std::sync::Arc;

use muonic_ports::Result;

pub use embedded::{BackupGuard, EmbeddedStore, FORMAT_FILE, Options, Reclaimed, Upkeep};
pub use index::{StoreCopy, StoredFile};
pub use keys::{DEFAULT_KEY, DataKey, KeyProvider, LocalKeys};
pub use logs::DiskLogs;
pub use memory::{MemoryLogs, MemoryStore};

/// Opens the store under `root`, and makes it where there is none. The keys lie
/// in the file `keys`, which is made only for a store that holds nothing yet.
/// Blocks: it reads and writes a few hundred directory entries.
///
/// One process at a time: the caller holds the lock of the data folder.
pub async fn open(root: &Path, keys: &Path, options: &Options) -> Result<(EmbeddedStore, Arc<LocalKeys>)> {
    let keys = Arc::new(LocalKeys::open(keys, !embedded::is_encrypted(root)).map_err(embedded::plain)?);
    let store = EmbeddedStore::open(root, keys.clone(), options).await?;
    Ok((store, keys))
}

/// Opens the logs under `root`, and makes the folder where there is none.
pub fn open_logs(root: &Path) -> Result<DiskLogs> {
    DiskLogs::open(root)
}
