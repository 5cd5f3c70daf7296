//! Sending a folder: hash what is there, ask what is missing, send that as
//! packs, make the tree. Each step may be repeated, and so may the whole:
//! what the store already holds is not sent again.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use muonic_types::blob::{PACK_MEDIA_TYPE, PackStored, TreeSummary};
use muonic_types::{Digest, Entry, ErrorCode, Hasher};

use crate::pack::{Item, PackBody, changed};
use crate::walk::{Found, UploadRules, walk};
use crate::{Client, Error, Progress, Result, Retry, Stage, parallel};

const PACK_BYTES_MAX: u64 = 32 << 20;
const PACK_FILES_MAX: usize = 2_000;
/// Packs on their way at the same time.
const SENDERS: usize = 2;
/// A blob sent may be collected before the tree names it; then all is asked again.
const ROUNDS: u32 = 3;

/// What [`Client::tree_upload`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    pub tree: TreeSummary,
    /// Distinct contents that the server lacked and were sent.
    pub sent_files: u64,
    pub sent_bytes: u64,
}

impl Client {
    /// Makes the store hold a tree of this folder or file. Idempotent.
    pub fn tree_upload(&self, path: &Path, rules: UploadRules, progress: &dyn Progress) -> Result<Uploaded> {
        let found = walk(path, rules)?;
        let entries = hash(&found, progress)?;
        let mut items: HashMap<Digest, Item> = HashMap::with_capacity(entries.len());
        for (entry, found) in entries.iter().zip(found) {
            items.entry(entry.digest).or_insert(Item { digest: entry.digest, size: entry.size, source: found.source });
        }
        let (mut sent_files, mut sent_bytes) = (0, 0);
        let mut round = 1;
        loop {
            let missing = self.missing_of(&items, entries.iter().map(|e| e.digest))?;
            sent_files += missing.len() as u64;
            sent_bytes += missing.iter().map(|i| i.size).sum::<u64>();
            self.send_missing(&missing, progress)?;
            match self.tree_create(entries.clone()) {
                Ok(tree) => return Ok(Uploaded { tree, sent_files, sent_bytes }),
                Err(e) if e.code() == Some(ErrorCode::MissingBlobs) && round < ROUNDS => round += 1,
                Err(e) => return Err(e),
            }
        }
    }

    /// Missing contents, each once, in the order given.
    fn missing_of(&self, items: &HashMap<Digest, Item>, order: impl Iterator<Item = Digest>) -> Result<Vec<Item>> {
        let mut seen = HashSet::with_capacity(items.len());
        let digests: Vec<Digest> = order.filter(|d| seen.insert(*d)).collect();
        let missing = self.blobs_missing(&digests)?;
        let unasked = |d| Error::Protocol {
            url: self.url().to_owned(),
            reason: format!("it misses {d}, which was not asked for"),
        };
        missing.into_iter().map(|d| items.get(&d).cloned().ok_or_else(|| unasked(d))).collect()
    }

    fn send_missing(&self, items: &[Item], progress: &dyn Progress) -> Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        progress.begin(Stage::Sending, items.len() as u64, items.iter().map(|i| i.size).sum());
        parallel::map(&packs(items), SENDERS, |pack| self.send_pack(pack, progress)).map(|_| ())
    }

    /// Sends one pack; after a failure only what the server still lacks.
    fn send_pack(&self, pack: &[Item], progress: &dyn Progress) -> Result<()> {
        let mut left = pack.to_vec();
        let (mut told, mut attempt) = (0, 0);
        loop {
            let mut body = PackBody::new(&left, progress, &mut told);
            let sent = self.post_stream::<PackStored>("/api/v1/blobs", PACK_MEDIA_TYPE, &mut body);
            let error = match (sent, body.failure()) {
                (_, Some(local)) => return Err(local),
                (Ok(stored), None) if stored.blobs == left.len() as u64 => return Ok(()),
                (Ok(stored), None) => {
                    let reason = format!("it stored {} blobs of a pack of {}", stored.blobs, left.len());
                    return Err(Error::Protocol { url: self.url().to_owned(), reason });
                }
                (Err(error), None) => error,
            };
            if error.code() == Some(ErrorCode::ChecksumMismatch)
                && let Some(path) = first_changed(&left)
            {
                return Err(changed(path));
            }
            Retry::SHORT.pause(attempt, error)?;
            attempt += 1;
            // The question also brings out an error (a revoked key) that a
            // connection cut in the middle of a body has hidden.
            let missing: HashSet<Digest> =
                self.blobs_missing(&left.iter().map(|i| i.digest).collect::<Vec<_>>())?.into_iter().collect();
            left.retain(|item| missing.contains(&item.digest));
            if left.is_empty() {
                return Ok(());
            }
        }
    }
}

/// Cuts the items into packs bounded in bytes and files; a larger file goes alone.
fn packs(items: &[Item]) -> Vec<&[Item]> {
    let mut packs = Vec::new();
    let (mut start, mut bytes) = (0, 0u64);
    for (at, item) in items.iter().enumerate() {
        if at > start && (at - start >= PACK_FILES_MAX || bytes.saturating_add(item.size) > PACK_BYTES_MAX) {
            packs.push(&items[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes = bytes.saturating_add(item.size);
    }
    if start < items.len() {
        packs.push(&items[start..]);
    }
    packs
}

fn hash(found: &[Found], progress: &dyn Progress) -> Result<Vec<Entry>> {
    progress.begin(Stage::Hashing, found.len() as u64, found.iter().map(|f| f.size).sum());
    parallel::map(found, parallel::threads(), |file| {
        let (digest, size) = hash_file(&file.source, |n| progress.advance(n))?;
        Ok(Entry { path: file.path.clone(), size, digest, executable: file.executable })
    })
}

fn hash_file(path: &Path, mut passed: impl FnMut(u64)) -> Result<(Digest, u64)> {
    let mut file = File::open(path).map_err(|e| Error::file(path, e))?;
    let mut buf = vec![0; 256 << 10];
    let (mut hasher, mut size) = (Hasher::new(), 0);
    loop {
        match file.read(&mut buf) {
            Ok(0) => return Ok((hasher.finish(), size)),
            Ok(n) => {
                hasher.update(&buf[..n]);
                size += n as u64;
                passed(n as u64);
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::file(path, e)),
        }
    }
}

/// The first file that no longer has the digest computed for it.
fn first_changed(items: &[Item]) -> Option<&Path> {
    let same = |item: &&Item| hash_file(&item.source, |_| ()).is_ok_and(|(digest, _)| digest == item.digest);
    items.iter().find(|item| !same(item)).map(|item| item.source.as_path())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn item(size: u64) -> Item {
        Item { digest: Digest::of(b""), size, source: "/".into() }
    }

    proptest! {
        #[test]
        fn packs_are_bounded_and_lose_nothing(sizes in proptest::collection::vec(0u64..80 << 20, 0..60)) {
            let items: Vec<_> = sizes.iter().map(|s| item(*s)).collect();
            let packs = packs(&items);
            prop_assert_eq!(packs.iter().map(|p| p.len()).sum::<usize>(), items.len());
            for pack in packs {
                prop_assert!(!pack.is_empty() && pack.len() <= PACK_FILES_MAX);
                prop_assert!(pack.len() == 1 || pack.iter().map(|i| i.size).sum::<u64>() <= PACK_BYTES_MAX);
            }
        }
    }

    #[test]
    fn twenty_thousand_small_files_are_ten_packs() {
        assert_eq!(packs(&vec![item(10); 20_000]).len(), 10);
    }
}
