//! A model that is a Python class, run in a worker process with the model's
//! own environment.
//!
//! ```text
//! supervisor thread:  spawn ─▶ wait for "ready" ─▶ idle ─▶ (dies) ─▶ back-off ─▶ spawn …
//! request threads:            take the worker ─▶ frame out, frame in ─▶ put it back
//! ```
//!
//! A worker that dies or overruns a request's time is replaced; the request
//! it had gets an answer that says so. Only the supervisor starts workers:
//! the kernel ties a worker's life to the thread that started it.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use muonic_types::ErrorCode;
use serde::{Deserialize, Serialize};

use super::worker::{CallError, LogBudget, Script, Worker};
use super::{Runtime, Stop, VALUE_COST};
use crate::confined::Confined;
use crate::environment::Python;
use crate::failure::Failure;
use crate::tensor::{Data, DataType, Port, Tensor, Texts};

/// Longest time `Handler(path)` may take.
const START_LIMIT: Duration = Duration::from_secs(600);
const BACK_OFF_FIRST: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// A worker that lived this long was well; the next failure starts afresh.
const WELL_AFTER: Duration = Duration::from_secs(60);
/// How often an idle worker is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What it takes to start a worker.
pub struct Settings {
    pub python: Python,
    pub model: PathBuf,
    /// Bytes of the worker's prints that are kept.
    pub log_bytes_max: u64,
    /// The limits that the worker is under, where it is under any.
    pub confined: Option<Arc<Confined>>,
}

pub struct Handler {
    shared: Arc<Shared>,
    inputs: Option<Vec<Port>>,
    outputs: Option<Vec<Port>>,
    /// Tensors reach the class as arrays of numpy; else as lists.
    has_arrays: bool,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

enum State {
    Starting,
    Idle(Worker),
    /// A request has the worker.
    Busy,
    /// The last one ended, with the reason in words; another will follow.
    Down(String),
    Stopping,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Sets a state unless the end has come, which is final.
    fn set(&self, state: State) {
        let mut now = self.lock();
        if !matches!(*now, State::Stopping) {
            *now = state;
        }
        self.changed.notify_all();
    }
}

/// A worker's first frame.
#[derive(Deserialize)]
struct Hello {
    #[serde(default)]
    failed: Option<String>,
    #[serde(default)]
    inputs: Option<Vec<Head>>,
    #[serde(default)]
    outputs: Option<Vec<Head>>,
    #[serde(default)]
    numpy: bool,
}

#[derive(Serialize, Deserialize)]
struct Head {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    #[serde(default)]
    bytes: usize,
}

#[derive(Serialize)]
struct Call {
    inputs: Vec<Head>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Outputs(Vec<Head>),
    /// The handler refused the input.
    Refused(String),
    /// The handler failed, or what it gave cannot be sent.
    Fault(String),
}

impl Handler {
    /// Starts the first worker and waits until its class is made.
    pub fn load(settings: Settings) -> anyhow::Result<Self> {
        let script = Script::new().context("cannot hold the worker's program in memory")?;
        let shared = Arc::new(Shared { state: Mutex::new(State::Starting), changed: Condvar::new() });
        let (first, started) = std::sync::mpsc::sync_channel(1);
        let supervisor = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("worker-supervisor".into())
                .spawn(move || supervise(&settings, &script, &shared, first))?
        };
        match started.recv().context("the worker's supervisor ended")?.map_err(anyhow::Error::msg) {
            Ok(Said { inputs, outputs, has_arrays }) => {
                Ok(Self { shared, inputs, outputs, has_arrays, supervisor: Mutex::new(Some(supervisor)) })
            }
            Err(e) => {
                let _ = supervisor.join();
                Err(e)
            }
        }
    }
}

/// What a worker says of itself.
struct Said {
    inputs: Option<Vec<Port>>,
    outputs: Option<Vec<Port>>,
    has_arrays: bool,
}

fn supervise(
    settings: &Settings,
    script: &Script,
    shared: &Shared,
    first: std::sync::mpsc::SyncSender<Result<Said, String>>,
) {
    let budget = LogBudget::new(settings.log_bytes_max);
    let mut first = Some(first);
    let mut back_off = BACK_OFF_FIRST;
    loop {
        let began = Instant::now();
        match start(settings, script, shared, &budget) {
            Ok((worker, said)) => {
                shared.set(State::Idle(worker));
                if let Some(first) = first.take() {
                    let _ = first.send(Ok(said));
                }
                let Some(why) = wait_for_end(shared) else { return };
                tracing::warn!("the model's worker {why}; another is started");
            }
            Err(e) => {
                let why = format!("{e:#}");
                if let Some(first) = first.take() {
                    let _ = first.send(Err(why));
                    return;
                }
                tracing::warn!("the model's worker cannot be started again: {why}");
                shared.set(State::Down(format!("could not be started again: {why}")));
            }
        }
        back_off = if began.elapsed() > WELL_AFTER { BACK_OFF_FIRST } else { (back_off * 2).min(BACK_OFF_MAX) };
        if !pause(shared, back_off) {
            return;
        }
    }
}

