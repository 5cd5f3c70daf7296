//! Jobs: submitting, watching and cancelling them, and what their shims report.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muonic_ports::blob_store::ByteStream;
use muonic_ports::metastore::{Finish, JobFilter, NewJobRecord, Next};
use muonic_ports::{Clock, Logs, Metastore};
use muonic_scheduler::retry::{Verdict, after_exit, stopped_by_others};
use muonic_types::job::{Attempt, AttemptState, Exit, Job, JobList, JobState, MetricHistory, NewJob, StartEstimate};
use muonic_types::key::Principal;
use muonic_types::model::SourceDataset;
use muonic_types::task::{ExitReport, LogAppended, NewMetricPoints, TaskProgress, TaskSpec};
use muonic_types::{AttemptId, ErrorCode, JobId, Name, UnitId};

use crate::auth::{Action, authorise};
use crate::dispatcher::outlook;
use crate::{Admission, Error, Events, Keys, Result, jobs_check, logs};

/// Jobs in one listing.
const LIST_MAX: u32 = 1_000;
/// Jobs that may wait or run at once.
const LIVE_MAX: u64 = 20_000;
const WAIT_MAX: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Points of metrics in one answer.
const POINTS_MAX: u32 = 100_000;
const CLAIMANT_BYTES_MAX: usize = 64;
/// Pieces of log larger than this are refused.
pub const LOG_PIECE_MAX: usize = 1 << 20;

/// What the operator set for jobs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bytes of log kept of each attempt.
    pub log_bytes_max: u64,
}

pub struct Jobs {
    pub(crate) meta: Arc<dyn Metastore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) events: Arc<Events>,
    pub(crate) logs: Arc<dyn Logs>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) settings: Settings,
}

impl Jobs {
    pub fn new(
        meta: Arc<dyn Metastore>,
        clock: Arc<dyn Clock>,
        keys: Arc<Keys>,
        events: Arc<Events>,
        logs: Arc<dyn Logs>,
        admission: Arc<Admission>,
        settings: Settings,
    ) -> Self {
        Self { meta, clock, keys, events, logs, admission, settings }
    }

    pub async fn submit(&self, caller: &Principal, new: NewJob) -> Result<Job> {
        authorise(caller, Action::Operate)?;
        jobs_check::check(&new, &self.admission.capacity().await?)?;
        let counts = self.meta.counts().await?;
        if counts.jobs_queued + counts.jobs_running >= LIVE_MAX {
            return Err(Error::new(ErrorCode::TooManyRequests, format!("{LIVE_MAX} jobs wait or run already"))
                .hint("try again when some have ended"));
        }
        if let Some(code) = &new.spec.code {
            self.meta
                .tree_get(code)
                .await?
                .ok_or_else(|| Error::not_found(format!("there is no tree {code} (the job's code)")))?;
        }
        let mut spec = new.spec;
        let mut inputs = BTreeMap::new();
        for (channel, wanted) in &mut spec.inputs {
            let found = self.meta.dataset_get(&caller.project, &wanted.name, &wanted.version).await?;
            wanted.version = muonic_types::VersionSelector::Number(found.version);
            inputs.insert(
                channel.clone(),
                SourceDataset { name: found.name, version: found.version, digest: found.tree.digest },
            );
        }
        let record = NewJobRecord {
            project: caller.project.clone(),
            spec,
            inputs,
            request_token: new.request_token,
            at: self.clock.now(),
        };
        let job = self.meta.job_submit(&record).await?;
        // Before the dispatcher takes it: the answer says how the queue sees it.
        let job = self.complete_or_plain(job).await;
        self.events.wake_dispatcher();
        Ok(job)
    }

    pub async fn get(&self, caller: &Principal, id: &JobId) -> Result<Job> {
        authorise(caller, Action::Read)?;
        let job = self.meta.job_get(&caller.project, id).await?;
        self.complete(job).await
    }

