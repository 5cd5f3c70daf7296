//! What lies where:
//!
//! ```text
//! ROOT/format            `muonic-store 1`
//! ROOT/blobs/ab/<hex>    a blob; <hex> is its SHA-256, ab its first two digits
//! ROOT/tmp/<random>      a blob being written; emptied at open
//! ```
//!
//! All 256 folders are made, and synced, before the format file says that the
//! store is there; so a write never has to make a folder durable.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use muonic_ports::{Error, Result};
use muonic_types::Digest;

use crate::gate::failed;

const FORMAT_NAME: &str = "muonic-store";
const FORMAT_VERSION: u32 = 1;

#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let layout = Self { root: root.to_owned() };
        make_folder(root, true)?;
        let known = layout.read_format()?;
        make_folder(&layout.tmp(), false)?;
        layout.empty_tmp()?;
        let blobs = layout.blobs();
        make_folder(&blobs, false)?;
        let mut made = false;
        for byte in 0..=255u8 {
            made |= make_folder(&blobs.join(format!("{byte:02x}")), false)?;
        }
        if made {
            sync(&blobs)?;
        }
        if !known {
            layout.write_format()?;
        }
        Ok(layout)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn folder(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(&digest.hex()[..2])
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        let mut path = self.blobs();
        path.push(&hex[..2]);
        path.push(hex);
        path
    }

    /// A new name under tmp; 96 random bits do not meet twice.
    pub(crate) fn temp(&self) -> Result<PathBuf> {
        let mut bytes = [0u8; 12];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
            .map_err(|_| Error::bug("the system gives no random bytes"))?;
        Ok(self.tmp().join(data_encoding::HEXLOWER.encode(&bytes)))
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    fn format(&self) -> PathBuf {
        self.root.join("format")
    }

    /// True where a store of this version is there, false where there is none.
    fn read_format(&self) -> Result<bool> {
        let path = self.format();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // A folder of blobs without its format file is not ours to guess about.
                let has_blobs = fs::read_dir(self.blobs()).is_ok_and(|mut folders| {
                    folders.any(|folder| {
                        folder.is_ok_and(|f| fs::read_dir(f.path()).is_ok_and(|mut blobs| blobs.next().is_some()))
                    })
                });
                if has_blobs {
                    return Err(Error::Conflict(format!(
                        "{} holds blobs but no file 'format'; restore that file or choose another folder",
                        self.root.display()
                    )));
                }
                return Ok(false);
            }
            Err(e) => return Err(failed("read", &path, e)),
        };
        match text.trim_end().split_once(' ').map(|(name, version)| (name, version.parse::<u32>())) {
            Some((FORMAT_NAME, Ok(FORMAT_VERSION))) => Ok(true),
            Some((FORMAT_NAME, Ok(version))) if version > FORMAT_VERSION => Err(Error::Conflict(format!(
                "{} was written by a newer muonic (store format {version}, this one reads {FORMAT_VERSION}); use that version or a newer one",
                self.root.display()
            ))),
            _ => {
                Err(Error::Conflict(format!("{} does not name a store format that this muonic knows", path.display())))
            }
        }
    }

    fn write_format(&self) -> Result<()> {
        let temp = self.root.join("format.new");
        let path = self.format();
        let write = || -> io::Result<()> {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temp)?;
            writeln!(file, "{FORMAT_NAME} {FORMAT_VERSION}")?;
            file.sync_all()?;
            fs::rename(&temp, &path)
        };
        write().map_err(|e| failed("write", &path, e))?;
        sync(&self.root)
    }

    fn empty_tmp(&self) -> Result<()> {
        let tmp = self.tmp();
        for entry in fs::read_dir(&tmp).map_err(|e| failed("read", &tmp, e))? {
            let path = entry.map_err(|e| failed("read", &tmp, e))?.path();
            fs::remove_file(&path).map_err(|e| failed("remove", &path, e))?;
        }
        Ok(())
    }
}

/// True where it was made now.
pub(crate) fn make_folder(path: &Path, with_parents: bool) -> Result<bool> {
    match DirBuilder::new().recursive(with_parents).mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(false),
        Err(e) => Err(failed("make the folder", path, e)),
    }
}

fn sync(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| failed("sync", folder, e))
}