/// False where the end has come meanwhile.
fn pause(shared: &Shared, wait: Duration) -> bool {
    let (state, _) = shared
        .changed
        .wait_timeout_while(shared.lock(), wait, |state| !matches!(state, State::Stopping))
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    !matches!(*state, State::Stopping)
}

/// Returns why the worker ended, `None` where the end of all has come.
fn wait_for_end(shared: &Shared) -> Option<String> {
    let mut state = shared.lock();
    loop {
        match &mut *state {
            State::Stopping => return None,
            State::Down(why) => return Some(why.clone()),
            State::Idle(worker) => {
                if let Some(why) = worker.ended() {
                    *state = State::Down(why.clone());
                    return Some(why);
                }
            }
            State::Busy | State::Starting => {}
        }
        state = shared.changed.wait_timeout(state, LOOK_EVERY).unwrap_or_else(std::sync::PoisonError::into_inner).0;
    }
}

fn start(
    settings: &Settings,
    script: &Script,
    shared: &Shared,
    budget: &Arc<LogBudget>,
) -> anyhow::Result<(Worker, Said)> {
    let python = settings.python.python.display();
    let mut worker = Worker::spawn(settings, script.path(), budget).with_context(|| format!("cannot run {python}"))?;
    let limit = Instant::now() + START_LIMIT;
    let frame = loop {
        // In short steps, so that the end of all is noticed.
        match worker.receive((Instant::now() + LOOK_EVERY).min(limit)) {
            Ok(frame) => break frame,
            Err(CallError::TimedOut) if Instant::now() < limit && !matches!(*shared.lock(), State::Stopping) => {}
            Err(CallError::TimedOut) => bail!("the handler was not ready within {} s", START_LIMIT.as_secs()),
            Err(CallError::Died(how)) => bail!("the worker {how} while it loaded handler.py; its log says more"),
            Err(CallError::Garbled(what)) => bail!("the worker sent {what}"),
        }
    };
    let hello: Hello = serde_json::from_slice(&frame.json).context("the worker's first words cannot be understood")?;
    if let Some(why) = hello.failed {
        bail!("handler.py cannot be loaded: {why}");
    }
    let ports = |heads: Option<Vec<Head>>, what: &str| {
        heads.map(|h| h.into_iter().map(|h| port(h, what)).collect::<anyhow::Result<Vec<_>>>()).transpose()
    };
    let (inputs, outputs) = (ports(hello.inputs, "inputs")?, ports(hello.outputs, "outputs")?);
    Ok((worker, Said { inputs, outputs, has_arrays: hello.numpy }))
}

fn port(head: Head, what: &str) -> anyhow::Result<Port> {
    let datatype = DataType::parse(&head.datatype).with_context(|| {
        format!(
            "Handler.{what} says that '{}' has the datatype '{}'; there are {}",
            head.name,
            head.datatype,
            DataType::names()
        )
    })?;
    Ok(Port { name: head.name, datatype, shape: head.shape })
}

