//! The store's housekeeping, as one task beside the server.

use std::time::Duration;

use muonic_ports::object_store::Result;
use muonic_types::Timestamp;
use tokio_util::sync::CancellationToken;

use super::EmbeddedStore;
use super::reclaim::{self, Reclaimed, Reclaimer};

/// Who has just been told where bytes lie has this long to open them.
const GRACE: Duration = Duration::from_secs(60);
const ROUND: Duration = Duration::from_secs(20);
/// Between two searches for files that a crash left behind.
const SWEEP: Duration = Duration::from_secs(24 * 3600);
/// How long a change in a journaled bucket is kept, and how many in all.
const JOURNAL_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
const JOURNAL_MOST: u32 = 1_000_000;
const FORGET: Duration = Duration::from_secs(600);

/// Frees what is no longer needed, scrubs, and ends rotations of keys that
/// were cut off.
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
        let forgetting = Box::pin(self.forgetting());
        stop.run_until_cancelled(async { tokio::join!(self.rotating(), reclaiming, scrubbing, forgetting) }).await;
    }

    async fn rotating(&self) {
        if let Err(error) = self.store.end_rotations().await {
            tracing::warn!(%error, "rotations of keys that were cut off do not go on; next try at the next start");
        }
    }

    async fn reclaiming(&self) {
        let mut reclaimer = Reclaimer::default();
        let mut swept: Option<tokio::time::Instant> = None;
        loop {
            // While a backup is copied, files stay where it has seen them.
            let Ok(freeing) = self.store.inner.backup.freeing.clone().try_lock_owned() else {
                tokio::time::sleep(ROUND).await;
                continue;
            };
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
            drop(freeing);
            tokio::time::sleep(ROUND).await;
        }
    }

    async fn forgetting(&self) {
        loop {
            let before = Timestamp::now().checked_sub(JOURNAL_KEPT).unwrap_or(Timestamp::UNIX_EPOCH);
            if let Err(error) = self.store.index().forget_changes(before, JOURNAL_MOST).await {
                tracing::warn!(%error, "old changes of journals were not forgotten; next try in {FORGET:?}");
            }
            tokio::time::sleep(FORGET).await;
        }
    }

    async fn scrubbing(&self) {
        loop {
            let last = self.store.scrubbed().run;
            let due = match last.finished_at {
                None => Duration::from_secs(60),
                Some(at) => {
                    let passed = Duration::try_from(Timestamp::now().duration_since(at));
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
    /// Frees at once what no longer has a name and nobody reads. For tests,
    /// and for those who need the space now. `Conflict` while a backup is made.
    pub async fn reclaim_now(&self) -> Result<Reclaimed> {
        let Ok(_freeing) = self.inner.backup.freeing.clone().try_lock_owned() else {
            let what = "a backup is being made, and nothing is freed meanwhile; try again when it is done";
            return Err(muonic_ports::Error::Conflict(what.to_owned()).into());
        };
        let mut reclaimer = Reclaimer::default();
        let mut done = reclaimer.round(self, Duration::ZERO).await?;
        // What was compacted is empty only now.
        let rest = reclaimer.round(self, Duration::ZERO).await?;
        done.extents += rest.extents;
        done.bytes += rest.bytes;
        done.segments += rest.segments;
        done.files = reclaim::sweep(self).await?;
        Ok(done)
    }
}