    pub async fn list(
        &self,
        caller: &Principal,
        name: Option<Name>,
        state: Option<JobState>,
        limit: Option<u32>,
    ) -> Result<JobList> {
        authorise(caller, Action::Read)?;
        let limit = limit.unwrap_or(100);
        if limit == 0 || limit > LIST_MAX {
            return Err(Error::invalid(format!("limit must be between 1 and {LIST_MAX}")));
        }
        let jobs = self.meta.job_list(&caller.project, &JobFilter { name, state, limit }).await?;
        let now = self.clock.now();
        let mut outlook = if jobs.iter().any(|j| j.state == JobState::Queued) {
            outlook(&*self.meta, &self.admission, now).await?
        } else {
            HashMap::new()
        };
        let jobs = jobs.into_iter().map(|mut job| {
            add_outlook(&mut job, &mut outlook, now);
            add_running_cost(&mut job, &self.admission, now);
            job
        });
        Ok(JobList { jobs: jobs.collect() })
    }

    /// The job once it is final, or as it is after `timeout` (at most a minute).
    pub async fn wait(&self, caller: &Principal, id: &JobId, timeout: Option<Duration>) -> Result<Job> {
        authorise(caller, Action::Read)?;
        let deadline = tokio::time::Instant::now() + timeout.unwrap_or(WAIT_MAX).min(WAIT_MAX);
        let mut listener = self.events.job_listener();
        loop {
            let job = self.meta.job_get(&caller.project, id).await?;
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if job.state.is_final() || left.is_zero() || self.events.is_closing() {
                return self.complete(job).await;
            }
            listener.changed(id, left.min(LOOK_AGAIN)).await;
        }
    }

    pub async fn cancel(&self, caller: &Principal, id: &JobId) -> Result<Job> {
        authorise(caller, Action::Operate)?;
        let job = self.meta.job_cancel(&caller.project, id, self.clock.now()).await?;
        self.events.job_changed(id);
        self.events.wake_dispatcher();
        Ok(self.complete_or_plain(job).await)
    }

    /// The log of one attempt: the given one, or the newest. Who follows a
    /// queued job gets its first attempt's log as soon as there is one.
    pub async fn logs(
        &self,
        caller: &Principal,
        id: &JobId,
        attempt: Option<u32>,
        offset: u64,
        follow: bool,
    ) -> Result<(Option<u32>, ByteStream)> {
        authorise(caller, Action::Read)?;
        let job = self.meta.job_get(&caller.project, id).await?;
        let number = match attempt {
            Some(n) if job.attempts.iter().any(|a| a.number == n) => n,
            Some(n) => return Err(Error::not_found(format!("{id} has no attempt {n}"))),
            None => match job.attempts.iter().map(|a| a.number).max() {
                Some(n) => n,
                None if follow => 1,
                None => return Ok((None, Box::pin(futures_util::stream::empty()))),
            },
        };
        let attempt = AttemptId::new(id, number);
        let unit = UnitId::Task(attempt.clone());
        let follow = follow.then(|| self.still_writing(caller, attempt));
        Ok((Some(number), logs::stream(self.logs.clone(), self.events.clone(), unit, offset, follow)))
    }

    fn still_writing(&self, caller: &Principal, attempt: AttemptId) -> logs::StillWriting {
        let meta = self.meta.clone();
        let project = caller.project.clone();
        Arc::new(move || {
            let (meta, project, attempt) = (meta.clone(), project.clone(), attempt.clone());
            Box::pin(async move {
                match meta.job_get(&project, &attempt.job()).await {
                    Ok(job) => match job.attempts.iter().find(|a| a.id == attempt) {
                        Some(made) => made.state != AttemptState::Finished,
                        None => !job.state.is_final(),
                    },
                    // Not to know is not to know that it ended.
                    Err(e) => !matches!(e, muonic_ports::Error::NotFound(_)),
                }
            })
        })
    }

    pub async fn metrics(
        &self,
        caller: &Principal,
        id: &JobId,
        name: Option<&str>,
        limit: Option<u32>,
    ) -> Result<MetricHistory> {
        authorise(caller, Action::Read)?;
        let limit = limit.unwrap_or(10_000);
        if limit == 0 || limit > POINTS_MAX {
            return Err(Error::invalid(format!("limit must be between 1 and {POINTS_MAX}")));
        }
        self.meta.job_get(&caller.project, id).await?;
        Ok(MetricHistory { points: self.meta.metrics_get(&caller.project, id, name, limit).await? })
    }

