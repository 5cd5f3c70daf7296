//! A model version as one file, to be carried to where no server is.
//!
//! Format `muonic-bundle 1`: a tar archive, so that any tar unpacks it, of
//! which the manifest decides every byte: `muonic-bundle.json` first, its digest
//! in `muonic-bundle.sha256`, then the files of the model's tree below `model/`,
//! in its order, nothing compressed, no times and no owners. Whoever reads one knows from the manifest which
//! header comes next and compares; there is nothing else to understand, and
//! nothing may follow.
//!
//! The manifest names the version, its lineage and its files with their
//! digests; those make the tree, whose digest the version has.

#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod header;
mod manifest;
mod read;
mod write;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

pub use manifest::{FORMAT, Manifest};
pub use read::Reader;
pub use write::Writer;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is no bundle: 'muonic bundle MODEL@VERSION' makes one")]
    Foreign,
    #[error("it is a bundle of the format '{0}', and this program reads '{FORMAT}': use a newer muonic")]
    Newer(String),
    /// Why, as the end of a sentence.
    #[error("it is damaged: {0}; copy it again, or make it anew")]
    Damaged(String),
    /// What was to be written is not what the manifest says.
    #[error("{0}")]
    Wrong(String),
}

/// Whether a file begins as a bundle does.
pub fn is_bundle(path: &Path) -> io::Result<bool> {
    let mut start = [0; 100];
    match File::open(path)?.read_exact(&mut start) {
        Ok(()) => Ok(header::names_manifest(&start)),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests;
