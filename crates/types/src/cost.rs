//! What was used and what it cost.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Price, Resources, Timestamp};

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Flavor {
    pub name: String,
    /// US dollars per core and hour.
    pub cpu_usd_per_hour: f64,
    /// US dollars per GiB of memory and hour.
    pub memory_gib_usd_per_hour: f64,
    /// US dollars per gpu and hour.
    pub gpu_usd_per_hour: f64,
}

impl Flavor {
    /// The price of a second of these resources.
    pub fn price(&self, r: &Resources) -> Price {
        let per_hour = r.cpu.cores() * self.cpu_usd_per_hour
            + r.memory.gib() * self.memory_gib_usd_per_hour
            + f64::from(r.gpu) * self.gpu_usd_per_hour;
        Price { nano_usd_per_s: (per_hour / 3600.0 * 1e9).round() as u64 }
    }
}

/// One stretch of time in which something held resources.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// `job` or `endpoint`.
    pub kind: String,
    /// The job's id or the endpoint's name.
    pub name: String,
    /// The attempt or replica.
    pub unit: String,
    pub resources: Resources,
    pub price: Price,
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CostLine {
    /// `job` or `endpoint`.
    pub kind: String,
    pub name: String,
    /// Seconds in which it held resources, all its units added up.
    pub seconds: f64,
    pub usd: f64,
    /// It still holds resources.
    pub running: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CostReport {
    pub total_usd: f64,
    /// US dollars per second right now.
    pub usd_per_s: f64,
    pub flavor: Flavor,
    /// Dearest first.
    pub lines: Vec<CostLine>,
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}
