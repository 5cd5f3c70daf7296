//! What the model has done, as Triton's statistics extension and its metrics
//! count it.
//!
//! Source: "Statistics Extension" and "Metrics" (Triton Inference Server).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

/// How often something happened, and how long it took in all.
#[derive(Debug, Default)]
struct Stage {
    count: AtomicU64,
    nanos: AtomicU64,
}

impl Stage {
    fn add(&self, took: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn nanos(&self) -> u64 {
        self.nanos.load(Ordering::Relaxed)
    }

    fn json(&self) -> Value {
        json!({ "count": self.count(), "ns": self.nanos() })
    }
}

#[derive(Debug, Default)]
pub struct Statistics {
    success: Stage,
    failure: Stage,
    queue: Stage,
    run: Stage,
    rows: AtomicU64,
    /// Runs by their rows.
    batches: Mutex<BTreeMap<usize, Stage>>,
    /// Milliseconds since 1970.
    last: AtomicU64,
}

impl Statistics {
    pub fn answered(&self, is_success: bool, took: Duration) {
        if is_success { &self.success } else { &self.failure }.add(took);
    }

    pub fn ran(&self, rows: usize, waited: &[Duration], took: Duration) {
        waited.iter().for_each(|waited| self.queue.add(*waited));
        self.run.add(took);
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).entry(rows).or_default().add(took);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.last.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// One of the extension's `model_stats`. Reading and writing tensors is not
    /// parted from the run.
    pub fn json(&self, model: &str, version: &str) -> Value {
        let none = Stage::default();
        let batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let batches = batches.iter().map(|(rows, run)| {
            json!({ "batch_size": rows, "compute_input": none.json(), "compute_infer": run.json(), "compute_output": none.json() })
        });
        json!({
            "name": model,
            "version": version,
            "last_inference": self.last.load(Ordering::Relaxed),
            "inference_count": self.rows.load(Ordering::Relaxed),
            "execution_count": self.run.count(),
            "inference_stats": {
                "success": self.success.json(),
                "fail": self.failure.json(),
                "queue": self.queue.json(),
                "compute_input": none.json(),
                "compute_infer": self.run.json(),
                "compute_output": none.json(),
                "cache_hit": none.json(),
                "cache_miss": none.json(),
            },
            "response_stats": {},
            "batch_stats": batches.collect::<Vec<_>>(),
        })
    }

    /// Under the names that Triton's dashboards ask for, which lack the suffix
    /// that OpenMetrics wants of counters: so they have no type.
    pub fn metrics(&self, model: &str, version: &str) -> String {
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels = format!("{{model=\"{}\",version=\"{}\"}}", quoted(model), quoted(version));
        let mut text = String::new();
        let all = [
            ("nv_inference_request_success", "Requests answered", self.success.count()),
            ("nv_inference_request_failure", "Requests answered with an error", self.failure.count()),
            ("nv_inference_count", "Rows run", self.rows.load(Ordering::Relaxed)),
            ("nv_inference_exec_count", "Runs of the model", self.run.count()),
            ("nv_inference_request_duration_us", "Time of requests in all", self.success.nanos() / 1000),
            ("nv_inference_queue_duration_us", "Time in the queue in all", self.queue.nanos() / 1000),
            ("nv_inference_compute_infer_duration_us", "Time of runs in all", self.run.nanos() / 1000),
        ];
        for (name, help, value) in all {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}.\n# TYPE {name} unknown\n{name}{labels} {value}");
        }
        text
    }
}
