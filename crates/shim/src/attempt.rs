//! The attempt from claim to report.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use muonic_client::UploadRules;
use muonic_python as python;
use muonic_types::job::{Exit, MetricPoint, Phase};
use muonic_types::task::{ExitReport, TaskProgress, TaskSpec};
use muonic_types::{Digest, Timestamp};
use muonic_unit::{Folder, Limiter, end_leftovers, remove_tree};

use crate::command::{self, PATIENCE, Plan, now};
use crate::control::Control;
use crate::ending::{Ended, Stop, words};
use crate::link::{About, Fault, Link};
use crate::log::Log;
use crate::metrics::Finder;
use crate::sender::Outbox;
use crate::variables::{self, variables};

/// Lines of the log that the report of a failure quotes.
const LINES_QUOTED: usize = 5;
const METRICS_FILE_BYTES_MAX: u64 = 1 << 20;
const FOLDERS: [&str; 6] = ["code", "input", "model", "output", "checkpoints", "tmp"];

/// How it ends, once it has ended.
struct Outcome {
    exit: Exit,
    /// Instead of the usual words.
    message: Option<String>,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
    environment: Option<Digest>,
}

impl Outcome {
    fn of(exit: Exit, message: Option<String>) -> Self {
        Self { exit, message, started: None, ended: None, environment: None }
    }
}

/// An end before the command has run.
enum Early {
    /// To be reported.
    Ended(Box<Outcome>),
    /// The server wants to hear nothing.
    Closed,
}

impl Early {
    fn failed(exit: Exit, message: impl Into<String>) -> Self {
        Self::Ended(Box::new(Outcome::of(exit, Some(message.into()))))
    }
}

/// For a unit that an earlier supervisor began: ends what it left and tells.
pub fn report_lost(folder: &Folder, link: &Link) -> Result<(), String> {
    if let Some(left) = end_leftovers(folder, command::reap_all, PATIENCE).map_err(|e| e.to_string())? {
        eprintln!("{left}");
    }
    let words = "its supervisor died and its work was stopped".to_owned();
    send_report(link, &Outcome::of(Exit::Lost, Some(words)), Saved::default(), "", None)
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
        eprintln!("the log could not be kept: {why}");
    }
    let quoted =
        if outcome.exit == (Exit::Code { code: 0 }) { String::new() } else { stage.log.last_lines(LINES_QUOTED) };
    if stage.outbox.dropped() > 0 {
        stage.log.note(&format!("{} metric points were dropped while the server was away", stage.outbox.dropped()));
    }
    stage.log.finish();
    // The report follows the whole log; the sender ends when all is there,
    // when the attempt is over, or when the server is away for too long.
    let _ = sender.join();
    let sent =
        if link.flags.closed() { Ok(()) } else { send_report(link, &outcome, saved, &quoted, Some(&stage.task)) };
    stage.tidy();
    sent
}

struct Stage<'a> {
    folder: &'a Folder,
    link: &'a Arc<Link>,
    control: Control,
    log: Arc<Log>,
    outbox: Arc<Outbox>,
    task: TaskSpec,
    deadline: Option<Instant>,
}

#[derive(Default)]
struct Saved {
    model: Option<Digest>,
    output: Option<Digest>,
}