    // What shims report. Each call is about the caller's own attempt only.

    /// Only one supervisor gets it. `claimant` names the one that asks, so that
    /// it may ask again where the answer was lost.
    pub async fn claim(&self, caller: &Principal, attempt: &AttemptId, claimant: &str) -> Result<TaskSpec> {
        own_attempt(caller, attempt)?;
        if claimant.is_empty() || claimant.len() > CLAIMANT_BYTES_MAX {
            return Err(Error::invalid(format!("claimant must have 1 to {CLAIMANT_BYTES_MAX} bytes")));
        }
        let claimed = self.meta.attempt_claim(attempt, claimant, self.clock.now()).await?;
        self.events.job_changed(&attempt.job());
        Ok(TaskSpec {
            attempt: attempt.clone(),
            spec: claimed.spec,
            inputs: claimed.inputs,
            log_bytes_max: self.settings.log_bytes_max,
        })
    }

    pub async fn progress(&self, caller: &Principal, attempt: &AttemptId, progress: TaskProgress) -> Result<()> {
        own_attempt(caller, attempt)?;
        self.meta.attempt_progress(attempt, progress.phase, progress.environment).await?;
        self.events.job_changed(&attempt.job());
        Ok(())
    }

    pub async fn append_log(
        &self,
        caller: &Principal,
        attempt: &AttemptId,
        offset: u64,
        bytes: Bytes,
    ) -> Result<LogAppended> {
        own_attempt(caller, attempt)?;
        // Room for the note that says what was cut.
        let most = self.settings.log_bytes_max.saturating_add(LOG_PIECE_MAX as u64);
        if offset.saturating_add(bytes.len() as u64) > most {
            return Err(Error::new(ErrorCode::TooLarge, format!("the log of an attempt may have {most} bytes")));
        }
        let unit = UnitId::Task(attempt.clone());
        let next_offset = self.logs.append(&unit, offset, bytes).await?;
        self.events.log_grew(&unit);
        Ok(LogAppended { next_offset })
    }

    pub async fn append_metrics(&self, caller: &Principal, attempt: &AttemptId, new: NewMetricPoints) -> Result<()> {
        own_attempt(caller, attempt)?;
        jobs_check::check_points(&new.points)?;
        Ok(self.meta.metrics_append(attempt, new.first, &new.points).await?)
    }

    pub async fn finish(&self, caller: &Principal, attempt: &AttemptId, report: ExitReport) -> Result<()> {
        own_attempt(caller, attempt)?;
        jobs_check::check_report(&report)?;
        self.logs.sync(&UnitId::Task(attempt.clone())).await?;
        let job = self.meta.job_get(&caller.project, &attempt.job()).await?;
        end_attempt(self, &job, attempt, report).await
    }

    /// For answers to what is done already: it must not look undone because
    /// the queue could not be read once more.
    async fn complete_or_plain(&self, job: Job) -> Job {
        self.complete(job.clone()).await.unwrap_or_else(|e| {
            tracing::warn!(job = %job.id, error = %e, "a job is answered without its estimate");
            job
        })
    }

    /// Adds what the metastore cannot know: the estimate and the running cost.
    async fn complete(&self, mut job: Job) -> Result<Job> {
        let now = self.clock.now();
        let mut outlook = match job.state {
            JobState::Queued => outlook(&*self.meta, &self.admission, now).await?,
            _ => HashMap::new(),
        };
        add_outlook(&mut job, &mut outlook, now);
        add_running_cost(&mut job, &self.admission, now);
        Ok(job)
    }
}

