//! The scrub: reads all that lies on the disk at a bounded rate and compares it
//! with its sums, so that damage is known before somebody needs the bytes. It
//! needs no key. A report says what it found; the objects that are damaged are
//! in it by name.

use std::path::Path;
use std::time::Duration;

use futures_util::future::BoxFuture;
use muonic_ports::object_store::Result;
use muonic_types::Timestamp;
use muonic_types::store::{Damage, Run, ScrubReport};
use serde::{Deserialize, Serialize};

use super::task::{Task, Turn};
use super::{EmbeddedStore, layout};
use crate::data::CheckOutcome;
use crate::index::Located;

const STEP: u32 = 256;
/// Most entries of a report.
const DAMAGES_MAX: usize = 1000;
const FILE: &str = "scrub.json";

/// What is kept of a scrub, so that one that was cut off goes on.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Kept {
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    #[serde(flatten)]
    found: Found,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Found {
    extents: u64,
    bytes: u64,
    pub(super) damaged: Vec<Damage>,
    /// Where one that was cut off goes on.
    #[serde(default)]
    after: i64,
}

/// One that cannot be read is begun anew.
pub(super) fn load(root: &Path) -> Task<Found> {
    let text = std::fs::read(root.join(FILE)).unwrap_or_default();
    let Kept { started_at, finished_at, found } = serde_json::from_slice(&text).unwrap_or_default();
    Task::new("a scrub", Run { started_at, finished_at, ..Run::default() }, found)
}

impl EmbeddedStore {
    /// How the latest scrub went, or goes.
    pub(super) fn scrubbed(&self) -> ScrubReport {
        let (run, Found { extents, bytes, damaged, .. }) = self.inner.scrub.report();
        ScrubReport { run, extents, bytes, damaged }
    }

    /// Checks all extents, at most `rate` bytes a second (0: as fast as it
    /// goes), from where an earlier one was cut off. `Conflict` while another runs.
    pub async fn scrub(&self, rate: u64) -> Result<ScrubReport> {
        let turn = self.scrub_turn()?;
        self.scrub_now(turn, rate).await?;
        Ok(self.scrubbed())
    }

    pub(super) fn scrub_turn(&self) -> muonic_ports::Result<Turn<Found>> {
        let cut_off = |run: &Run| run.started_at.is_some() && run.finished_at.is_none();
        self.inner.scrub.begin_or_go_on(Found::default(), cut_off)
    }

    pub(super) async fn scrub_now(&self, turn: Turn<Found>, rate: u64) -> Result<()> {
        let task = &self.inner.scrub;
        let result = self.scrub_all(rate).await;
        task.end(turn, &result);
        result?;
        self.keep(task.report().0.finished_at).await
    }

    async fn scrub_all(&self, rate: u64) -> Result<()> {
        let task = &self.inner.scrub;
        let (_, mut found) = task.report();
        loop {
            let page = self.index().all_extents(found.after, STEP).await?;
            let Some(last) = page.last() else { return Ok(()) };
            found.after = last.row;
            for located in page {
                self.scrub_one(located, rate, &mut found).await?;
            }
            task.set(found.clone());
            self.keep(None).await?;
        }
    }

    async fn keep(&self, finished_at: Option<Timestamp>) -> Result<()> {
        let (run, found) = self.inner.scrub.report();
        let text = serde_json::to_vec(&Kept { started_at: run.started_at, finished_at, found });
        let text = text.map_err(|e| muonic_ports::Error::internal("a scrub's report cannot be written", e))?;
        let root = self.inner.root.clone();
        Ok(crate::data::blocking(move || layout::write(&root, FILE, &text)).await?)
    }

    pub(super) async fn scrub_one(&self, located: Located, rate: u64, report: &mut Found) -> Result<()> {
        let Located { row, extent } = located;
        let mut pace = |bytes: u64| -> BoxFuture<'static, ()> {
            let pause = if rate == 0 { 0.0 } else { bytes as f64 / rate as f64 };
            Box::pin(tokio::time::sleep(Duration::from_secs_f64(pause)))
        };
        // Those in the index are read with it.
        let extent = match extent.place {
            crate::content::Place::Inline(_) => match self.index().extent_at(row)? {
                Some(extent) => extent,
                None => return Ok(()),
            },
            _ => extent,
        };
        let outcome = self.data().check(&extent, &mut pace).await?;
        report.extents += 1;
        report.bytes += extent.size;
        let what = match outcome {
            CheckOutcome::Good => return Ok(()),
            CheckOutcome::Summed(sums) => {
                self.index().set_blocks(row, extent.id, sums).await?;
                return Ok(());
            }
            CheckOutcome::Damaged { what, .. } | CheckOutcome::Missing { what } => what,
        };
        // It may have moved or gone while it was read.
        if self.index().extent_at(row)?.is_none_or(|now| (now.id, now.place) != (extent.id, extent.place.clone())) {
            return Ok(());
        }
        let names = self.index().names_of(row).await?;
        if names.is_empty() {
            return Ok(());
        }
        tracing::error!(?names, what, "the scrub found damage");
        if report.damaged.len() < DAMAGES_MAX {
            report.damaged.push(Damage { names, what });
        }
        Ok(())
    }
}
