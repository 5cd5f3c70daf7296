//! Frees blobs that nothing needs: uploads that never became a tree, and trees
//! that no version, job, attempt or replica names, with their files.
//!
//! Mark and sweep. All trees in use are read, and what they name is marked;
//! what is older than [`GRACE`] and not marked goes, row first, bytes after. A
//! tree made in the meantime is marked before each step of the sweep, which
//! holds the gate of `Blobs`: nobody can build on a blob that is about to go.
//! Killed between row and bytes, it leaves bytes that the metastore does not
//! know: the next upload of the same content uses them, and nothing else frees
//! them.

use std::collections::HashSet;
use std::sync::Arc;
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

pub struct Collector {
    meta: Arc<dyn Metastore>,
    store: Arc<dyn BlobStore>,
    blobs: Arc<Blobs>,
    clock: Arc<dyn Clock>,
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
        Self { meta, store, blobs, clock }
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
            let Some(last) = page.last() else { return Ok(done) };
            after = Some(last.digest);
            if page.iter().any(|blob| !marked.blobs.contains(&blob.digest)) {
                self.sweep(page, &mut marked, before, &mut done).await?;
            }
        }
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
        for blob in unused {
            self.store.remove(&blob.digest).await?;
            done.blobs += 1;
            done.bytes += blob.size;
        }
        Ok(())
    }
}
