//! The dispatcher: keeps attempts and the engine's units in agreement, and
//! starts jobs as room allows. Woken by event and by clock; every step may be
//! repeated, so a crash between any two lines is made good by the next round.
//!
//! Order matters in one place: the metastore is asked before the engine. An
//! attempt that was claimed before the engine looked has a unit unless that is
//! gone; one that has ended since is left as it is, since ending an attempt
//! looks at it again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use muonic_ports::engine::{Launch, UnitState, UnitStatus};
use muonic_ports::metastore::{Admission as AdmitRecord, LiveJob};
use muonic_ports::{Engine, Metastore};
use muonic_scheduler::queue::{Holding, Place, Waiting, plan};
use muonic_types::job::{Exit, JobState, StartEstimate};
use muonic_types::task::ExitReport;
use muonic_types::{AttemptId, JobId, Name, Timestamp, UnitId};
use tokio_util::sync::CancellationToken;

use crate::jobs::end_attempt;
use crate::{Admission, Jobs, Result};

const TICK: Duration = Duration::from_secs(1);
/// Jobs started in one round; the rest follow in the next.
const ADMIT_MAX: u32 = 64;
/// A task that nobody knows gets this long to notice that its key is gone.
const ORPHAN_GRACE: Duration = Duration::from_secs(10);
/// An attempt that cannot be launched is given up after this long.
const LAUNCH_PATIENCE: Duration = Duration::from_secs(60);
/// Past runs that an estimate rests on.
const PAST_RUNS: u32 = 5;

pub struct Dispatcher {
    jobs: Arc<Jobs>,
    engine: Arc<dyn Engine>,
    /// Settings handed to every task.
    settings: std::collections::BTreeMap<String, String>,
    /// Rebuilt after a restart: asking twice to stop is harmless.
    stopping: HashSet<AttemptId>,
    orphans: HashMap<UnitId, Instant>,
    /// Attempts that could not be launched, since when.
    launching: HashMap<AttemptId, Instant>,
}

impl Dispatcher {
    pub fn new(jobs: Arc<Jobs>, engine: Arc<dyn Engine>, settings: std::collections::BTreeMap<String, String>) -> Self {
        Self { jobs, engine, settings, stopping: HashSet::new(), orphans: HashMap::new(), launching: HashMap::new() }
    }

    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut changed = self.engine.changed();
        loop {
            let next = match self.round().await {
                Ok(next) => next,
                Err(e) => {
                    tracing::error!(error = %e, "the dispatcher's round failed; it tries again");
                    TICK
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.jobs.events.dispatcher_woken() => {}
                Ok(()) = changed.changed() => {}
                () = tokio::time::sleep(next) => {}
            }
        }
    }

    /// One round; answers how long to rest at most.
    async fn round(&mut self) -> Result<Duration> {
        let open = self.jobs.meta.jobs_open().await?;
        let units = self.engine.list().await?;
        self.reconcile(&units, &open).await;
        self.admit().await
    }

    async fn reconcile(&mut self, units: &[UnitStatus], open: &[LiveJob]) {
        let states: HashMap<&UnitId, &UnitState> = units.iter().map(|u| (&u.unit, &u.state)).collect();
        let mut known = HashSet::new();
        for job in open {
            let Some(attempt) = &job.attempt else { continue };
            known.insert(UnitId::Task(attempt.clone()));
            // One that cannot be helped must not hold up the others.
            if let Err(e) = self.reconcile_one(job, attempt, &states).await {
                tracing::error!(%attempt, error = %e, "an attempt could not be brought in line; it is tried again");
            }
        }
        self.stopping.retain(|attempt| known.contains(&UnitId::Task(attempt.clone())));
        self.launching.retain(|attempt, _| known.contains(&UnitId::Task(attempt.clone())));
        self.sweep(units, &known).await;
    }

    async fn reconcile_one(
        &mut self,
        job: &LiveJob,
        attempt: &AttemptId,
        states: &HashMap<&UnitId, &UnitState>,
    ) -> Result<()> {
        let unit = UnitId::Task(attempt.clone());
        let cancelled = job.cancel_requested_at.is_some();
        match states.get(&unit) {
            None | Some(UnitState::Unstarted) if !job.attempt_claimed && cancelled => {
                self.lost(job, attempt, Exit::Cancelled, "was cancelled before it started").await
            }
            None | Some(UnitState::Unstarted) if !job.attempt_claimed => {
                // The attempt before may have reported and still be tidying up.
                let before = job.attempts.checked_sub(1).map(|n| UnitId::Task(AttemptId::new(&job.id, n)));
                match before.and_then(|unit| states.get(&unit).copied()) {
                    Some(UnitState::Running) => Ok(()),
                    _ => self.launch(job).await,
                }
            }
            None | Some(UnitState::Unstarted) => {
                self.lost(job, attempt, Exit::Lost, "was lost: nothing is left of its supervisor").await
            }
            Some(UnitState::Ended(how)) => {
                let exit = if cancelled { Exit::Cancelled } else { Exit::Lost };
                self.lost(job, attempt, exit, &format!("was lost: {how}")).await
            }
            Some(UnitState::Running) if cancelled && !self.stopping.contains(attempt) => {
                self.engine.stop(&unit, Duration::from_secs(job.grace_s)).await?;
                self.stopping.insert(attempt.clone());
                Ok(())
            }
            Some(UnitState::Running) => Ok(()),
        }
    }

