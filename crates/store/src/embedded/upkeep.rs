//! The store's housekeeping, as one task beside the server.

use std::time::Duration;

use muonic_ports::object_store::Result;
use tokio_util::sync::CancellationToken;

use super::EmbeddedStore;
use super::reclaim::{self, Reclaimed, Reclaimer};

/// Who has just been told where bytes lie has this long to open them.
const GRACE: Duration = Duration::from_secs(60);
const ROUND: Duration = Duration::from_secs(20);
/// Between two searches for files that a crash left behind.
const SWEEP: Duration = Duration::from_secs(24 * 3600);

/// How much is stored, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct StoreStats {
    pub buckets: u64,
    pub objects: u64,
    /// With delete markers.
    pub versions: u64,
    pub uploads: u64,
    pub blobs: u64,
    pub inline_bytes: u64,
    pub segment_bytes: u64,
    pub file_bytes: u64,
    /// In files of format 1.
    pub legacy_bytes: u64,
    /// Contents that wait to be freed.
    pub garbage: u64,
    /// What segments take on the disk, with what is dead in them.
    pub segments_on_disk_bytes: u64,
}

/// Frees what is no longer needed, and scrubs.
pub struct Upkeep {
    store: EmbeddedStore,
    scrub_every: Duration,
    scrub_rate: u64,
}

impl Upkeep {
    /// `scrub_rate` in bytes a second.
    pub fn new(store: EmbeddedStore, scrub_every: Duration, scrub_rate: u64) -> Self {
        Self { store, scrub_every, scrub_rate }
    }

    /// Until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let reclaiming = self.reclaiming();
        let scrubbing = self.scrubbing();
        stop.run_until_cancelled(async { tokio::join!(reclaiming, scrubbing) }).await;
    }

    async fn reclaiming(&self) {
        let mut reclaimer = Reclaimer::default();
        let mut swept: Option<tokio::time::Instant> = None;
        loop {
            if swept.is_none_or(|at| at.elapsed() >= SWEEP) {
                swept = Some(tokio::time::Instant::now());
                match reclaim::sweep(&self.store).await {
                    Ok(0) => {}
                    Ok(files) => tracing::info!(files, "removed files that nobody named"),
                    Err(error) => {
                        tracing::warn!(%error, "files that nobody names were not looked for; next try in a day")
                    }
                }
            }
            match reclaimer.round(&self.store, GRACE).await {
                Ok(done) if done != Reclaimed::default() => {
                    tracing::debug!(
                        extents = done.extents,
                        bytes = done.bytes,
                        segments = done.segments,
                        "freed space"
                    );
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "space was not freed; next try in {ROUND:?}"),
            }
            tokio::time::sleep(ROUND).await;
        }
    }

    async fn scrubbing(&self) {
        loop {
            let last = self.store.scrub_report();
            let due = match last.finished_at {
                None => Duration::from_secs(60),
                Some(at) => {
                    let passed = Duration::try_from(muonic_types::Timestamp::now().duration_since(at));
                    self.scrub_every.saturating_sub(passed.unwrap_or_default()).max(Duration::from_secs(60))
                }
            };
            tokio::time::sleep(due).await;
            match self.store.scrub(self.scrub_rate).await {
                Ok(report) => {
                    tracing::info!(bytes = report.bytes, damaged = report.damaged.len(), "the scrub has ended");
                }
                Err(error) => tracing::warn!(%error, "the scrub was cut off; next try in a minute"),
            }
        }
    }
}

impl EmbeddedStore {
    /// Reads all rows: seconds where there are millions.
    pub async fn stats(&self) -> Result<StoreStats> {
        let found = self.index().stats().await?;
        let data = self.data().clone();
        let segments = crate::data::blocking(move || data.segments()).await?;
        Ok(StoreStats {
            buckets: found.buckets,
            objects: found.objects,
            versions: found.versions,
            uploads: found.uploads,
            blobs: found.blobs,
            inline_bytes: found.inline_bytes,
            segment_bytes: found.segment_bytes,
            file_bytes: found.file_bytes,
            legacy_bytes: found.legacy_bytes,
            garbage: found.garbage,
            segments_on_disk_bytes: segments.iter().map(|info| info.bytes).sum(),
        })
    }

    /// Frees at once what no longer has a name and nobody reads. For tests,
    /// and for those who need the space now.
    pub async fn reclaim_now(&self) -> Result<Reclaimed> {
        let mut reclaimer = Reclaimer::default();
        let mut done = reclaimer.round(self, Duration::ZERO).await?;
        // What was compacted is empty only now.
        let rest = reclaimer.round(self, Duration::ZERO).await?;
        done.extents += rest.extents;
        done.bytes += rest.bytes;
        done.segments += rest.segments;
        reclaim::sweep(self).await?;
        Ok(done)
    }
}