/// Ends an attempt and decides what follows; from a shim's report, or from
/// the dispatcher for one whose shim is gone.
pub(crate) async fn end_attempt(jobs: &Jobs, job: &Job, attempt: &AttemptId, mut report: ExitReport) -> Result<()> {
    let Some(this) = job.attempts.iter().find(|a| a.id == *attempt) else {
        return Err(Error::not_found(format!("there is no attempt {attempt}")));
    };
    if this.state == AttemptState::Finished {
        return Ok(());
    }
    if stopped_by_others(&report.exit, job.cancel_requested) {
        report.exit = Exit::Lost;
        report.message = Some("was lost: its supervisor was told to stop".to_owned());
    }
    let before: Vec<Exit> =
        job.attempts.iter().filter(|a| a.number < this.number).filter_map(|a| a.exit.clone()).collect();
    // A success without the model it was run for would be a false one.
    let model = job.spec.model.as_ref().filter(|_| report.exit == Exit::Code { code: 0 } && report.model.is_none());
    let (verdict, reason) = match model {
        Some(model) => (Verdict::Failed, format!("left nothing in SM_MODEL_DIR to become a version of '{model}'")),
        None => (
            after_exit(&report.exit, &before, job.spec.retries, job.cancel_requested),
            report.message.clone().unwrap_or_else(|| describe(&report.exit)),
        ),
    };
    let now = jobs.clock.now();
    let next = match verdict {
        Verdict::Succeeded => Next::Succeeded,
        Verdict::Failed => Next::Failed { reason },
        Verdict::Cancelled => Next::Cancelled { reason: "cancelled".to_owned() },
        Verdict::Retry { after_s } => {
            let not_before = now.checked_add(Duration::from_secs(after_s)).unwrap_or(now);
            Next::Retry { reason: format!("attempt {} {reason}", this.number), not_before }
        }
    };
    // While the server was away nothing was held any more.
    let at = report.ended_at.map_or(now, |at| at.min(now).max(this.launched_at));
    let (meta, keys, events) = (jobs.meta.clone(), jobs.keys.clone(), jobs.events.clone());
    let finish = Finish { attempt: attempt.clone(), report, next, at };
    let id = job.id.clone();
    // A shim that leaves in between must not leave its key behind.
    crate::to_the_end(async move {
        meta.attempt_finish(&finish).await?;
        keys.forget_attempt(&finish.attempt);
        events.job_changed(&id);
        events.log_grew(&UnitId::Task(finish.attempt));
        events.wake_dispatcher();
        Ok(())
    })
    .await
}

/// A sentence part for an exit that came without words.
pub(crate) fn describe(exit: &Exit) -> String {
    match exit {
        Exit::Code { code } => format!("exited with code {code}"),
        Exit::Signal { signal } => format!("was ended by signal {signal}"),
        Exit::OutOfMemory => "used more memory than it asked for".to_owned(),
        Exit::TimeLimit => "ran longer than its time limit".to_owned(),
        Exit::Cancelled => "was cancelled".to_owned(),
        Exit::EnvironmentFailed => "could not build its Python environment".to_owned(),
        Exit::SetupFailed => "could not be set up".to_owned(),
        Exit::Lost => "was lost: its supervisor died".to_owned(),
    }
}

fn own_attempt(caller: &Principal, attempt: &AttemptId) -> Result<()> {
    if caller.attempt.as_ref() == Some(attempt) {
        return Ok(());
    }
    Err(Error::new(ErrorCode::Forbidden, format!("only the key given to {attempt} may report on it")))
}

/// Why a queued job waits; after a failed attempt, what happened to that too.
fn add_outlook(job: &mut Job, outlook: &mut HashMap<JobId, (String, StartEstimate)>, now: muonic_types::Timestamp) {
    // A rest that is over is none.
    job.not_before = job.not_before.filter(|at| job.state == JobState::Queued && *at > now);
    let Some((waits, estimate)) = outlook.remove(&job.id) else { return };
    job.estimate = Some(estimate);
    job.reason = match (waits.is_empty(), job.reason.take()) {
        (true, reason) => reason,
        (false, None) => Some(waits),
        (false, Some(before)) if job.not_before.is_some() => Some(format!("{waits}: {before}")),
        (false, Some(before)) => Some(format!("{waits}; {before}")),
    };
}

fn add_running_cost(job: &mut Job, admission: &Admission, now: muonic_types::Timestamp) {
    let running = |a: &&Attempt| a.state != AttemptState::Finished;
    let seconds: f64 = job.attempts.iter().filter(running).map(|a| crate::cost::seconds(a.launched_at, now)).sum();
    job.cost_usd += admission.price(&job.spec.resources).usd(seconds);
}
