//! The folder of the store: its format, and what is made before anything else.
//!
//! ```text
//! ROOT/format          `muonic-store 2`
//! ROOT/index.sqlite    the index
//! ROOT/segments/ ROOT/files/    the data layer's
//! ROOT/blobs/          blobs of format 1, where there were any
//! ROOT/scrub.json      how far the scrub has come
//! ```
//!
//! A folder of format 1 says so until the index names all of its blobs.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use muonic_ports::{Error, Result};

use crate::gate::failed;

const NAME: &str = "muonic-store";
const VERSION: u32 = 2;

/// What `format` holds in a store of the current format.
pub const FORMAT_FILE: &str = "muonic-store 2\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Nothing was there.
    New,
    One,
    Current,
}

/// Makes the folder where there is none, and says what it holds.
pub(super) fn prepare(root: &Path) -> Result<Format> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(|e| failed("make the folder", root, e))?;
    read(root)
}

/// Whether the folder may hold what only its keys can open.
pub(crate) fn is_encrypted(root: &Path) -> bool {
    matches!(read(root), Ok(Format::Current)) || root.join("index.sqlite").exists()
}

fn read(root: &Path) -> Result<Format> {
    let path = root.join("format");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            // Bytes without a format file are not ours to guess about.
            if holds_bytes(root) {
                return Err(Error::Conflict(format!(
                    "{} holds data but no file 'format'; restore that file or choose another folder",
                    root.display()
                )));
            }
            return Ok(Format::New);
        }
        Err(e) => return Err(failed("read", &path, e)),
    };
    match text.trim_end().split_once(' ').map(|(name, version)| (name, version.parse::<u32>())) {
        Some((NAME, Ok(VERSION))) => Ok(Format::Current),
        Some((NAME, Ok(1))) => Ok(Format::One),
        Some((NAME, Ok(version))) if version > VERSION => Err(Error::Conflict(format!(
            "{} was written by a newer muonic (store format {version}, this one reads {VERSION}); use that version or a newer one",
            root.display()
        ))),
        _ => Err(Error::Conflict(format!("{} does not name a store format that this muonic knows", path.display()))),
    }
}

/// A first start that was cut off leaves folders without files.
fn holds_bytes(root: &Path) -> bool {
    let any = |folder: &Path| fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    ["blobs", "files"].iter().any(|name| {
        fs::read_dir(root.join(name)).is_ok_and(|folders| folders.flatten().any(|folder| any(&folder.path())))
    })
}

/// Says that the folder is of the current format, durably.
pub(super) fn settle(root: &Path) -> Result<()> {
    write(root, "format", FORMAT_FILE.as_bytes())
}

/// Puts a small file in its place, whole or not at all.
pub(super) fn write(root: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let (temp, path) = (root.join(format!("{name}.new")), root.join(name));
    let write = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temp, &path)?;
        File::open(root)?.sync_all()
    };
    write().map_err(|e| failed("write", &path, e))
}