    /// Units of attempts that are over: forgotten, or stopped first if they linger.
    async fn sweep(&mut self, units: &[UnitStatus], known: &HashSet<UnitId>) {
        let mut orphans = HashMap::new();
        for status in units.iter().filter(|u| matches!(u.unit, UnitId::Task(_)) && !known.contains(&u.unit)) {
            let unit = &status.unit;
            let done = match status.state {
                UnitState::Unstarted | UnitState::Ended(_) => self.engine.forget(unit).await,
                UnitState::Running => {
                    let since = *self.orphans.get(unit).unwrap_or(&Instant::now());
                    orphans.insert(unit.clone(), since);
                    if since.elapsed() > ORPHAN_GRACE { self.engine.stop(unit, Duration::ZERO).await } else { Ok(()) }
                }
            };
            if let Err(e) = done {
                tracing::warn!(%unit, error = %e, "a unit of an attempt that is over could not be ended; it is tried again");
            }
        }
        self.orphans = orphans;
    }

    async fn lost(&self, job: &LiveJob, attempt: &AttemptId, exit: Exit, message: &str) -> Result<()> {
        let full = self.jobs.meta.job_get(&job.project, &job.id).await?;
        if let Err(e) = self.jobs.logs.sync(&UnitId::Task(attempt.clone())).await {
            tracing::warn!(%attempt, error = %e, "the log of a lost attempt could not be made durable");
        }
        let report = ExitReport {
            exit,
            message: Some(message.to_owned()),
            command_started_at: None,
            command_ended_at: None,
            ended_at: None,
            environment: None,
            model: None,
            output: None,
        };
        end_attempt(&self.jobs, &full, attempt, report).await
    }

    async fn launch(&mut self, job: &LiveJob) -> Result<()> {
        let (Some(attempt), Some(key)) = (&job.attempt, &job.attempt_key) else {
            return Ok(());
        };
        self.jobs.keys.remember(key.clone());
        let launch = Launch {
            unit: UnitId::Task(attempt.clone()),
            resources: job.resources,
            token: self.jobs.keys.token(&key.id),
            settings: self.settings.clone(),
        };
        let Err(e) = self.engine.launch(&launch).await else {
            self.launching.remove(attempt);
            return Ok(());
        };
        // What is short may be there in a moment: a device that the attempt
        // before it still holds, descriptors, space.
        let since = *self.launching.entry(attempt.clone()).or_insert_with(Instant::now);
        if since.elapsed() < LAUNCH_PATIENCE {
            tracing::warn!(%attempt, error = %e, "the engine could not launch a task; it is tried again");
            return Ok(());
        }
        self.lost(job, attempt, Exit::SetupFailed, &format!("could not be launched: {e}")).await
    }

    async fn admit(&mut self) -> Result<Duration> {
        let guard = self.jobs.admission.enter().await;
        let meta = &*self.jobs.meta;
        let now = self.jobs.clock.now();
        let rests_s = meta.rest_ends(now).await?.map_or(f64::INFINITY, |at| signed_seconds(now, at));
        let rest = Duration::from_secs_f64(rests_s.clamp(0.0, TICK.as_secs_f64()));
        // What endpoints hold is given back by nobody but people.
        let replicas = meta.replicas_live().await?;
        let capacity = self.jobs.admission.capacity().await?;
        let largest = replicas.iter().fold(capacity, |left, r| left.minus(&r.resources));
        let next = meta.jobs_next(now, &largest, ADMIT_MAX).await?;
        if next.is_empty() {
            return Ok(rest);
        }
        // The head of the queue decides as all of it would: it is never passed.
        let live = meta.jobs_open().await?.into_iter().chain(next).collect();
        let view = View::load(meta, &self.jobs.admission, live, now, &HashMap::new()).await?;
        let places = view.plan();
        let mut admissions = Vec::new();
        for place in places.iter().filter(|p| p.admit) {
            let job = &view.live[&place.id];
            let attempt = AttemptId::new(&job.id, job.attempts + 1);
            let key = self.jobs.keys.for_attempt(&job.project, &attempt)?;
            let price = self.jobs.admission.price(&job.resources);
            admissions.push(AdmitRecord { job: job.id.clone(), attempt, key, price });
        }
        if admissions.is_empty() {
            return Ok(rest);
        }
        let admitted: HashSet<AttemptId> = meta.job_admit(&admissions, now).await?.into_iter().collect();
        drop(guard);
        for admission in admissions.iter().filter(|a| admitted.contains(&a.attempt)) {
            let mut job = view.live[&admission.job].clone();
            job.attempt = Some(admission.attempt.clone());
            job.attempt_key = Some(admission.key.clone());
            self.jobs.events.job_changed(&job.id);
            // A retry is left to the next round, which knows what still runs.
            if job.attempts == 0 {
                self.launch(&job).await?;
            } else {
                self.jobs.events.wake_dispatcher();
            }
        }
        let more = admissions.len() == ADMIT_MAX as usize;
        Ok(if more { Duration::ZERO } else { rest })
    }
}

