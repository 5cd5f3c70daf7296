//! Fetching a tree into a folder. Every byte is checked against its digest
//! before its file gets its name.

use std::collections::HashMap;
use std::path::Path;

use muonic_types::blob::TreeSummary;
use muonic_types::{Digest, Entry, Hasher, Tree};

use crate::folder::Folder;
use crate::pack::{PackError, PackReader};
use crate::{Client, Error, Progress, Result, Retry, Stage, parallel};

/// Blobs asked for in one request.
const PACK_FILES_MAX: usize = 2_000;
/// A request is not made longer than this, so that a failure repeats little.
const PACK_BYTES_MAX: u64 = 256 << 20;
const RECEIVERS: usize = 2;

/// What one content is written to.
struct Wanted<'a> {
    digest: Digest,
    size: u64,
    entries: Vec<&'a Entry>,
}

impl Client {
    /// Writes the files of a tree below `dest`, which is made where it is
    /// missing. Files of the same names are replaced, each once its new bytes
    /// are there and right; others stay. Idempotent.
    pub fn tree_download(&self, digest: &Digest, dest: &Path, progress: &dyn Progress) -> Result<TreeSummary> {
        let tree = self.tree(digest)?;
        let folder = Folder::make(dest, &tree)?;
        let wanted = wanted(&tree);
        progress.begin(Stage::Receiving, wanted.len() as u64, wanted.iter().map(|w| w.size).sum());
        parallel::map(&chunks(&wanted), RECEIVERS, |chunk| self.receive(chunk, &folder, progress))?;
        Ok(TreeSummary { digest: *digest, files: tree.entries().len() as u64, bytes: tree.bytes() })
    }

    /// Fetches some blobs; after a failure only those that are still missing.
    fn receive(&self, chunk: &[Wanted], folder: &Folder, progress: &dyn Progress) -> Result<()> {
        let mut left: HashMap<Digest, &Wanted> = chunk.iter().map(|w| (w.digest, w)).collect();
        let mut attempt = 0;
        while !left.is_empty() {
            let before = left.len();
            if let Err(error) = self.receive_some(&mut left, folder, progress) {
                // Only tries without any gain count.
                if left.len() < before {
                    attempt = 0;
                }
                Retry::SHORT.pause(attempt, error)?;
                attempt += 1;
            }
        }
        Ok(())
    }

    fn receive_some(
        &self,
        left: &mut HashMap<Digest, &Wanted>,
        folder: &Folder,
        progress: &dyn Progress,
    ) -> Result<()> {
        let protocol = |reason: String| Error::Protocol { url: self.url().to_owned(), reason };
        let failed = |e: PackError| match e {
            PackError::Broken(reason) => Error::Connection { url: self.url().to_owned(), reason },
            PackError::Malformed(reason) => protocol(reason),
        };
        let mut reader = PackReader::new(self.blobs_pack(left.keys().copied().collect())?);
        while let Some((digest, size)) = reader.head().map_err(failed)? {
            let want =
                *left.get(&digest).ok_or_else(|| protocol(format!("it sent {digest}, which was not asked for")))?;
            if size != want.size {
                return Err(protocol(format!("{digest} has {size} bytes there and {} in the tree", want.size)));
            }
            let Some((first, others)) = want.entries.split_first() else { continue };
            let mut part = folder.create(first)?;
            let mut hasher = Hasher::new();
            reader
                .body(size, |piece| {
                    hasher.update(piece);
                    progress.advance(piece.len() as u64);
                    part.write(piece).map_err(Stop::Write)
                })
                .map_err(|stop| match stop {
                    Stop::Write(e) => e,
                    Stop::Pack(e) => failed(e),
                })?;
            if hasher.finish() != digest {
                return Err(protocol(format!(
                    "the bytes it sent for '{}' do not have the digest {digest}",
                    first.path
                )));
            }
            part.keep()?;
            for other in others {
                folder.copy(first, other)?;
            }
            left.remove(&digest);
        }
        if left.is_empty() {
            Ok(())
        } else {
            Err(Error::Connection {
                url: self.url().to_owned(),
                reason: format!("the pack ended {} blobs early", left.len()),
            })
        }
    }
}

enum Stop {
    Write(Error),
    Pack(PackError),
}

impl From<PackError> for Stop {
    fn from(e: PackError) -> Self {
        Self::Pack(e)
    }
}

/// Each content once, in the order of its first path.
fn wanted(tree: &Tree) -> Vec<Wanted<'_>> {
    let mut at: HashMap<Digest, usize> = HashMap::new();
    let mut wanted: Vec<Wanted> = Vec::new();
    for entry in tree.entries() {
        match at.get(&entry.digest) {
            Some(n) => wanted[*n].entries.push(entry),
            None => {
                at.insert(entry.digest, wanted.len());
                wanted.push(Wanted { digest: entry.digest, size: entry.size, entries: vec![entry] });
            }
        }
    }
    wanted
}

fn chunks<'a, 't>(wanted: &'a [Wanted<'t>]) -> Vec<&'a [Wanted<'t>]> {
    let mut out = Vec::new();
    let (mut start, mut bytes) = (0, 0u64);
    for (at, want) in wanted.iter().enumerate() {
        if at > start && (at - start >= PACK_FILES_MAX || bytes.saturating_add(want.size) > PACK_BYTES_MAX) {
            out.push(&wanted[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes = bytes.saturating_add(want.size);
    }
    if start < wanted.len() {
        out.push(&wanted[start..]);
    }
    out
}
