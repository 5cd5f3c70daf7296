//! A replica's own numbers, in Prometheus text.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::batch::Observer;
use crate::statistics::Statistics;

/// What ends the text.
const END: &str = "# EOF\n";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Code {
    code: u16,
}

pub struct Metrics {
    registry: Registry,
    requests: Counter,
    failures: Family<Code, Counter>,
    seconds: Histogram,
    /// Requests in the replica now.
    pub in_flight: Gauge,
    runs: Counter,
    rows: Counter,
    queue_seconds: Histogram,
    run_seconds: Histogram,
    pub statistics: Statistics,
}

impl Observer for Metrics {
    fn ran(&self, rows: usize, waited: &[Duration], took: Duration) {
        self.statistics.ran(rows, waited, took);
        self.runs.inc();
        self.rows.inc_by(rows as u64);
        waited.iter().for_each(|waited| self.queue_seconds.observe(waited.as_secs_f64()));
        self.run_seconds.observe(took.as_secs_f64());
    }
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let requests = Counter::default();
        let failures = Family::default();
        // 100 µs to about 100 s.
        let seconds = Histogram::new(exponential_buckets(1e-4, 2.0, 21));
        let in_flight = Gauge::default();
        registry.register("muonic_replica_requests", "Inference requests answered", requests.clone());
        registry.register(
            "muonic_replica_failures",
            "Inference requests answered with an error, by status",
            failures.clone(),
        );
        registry.register(
            "muonic_replica_request_duration_seconds",
            "From the head of an inference request to its answer",
            seconds.clone(),
        );
        registry.register("muonic_replica_in_flight", "Inference requests in the replica now", in_flight.clone());
        let runs = Counter::default();
        let rows = Counter::default();
        // 1 µs to about 100 s.
        let of_stage = || Histogram::new(exponential_buckets(1e-6, 2.0, 28));
        let (queue_seconds, run_seconds) = (of_stage(), of_stage());
        registry.register("muonic_replica_runs", "Runs of the model; one may serve several requests", runs.clone());
        registry.register("muonic_replica_rows", "Rows that the model has run", rows.clone());
        registry.register(
            "muonic_replica_queue_duration_seconds",
            "From a request's tensors being there to its run",
            queue_seconds.clone(),
        );
        registry.register("muonic_replica_run_duration_seconds", "Of each run of the model", run_seconds.clone());
        Self {
            registry,
            requests,
            failures,
            seconds,
            in_flight,
            runs,
            rows,
            queue_seconds,
            run_seconds,
            statistics: Statistics::default(),
        }
    }

    pub fn answered(&self, code: u16, took: Duration) {
        self.requests.inc();
        self.statistics.answered(code < 400, took);
        if code >= 400 {
            self.failures.get_or_create(&Code { code }).inc();
        }
        self.seconds.observe(took.as_secs_f64());
    }

    pub fn text(&self, model: &str, version: &str) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        let end = text.len() - text.strip_suffix(END).map_or(0, |_| END.len());
        text.insert_str(end, &self.statistics.metrics(model, version));
        text
    }
}