impl Runtime for Handler {
    fn platform(&self) -> &'static str {
        "muonic_python"
    }

    fn inputs(&self) -> Option<&[Port]> {
        self.inputs.as_deref()
    }

    fn outputs(&self) -> Option<&[Port]> {
        self.outputs.as_deref()
    }

    fn element_cost(&self, datatype: DataType) -> usize {
        if self.has_arrays && datatype != DataType::Text { 0 } else { VALUE_COST }
    }

    fn slots(&self) -> usize {
        1
    }

    fn ready(&self) -> Result<(), String> {
        match &*self.shared.lock() {
            State::Idle(_) | State::Busy => Ok(()),
            State::Starting => Err("the model's worker is starting".into()),
            State::Down(why) => Err(format!("the model's worker {why}; another is being started")),
            State::Stopping => Err("the replica is stopping".into()),
        }
    }

    fn infer(&self, inputs: Vec<Tensor>, stop: &Stop) -> Result<Vec<Tensor>, Failure> {
        let unavailable = |why: String| Failure::new(ErrorCode::Unavailable, why);
        if stop.is_fired() {
            return Err(Failure::new(ErrorCode::DeadlineExceeded, "the request was stopped before it ran"));
        }
        let mut worker = {
            let mut state = self.shared.lock();
            match std::mem::replace(&mut *state, State::Busy) {
                State::Idle(worker) => worker,
                other => {
                    let why = match &other {
                        State::Down(why) => format!("the model's worker {why}; another is being started"),
                        State::Stopping => "the replica is stopping".into(),
                        State::Starting => "the model's worker is starting".into(),
                        State::Idle(_) | State::Busy => "the model's worker is busy".into(),
                    };
                    *state = other;
                    return Err(unavailable(why));
                }
            }
        };
        match call(&mut worker, &inputs, Instant::now() + stop.limit) {
            Ok(frame) => {
                self.shared.set(State::Idle(worker));
                decode(frame)
            }
            Err(e) => {
                let (why, failure) = match e {
                    CallError::TimedOut => (
                        "overran the time of a request and was ended".to_owned(),
                        Failure::new(
                            ErrorCode::DeadlineExceeded,
                            "the model did not answer within the time limit; its worker was ended",
                        ),
                    ),
                    CallError::Died(how) => {
                        let failure = unavailable(format!(
                            "the model's worker {how} while it worked on this request; another is being started"
                        ));
                        (how, failure)
                    }
                    CallError::Garbled(what) => {
                        let failure = Failure::new(ErrorCode::Internal, format!("the model's worker sent {what}"));
                        (format!("sent {what} and was ended"), failure)
                    }
                };
                drop(worker);
                self.shared.set(State::Down(why));
                Err(failure)
            }
        }
    }

    fn shut_down(&self) {
        let worker = std::mem::replace(&mut *self.shared.lock(), State::Stopping);
        drop(worker);
        self.shared.changed.notify_all();
        let supervisor = self.supervisor.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(supervisor) = supervisor {
            let _ = supervisor.join();
        }
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.shut_down();
    }
}

fn call(worker: &mut Worker, inputs: &[Tensor], deadline: Instant) -> Result<super::worker::Frame, CallError> {
    let mut packed = Vec::with_capacity(inputs.len());
    for tensor in inputs {
        packed.push(match &tensor.data {
            Data::Raw(bytes) => bytes,
            Data::Text(items) => items.packed(),
        });
    }
    let heads = inputs.iter().zip(&packed).map(|(t, bytes)| Head {
        name: t.name.clone(),
        datatype: t.datatype.name().to_owned(),
        shape: t.shape.clone(),
        bytes: bytes.len(),
    });
    let json = serde_json::to_vec(&Call { inputs: heads.collect() })
        .map_err(|e| CallError::Garbled(format!("nothing: {e}")))?;
    let parts: Vec<&[u8]> = packed.iter().map(|b| &b[..]).collect();
    worker.send(&json, &parts, deadline)?;
    worker.receive(deadline)
}

pub(crate) fn decode(frame: super::worker::Frame) -> Result<Vec<Tensor>, Failure> {
    let internal = |why: String| Failure::new(ErrorCode::Internal, format!("the model's answer cannot be used: {why}"));
    let answer: Answer = serde_json::from_slice(&frame.json).map_err(|e| internal(e.to_string()))?;
    let heads = match answer {
        Answer::Outputs(heads) => heads,
        Answer::Refused(why) => {
            return Err(Failure::new(ErrorCode::InvalidInput, format!("the model refused the input: {why}")));
        }
        Answer::Fault(why) => return Err(Failure::new(ErrorCode::Internal, format!("the model failed: {why}"))),
    };
    let mut binary = Bytes::from(frame.binary);
    heads
        .into_iter()
        .map(|head| {
            let datatype =
                DataType::parse(&head.datatype).ok_or_else(|| internal(format!("the datatype '{}'", head.datatype)))?;
            if head.bytes > binary.len() {
                return Err(internal(format!("output '{}' is cut short", head.name)));
            }
            let bytes = binary.split_to(head.bytes);
            let data = if datatype == DataType::Text {
                let texts = Texts::parse(bytes);
                Data::Text(texts.map_err(|why| internal(format!("output '{}' {why}", head.name)))?)
            } else {
                Data::Raw(bytes)
            };
            Tensor::new(head.name, datatype, head.shape, data).map_err(internal)
        })
        .collect()
}
