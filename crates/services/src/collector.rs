//! Frees blobs that nothing needs: uploads that never became a tree, and trees
//! that no version, job, attempt or replica names, with their files.
//!
//! Mark and sweep. All trees in use are read, and what they name is marked;
//! what is older than [`GRACE`] and not marked goes, row first, bytes after. A
//! tree made in the meantime is marked before each step of the sweep, which
//! holds the gate of `Blobs`: nobody can build on a blob that is about to go.
//!
//! Bytes that the metastore does not know, because somebody was killed between
//! row and bytes or a backup was made between the two, go once two rounds have
//! found them so: the first alone could have met an upload that is under way.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use muonic_ports::blob_store::Blob;
use muonic_ports::{BlobStore, Clock, Metastore};
use muonic_types::{Digest, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::blobs::TreePlace;
use crate::{Blobs, Result};

/// Who has uploaded something has this long to make use of it.
const GRACE: Duration = Duration::from_secs(24 * 3600);
const EVERY: Duration = Duration::from_secs(3600);
/// Blobs forgotten in one step.
const STEP: u32 = 500;
/// Most blobs remembered from one round to the next as unknown; others wait.
const STRAYS_MAX: usize = 100_000;

pub struct Collector {
    meta: Arc<dyn Metastore>,
    store: Arc<dyn BlobStore>,
    blobs: Arc<Blobs>,
    clock: Arc<dyn Clock>,
    /// What the latest round has found in the store alone.
    strays: Mutex<HashSet<Digest>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    pub blobs: u64,
    pub bytes: u64,
}

/// What is in use, as far as it has been read.
#[derive(Default)]
struct Marked {
    trees: HashSet<Digest>,
    blobs: HashSet<Digest>,
}

impl Collector {
    pub fn new(meta: Arc<dyn Metastore>, store: Arc<dyn BlobStore>, blobs: Arc<Blobs>, clock: Arc<dyn Clock>) -> Self {
        Self { meta, store, blobs, clock, strays: Mutex::default() }
    }

    /// Once an hour, until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            match stop.run_until_cancelled(self.collect()).await {
                Some(Ok(done)) if done.blobs > 0 => {
                    tracing::info!(blobs = done.blobs, bytes = done.bytes, "freed blobs that nothing needs");
                }
                Some(Err(error)) => tracing::warn!(%error, "unused blobs were not collected; next try in an hour"),
                _ => {}
            }
        }
    }

    /// One round.
    pub async fn collect(&self) -> Result<Collected> {
        let Ok(before) = self.clock.now().checked_sub(GRACE) else { return Ok(Collected::default()) };
        let mut marked = Marked::default();
        let place = self.blobs.place_to_read().await?;
        self.mark(&place, &mut marked, before).await?;
        drop(place);
        let mut done = Collected::default();
        let mut after = None;
        loop {
            let page = self.meta.blobs_before(before, after, STEP).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.digest);
            if page.iter().any(|blob| !marked.blobs.contains(&blob.digest)) {
                self.sweep(page, &mut marked, before, &mut done).await?;
            }
        }
        self.sweep_strays(&mut done).await?;
        Ok(done)
    }

    async fn mark(&self, place: &TreePlace, marked: &mut Marked, since: Timestamp) -> Result<()> {
        for tree in self.meta.trees_in_use(since).await? {
            if !marked.trees.contains(&tree) {
                let entries = self.blobs.read_tree_in(place, &tree).await?;
                marked.blobs.extend(entries.entries().iter().map(|entry| entry.digest));
                marked.blobs.insert(tree);
                marked.trees.insert(tree);
            }
        }
        Ok(())
    }

    async fn sweep(&self, page: Vec<Blob>, marked: &mut Marked, since: Timestamp, done: &mut Collected) -> Result<()> {
        // In this order: who makes a tree holds a place when it asks for the gate.
        let place = self.blobs.place_to_read().await?;
        let mut collections = self.blobs.collections.write().await;
        self.mark(&place, marked, since).await?;
        let unused: Vec<Blob> = page.into_iter().filter(|blob| !marked.blobs.contains(&blob.digest)).collect();
        *collections += 1;
        self.meta.blobs_forget(&unused, since).await?;
        self.remove(unused, done).await
    }

    /// Frees what this round and the one before have found in the store alone.
    async fn sweep_strays(&self, done: &mut Collected) -> Result<()> {
        let seen = std::mem::take(&mut *self.strays.lock().unwrap_or_else(PoisonError::into_inner));
        let (mut found, mut after) = (HashSet::new(), None);
        loop {
            let page = self.store.blobs(after, STEP).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.digest);
            let unknown = self.unknown(page).await?;
            let (old, new): (Vec<Blob>, Vec<Blob>) = unknown.into_iter().partition(|blob| seen.contains(&blob.digest));
            found.extend(new.iter().map(|blob| blob.digest).take(STRAYS_MAX.saturating_sub(found.len())));
            if !old.is_empty() {
                let mut collections = self.blobs.collections.write().await;
                // It may have been sent again meanwhile.
                let old = self.unknown(old).await?;
                *collections += 1;
                self.remove(old, done).await?;
            }
        }
        *self.strays.lock().unwrap_or_else(PoisonError::into_inner) = found;
        Ok(())
    }

    /// Those that the metastore does not know.
    async fn unknown(&self, mut blobs: Vec<Blob>) -> Result<Vec<Blob>> {
        let digests: Vec<Digest> = blobs.iter().map(|blob| blob.digest).collect();
        let unknown: HashSet<Digest> = self.meta.blobs_missing(&digests).await?.into_iter().collect();
        blobs.retain(|blob| unknown.contains(&blob.digest));
        Ok(blobs)
    }

    async fn remove(&self, blobs: Vec<Blob>, done: &mut Collected) -> Result<()> {
        for blob in blobs {
            self.store.remove(&blob.digest).await?;
            done.blobs += 1;
            done.bytes += blob.size;
        }
        Ok(())
    }
}