impl Stage<'_> {
    fn work(&mut self) -> Result<Outcome, Early> {
        let work = self.folder.work();
        self.fetch(&work)?;
        let environment = self.environment(&work)?;
        self.execute(&work, environment)
    }

    fn tell(&self, phase: Phase, environment: Option<Digest>) {
        self.outbox.progress(TaskProgress { phase, environment });
    }

    /// Runs work in another thread while this one listens for reasons to stop.
    fn aside<T: Send + 'static>(&mut self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Early> {
        let limit = self.task.spec.time_limit_s;
        let memory = self.task.spec.resources.memory;
        aside(&mut self.control, self.deadline, work).map_err(|stop| match stop {
            Stop::Closed => Early::Closed,
            Stop::TimeLimit => Early::failed(Exit::TimeLimit, words(&Exit::TimeLimit, memory, limit)),
            Stop::Cancelled | Stop::OutOfMemory => Early::failed(Exit::Cancelled, "cancelled before its command began"),
        })
    }

    fn fetch(&mut self, work: &Path) -> Result<(), Early> {
        self.tell(Phase::Fetching, None);
        let failed = |what: &str, e: &dyn std::fmt::Display| {
            Early::failed(Exit::SetupFailed, format!("{what} could not be fetched: {e}"))
        };
        let made =
            remove_tree(work).and_then(|()| FOLDERS.iter().try_for_each(|name| fs::create_dir_all(work.join(name))));
        made.map_err(|e| Early::failed(Exit::SetupFailed, format!("the work folder could not be made: {e}")))?;
        let code = self.task.spec.code.map(|digest| ("the code".to_owned(), digest, work.join("code")));
        let inputs = self.task.inputs.iter().map(|(channel, digest)| {
            (format!("the input '{channel}'"), *digest, work.join("input").join(channel.as_str()))
        });
        for (what, digest, to) in code.into_iter().chain(inputs).collect::<Vec<_>>() {
            let link = self.link.clone();
            let fetched = self.aside(move || {
                link.call(About::Content, &|| link.flags.stopping(), |c| c.tree_download(&digest, &to, &()))
            })?;
            match fetched {
                Ok(_) => (),
                Err(Fault::Stopped) => return Err(self.stopped()),
                Err(Fault::Refused(e)) => return Err(failed(&what, &e)),
            }
        }
        Ok(())
    }

    fn stopped(&self) -> Early {
        if self.link.flags.closed() {
            Early::Closed
        } else {
            Early::failed(Exit::Cancelled, "cancelled before its command began")
        }
    }

    /// The Python environment; none where there is no Python and none is
    /// asked for.
    fn environment(&mut self, work: &Path) -> Result<Option<python::Environment>, Early> {
        let code = work.join("code");
        let failed = |e: python::Error| Early::failed(Exit::EnvironmentFailed, e.to_string());
        let needed = python::has_requirements(&code).map_err(failed)?;
        if needed {
            self.tell(Phase::Environment, None);
        }
        let cache = self.link.launch.cache.clone();
        let wanted = self.link.launch.settings.get("python").map(PathBuf::from);
        let (log, flags) = (self.log.clone(), self.link.flags.clone());
        let built = self.aside(move || {
            let request = python::Request { folder: &code, cache: &cache, python: wanted.as_deref() };
            python::ensure(&request, &mut |line| log.push(format!("{line}\n").as_bytes()), &|| flags.stopping())
        })?;
        match built {
            Ok(environment) => Ok(Some(environment)),
            Err(python::Error::NoPython { .. }) if !needed => Ok(None),
            Err(python::Error::Cancelled) => Err(self.stopped()),
            Err(e) => Err(failed(e)),
        }
    }

    fn execute(&mut self, work: &Path, environment: Option<python::Environment>) -> Result<Outcome, Early> {
        let spec = &self.task.spec;
        let (finder, troubles) = Finder::new(&spec.metrics);
        troubles.iter().for_each(|trouble| self.log.note(trouble));
        // An operator may forbid control groups by the setting.
        let limiter = match self.link.launch.settings.get("limits").map(String::as_str) {
            Some("none") => Limiter::none(),
            _ => Limiter::probe(),
        };
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
        let (ended, finder) = ran?;
        let (started, ended_at) = (Some(started), Some(now()));
        let outcome = Outcome { exit: ended.exit(), message: None, started, ended: ended_at, environment: digest };
        if ended.stop == Some(Stop::Closed) {
            return Err(Early::Closed);
        }
        if finder.is_none() {
            self.log.note("the rest of the output could not be read");
        }
        self.final_metrics(work, finder);
        Ok(outcome)
    }

    fn run_command(&mut self, plan: &Plan<'_>, finder: Finder) -> Result<(Ended, Option<Finder>), Early> {
        let failed = |message: String| Early::failed(Exit::SetupFailed, message);
        let running = command::start(plan, &self.log, &self.outbox, finder);
        let running = running.map_err(|e| failed(not_started(&plan.program[0], &e)))?;
        let ended = running.supervise(plan, &mut self.control);
        ended.map_err(|e| failed(format!("its command could not be supervised: {e}")))
    }

    /// `output/metrics.json`: an object of names and numbers.
    fn final_metrics(&self, work: &Path, finder: Option<Finder>) {
        let path = work.join("output").join("metrics.json");
        let is_small = fs::symlink_metadata(&path).is_ok_and(|m| m.is_file() && m.len() <= METRICS_FILE_BYTES_MAX);
        let Some(bytes) = is_small.then(|| fs::read(&path).ok()).flatten() else { return };
        let Ok(values) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes) else {
            self.log.note("metrics.json is not a JSON object of names and numbers and is not read");
            return;
        };
        let mut finder = finder.unwrap_or_else(|| Finder::new(&[]).0);
        for (name, value) in values {
            let found = value.as_f64().and_then(|value| finder.point(&name, None, value));
            if let Some(f) = found {
                self.outbox.metric(MetricPoint { name: f.name, step: f.step, value: f.value, at: now() });
            }
        }
    }

    /// Stores what was left in the folders of model and output.
    fn save(&mut self, outcome: Outcome) -> (Outcome, Saved) {
        let ran = outcome.started.is_some() && outcome.exit != Exit::Cancelled;
        if !ran {
            return (outcome, Saved::default());
        }
        self.tell(Phase::Saving, outcome.environment);
        // Saving is not part of what the limit limits.
        self.deadline = None;
        let mut saved = Saved::default();
        for (what, slot) in [("model", &mut saved.model), ("output", &mut saved.output)] {
            match self.upload(&self.folder.work().join(what)) {
                Ok(digest) => *slot = digest,
                Err(Early::Ended(early)) if early.exit == Exit::Cancelled => {
                    return (
                        Outcome {
                            exit: Exit::Cancelled,
                            message: Some("cancelled while its outputs were saved".into()),
                            ..outcome
                        },
                        Saved::default(),
                    );
                }
                Err(Early::Closed) => return (outcome, Saved::default()),
                Err(Early::Ended(early)) => {
                    let why = format!("its {what} could not be saved: {}", early.message.unwrap_or_default());
                    self.log.note(&why);
                    // How it failed says more than what followed.
                    if outcome.exit == (Exit::Code { code: 0 }) {
                        return (Outcome { exit: Exit::SetupFailed, message: Some(why), ..outcome }, Saved::default());
                    }
                }
            }
        }
        (outcome, saved)
    }

    fn upload(&mut self, folder: &Path) -> Result<Option<Digest>, Early> {
        if !holds_a_file(folder) {
            return Ok(None);
        }
        let (link, folder) = (self.link.clone(), folder.to_owned());
        let sent = self.aside(move || {
            link.call(About::Content, &|| link.flags.stopping(), |c| {
                c.tree_upload(&folder, UploadRules::Everything, &())
            })
        })?;
        match sent {
            Ok(uploaded) => Ok(Some(uploaded.tree.digest)),
            Err(Fault::Stopped) => Err(self.stopped()),
            Err(Fault::Refused(e)) => Err(Early::failed(Exit::SetupFailed, e.to_string())),
        }
    }

    /// What the task had on the disk is of no use now.
    fn tidy(&self) {
        if let Err(e) = remove_tree(&self.folder.work()) {
            eprintln!("{} could not be removed: {e}", self.folder.work().display());
        }
    }
}

