//! What a shim says to the server about its attempt. Nothing here repeats a
//! call: the shim must outlast a restart and has its own, longer policy.

use muonic_types::AttemptId;
use muonic_types::task::{ExitReport, LogAppended, NewMetricPoints, TaskProgress, TaskSpec};

use crate::url::part;
use crate::{Client, Result};

/// Most bytes of log in one request.
pub const LOG_BYTES_MAX: usize = 256 << 10;
/// Most metric points in one request.
pub const METRIC_POINTS_MAX: usize = 10_000;

fn path(attempt: &AttemptId, verb: &str) -> String {
    format!("/api/v1/attempts/{}/{verb}", part(attempt))
}

/// The answer `{}`.
fn nothing(answer: Result<serde_json::Value>) -> Result<()> {
    answer.map(drop)
}

impl Client {
    /// Takes the attempt on. A conflict where another claimant has it; asking
    /// again under the same name (letters, digits and `-`) is harmless.
    pub fn attempt_claim(&self, attempt: &AttemptId, claimant: &str) -> Result<TaskSpec> {
        self.post(&format!("{}?claimant={}", path(attempt, "claim"), part(claimant)), &serde_json::json!({}))
    }

    pub fn attempt_progress(&self, attempt: &AttemptId, progress: &TaskProgress) -> Result<()> {
        nothing(self.post(&path(attempt, "progress"), progress))
    }

    /// Appends to the log; bytes that the server has already are skipped, so
    /// sending again is harmless. At most [`LOG_BYTES_MAX`].
    pub fn attempt_logs(&self, attempt: &AttemptId, offset: u64, bytes: &[u8]) -> Result<LogAppended> {
        self.post_bytes(&format!("{}?offset={offset}", path(attempt, "logs")), "application/octet-stream", bytes)
    }

    /// At most [`METRIC_POINTS_MAX`] points; those sent before are skipped.
    pub fn attempt_metrics(&self, attempt: &AttemptId, points: &NewMetricPoints) -> Result<()> {
        nothing(self.post(&path(attempt, "metrics"), points))
    }

    pub fn attempt_finish(&self, attempt: &AttemptId, report: &ExitReport) -> Result<()> {
        nothing(self.post(&path(attempt, "finish"), report))
    }
}
