//! The workers of one model.
//!
//! ```text
//! supervisor thread:  fork server ─▶ workers, as many as are wanted ─▶ (one dies, or is worn) ─▶ another …
//! request threads:                   take an idle one ─▶ call ─▶ put it back
//! ```
//!
//! Only the supervisor starts anything: the kernel ties what it starts to the
//! life of the thread that did.

use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use muonic_types::Memory;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::fork_server::ForkServer;
use super::program::Program;
use super::wear::resident;
use super::worker::{CallError, Worker};
use crate::confined::Confined;
use crate::environment::Python;
use crate::prints::LogBudget;

/// Longest time until a worker's class is made.
const START_LIMIT: Duration = Duration::from_secs(600);
const BACK_OFF_FIRST: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// How often idle workers are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// For a worker to come, where all are gone and others are being forked.
const WAIT_FOR_WORKER: Duration = Duration::from_secs(10);

/// What it takes to start workers.
pub struct Settings {
    pub python: Python,
    pub model: PathBuf,
    /// The file with the class.
    pub program: Program,
    /// Bytes of the workers' prints that are kept.
    pub log_bytes_max: u64,
    /// Workers, instead of what the class says.
    pub workers: Option<usize>,
    /// The limits that the workers are under, where they are under any.
    pub confined: Option<Arc<Confined>>,
}

pub struct Pool {
    state: Mutex<State>,
    changed: Condvar,
    memory: Memory,
}

#[derive(Default)]
struct State {
    idle: Vec<Worker>,
    wanted: usize,
    /// Idle or with a request.
    live: usize,
    /// Of those that live, how many shall go when another has come.
    worn: usize,
    /// Workers in a row that ended without having answered anything.
    fruitless: u32,
    /// How the last one ended, or why another could not be started.
    why: String,
    /// Another will not be there soon.
    is_down: bool,
    /// Requests that wait for one.
    waiting: usize,
    stopping: bool,
}

impl State {
    /// One is gone.
    fn lost(&mut self, worker: &Worker, why: String) {
        self.live -= 1;
        self.worn -= usize::from(worker.wear.worn);
        self.fruitless = if worker.answered > 0 { 0 } else { self.fruitless.saturating_add(1) };
        self.why = why;
    }

    fn missing(&self) -> usize {
        (self.wanted + self.worn).saturating_sub(self.live)
    }

    /// Takes out a worn one that another has come for.
    fn retired(&mut self) -> Option<Worker> {
        if self.live <= self.wanted {
            return None;
        }
        let at = self.idle.iter().position(|worker| worker.wear.worn)?;
        let worker = self.idle.swap_remove(at);
        self.live -= 1;
        self.worn -= 1;
        Some(worker)
    }

    /// Before the next one is forked: the first time none, then longer each time.
    fn back_off(&self) -> Duration {
        match self.fruitless.checked_sub(2) {
            None => Duration::ZERO,
            Some(n) => BACK_OFF_FIRST.saturating_mul(1 << n.min(16)).min(BACK_OFF_MAX),
        }
    }
}