fn send_report(
    link: &Link,
    outcome: &Outcome,
    saved: Saved,
    quoted: &str,
    task: Option<&TaskSpec>,
) -> Result<(), String> {
    let spec = task.map(|t| &t.spec);
    let memory = spec.map(|s| s.resources.memory).unwrap_or_default();
    let usual = || words(&outcome.exit, memory, spec.and_then(|s| s.time_limit_s));
    let mut message = outcome.message.clone().unwrap_or_else(usual);
    if !quoted.is_empty() {
        message.push_str("; the log ends:\n");
        message.push_str(quoted);
    }
    let report = ExitReport {
        exit: outcome.exit.clone(),
        message: (outcome.exit != Exit::Code { code: 0 }).then_some(message),
        command_started_at: outcome.started,
        command_ended_at: outcome.ended,
        ended_at: Some(now()),
        environment: outcome.environment,
        model: saved.model,
        output: saved.output,
    };
    match link.call(About::Attempt, &|| link.flags.closed(), |c| c.attempt_finish(&link.attempt, &report)) {
        Ok(()) | Err(Fault::Stopped) => Ok(()),
        Err(Fault::Refused(e)) => Err(format!("the report was not taken: {e}")),
    }
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

/// Whether there is any file below the folder.
fn holds_a_file(folder: &Path) -> bool {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                _ => return true,
            }
        }
    }
    false
}

/// Runs work in a thread of its own, which is left to itself once there is a
/// reason to stop.
fn aside<T: Send + 'static>(
    control: &mut Control,
    deadline: Option<Instant>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Stop> {
    let (send, done) = sync_channel(1);
    let waker = control.waker();
    let flags = control.flags();
    std::thread::spawn(move || {
        let _ = send.send(work());
        waker.wake();
    });
    loop {
        match done.try_recv() {
            Ok(value) => return Ok(value),
            Err(TryRecvError::Disconnected) => panic!("a thread of the shim panicked"),
            Err(TryRecvError::Empty) => (),
        }
        if flags.closed() {
            return Err(Stop::Closed);
        }
        if flags.cancelled() {
            return Err(Stop::Cancelled);
        }
        if deadline.is_some_and(|at| at <= Instant::now()) {
            return Err(Stop::TimeLimit);
        }
        // Without signals or wake-ups this ends after a minute at most.
        if control.wait(deadline).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
