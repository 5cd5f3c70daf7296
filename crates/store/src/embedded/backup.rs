//! What a backup needs of the store while it is in use: nothing that its copy
//! of the index names may go before it is copied too.
//!
//! The order, and why: the metastore is copied first, the index after it. A
//! blob is named by the index before the metastore names it, so the later copy
//! of the index names every blob of the earlier copy of the metastore, unless
//! a blob is removed in between; removals wait until the index is copied.
//! Then the open segment is closed, so all that the copy names lies in files
//! that never change; and none of them is freed or compacted until the guard
//! is dropped.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use muonic_ports::Result;
use tokio::sync::{Mutex, OwnedMutexGuard, OwnedRwLockWriteGuard, RwLock};

use super::{EmbeddedStore, plain};
use crate::index::StoreCopy;

#[derive(Default)]
pub(super) struct Locks {
    /// Held by whoever frees, sweeps or compacts, and by a backup.
    pub(super) freeing: Arc<Mutex<()>>,
    /// Read by those who remove blobs.
    pub(super) removals: Arc<RwLock<()>>,
}

/// A backup under way; dropped, space is freed again.
pub struct BackupGuard {
    store: EmbeddedStore,
    _freeing: OwnedMutexGuard<()>,
    removals: Option<OwnedRwLockWriteGuard<()>>,
}

impl EmbeddedStore {
    /// Waits for a round of freeing that is under way, and for another backup.
    /// The metastore is to be copied after this and before [`BackupGuard::copy_index`],
    /// soon: removals of blobs wait.
    pub async fn begin_backup(&self) -> BackupGuard {
        let freeing = self.inner.backup.freeing.clone().lock_owned().await;
        let removals = self.inner.backup.removals.clone().write_owned().await;
        BackupGuard { store: self.clone(), _freeing: freeing, removals: Some(removals) }
    }
}

impl BackupGuard {
    /// Copies the index to a new file, durably, and closes the open segment.
    /// The files that the copy names stay as they are while the guard lives.
    pub async fn copy_index(&mut self, to: &Path) -> Result<StoreCopy> {
        self.store.index().snapshot(to).await.map_err(plain)?;
        self.removals = None;
        self.store.data().roll().await?;
        StoreCopy::open(to)
    }

    /// The folder that the files of the copy lie in.
    pub fn root(&self) -> PathBuf {
        self.store.inner.root.clone()
    }
}
