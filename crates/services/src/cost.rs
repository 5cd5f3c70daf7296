//! What was used and what it cost. Prices are kept with each stretch of use,
//! so a change of prices never rewrites history.

use std::collections::BTreeMap;
use std::sync::Arc;

use muonic_ports::{Clock, Metastore};
use muonic_types::Timestamp;
use muonic_types::cost::{CostLine, CostReport};
use muonic_types::key::Principal;

use crate::auth::{Action, authorise};
use crate::{Admission, Result};

pub struct Costs {
    meta: Arc<dyn Metastore>,
    clock: Arc<dyn Clock>,
    admission: Arc<Admission>,
}

impl Costs {
    pub fn new(meta: Arc<dyn Metastore>, clock: Arc<dyn Clock>, admission: Arc<Admission>) -> Self {
        Self { meta, clock, admission }
    }

    pub async fn report(&self, caller: &Principal) -> Result<CostReport> {
        authorise(caller, Action::Read)?;
        let at = self.clock.now();
        let mut lines: BTreeMap<(String, String), CostLine> = BTreeMap::new();
        let mut usd_per_s = 0.0;
        for usage in self.meta.usage(&caller.project).await? {
            let running = usage.ended_at.is_none();
            let spent = seconds(usage.started_at, usage.ended_at.unwrap_or(at));
            if running {
                usd_per_s += usage.price.usd(1.0);
            }
            let line = lines.entry((usage.kind.clone(), usage.name.clone())).or_insert_with(|| CostLine {
                kind: usage.kind,
                name: usage.name,
                seconds: 0.0,
                usd: 0.0,
                running: false,
            });
            line.seconds += spent;
            line.usd += usage.price.usd(spent);
            line.running |= running;
        }
        let mut lines: Vec<CostLine> = lines.into_values().collect();
        lines.sort_by(|a, b| b.usd.total_cmp(&a.usd));
        // The sum of nothing is -0.0 else.
        let total_usd = lines.iter().fold(0.0, |sum, line| sum + line.usd);
        Ok(CostReport { total_usd, usd_per_s, flavor: self.admission.flavor().clone(), lines, at })
    }
}

/// Seconds from one instant to a later one; a clock set back counts as none.
pub(crate) fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    ((to.as_microsecond() - from.as_microsecond()) as f64 / 1e6).max(0.0)
}
