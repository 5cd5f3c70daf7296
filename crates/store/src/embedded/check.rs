//! The check: whether the index agrees with itself, and whether all that it
//! names lies on the disk at its size. It reads no content: that is the
//! scrub's to do.

use muonic_ports::Result as PortResult;
use muonic_ports::object_store::Result;
use muonic_types::store::CheckReport;

use super::EmbeddedStore;
use super::task::Turn;
use crate::data::blocking;
use crate::index::Located;

const STEP: u32 = 1000;
/// Most entries of a report.
const PROBLEMS_MAX: usize = 1000;
/// To find out who uses an extent all versions are read, so only of the first
/// few it is said.
const NAMED_MAX: usize = 50;

impl EmbeddedStore {
    pub(super) async fn check_now(&self, turn: Turn<CheckReport>) {
        let result = self.check_all().await;
        self.inner.check.end(turn, &result);
    }

    async fn check_all(&self) -> Result<()> {
        let task = &self.inner.check;
        let mut report = CheckReport { problems: self.index().check(true).await?, ..CheckReport::default() };
        let mut after = 0;
        loop {
            task.set(report.clone());
            let page = self.index().all_extents(after, STEP).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.row;
            report.extents += page.len() as u64;
            report.bytes += page.iter().map(|located| located.extent.size).sum::<u64>();
            let data = self.data().clone();
            let missing = blocking(move || -> PortResult<_> {
                let mut missing = Vec::new();
                for located in page {
                    if let Some(what) = data.missing(&located.extent)? {
                        missing.push((located, what));
                    }
                }
                Ok(missing)
            });
            for (located, what) in missing.await? {
                self.lost(located, what, &mut report).await?;
            }
        }
    }

    async fn lost(&self, Located { row, extent }: Located, what: String, report: &mut CheckReport) -> Result<()> {
        // It may have moved or gone meanwhile.
        if report.problems.len() >= PROBLEMS_MAX
            || self.index().extent_at(row)?.is_none_or(|now| now.place != extent.place)
        {
            return Ok(());
        }
        let named = report.problems.len() < NAMED_MAX;
        let names = if named { self.index().names_of(row).await? } else { Vec::new() };
        if named && names.is_empty() {
            // Garbage that is being freed: nobody misses it.
            return Ok(());
        }
        tracing::error!(?names, what, "the check found that content is missing");
        report.problems.push(if names.is_empty() { what } else { format!("{what}: {}", names.join(", ")) });
        Ok(())
    }
}
