//! Jobs, their logs and metrics.

use std::io::Read;
use std::time::Duration;

use muonic_types::job::{Job, JobList, JobState, MetricHistory, NewJob};
use muonic_types::{JobId, Name};

use crate::url::{Query, part};
use crate::{Client, Result, Retry};

/// Longest wait the server is asked for at once; below the time after which
/// a silent connection is given up.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// What of a log is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogRange {
    /// Stay until the work ends.
    pub follow: bool,
    /// The newest attempt without.
    pub attempt: Option<u32>,
    /// Bytes to skip.
    pub offset: u64,
}

fn path(job: &JobId) -> String {
    format!("/api/v1/jobs/{}", part(job))
}

impl Client {
    /// Submits a job. Repeated on a broken connection only where the request
    /// token makes that harmless.
    pub fn job_create(&self, job: &NewJob) -> Result<Job> {
        let call = || self.post("/api/v1/jobs", job);
        if job.request_token.is_some() { Retry::SHORT.run(call) } else { call() }
    }

    pub fn jobs(&self, name: Option<&Name>, state: Option<JobState>, limit: Option<u32>) -> Result<JobList> {
        let query = Query::default().with("name", name).with("state", state.map(JobState::as_str)).with("limit", limit);
        self.get(&format!("/api/v1/jobs{query}"))
    }

    pub fn job(&self, job: &JobId) -> Result<Job> {
        self.get(&path(job))
    }

    /// The job once it is final, or as it is after `at_most` (30 s at most).
    pub fn job_wait(&self, job: &JobId, at_most: Duration) -> Result<Job> {
        let query = Query::default().with("timeout_s", Some(at_most.min(WAIT_MAX).as_secs()));
        self.get(&format!("{}/wait{query}", path(job)))
    }

    /// Asks for the job to stop. Idempotent.
    pub fn job_cancel(&self, job: &JobId) -> Result<Job> {
        self.post(&format!("{}/cancel", path(job)), &serde_json::json!({}))
    }

    pub fn job_logs(&self, job: &JobId, range: LogRange) -> Result<impl Read + Send + use<>> {
        let query = Query::default()
            .with("follow", range.follow.then_some(true))
            .with("attempt", range.attempt)
            .with("offset", Some(range.offset).filter(|o| *o > 0));
        self.read("GET", &format!("{}/logs{query}", path(job)), None)
    }

    pub fn job_metrics(&self, job: &JobId, name: Option<&str>, limit: Option<u32>) -> Result<MetricHistory> {
        let query = Query::default().with("name", name).with("limit", limit);
        self.get(&format!("{}/metrics{query}", path(job)))
    }
}
