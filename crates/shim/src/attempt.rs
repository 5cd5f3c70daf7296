//! The attempt from claim to report.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use muonic_python as python;
use muonic_types::Digest;
use muonic_types::job::{Exit, Phase};
use muonic_types::task::{TaskProgress, TaskSpec};
use muonic_unit::{Folder, Limiter};

use crate::aside::aside;
use crate::command::{self, PATIENCE, Plan, now};
use crate::control::Control;
use crate::ending::{Ended, Stop};
use crate::link::{About, Fault, Link};
use crate::log::Log;
use crate::metrics::Finder;
use crate::report::{self, Outcome};
use crate::sender::Outbox;
use crate::variables::{self, variables};

/// Lines of the log that the report of a failure quotes.
const LINES_QUOTED: usize = 5;

/// An end before the command has run.
pub enum Early {
    /// To be reported.
    Ended(Box<Outcome>),
    /// The server wants to hear nothing.
    Closed,
}

impl Early {
    pub fn failed(exit: Exit, message: impl Into<String>) -> Self {
        Self::Ended(Box::new(Outcome::of(exit, Some(message.into()))))
    }
}

/// Names this supervisor: no other has its number at this instant.
fn claimant() -> String {
    format!("{}-{}", std::process::id(), now().as_nanosecond())
}

pub fn run(folder: &Folder, link: &Arc<Link>, mut control: Control) -> Result<(), String> {
    // Nothing is known yet of how long it may take: only a stop ends this.
    let claimant = claimant();
    let claimed = aside(&mut control, None, {
        let link = link.clone();
        move || link.call(About::Attempt, &|| link.flags.stopping(), |c| c.attempt_claim(&link.attempt, &claimant))
    });
    let task = match claimed {
        Ok(Ok(task)) => task,
        // Not ours, or not wanted any more.
        Err(_) | Ok(Err(Fault::Stopped)) => return Ok(()),
        Ok(Err(Fault::Refused(e))) => return Err(format!("the attempt could not be claimed: {e}")),
    };
    let log = Log::create(&folder.log(), task.log_bytes_max).map_err(|e| format!("{}: {e}", folder.log().display()))?;
    let log = Arc::new(log);
    let outbox = Arc::new(Outbox::new(log.clone()));
    let sender = outbox.start(link.clone(), control.waker()).map_err(|e| format!("a thread cannot be started: {e}"))?;
    let deadline = task.spec.time_limit_s.map(|s| Instant::now() + Duration::from_secs(s));
    let mut stage = Stage { folder, link, control, log, outbox, task, deadline };
    let outcome = match stage.work() {
        Ok(outcome) => outcome,
        Err(Early::Ended(outcome)) => *outcome,
        Err(Early::Closed) => {
            stage.tidy();
            return Ok(());
        }
    };
    let (outcome, saved) = stage.save(outcome);
    if let Some(why) = stage.log.broken() {
        crate::say(format_args!("the log could not be kept: {why}"));
    }
    let quoted = match outcome.exit {
        // The error of a build has its last lines already.
        Exit::Code { code: 0 } | Exit::EnvironmentFailed => String::new(),
        _ => stage.log.last_lines(LINES_QUOTED),
    };
    stage.outbox.troubles().iter().for_each(|trouble| stage.log.note(trouble));
    stage.log.finish();
    // The report follows the whole log; the sender ends when all is there,
    // when the attempt is over, or when the server is away for too long.
    let _ = sender.join();
    let sent =
        if link.flags.closed() { Ok(()) } else { report::send(link, &outcome, saved, &quoted, Some(&stage.task)) };
    stage.tidy();
    sent
}

/// What the attempt needs from its claim to its report.
pub struct Stage<'a> {
    pub folder: &'a Folder,
    pub link: &'a Arc<Link>,
    pub control: Control,
    pub log: Arc<Log>,
    pub outbox: Arc<Outbox>,
    pub task: TaskSpec,
    pub deadline: Option<Instant>,
}

