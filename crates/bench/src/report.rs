//! What a run found, as it is printed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Operations that succeeded.
    pub ops: u64,
    pub errors: u64,
    /// The first error's text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// From the first counted operation's start to the last one's end.
    pub seconds: f64,
    /// Of bodies, both ways.
    pub bytes: u64,
    /// Latency of an operation in microseconds.
    pub p50_us: u64,
    pub p99_us: u64,
    /// Keys seen, by lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<u64>,
    /// Milliseconds of the call that completes an upload, the median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub complete_ms: Option<f64>,
    /// How many answers had which status, by posts: HTTP's, or gRPC's, where 0 is success.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub statuses: BTreeMap<u16, u64>,
    /// Refused answers that said when to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

/// Collects one worker's operations.
#[derive(Debug, Default)]
pub struct Tally {
    micros: Vec<u32>,
    bytes: u64,
    errors: u64,
    error: Option<String>,
    statuses: BTreeMap<u16, u64>,
    retry_after: u64,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Tally {
    pub fn success(&mut self, began: Instant, bytes: u64) {
        let now = Instant::now();
        self.micros.push(u32::try_from((now - began).as_micros()).unwrap_or(u32::MAX));
        self.bytes += bytes;
        self.first.get_or_insert(began);
        self.last = Some(now);
    }

    pub fn failure(&mut self, error: impl ToString) {
        self.errors += 1;
        self.error.get_or_insert_with(|| error.to_string());
    }

    /// An answer of whatever kind; whether it is a success or a failure is counted beside.
    pub fn answered(&mut self, status: u16, retry_after: bool) {
        *self.statuses.entry(status).or_default() += 1;
        self.retry_after += u64::from(retry_after);
    }

    pub fn failures(&self) -> u64 {
        self.errors
    }

    pub fn merged(mut self, other: Tally) -> Tally {
        self.micros.extend(other.micros);
        self.bytes += other.bytes;
        self.errors += other.errors;
        self.error = self.error.take().or(other.error);
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.retry_after += other.retry_after;
        self.first = self.first.into_iter().chain(other.first).min();
        self.last = self.last.into_iter().chain(other.last).max();
        self
    }

    pub fn report(mut self) -> Report {
        self.micros.sort_unstable();
        let at = |share: f64| {
            let place = (self.micros.len().saturating_sub(1) as f64 * share) as usize;
            self.micros.get(place).copied().unwrap_or(0).into()
        };
        let span = self.first.zip(self.last).map_or(Duration::ZERO, |(first, last)| last - first);
        Report {
            ops: self.micros.len() as u64,
            errors: self.errors,
            seconds: span.as_secs_f64(),
            bytes: self.bytes,
            p50_us: at(0.5),
            p99_us: at(0.99),
            error: self.error,
            retry_after: (!self.statuses.is_empty()).then_some(self.retry_after),
            statuses: self.statuses,
            ..Report::default()
        }
    }
}
