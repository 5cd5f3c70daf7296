//! How many replicas a revision has.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Invalid;

pub const REPLICAS_MAX: u32 = 100;

/// Replicas by what is asked of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// At least; with 0 the endpoint sleeps while nobody asks, and a request
    /// wakes it.
    #[schema(maximum = 100)]
    pub min: u32,
    /// At most.
    #[schema(minimum = 1, maximum = 100)]
    pub max: u32,
    /// What one replica should have; 4 requests at once where nothing is said.
    #[serde(default)]
    pub per_replica: PerReplica,
    /// Seconds without a request until an endpoint whose `min` is 0 sleeps;
    /// learned from its requests where nothing is said.
    #[serde(default)]
    pub idle_s: Option<f64>,
}

/// What one replica should have.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PerReplica {
    /// Requests at once.
    Concurrency(f64),
    /// Requests a second.
    RatePerS(f64),
    /// Seconds that no request should wait in the replica's queue for longer.
    QueueTimeS(f64),
}

impl Default for PerReplica {
    fn default() -> Self {
        Self::Concurrency(4.0)
    }
}

/// Longest `idle_s`: a month.
const IDLE_S_MAX: f64 = 31.0 * 86_400.0;

impl Scale {
    /// The error is a sentence.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.max == 0 || self.max > REPLICAS_MAX {
            return Err(Invalid(format!("the most replicas must be between 1 and {REPLICAS_MAX}")));
        }
        if self.min > self.max {
            return Err(Invalid(format!("the least replicas ({}) are more than the most ({})", self.min, self.max)));
        }
        let (PerReplica::Concurrency(amount) | PerReplica::RatePerS(amount) | PerReplica::QueueTimeS(amount)) =
            self.per_replica;
        if !(amount.is_finite() && amount > 0.0) {
            return Err(Invalid("what one replica should have must be a number greater than 0".into()));
        }
        match self.idle_s {
            Some(_) if self.min > 0 => {
                Err(Invalid("idle_s is for endpoints that may sleep: those with at least 0 replicas".into()))
            }
            Some(idle_s) if !(0.0..=IDLE_S_MAX).contains(&idle_s) => {
                Err(Invalid(format!("idle_s must be between 0 and {IDLE_S_MAX} seconds")))
            }
            _ => Ok(()),
        }
    }
}
