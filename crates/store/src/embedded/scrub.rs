//! The scrub: reads all that lies on the disk at a bounded rate and compares it
//! with its sums, so that damage is known before somebody needs the bytes. It
//! needs no key. A report says what it found; the objects that are damaged are
//! in it by name.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use muonic_ports::object_store::Result;
use muonic_types::Timestamp;
use serde::{Deserialize, Serialize};

use super::{EmbeddedStore, layout};
use crate::data::CheckOutcome;
use crate::index::Located;

const STEP: u32 = 256;
/// Most entries of a report.
const DAMAGES_MAX: usize = 1000;
const FILE: &str = "scrub.json";

/// An extent that is not what it was when it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// What uses it: `BUCKET/KEY (version ID)` or `blob sha256:..`.
    pub names: Vec<String>,
    pub what: String,
}

/// How a scrub went, or goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubReport {
    pub started_at: Option<Timestamp>,
    /// `None` while it runs, or where it was cut off.
    pub finished_at: Option<Timestamp>,
    pub extents: u64,
    pub bytes: u64,
    pub damaged: Vec<Damage>,
    /// Where one that was cut off goes on.
    #[serde(default)]
    after: i64,
}

pub(super) struct State {
    root: PathBuf,
    report: Mutex<ScrubReport>,
    running: tokio::sync::Mutex<()>,
}

impl State {
    /// A report that cannot be read is begun anew.
    pub(super) fn load(root: &Path) -> Self {
        let text = std::fs::read(root.join(FILE)).unwrap_or_default();
        let report = serde_json::from_slice(&text).unwrap_or_default();
        Self { root: root.to_owned(), report: Mutex::new(report), running: Default::default() }
    }

    // A panic leaves the report as it was: it is replaced in one assignment.
    fn report(&self) -> MutexGuard<'_, ScrubReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EmbeddedStore {
    pub fn scrub_report(&self) -> ScrubReport {
        self.inner.scrub.report().clone()
    }

    /// Checks all extents, at most `rate` bytes a second (0: as fast as it
    /// goes), from where an earlier one was cut off. `Conflict` while another runs.
    pub async fn scrub(&self, rate: u64) -> Result<ScrubReport> {
        let state = &self.inner.scrub;
        let Ok(_one) = state.running.try_lock() else {
            return Err(muonic_ports::Error::Conflict("a scrub runs already".to_owned()).into());
        };
        let mut report = state.report().clone();
        if report.started_at.is_none() || report.finished_at.is_some() {
            report = ScrubReport { started_at: Some(Timestamp::now()), ..ScrubReport::default() };
        }
        loop {
            let page = self.index().all_extents(report.after, STEP).await?;
            let Some(last) = page.last() else { break };
            report.after = last.row;
            for located in page {
                self.check(located, rate, &mut report).await?;
            }
            self.keep(&report).await?;
        }
        report.finished_at = Some(Timestamp::now());
        self.keep(&report).await?;
        Ok(report)
    }

    async fn keep(&self, report: &ScrubReport) -> Result<()> {
        *self.inner.scrub.report() = report.clone();
        let (root, text) = (self.inner.scrub.root.clone(), serde_json::to_vec(report));
        let text = text.map_err(|e| muonic_ports::Error::internal("a scrub's report cannot be written", e))?;
        Ok(crate::data::blocking(move || layout::write(&root, FILE, &text)).await?)
    }

    async fn check(&self, located: Located, rate: u64, report: &mut ScrubReport) -> Result<()> {
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
        if self.index().extent_at(row)?.is_none_or(|now| now.place != extent.place) {
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
