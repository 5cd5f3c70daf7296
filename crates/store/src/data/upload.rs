//! The file of one large extent while it is written. Dropped before its end,
//! it is removed.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use muonic_ports::{Error, Result};

use super::Disk;
use super::blocks::BlockSums;
use super::frames::{FrameKey, Sealer};
use super::held::{Guard, Written};
use crate::content::{Extent, ExtentId, Place, Seal};
use crate::gate::{failed, is_full};

/// The disk begins its work each time this much has come, not at the end.
const FLUSH_BYTES: u64 = 8 << 20;

pub(super) struct Upload {
    sealer: Sealer,
    seal: Option<Seal>,
    size: u64,
    out: Out,
}

/// The file, and what has gone into it.
struct Out {
    disk: Arc<Disk>,
    id: ExtentId,
    path: PathBuf,
    file: File,
    guard: Option<Guard>,
    blocks: BlockSums,
    written: u64,
    /// Up to here the kernel has been told to begin writing to the disk.
    started: u64,
    done: bool,
}

impl Upload {
    pub(super) fn create(disk: &Arc<Disk>, id: ExtentId, key: Option<(FrameKey, Seal)>) -> Result<Self> {
        let path = disk.layout.file(&id);
        let guard = disk.held.file(id);
        // Nobody needs the right to write it again.
        let file = disk.files.create(&path, 0o400).map_err(|e| failed("create", &path, e))?;
        let (key, seal) = key.unzip();
        let out = Out {
            disk: disk.clone(),
            id,
            path,
            file,
            guard: Some(guard),
            blocks: BlockSums::new(),
            written: 0,
            started: 0,
            done: false,
        };
        Ok(Self { sealer: Sealer::new(key), seal, size: 0, out })
    }

    pub(super) fn write(&mut self, piece: &[u8]) -> Result<()> {
        self.size += piece.len() as u64;
        self.sealer.push(piece, &mut |stored| self.out.write(stored))
    }

    /// Makes content and name durable.
    pub(super) fn finish(self) -> Result<Written> {
        let Self { sealer, seal, size, mut out } = self;
        sealer.finish(&mut |stored| out.write(stored))?;
        let Disk { files, gate, layout, .. } = &*out.disk;
        gate.check()?;
        match files.sync_file(&out.file, &out.path) {
            Ok(()) => {}
            // Nobody has seen the file, and it goes.
            Err(e) if is_full(&e) => return Err(Error::DiskFull),
            Err(e) => return Err(gate.sync_failed(&out.path, &e)),
        }
        let folder = out.path.parent().unwrap_or(layout.files());
        files.sync_folder(folder).map_err(|e| gate.sync_failed(folder, &e))?;
        out.done = true;
        let blocks = std::mem::replace(&mut out.blocks, BlockSums::new()).finish();
        let extent = Extent { id: out.id, size, place: Place::File { length: out.written }, seal, blocks };
        Ok(Written::new(extent, out.disk.clone(), out.guard.take()))
    }
}

impl Out {
    fn write(&mut self, stored: &[u8]) -> Result<()> {
        self.blocks.update(stored);
        let Disk { files, .. } = &*self.disk;
        files.write_at(&self.file, &self.path, stored, self.written).map_err(|e| failed("write", &self.path, e))?;
        self.written += stored.len() as u64;
        if self.written >= self.started + FLUSH_BYTES {
            files.start_sync(&self.file, self.started, self.written - self.started);
            self.started = self.written;
        }
        Ok(())
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        if !self.done
            && let Err(error) = self.disk.files.unlink(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a file that nobody needs stays until it is swept");
        }
    }
}
