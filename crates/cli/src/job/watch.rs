//! Watching a job to its end: notes on stderr, its log on the way, and a
//! first Ctrl-C that leaves the job alone.
//!
//! Three threads: one asks for the job, one reads the log of the attempt
//! under way, this one tells what they bring. All waits are bounded, and all
//! survive a restart of the server.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use muonic_client::{Client, LogRange};
use muonic_types::JobId;
use muonic_types::job::{AttemptState, Job};

use super::notes::notes;
use crate::context::{Context, note, tell};
use crate::failure::{Exit, Failure, Result};
use crate::link::{Link, ask};
use crate::log::{self, Sink, Source};
use crate::progress::Spinner;

/// How soon Ctrl-C is noticed.
const TICK: Duration = Duration::from_millis(100);
/// At first a job changes quickly.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// How long the rest of the log may take once the job is final.
const LOG_REST: Duration = Duration::from_secs(30);

/// What is shown on the way.
pub(crate) struct Watch {
    /// Lines about queue, phases and retries.
    pub notes: bool,
    /// The log, from this attempt on.
    pub log: Option<(LogTo, u32)>,
    /// Ctrl-C ends the watching with a sentence instead of the program.
    pub catch_interrupt: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogTo {
    Stdout,
    OnTheWay,
    Stderr,
    JsonLines,
}

impl LogTo {
    pub(crate) fn sink(self) -> Sink {
        match self {
            Self::Stdout => Sink::stdout(),
            Self::OnTheWay => Sink::on_the_way(),
            Self::Stderr => Sink::stderr(),
            Self::JsonLines => Sink::JsonLines(Vec::new()),
        }
    }
}

pub(crate) enum Watched {
    Final(Box<Job>),
    Interrupted,
}

enum Event {
    Job(Box<Job>),
    LogEnded(Result<()>),
    Failed(Failure),
}

impl Watch {
    pub(crate) fn run(self, context: &Context, id: &JobId) -> Result<Watched> {
        let interrupted = Arc::new(AtomicBool::new(false));
        if self.catch_interrupt {
            catch_interrupt(&interrupted)?;
        }
        let link = Arc::new(Link::new(context)?);
        let (send, events) = mpsc::sync_channel(16);
        std::thread::spawn({
            let (link, id, send) = (link.clone(), id.clone(), send.clone());
            move || poll(&link, &id, |event| send.send(event).is_ok())
        });

        let mut state = State {
            last: None,
            spinner: None,
            log_running: false,
            log_shown: Arc::default(),
            next: self.log.map_or(1, |(_, from)| from),
        };
        let mut final_since: Option<Instant> = None;
        loop {
            if interrupted.load(Ordering::Relaxed) {
                return Ok(Watched::Interrupted);
            }
            match events.recv_timeout(TICK) {
                Ok(Event::Job(job)) => state.see(*job, self.notes),
                Ok(Event::LogEnded(result)) => {
                    result?;
                    state.log_running = false;
                    state.next += 1;
                }
                Ok(Event::Failed(failure)) => return Err(failure),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::new(Exit::Failed, "the watcher ended early"));
                }
            }
            let Some(job) = &state.last else { continue };
            let ready = job.attempts.iter().any(|a| a.number == state.next);
            if let Some((to, _)) = self.log
                && ready
                && !state.log_running
            {
                state.log_running = true;
                state.spinner = None;
                let source = AttemptLog { job: id.clone(), attempt: state.next, shown: state.log_shown.clone() };
                let (link, send) = (link.clone(), send.clone());
                std::thread::spawn(move || {
                    let result = log::follow(&link, &source, &mut to.sink());
                    // Where nobody waits any more, the result does not matter.
                    let _ = send.send(Event::LogEnded(result));
                });
            }
            if job.state.is_final() {
                let since = *final_since.get_or_insert_with(Instant::now);
                let log_over =
                    self.log.is_none() || (!state.log_running && !job.attempts.iter().any(|a| a.number == state.next));
                if !log_over && since.elapsed() > LOG_REST {
                    note(format!("the rest of the log is not here yet; see it with: muonic job logs {id}"));
                } else if !log_over {
                    continue;
                }
                return Ok(Watched::Final(Box::new(job.clone())));
            }
        }
    }
}

struct State {
    last: Option<Job>,
    spinner: Option<Spinner>,
    log_running: bool,
    /// Some of the log was shown since the last note.
    log_shown: Arc<AtomicBool>,
    /// The attempt whose log comes next.
    next: u32,
}

impl State {
    fn see(&mut self, job: Job, with_notes: bool) {
        if with_notes {
            let lines = notes(self.last.as_ref(), &job, self.log_shown.load(Ordering::Relaxed));
            // A line that turns stands only where no log can write into it.
            let idle = job.attempts.is_empty() && !job.state.is_final();
            if !lines.is_empty() || !idle {
                self.spinner = None;
            }
            if !lines.is_empty() {
                self.log_shown.store(false, Ordering::Relaxed);
            }
            lines.iter().for_each(tell);
            if idle && self.spinner.is_none() {
                self.spinner = Some(Spinner::new("waiting"));
            }
        }
        self.last = Some(job);
    }
}

/// Asks for the job until it is final or nobody listens.
fn poll(link: &Link, id: &JobId, tell: impl Fn(Event) -> bool) {
    let mut pause = FIRST_PAUSE;
    loop {
        let asked =
            ask(link, |client| if pause < LAST_PAUSE { client.job(id) } else { client.job_wait(id, LAST_PAUSE) });
        match asked {
            Ok(job) => {
                let over = job.state.is_final();
                if !tell(Event::Job(Box::new(job))) || over {
                    return;
                }
            }
            Err(failure) => {
                tell(Event::Failed(failure));
                return;
            }
        }
        if pause < LAST_PAUSE {
            std::thread::sleep(pause);
            pause = (pause * 3 / 2).min(LAST_PAUSE);
        }
    }
}

pub(crate) struct AttemptLog {
    pub job: JobId,
    pub attempt: u32,
    /// Set before the log's bytes are shown.
    pub shown: Arc<AtomicBool>,
}

struct Shown<R>(R, Arc<AtomicBool>);

impl<R: Read> Read for Shown<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.0.read(buf)?;
        if n > 0 {
            self.1.store(true, Ordering::Relaxed);
        }
        Ok(n)
    }
}

impl Source for AttemptLog {
    fn open(&self, client: &Client, offset: u64, follow: bool) -> muonic_client::Result<Box<dyn Read + Send>> {
        let range = LogRange { follow, attempt: Some(self.attempt), offset };
        Ok(Box::new(Shown(client.job_logs(&self.job, range)?, self.shown.clone())))
    }

    fn ended(&self, client: &Client) -> muonic_client::Result<bool> {
        let job = client.job(&self.job)?;
        let attempt = job.attempts.iter().find(|a| a.number == self.attempt);
        Ok(job.state.is_final() || attempt.is_some_and(|a| a.state == AttemptState::Finished))
    }
}

/// The first Ctrl-C is only noticed; the second ends the program.
fn catch_interrupt(noticed: &Arc<AtomicBool>) -> Result<()> {
    use signal_hook::consts::SIGINT;
    let failed = |e: std::io::Error| Failure::new(Exit::Failed, format!("Ctrl-C cannot be caught: {e}"));
    signal_hook::flag::register_conditional_shutdown(SIGINT, Exit::Interrupted as i32, noticed.clone())
        .map_err(failed)?;
    signal_hook::flag::register(SIGINT, noticed.clone()).map_err(failed)?;
    Ok(())
}
