//! Where bytes lie: extents, written once and never changed, found again by
//! what the index keeps about them (`crate::content`).
//!
//! - What `write` returns is durable, and named by nobody: the index names it
//!   afterwards. Until then `held` protects it from those who sweep.
//! - All changes of the disk go through `files`, so that tests can fail each.
//! - A failed sync closes the gate: nothing is written until the next start.
//! - Every byte read is verified, by its block's CRC or by its frame's tag.

mod append;
mod batch;
mod blocks;
mod buffers;
mod check;
pub(crate) mod files;
mod frames;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod handles;
mod held;
pub(crate) mod layout;
mod read;
mod seal;
mod segment;
mod segments;
mod source;
mod sums;
#[cfg(test)]
pub(crate) mod tests;
mod upload;
mod write;
mod writes;

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use muonic_ports::blob_store::ByteStream;
use muonic_ports::object_store::{Algorithm, CustomerKey, Result, StoreHealth, Sums};
use muonic_ports::{Error, Result as PortResult};

use crate::content::{Extent, ExtentId, Place, Seal};
use crate::gate::{Gate, failed};
use crate::keys::KeyProvider;
use buffers::Buffers;
use files::Files;
use handles::Handles;
use held::Held;
use layout::Layout;
use writes::Writes;

pub(crate) use check::{CheckOutcome, Pace};
#[allow(unused_imports)]
pub(crate) use held::{Pending, Written};
#[allow(unused_imports)]
pub(crate) use seal::{SealWith, key_md5};
pub(crate) use segments::SegmentInfo;

/// The most content that a segment's extent may have: one frame.
const SEGMENT_CONTENT_MAX: usize = 64 << 10;
const SEGMENT_STORED_MAX: u64 = (SEGMENT_CONTENT_MAX + frames::TAG_BYTES) as u64;

/// Sizes in bytes.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Content up to this is for the index.
    pub inline_max: usize,
    /// Content up to this goes to a segment; 64 KiB at most.
    pub segment_content_max: usize,
    /// A segment that has come to this is followed by another.
    pub segment_bytes: u64,
    /// Zeros written ahead of what is appended.
    pub fill_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            inline_max: 4 << 10,
            segment_content_max: SEGMENT_CONTENT_MAX,
            segment_bytes: 64 << 20,
            fill_bytes: 4 << 20,
        }
    }
}

/// What travels to other threads.
struct Disk {
    layout: Layout,
    files: Box<dyn Files>,
    gate: Arc<Gate>,
    keys: Arc<dyn KeyProvider>,
    settings: Settings,
    held: Arc<Held>,
    writes: Writes,
    handles: Handles,
    buffers: Arc<Buffers>,
}

/// The data layer. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Data {
    inner: Arc<Inner>,
}

struct Inner {
    disk: Arc<Disk>,
    appender: Option<(append::Sender, std::thread::JoinHandle<()>)>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Who opens the store next finds nobody at work in it.
        if let Some((sender, thread)) = self.appender.take() {
            drop(sender);
            let _ = thread.join();
        }
    }
}

impl Data {
    /// Makes the folders where there are none. Blocks. The gate is shared with
    /// whatever else writes under `root`.
    pub(crate) fn open(
        root: &Path,
        keys: Arc<dyn KeyProvider>,
        files: Box<dyn Files>,
        gate: Arc<Gate>,
        mut settings: Settings,
    ) -> PortResult<Self> {
        settings.segment_content_max = settings.segment_content_max.min(SEGMENT_CONTENT_MAX);
        settings.inline_max = settings.inline_max.min(settings.segment_content_max);
        let layout = Layout::open(root)?;
        let (held, writes, handles, buffers) = Default::default();
        let disk = Arc::new(Disk { layout, files, gate, keys, settings, held, writes, handles, buffers });
        let appender = append::start(disk.clone())?;
        Ok(Self { inner: Arc::new(Inner { disk, appender: Some(appender) }) })
    }

    fn disk(&self) -> &Arc<Disk> {
        &self.inner.disk
    }

    fn sender(&self) -> PortResult<&append::Sender> {
        match &self.inner.appender {
            Some((sender, _)) => Ok(sender),
            None => Err(Error::bug("the data layer is closed")),
        }
    }

    /// Stores a body as one extent. Durable when it returns, but in the case
    /// of `Place::Inline`, whose bytes the index keeps. Nothing is left of a
    /// body that fails, or of a call that is dropped.
    pub(crate) async fn write(
        &self,
        body: ByteStream,
        algorithms: &BTreeSet<Algorithm>,
        with: SealWith<'_>,
    ) -> Result<(Written, Sums)> {
        write::write(self, body, algorithms, with).await
    }

