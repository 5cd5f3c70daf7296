//! What of the store's folder is the data layer's:
//!
//! ```text
//! ROOT/segments/<hex16>      a segment, by its number
//! ROOT/files/ab/<hex32>      an extent; ab are the first digits of its id
//! ROOT/blobs/ab/<hex64>      a blob of format 1
//! ```
//!
//! The 256 folders are made, and synced, at open; so a write never has to
//! make a folder durable.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use muonic_ports::Result;

use crate::content::ExtentId;
use crate::gate::failed;

#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: PathBuf,
    segments: PathBuf,
    files: PathBuf,
}

impl Layout {
    pub(super) fn open(root: &Path) -> Result<Self> {
        let layout = Self { root: root.to_owned(), segments: root.join("segments"), files: root.join("files") };
        make_folder(root)?;
        let made = make_folder(&layout.segments)? | make_folder(&layout.files)?;
        let mut fans = false;
        for byte in 0..=255u8 {
            fans |= make_folder(&layout.files.join(format!("{byte:02x}")))?;
        }
        if fans {
            sync(&layout.files)?;
        }
        if made {
            sync(root)?;
        }
        Ok(layout)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn segments(&self) -> &Path {
        &self.segments
    }

    pub(super) fn segment(&self, segment: u64) -> PathBuf {
        self.segments.join(format!("{segment:016x}"))
    }

    /// The folder of folders of files.
    pub(super) fn files(&self) -> &Path {
        &self.files
    }

    pub(super) fn file(&self, id: &ExtentId) -> PathBuf {
        fan(&self.files, &HEXLOWER.encode(id))
    }

    pub(super) fn legacy(&self, digest: &[u8; 32]) -> PathBuf {
        fan(&self.root.join("blobs"), &HEXLOWER.encode(digest))
    }
}

fn fan(folder: &Path, hex: &str) -> PathBuf {
    let mut path = folder.join(&hex[..2]);
    path.push(hex);
    path
}

/// The id that a file's name stands for.
pub(super) fn file_id(name: &str) -> Option<ExtentId> {
    HEXLOWER.decode(name.as_bytes()).ok()?.try_into().ok()
}

pub(super) fn segment_number(name: &str) -> Option<u64> {
    let bytes: [u8; 8] = HEXLOWER.decode(name.as_bytes()).ok()?.try_into().ok()?;
    Some(u64::from_be_bytes(bytes))
}

/// True where it was made now.
pub(crate) fn make_folder(path: &Path) -> Result<bool> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(false),
        Err(e) => Err(failed("make the folder", path, e)),
    }
}

fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|e| failed("sync", path, e))
}
