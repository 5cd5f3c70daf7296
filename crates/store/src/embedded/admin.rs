//! The port of operators.

use async_trait::async_trait;
use muonic_ports::{Result, StoreAdmin};
use muonic_types::store::{CheckReport, EncryptionKey, ReclaimReport, RotationReport, ScrubReport, StoreStats};

use super::{EmbeddedStore, plain};
use crate::data::blocking;

#[async_trait]
impl StoreAdmin for EmbeddedStore {
    async fn stats(&self) -> Result<StoreStats> {
        let found = self.index().stats().await.map_err(plain)?;
        let data = self.data().clone();
        let segments = blocking(move || data.segments()).await?;
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

    async fn scrub_start(&self, bytes_per_s: u64) -> Result<()> {
        let (turn, store) = (self.scrub_turn()?, self.clone());
        // Its report says how it ended.
        tokio::spawn(async move { store.scrub_now(turn, bytes_per_s).await.ok() });
        Ok(())
    }

    fn scrub_report(&self) -> ScrubReport {
        self.scrubbed()
    }

    async fn check_start(&self) -> Result<()> {
        let (turn, store) = (self.inner.check.begin(CheckReport::default())?, self.clone());
        tokio::spawn(async move { store.check_now(turn).await });
        Ok(())
    }

    fn check_report(&self) -> CheckReport {
        let (run, report) = self.inner.check.report();
        CheckReport { run, ..report }
    }

    async fn reclaim_start(&self) -> Result<()> {
        let (turn, store) = (self.inner.reclaim.begin(ReclaimReport::default())?, self.clone());
        tokio::spawn(async move {
            let result = store.reclaim_now().await.map(|freed| {
                let super::Reclaimed { extents, bytes, segments, files } = freed;
                store.inner.reclaim.set(ReclaimReport { extents, bytes, segments, files, ..ReclaimReport::default() });
            });
            store.inner.reclaim.end(turn, &result);
        });
        Ok(())
    }

    fn reclaim_report(&self) -> ReclaimReport {
        let (run, report) = self.inner.reclaim.report();
        ReclaimReport { run, ..report }
    }

    async fn keys(&self) -> Result<Vec<EncryptionKey>> {
        let keys = self.inner.keys.clone();
        blocking(move || keys.list()).await.map_err(plain)
    }

    async fn key_create(&self, name: &str) -> Result<EncryptionKey> {
        let (keys, name) = (self.inner.keys.clone(), name.to_owned());
        blocking(move || keys.create(&name)).await.map_err(plain)
    }

    async fn rotation_start(&self, name: Option<&str>) -> Result<()> {
        self.rotate(name).await
    }

    fn rotation_report(&self) -> RotationReport {
        let (run, report) = self.inner.rotation.report();
        RotationReport { run, ..report }
    }
}
