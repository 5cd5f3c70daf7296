//! Jobs and their attempts.
//!
//! ```text
//! queued ─▶ starting ─▶ running ─▶ succeeded
//!   ▲ │        │           ├─────▶ failed
//!   │ └────────┴───────────┴─────▶ cancelled
//!   └── retry ─┴───────────┘
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::ModelVersionId;
use crate::{AttemptId, Cpu, Digest, JobId, Memory, Name, ProjectId, Resources, Timestamp, VersionRef, object};

/// What to run. Sent by people, kept as it was sent with versions resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    pub name: Name,
    /// Program and arguments, run in the code folder.
    #[schema(min_items = 1, max_items = 1000)]
    pub command: Vec<String>,
    /// Tree of the code folder; an empty folder without.
    #[serde(default)]
    pub code: Option<Digest>,
    #[serde(default = "default_resources", deserialize_with = "object::one")]
    pub resources: Resources,
    /// Channel name to dataset: the folder is found in `SM_CHANNEL_<NAME>`.
    #[serde(default)]
    pub inputs: BTreeMap<Name, VersionRef>,
    /// Hyperparameters, found in `SM_HPS` and `SM_HP_<NAME>`.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, Object>)]
    pub params: BTreeMap<String, serde_json::Value>,
    /// Also append the params to the command as `--name value`.
    #[serde(default)]
    pub params_as_args: bool,
    /// Environment variables of the user's own.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Register what is left in `SM_MODEL_DIR` as the next version of this model.
    #[serde(default)]
    pub model: Option<Name>,
    /// Higher runs first; equal ones in order of submission.
    #[serde(default)]
    #[schema(minimum = -1000, maximum = 1000)]
    pub priority: i32,
    /// Seconds an attempt may run before it is stopped.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 31_536_000)]
    pub time_limit_s: Option<u64>,
    /// Seconds between the request to stop (SIGTERM) and the end (SIGKILL).
    #[serde(default = "default_grace_s")]
    #[schema(minimum = 0, maximum = 3600)]
    pub grace_s: u64,
    /// How often to try again after a failure; attempts lost with their machine
    /// or supervisor are made good beyond these.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 100)]
    pub retries: u32,
    /// Further patterns that find metrics in log lines. Lines made only of
    /// `name=number` pairs are found without any.
    #[serde(default, deserialize_with = "object::each")]
    #[schema(max_items = 100)]
    pub metrics: Vec<MetricPattern>,
}

/// What a job gets where nothing is said.
pub const RESOURCES: Resources = Resources { cpu: Cpu::milli(1000), memory: Memory::mib(1024), gpu: 0 };
/// Longest time limit: a year.
pub const TIME_LIMIT_S_MAX: u64 = 365 * 86_400;
/// Longest time between the request to stop and the end.
pub const GRACE_S_MAX: u64 = 3_600;

fn default_resources() -> Resources {
    RESOURCES
}

fn default_grace_s() -> u64 {
    10
}

/// A metric's name and the regular expression whose first group is its value
/// (SageMaker's `MetricDefinitions`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricPattern {
    pub name: String,
    pub regex: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewJob {
    #[serde(flatten)]
    pub spec: JobSpec,
    /// The same token sent again answers the job made the first time.
    #[serde(default)]
    #[schema(max_length = 64)]
    pub request_token: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Queued,
    Starting,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

impl JobState {
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Job {
    pub id: JobId,
    pub project: ProjectId,
    pub spec: JobSpec,
    pub state: JobState,
    /// Why it waits, or how it ended.
    pub reason: Option<String>,
    /// Someone asked for it to be cancelled.
    pub cancel_requested: bool,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// Not before this instant: only while it rests before a retry.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub not_before: Option<Timestamp>,
    pub attempts: Vec<Attempt>,
    /// The model version it made.
    pub model_version: Option<ModelVersionId>,
    /// Last value of each metric.
    pub metrics: BTreeMap<String, f64>,
    /// Only while queued: when it is likely to start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate: Option<StartEstimate>,
    /// US dollars so far.
    pub cost_usd: f64,
}

/// When a queued job is likely to start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StartEstimate {
    /// Jobs that go before it.
    pub ahead: u32,
    /// Seconds from now; absent where some job before it has neither a time
    /// limit nor a past run to judge by.
    pub starts_in_s: Option<f64>,
    /// What it rests on, in words.
    pub basis: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttemptState {
    /// Handed to the engine.
    Launching,
    /// The shim has claimed it.
    Running,
    Finished,
}

/// What a running attempt is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Fetching code and inputs.
    Fetching,
    /// Building the Python environment.
    Environment,
    /// The user's command runs.
    Running,
    /// Saving outputs.
    Saving,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    pub id: AttemptId,
    pub number: u32,
    pub state: AttemptState,
    pub phase: Option<Phase>,
    pub exit: Option<Exit>,
    /// How it ended, in words.
    pub message: Option<String>,
    /// Hash of the Python environment it ran in.
    pub environment: Option<Digest>,
    #[schema(value_type = String, format = DateTime)]
    pub launched_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Exit {
    /// The command ended by itself.
    Code { code: i32 },
    /// A signal ended the command.
    Signal { signal: i32 },
    /// It used more memory than it asked for and was stopped.
    OutOfMemory,
    /// It ran longer than its limit and was stopped.
    TimeLimit,
    /// It was cancelled.
    Cancelled,
    /// Its environment could not be built.
    EnvironmentFailed,
    /// Code or inputs could not be fetched, the command not started, or
    /// outputs not saved.
    SetupFailed,
    /// Its supervisor died, or the machine did.
    Lost,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct JobList {
    /// Newest first.
    pub jobs: Vec<Job>,
}

/// Names of metrics that an attempt may have.
pub const METRIC_NAMES_MAX: u64 = 1_000;
/// Points of all metrics of an attempt together.
pub const METRIC_POINTS_MAX: u64 = 1_000_000;
pub const METRIC_NAME_BYTES_MAX: usize = 250;

/// What a metric may be called.
pub fn is_metric_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= METRIC_NAME_BYTES_MAX && !name.chars().any(char::is_control)
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricPoint {
    pub name: String,
    pub step: i64,
    pub value: f64,
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MetricHistory {
    /// In order of arrival.
    pub points: Vec<MetricPoint>,
}
