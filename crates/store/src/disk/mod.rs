//! Blobs on a local disk.
//!
//! A write: temporary file, fdatasync, rename to the content's address, fsync
//! of that folder, and only then the answer. A blob that is there already is
//! not written again, but its folder is synced: the rename that made it
//! visible may be younger than the last sync.
//!
//! A whole read verifies the SHA-256 and holds the last piece back until it
//! has; a range read cannot (only the whole has a digest), so it checks that
//! the file has not become shorter, no more.
//!
//! `remove` must not race with a put of the same blob; who collects garbage
//! sees to that.

pub(crate) mod files;
pub(crate) mod layout;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use muonic_ports::blob_store::{Blob, ByteStream, StoreHealth};
use muonic_ports::{BlobStore, Error, Result};
use muonic_types::Digest;

use crate::gate::{Gate, failed};
use files::{Files, RealFiles};
use layout::Layout;

/// What travels to blocking threads.
struct Disk {
    layout: Layout,
    gate: Gate,
    files: Box<dyn Files>,
}

/// The disk backend of [`BlobStore`]. Cheap to clone.
#[derive(Clone)]
pub struct DiskStore {
    disk: Arc<Disk>,
}

impl DiskStore {
    pub(crate) fn open(root: &Path) -> Result<Self> {
        Self::open_on(root, Box::new(RealFiles))
    }

    fn open_on(root: &Path, files: Box<dyn Files>) -> Result<Self> {
        let layout = Layout::open(root)?;
        Ok(Self { disk: Arc::new(Disk { layout, gate: Gate::default(), files }) })
    }
}

/// Runs file operations where they may block.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(Error::internal("a file operation did not finish", e)),
    }
}

/// The size of a file, or `None` where there is none.
fn size_of(path: &Path) -> Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(found.len())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("look at", path, e)),
    }
}

#[async_trait]
impl BlobStore for DiskStore {
    async fn put(&self, body: ByteStream, expect: Option<Digest>) -> Result<Blob> {
        write::put(&self.disk, body, expect).await
    }

    async fn put_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Result<()> {
        write::put_batch(&self.disk, blobs).await
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.disk.layout.blob(digest);
        blocking(move || size_of(&path)).await
    }

    async fn get(&self, digest: &Digest, range: Option<Range<u64>>) -> Result<(u64, ByteStream)> {
        read::get(self.disk.layout.blob(digest), *digest, range).await
    }

    async fn remove(&self, digest: &Digest) -> Result<()> {
        let disk = self.disk.clone();
        let path = disk.layout.blob(digest);
        blocking(move || {
            disk.gate.check()?;
            match disk.files.remove(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path, e)),
                _ => Ok(()),
            }
        })
        .await
    }

    async fn health(&self) -> StoreHealth {
        let disk = self.disk.clone();
        let space = blocking(move || {
            let root = disk.layout.root();
            nix::sys::statvfs::statvfs(root).map_err(|e| failed("look at", root, e.into()))
        })
        .await;
        let closed = self.disk.gate.reason().map(str::to_owned);
        match space {
            Ok(space) => {
                let mounted = space
                    .flags()
                    .contains(nix::sys::statvfs::FsFlags::ST_RDONLY)
                    .then(|| "the disk is mounted read-only".to_owned());
                let reason = closed.or(mounted);
                #[allow(clippy::unnecessary_cast)] // the kernel's types differ between machines
                let free_bytes = space.blocks_available() as u64 * space.fragment_size() as u64;
                StoreHealth { writable: reason.is_none(), reason, free_bytes }
            }
            Err(e) => {
                StoreHealth { writable: false, reason: Some(closed.unwrap_or_else(|| e.to_string())), free_bytes: 0 }
            }
        }
    }
}