    /// Stores many blobs, the small ones made durable together; in their order.
    pub(crate) async fn write_many(&self, blobs: Vec<Bytes>, with: SealWith<'_>) -> Result<Vec<Written>> {
        write::write_many(self, blobs, with).await
    }

    /// Closes the open segment: nothing is appended to those that are on the
    /// disk when this returns.
    pub(crate) async fn roll(&self) -> PortResult<()> {
        append::roll(self.sender()?).await
    }

    /// The content of an extent, or a range of it (clamped to its size). Damage
    /// is an error at once, or ends the stream in one of the kind `InvalidData`.
    pub(crate) async fn read(
        &self,
        extent: &Extent,
        range: Option<Range<u64>>,
        key: Option<&CustomerKey>,
    ) -> Result<ByteStream> {
        read::read(self.disk(), extent, range, key).await
    }

    /// Checks the stored bytes of an extent against their sums.
    pub(crate) async fn check(&self, extent: &Extent, pace: Pace<'_>) -> PortResult<CheckOutcome> {
        check::check(self.disk(), extent, pace).await
    }

    /// What is missing of an extent on the disk, by the sizes of files alone.
    /// Blocks.
    pub(crate) fn missing(&self, extent: &Extent) -> PortResult<Option<String>> {
        check::missing(self.disk(), extent)
    }

    /// Removes the file of an extent that no row names; one that is not there
    /// is a success. Blocks. What lies in a segment goes with the segment.
    pub(crate) fn free(&self, extent: &Extent) -> PortResult<()> {
        self.disk().free(extent)
    }

    /// Removes the file of this id; one that is not there is a success. Blocks.
    pub(crate) fn free_file(&self, id: &ExtentId) -> PortResult<()> {
        let disk = self.disk();
        disk.gate.check()?;
        disk.unlink(&disk.layout.file(id))
    }

    /// The ids of files that nobody holds. Those that no row names, when asked
    /// for after this has yielded them, are garbage. Blocks.
    pub(crate) fn files(&self) -> PortResult<impl Iterator<Item = PortResult<ExtentId>> + Send + use<>> {
        self.disk().files()
    }

    /// By number. Blocks.
    pub(crate) fn segments(&self) -> PortResult<Vec<SegmentInfo>> {
        self.disk().segments()
    }

    /// Gives back the unused end of a closed segment, after `used`. Blocks.
    pub(crate) fn seal_segment(&self, segment: u64, used: u64) -> PortResult<()> {
        self.disk().seal_segment(segment, used)
    }

    /// Removes a closed segment that no row names. Blocks.
    pub(crate) fn remove_segment(&self, segment: u64) -> PortResult<()> {
        self.disk().remove_segment(segment)
    }

    /// Copies extents of segments to the end of the open one, for compaction.
    pub(crate) async fn copy_many(&self, extents: Vec<Extent>) -> PortResult<Vec<PortResult<Written>>> {
        segments::copy_many(self, extents).await
    }

    /// A seal by the newest version of the key; `None` where it is that
    /// already, or the customer's.
    pub(crate) async fn rewrap(&self, id: ExtentId, seal: &Seal) -> Result<Option<Seal>> {
        seal::rewrap(&self.disk().keys, id, seal).await
    }

    /// Waits until all writes that have begun before now are named, or given up.
    pub(crate) async fn writes_drained(&self) {
        self.disk().writes.drained().await;
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.disk().gate
    }

    pub(crate) async fn health(&self) -> StoreHealth {
        let disk = self.disk().clone();
        let space = blocking(move || {
            let root = disk.layout.root();
            nix::sys::statvfs::statvfs(root).map_err(|e| failed("look at", root, e.into()))
        })
        .await;
        let closed = self.gate().reason().map(str::to_owned);
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

impl Disk {
    fn free(&self, extent: &Extent) -> PortResult<()> {
        let path = match &extent.place {
            Place::Inline(_) | Place::Segment { .. } => return Ok(()),
            Place::File { .. } => self.layout.file(&extent.id),
            Place::Legacy { digest, .. } => self.layout.legacy(digest),
        };
        self.gate.check()?;
        self.unlink(&path)
    }

    fn unlink(&self, path: &Path) -> PortResult<()> {
        match self.files.unlink(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, e)),
            _ => Ok(()),
        }
    }
}

/// Runs what may block where it may.
pub(crate) async fn blocking<T: Send + 'static, E: From<Error> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(Error::internal("a file operation did not finish", e).into()),
    }
}
