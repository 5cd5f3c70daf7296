use std::collections::BTreeMap;

use async_trait::async_trait;
use muonic_types::cost::Usage;
use muonic_types::job::{Job, JobSpec, JobState, MetricPoint, Phase};
use muonic_types::key::Key;
use muonic_types::model::{ModelVersionId, SourceDataset};
use muonic_types::task::ExitReport;
use muonic_types::{AttemptId, Digest, JobId, Name, Price, ProjectId, Resources, Timestamp};

use crate::Result;

#[derive(Debug, Clone)]
pub struct NewJobRecord {
    pub project: ProjectId,
    pub spec: JobSpec,
    /// Channel to the dataset version it was resolved to at submission.
    pub inputs: BTreeMap<Name, SourceDataset>,
    pub request_token: Option<String>,
    pub at: Timestamp,
}

#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    pub name: Option<Name>,
    pub state: Option<JobState>,
    /// At most this many, newest first.
    pub limit: u32,
}

/// What the dispatcher needs of a job that is not final.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveJob {
    pub id: JobId,
    pub project: ProjectId,
    pub name: Name,
    pub state: JobState,
    pub reason: Option<String>,
    pub resources: Resources,
    pub priority: i32,
    pub time_limit_s: Option<u64>,
    pub grace_s: u64,
    pub retries: u32,
    /// Order of submission over all jobs.
    pub sequence: u64,
    pub created_at: Timestamp,
    pub not_before: Option<Timestamp>,
    pub cancel_requested_at: Option<Timestamp>,
    /// Attempts made so far.
    pub attempts: u32,
    /// The attempt that is launching or running.
    pub attempt: Option<AttemptId>,
    pub attempt_claimed: bool,
    pub attempt_launched_at: Option<Timestamp>,
    /// The key given to that attempt.
    pub attempt_key: Option<Key>,
}

/// A queued job that shall start now, with the key of its attempt.
#[derive(Debug, Clone)]
pub struct Admission {
    pub job: JobId,
    pub attempt: AttemptId,
    pub key: Key,
    pub price: Price,
}

#[derive(Debug, Clone)]
pub struct Claimed {
    pub spec: JobSpec,
    pub inputs: BTreeMap<Name, Digest>,
}

/// What follows an attempt's end.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    Succeeded,
    Failed {
        reason: String,
    },
    Cancelled {
        reason: String,
    },
    /// Back to the queue. Becomes `Cancelled` where a cancel was requested.
    Retry {
        reason: String,
        not_before: Timestamp,
    },
}

#[derive(Debug, Clone)]
pub struct Finish {
    pub attempt: AttemptId,
    pub report: ExitReport,
    pub next: Next,
    pub at: Timestamp,
}

/// How long a finished job of this name ran, for start estimates.
#[derive(Debug, Clone, PartialEq)]
pub struct PastRun {
    pub name: Name,
    pub seconds: f64,
}

#[async_trait]
pub trait Jobs {
    /// Queues a job under the next number of its name. The same request token
    /// answers the job made the first time.
    async fn job_submit(&self, job: &NewJobRecord) -> Result<Job>;
    /// `cost_usd` is that of ended attempts, here and in every job answered:
    /// without a clock, services add what is running. `estimate` is `None`.
    async fn job_get(&self, project: &ProjectId, id: &JobId) -> Result<Job>;
    async fn job_list(&self, project: &ProjectId, filter: &JobFilter) -> Result<Vec<Job>>;
    /// Every job that is not final, in order of submission.
    async fn jobs_live(&self) -> Result<Vec<LiveJob>>;
    /// Those with an attempt that is launching or running.
    async fn jobs_open(&self) -> Result<Vec<LiveJob>>;
    /// The first `max` queued jobs in queue order: by priority, highest first,
    /// then by submission. Left out are those that rest beyond `now` and those
    /// that ask for more than `largest`.
    async fn jobs_next(&self, now: Timestamp, largest: &Resources, max: u32) -> Result<Vec<LiveJob>>;
    /// When the next queued job that rests beyond `now` has rested.
    async fn rest_ends(&self, now: Timestamp) -> Result<Option<Timestamp>>;
    /// Up to `per_name` newest successful runs for each of the names.
    async fn past_runs(&self, names: &[Name], per_name: u32) -> Result<Vec<PastRun>>;
    /// Queued → starting with a new attempt, for each job that is still
    /// queued and whose attempt number is the next; answers those admitted.
    async fn job_admit(&self, admissions: &[Admission], at: Timestamp) -> Result<Vec<AttemptId>>;
    /// Queued → cancelled at once; otherwise notes the request. Answers the
    /// job. A final job is left as it is (`Conflict`).
    async fn job_cancel(&self, project: &ProjectId, id: &JobId, at: Timestamp) -> Result<Job>;
    /// Launching → running. Another claimant's claim is a `Conflict`; the same
    /// one gets the same answer again.
    async fn attempt_claim(&self, attempt: &AttemptId, claimant: &str, at: Timestamp) -> Result<Claimed>;
    /// `Conflict` where the attempt is not running.
    async fn attempt_progress(&self, attempt: &AttemptId, phase: Phase, environment: Option<Digest>) -> Result<()>;
    /// Appends points from the `first`-th on; those the attempt has are skipped.
    /// `Conflict` where points would be missing in between, the attempt is
    /// finished, or it would have more names or points than allowed.
    async fn metrics_append(&self, attempt: &AttemptId, first: u64, points: &[MetricPoint]) -> Result<()>;
    /// Points of a job's last attempt that has any, in order of arrival; the
    /// newest `limit` where there are more.
    async fn metrics_get(
        &self,
        project: &ProjectId,
        job: &JobId,
        name: Option<&str>,
        limit: u32,
    ) -> Result<Vec<MetricPoint>>;
    /// Ends an attempt and moves its job on, in one transaction: revokes the
    /// attempt's key and, where the job succeeded and asked for a model and
    /// the report has one, registers the next version of it. Ending an ended
    /// attempt changes nothing and answers what it answered the first time.
    /// `NotFound` where a tree of the report is not recorded.
    async fn attempt_finish(&self, finish: &Finish) -> Result<Option<ModelVersionId>>;
    /// Time in which jobs and endpoints held resources.
    async fn usage(&self, project: &ProjectId) -> Result<Vec<Usage>>;
}