impl Stage<'_> {
    fn work(&mut self) -> Result<Outcome, Early> {
        let work = self.folder.work();
        self.fetch(&work)?;
        let environment = self.environment(&work)?;
        self.execute(&work, environment)
    }

    pub fn tell(&self, phase: Phase, environment: Option<Digest>) {
        self.outbox.progress(TaskProgress { phase, environment });
    }

    /// Runs work in another thread while this one listens for reasons to stop.
    /// The work gets a question to ask: whether it is still wanted.
    pub fn aside<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&dyn Fn() -> bool) -> T + Send + 'static,
    ) -> Result<T, Early> {
        let (flags, deadline) = (self.link.flags.clone(), self.deadline);
        let unwanted = move || flags.stopping() || is_over(deadline);
        aside(&mut self.control, deadline, move || work(&unwanted)).map_err(|stop| self.early(stop))
    }

    /// For work that was not wanted any more.
    pub fn stopped(&self) -> Early {
        self.early(match (self.link.flags.closed(), self.link.flags.cancelled()) {
            (true, _) => Stop::Closed,
            (false, false) if is_over(self.deadline) => Stop::TimeLimit,
            _ => Stop::Cancelled,
        })
    }

    fn early(&self, stop: Stop) -> Early {
        match stop {
            Stop::Closed => Early::Closed,
            Stop::TimeLimit => {
                let limit = self.task.spec.time_limit_s.unwrap_or_default();
                Early::failed(
                    Exit::TimeLimit,
                    format!("its limit of {limit} s was over before its command began: fetching and installing count"),
                )
            }
            Stop::Cancelled | Stop::OutOfMemory => Early::failed(Exit::Cancelled, "cancelled before its command began"),
        }
    }

    fn execute(&mut self, work: &Path, environment: Option<python::Environment>) -> Result<Outcome, Early> {
        let spec = &self.task.spec;
        let (finder, troubles) = Finder::new(&spec.metrics);
        troubles.iter().for_each(|trouble| self.log.note(trouble));
        let limiter = Limiter::of(&self.link.launch);
        let watch_memory = spec.resources.memory.bytes > 0 && !limiter.limits_memory();
        if watch_memory {
            self.log.note("the kernel does not limit memory here; it is measured several times a second instead");
        }
        let setup = |what: &str, e: io::Error| Early::failed(Exit::SetupFailed, format!("{what}: {e}"));
        if self.link.flags.stopping() {
            return Err(self.stopped());
        }
        if !self.folder.begin().map_err(|e| setup("its begin could not be recorded", e))? {
            return Err(Early::failed(Exit::Lost, "another supervisor had begun it"));
        }
        let group = limiter
            .group(self.folder, &self.link.launch.unit.to_string(), &spec.resources)
            .map_err(|e| setup("its limits could not be set", e))?;
        let mut program = spec.command.clone();
        if spec.params_as_args {
            program.extend(variables::arguments(&spec.params));
        }
        let code = work.join("code");
        let about = variables::About {
            unit_dir: self.folder.path(),
            work,
            launch: &self.link.launch,
            task: &self.task,
            server: &self.link.server(),
            bin: environment.as_ref().map(|e| e.bin.as_path()),
        };
        let own = std::env::vars_os().filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?)));
        let plan = Plan {
            program,
            folder: &code,
            variables: variables(&about, own),
            grace: Duration::from_secs(spec.grace_s),
            time_limit: self.deadline,
            group: &group,
            memory: watch_memory.then_some(spec.resources.memory),
        };
        let digest = environment.as_ref().map(|e| e.digest);
        self.tell(Phase::Running, digest);
        let started = now();
        let ran = self.run_command(&plan, finder);
        // Nothing runs in them any more, so how the command ended stands.
        if let Err(e) = group.end(PATIENCE) {
            self.log.note(&e.to_string());
        }
        let (ended, is_whole) = ran?;
        let (started, ended_at) = (Some(started), Some(now()));
        let outcome = Outcome { exit: ended.exit(), message: None, started, ended: ended_at, environment: digest };
        if ended.stop == Some(Stop::Closed) {
            return Err(Early::Closed);
        }
        if !is_whole {
            self.log.note("the rest of the output could not be read");
        }
        self.final_metrics(work);
        Ok(outcome)
    }

    fn run_command(&mut self, plan: &Plan<'_>, finder: Finder) -> Result<(Ended, bool), Early> {
        let failed = |message: String| Early::failed(Exit::SetupFailed, message);
        let running = command::start(plan, &self.log, &self.outbox, finder);
        let running = running.map_err(|e| failed(not_started(&plan.program[0], &e)))?;
        let ended = running.supervise(plan, &mut self.control);
        ended.map_err(|e| failed(format!("its command could not be supervised: {e}")))
    }
}

fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|at| at <= Instant::now())
}

fn not_started(program: &str, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => {
            "it was not found; check its name, or give its path from the code folder such as ./run.sh"
        }
        io::ErrorKind::PermissionDenied => {
            "it is not executable; make it so, or run it by its interpreter such as 'bash run.sh'"
        }
        _ => return format!("the command '{program}' could not be started: {error}"),
    };
    format!("the command '{program}' could not be started: {hint}")
}
