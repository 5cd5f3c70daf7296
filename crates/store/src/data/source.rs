//! Where the stored bytes of an extent are read from, and what is said when
//! they are not what was written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags};

use super::Disk;
use super::blocks::{self, BLOCK_BYTES, crc};
use super::frames::stored_len;
use super::seal::hex;
use crate::content::{Extent, Place};

/// Stored bytes, open for reading.
pub(super) enum Source {
    Memory(Bytes),
    /// They begin there.
    File(Arc<File>, u64),
}

impl Source {
    pub(super) fn open(disk: &Disk, extent: &Extent) -> io::Result<Self> {
        let (opened, path) = match &extent.place {
            Place::Inline(bytes) => return Ok(Self::Memory(bytes.clone())),
            Place::Segment { segment, offset, .. } => {
                let path = disk.layout.segment(*segment);
                (disk.handles.get(*segment, &path).map(|file| Self::File(file, *offset)), path)
            }
            Place::File { .. } => {
                let path = disk.layout.file(&extent.id);
                (File::open(&path).map(|file| Self::File(Arc::new(file), 0)), path)
            }
            Place::Legacy { digest, .. } => {
                let path = disk.layout.legacy(digest);
                (File::open(&path).map(|file| Self::File(Arc::new(file), 0)), path)
            }
        };
        opened.map_err(|e| {
            let what = format!("cannot open {}, where extent {} lies: {e}", path.display(), hex(&extent.id));
            io::Error::new(e.kind(), what)
        })
    }

    /// Fills `into` with what lies `at` bytes after the beginning.
    pub(super) fn read(&self, extent: &Extent, into: &mut [u8], at: u64) -> io::Result<()> {
        let ended = || damaged(extent, format_args!("its stored bytes end before {}", at + into.len() as u64));
        match self {
            Self::Memory(bytes) => {
                let from = usize::try_from(at).unwrap_or(usize::MAX);
                let found = bytes.get(from..).and_then(|rest| rest.get(..into.len())).ok_or_else(ended)?;
                into.copy_from_slice(found);
                Ok(())
            }
            Self::File(file, base) => {
                let from = base.checked_add(at).ok_or_else(ended)?;
                let ended = ended();
                file.read_exact_at(into, from).map_err(|e| match e.kind() {
                    io::ErrorKind::UnexpectedEof => ended,
                    _ => e,
                })
            }
        }
    }

    /// As `read`, but only from memory: false where that would wait for the
    /// disk, and where it cannot be told.
    pub(super) fn read_cached(&self, into: &mut [u8]) -> bool {
        let Self::File(file, base) = self else { return false };
        let wanted = into.len();
        loop {
            let buffers = &mut [io::IoSliceMut::new(into)];
            match rustix::io::preadv2(file, buffers, *base, ReadWriteFlags::NOWAIT) {
                Err(Errno::INTR) => {}
                result => return result == Ok(wanted),
            }
        }
    }
}

/// What an extent takes on the disk.
pub(super) fn length(extent: &Extent) -> u64 {
    match &extent.place {
        Place::Inline(bytes) => bytes.len() as u64,
        Place::Segment { length, .. } | Place::File { length } | Place::Legacy { length, .. } => *length,
    }
}

/// Whether sizes and sums of an extent go together.
pub(super) fn check_form(extent: &Extent) -> io::Result<()> {
    let length = length(extent);
    if stored_len(extent.size, extent.seal.is_some()) != Some(length) {
        return Err(damaged(extent, format_args!("{} bytes of content cannot take {length}", extent.size)));
    }
    let unknown = matches!(extent.place, Place::Legacy { .. }) && extent.blocks.is_empty();
    if !unknown && blocks::count(length) != extent.blocks.len() as u64 {
        let sums = extent.blocks.len();
        return Err(damaged(extent, format_args!("{length} bytes have {sums} sums")));
    }
    Ok(())
}

/// Compares a block with its sum.
pub(super) fn check_block(extent: &Extent, block: u64, bytes: &[u8]) -> io::Result<()> {
    let known = usize::try_from(block).ok().and_then(|at| extent.blocks.get(at));
    if known == Some(&crc(bytes)) {
        return Ok(());
    }
    let from = block * BLOCK_BYTES as u64;
    Err(damaged(extent, format_args!("block {block} ({} bytes from {from}) is not what was written", bytes.len())))
}

pub(super) fn damaged(extent: &Extent, what: std::fmt::Arguments<'_>) -> io::Error {
    let place = match &extent.place {
        Place::Inline(_) => "in the index".to_owned(),
        Place::Segment { segment, offset, .. } => format!("at {offset} in segment {segment:016x}"),
        Place::File { .. } => "in its file".to_owned(),
        Place::Legacy { .. } => "in a blob of format 1".to_owned(),
    };
    let what = format!("extent {} {place} is damaged: {what}; restore it from a backup", hex(&extent.id));
    io::Error::new(io::ErrorKind::InvalidData, what)
}