/// What the queue's decider needs, gathered.
struct View {
    capacity: muonic_types::Resources,
    live: HashMap<JobId, LiveJob>,
    waiting: Vec<Waiting>,
    holding: Vec<Holding>,
}

impl View {
    /// `expected`: seconds that runs of a name are likely to take. Starting
    /// jobs needs none; foretelling does.
    async fn load(
        meta: &dyn Metastore,
        admission: &Admission,
        live: Vec<LiveJob>,
        now: Timestamp,
        expected: &HashMap<Name, f64>,
    ) -> Result<Self> {
        let replicas = meta.replicas_live().await?;
        let capacity = admission.capacity().await?;
        let end_of = |job: &LiveJob| expected.get(&job.name).copied().or(job.time_limit_s.map(|s| s as f64));
        let mut waiting = Vec::new();
        let mut holding = Vec::new();
        for job in &live {
            if job.state == JobState::Queued {
                let rests_s = job.not_before.map_or(0.0, |at| signed_seconds(now, at)).max(0.0);
                waiting.push(Waiting {
                    id: job.id.clone(),
                    resources: job.resources,
                    priority: job.priority,
                    sequence: job.sequence,
                    rests_s,
                    expected_s: end_of(job),
                });
            } else if job.attempt.is_some() {
                let ran = job.attempt_launched_at.map_or(0.0, |at| signed_seconds(at, now));
                let ends_in_s = end_of(job).map(|s| (s - ran).max(0.0));
                let label = job.id.to_string();
                holding.push(Holding { label, resources: job.resources, ends_in_s, endless: false });
            }
        }
        for replica in replicas {
            holding.push(Holding {
                label: format!("endpoint {}", replica.endpoint),
                resources: replica.resources,
                ends_in_s: None,
                endless: true,
            });
        }
        let live = live.into_iter().map(|j| (j.id.clone(), j)).collect();
        Ok(Self { capacity, live, waiting, holding })
    }

    fn plan(&self) -> Vec<Place> {
        plan(&self.capacity, &self.waiting, &self.holding)
    }
}

/// Why each waiting job waits and when it is likely to start. Derived whenever
/// someone asks, never stored: every admission changes it for all.
pub(crate) async fn outlook(
    meta: &dyn Metastore,
    admission: &Admission,
    now: Timestamp,
) -> Result<HashMap<JobId, (String, StartEstimate)>> {
    let live = meta.jobs_live().await?;
    let names: HashSet<Name> = live.iter().map(|j| j.name.clone()).collect();
    let expected = expected_s(meta, names.into_iter().collect()).await?;
    let view = View::load(meta, admission, live, now, &expected).await?;
    let outlook = view.plan().into_iter().map(|p| (p.id, (p.reason, p.estimate)));
    Ok(outlook.collect())
}

/// Median seconds of the newest successful runs of each name.
async fn expected_s(meta: &dyn Metastore, names: Vec<Name>) -> Result<HashMap<Name, f64>> {
    let mut runs: HashMap<Name, Vec<f64>> = HashMap::new();
    for run in meta.past_runs(&names, PAST_RUNS).await? {
        runs.entry(run.name).or_default().push(run.seconds);
    }
    let median = |mut v: Vec<f64>| {
        v.sort_by(f64::total_cmp);
        v[v.len() / 2]
    };
    Ok(runs.into_iter().map(|(name, v)| (name, median(v))).collect())
}

fn signed_seconds(from: Timestamp, to: Timestamp) -> f64 {
    (to.as_microsecond() - from.as_microsecond()) as f64 / 1e6
}