impl Pool {
    pub fn new(settings: &Settings) -> Self {
        let memory = settings.confined.as_ref().map(|c| c.memory()).unwrap_or_default();
        Self { state: Mutex::default(), changed: Condvar::new(), memory }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why there is none, in words.
    pub fn ready(&self) -> Result<(), String> {
        let state = self.lock();
        match (state.stopping, state.live) {
            (true, _) => Err("the replica is stopping".into()),
            (false, 0) => Err(format!("the model's worker {}; another is being started", state.why)),
            _ => Ok(()),
        }
    }

    /// An idle worker; waits a while for one where all are gone. The error
    /// says why there is none.
    pub fn take(&self, until: Instant) -> Result<Worker, String> {
        let until = until.min(Instant::now() + WAIT_FOR_WORKER);
        let mut state = self.lock();
        loop {
            if state.stopping {
                return Err("the replica is stopping".into());
            }
            if let Some(worker) = state.idle.pop() {
                return Ok(worker);
            }
            let left = until.saturating_duration_since(Instant::now());
            if (state.live == 0 && state.is_down) || left.is_zero() {
                return Err(match state.live {
                    0 => format!("the model's worker {}; another is being started", state.why),
                    _ => "the model's workers are busy".into(),
                });
            }
            state.waiting += 1;
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            state.waiting -= 1;
        }
    }

    /// One that has answered.
    pub fn put_back(&self, mut worker: Worker) {
        let pid = worker.pid;
        let workers = || self.lock().wanted;
        let turned = worker.wear.turns(worker.answered, self.memory, workers, || resident(pid));
        let mut state = self.lock();
        if state.stopping {
            drop(state);
            return;
        }
        state.fruitless = 0;
        state.worn += usize::from(turned);
        // The one that answered last is asked next: what it needs is in the caches.
        state.idle.push(worker);
        let retired = state.retired();
        let wakes_others = state.waiting > 0 || turned;
        drop(state);
        drop(retired);
        if wakes_others {
            self.changed.notify_all();
        }
    }

    /// One that has ended, or must: `why` in words.
    pub fn give_up(&self, worker: Worker, why: String) {
        self.lock().lost(&worker, why);
        self.changed.notify_all();
        drop(worker);
    }

    pub fn stop(&self) {
        let idle = {
            let mut state = self.lock();
            state.stopping = true;
            std::mem::take(&mut state.idle)
        };
        self.changed.notify_all();
        drop(idle);
    }

    fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// False where the end has come meanwhile.
    fn pause(&self, wait: Duration) -> bool {
        let state = self.changed.wait_timeout_while(self.lock(), wait, |state| !state.stopping);
        !state.unwrap_or_else(PoisonError::into_inner).0.stopping
    }

    /// The supervisor. `first` is told of the first worker.
    pub fn supervise<H: DeserializeOwned + Hello>(
        &self,
        settings: &Settings,
        script: &Program,
        first: SyncSender<Result<H, String>>,
    ) {
        let budget = LogBudget::new(settings.log_bytes_max);
        let mut forge = Forge { settings, script, budget, server: None, number: 0 };
        self.keep_up(&mut forge, first);
        if let Some(server) = forge.server {
            server.stop();
        }
    }

    fn keep_up<H: DeserializeOwned + Hello>(&self, forge: &mut Forge<'_>, first: SyncSender<Result<H, String>>) {
        let mut first = Some(first);
        self.lock().wanted = 1;
        loop {
            let wait = {
                let mut state = self.lock();
                state.is_down = state.back_off() > WAIT_FOR_WORKER;
                state.back_off()
            };
            if !wait.is_zero() && !self.pause(wait) {
                return;
            }
            let missing = self.lock().missing();
            match forge.workers::<H>(self, missing) {
                Ok((workers, said)) => {
                    let mut state = self.lock();
                    if state.stopping {
                        drop(state);
                        return;
                    }
                    state.live += workers.len();
                    state.is_down = false;
                    state.idle.splice(0..0, workers);
                    let retired: Vec<Worker> = std::iter::from_fn(|| state.retired()).collect();
                    if let (Some(first), Some(said)) = (first.take(), said) {
                        state.wanted = forge.settings.workers.unwrap_or_else(|| said.workers()).clamp(1, WORKERS_MAX);
                        let _ = first.send(Ok(said));
                    }
                    drop(state);
                    drop(retired);
                    self.changed.notify_all();
                }
                Err(e) => {
                    let why = format!("{e:#}");
                    if let Some(first) = first.take() {
                        let _ = first.send(Err(why));
                        return;
                    }
                    if self.is_stopping() {
                        return;
                    }
                    tracing::warn!("the model's worker cannot be started again: {why}");
                    let mut state = self.lock();
                    state.why = format!("could not be started again: {why}");
                    state.is_down = true;
                    state.fruitless = state.fruitless.saturating_add(1).max(2);
                    drop(state);
                    self.changed.notify_all();
                }
            }
            if !self.wait_for_need() {
                return;
            }
        }
    }

    /// Until a worker is missing; false where the end has come.
    fn wait_for_need(&self) -> bool {
        let mut state = self.lock();
        loop {
            if state.stopping {
                return false;
            }
            let gone = state.idle.iter_mut().position(|worker| worker.stirs());
            if let Some(at) = gone {
                let mut worker = state.idle.swap_remove(at);
                drop(state);
                let why = worker.end_now();
                tracing::warn!("the model's worker {why}; another is started");
                state = self.lock();
                state.lost(&worker, why);
                continue;
            }
            if state.missing() > 0 {
                return true;
            }
            state = self.changed.wait_timeout(state, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Most workers of a replica.
pub const WORKERS_MAX: usize = 64;

/// What a worker says of itself in its first frame.
pub trait Hello {
    fn workers(&self) -> usize;
}

#[derive(Deserialize)]
struct First<H> {
    #[serde(default)]
    failed: Option<String>,
    #[serde(default)]
    pid: i32,
    #[serde(flatten)]
    said: Option<H>,
}

/// Makes workers.
struct Forge<'s> {
    settings: &'s Settings,
    script: &'s Program,
    budget: Arc<LogBudget>,
    server: Option<Arc<ForkServer>>,
    number: u64,
}

impl Forge<'_> {
    /// So many at once, once a first one of a fork server is ready.
    fn workers<H: DeserializeOwned>(&mut self, pool: &Pool, count: usize) -> anyhow::Result<(Vec<Worker>, Option<H>)> {
        let mut ready = Vec::with_capacity(count);
        let mut said = None;
        if self.server.as_ref().is_none_or(|server| server.ended().is_some()) {
            let python = self.settings.python.python.display();
            let server = ForkServer::start(self.settings, self.script, &self.budget);
            let server = self.server.insert(Arc::new(server.with_context(|| format!("cannot run {python}"))?));
            let server = Arc::clone(server);
            let worker = self.fork(&server)?;
            let (worker, words) = self.greeted(pool, worker)?;
            server.listens.store(true, std::sync::atomic::Ordering::SeqCst);
            ready.push(worker);
            said = Some(words);
        }
        let Some(server) = self.server.clone() else { return Ok((ready, said)) };
        let forked: Vec<Worker> =
            (ready.len()..count).map(|_| self.fork(&server)).collect::<anyhow::Result<Vec<_>>>()?;
        for worker in forked {
            ready.push(self.greeted::<H>(pool, worker)?.0);
        }
        Ok((ready, said))
    }

    fn fork(&mut self, server: &Arc<ForkServer>) -> anyhow::Result<Worker> {
        self.number += 1;
        Worker::fork(self.number, server, self.settings.confined.as_ref()).context("cannot fork a worker")
    }

    /// Waits until its class is made.
    fn greeted<H: DeserializeOwned>(&self, pool: &Pool, mut worker: Worker) -> anyhow::Result<(Worker, H)> {
        let name = self.settings.program.name;
        let limit = Instant::now() + START_LIMIT;
        let frame = loop {
            // In short steps, so that the end of all is noticed.
            match worker.greet((Instant::now() + LOOK_EVERY).min(limit)) {
                Ok(frame) => break frame,
                Err(CallError::TimedOut) if Instant::now() < limit && !pool.is_stopping() => {}
                Err(CallError::TimedOut) => bail!("{name} was not ready within {} s", START_LIMIT.as_secs()),
                Err(CallError::Died(how) | CallError::Gone(how)) => {
                    bail!("the worker {how} while it loaded {name}; its log says more")
                }
                Err(CallError::Garbled(what)) => bail!("the worker sent {what}"),
            }
        };
        let unclear = "the worker's first words cannot be understood";
        let First { failed, pid, said } = serde_json::from_slice::<First<H>>(&frame.json).context(unclear)?;
        if let Some(why) = failed {
            bail!("{name} cannot be loaded: {why}");
        }
        worker.pid = pid;
        Ok((worker, said.context(unclear)?))
    }
}
