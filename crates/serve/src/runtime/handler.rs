//! A model that is a Python class, run in worker processes with the model's
//! own environment.
//!
//! A worker that dies or overruns a request's time is replaced. A request
//! whose worker died before it answered is given to another once, unless the
//! class says that `predict` must not see a request twice (`retry = False`).

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::Context;
use bytes::{Buf, Bytes};
use muonic_types::ErrorCode;
use serde::{Deserialize, Serialize};

use super::frames::{ALIGN, Frame};
use super::pool::{Hello, Pool, Settings, WORKERS_MAX};
use super::program::Program;
use super::worker::{CallError, Worker};
use super::{Runtime, Stop, VALUE_COST};
use crate::failure::Failure;
use crate::tensor::{Data, DataType, Port, Tensor, Texts};

pub struct Handler {
    pool: Arc<Pool>,
    inputs: Option<Vec<Port>>,
    outputs: Option<Vec<Port>>,
    workers: usize,
    batches: bool,
    retry: bool,
    /// Tensors reach the class as arrays of numpy; else as lists.
    has_arrays: bool,
    is_table: bool,
    platform: &'static str,
    supervisor: std::sync::Mutex<Option<JoinHandle<()>>>,
}

/// What a worker says of its class.
#[derive(Deserialize)]
struct Said {
    inputs: Option<Vec<Head>>,
    outputs: Option<Vec<Head>>,
    workers: usize,
    batches: bool,
    retry: bool,
    numpy: bool,
    table: bool,
    shares: Shares,
}

impl Hello for Said {
    fn workers(&self) -> usize {
        self.workers
    }
}

/// What workers are forked with.
#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Shares {
    Model,
    Imports,
    Nothing,
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
        let script = Program::worker().context("cannot hold the worker's program in memory")?;
        let pool = Arc::new(Pool::new(&settings));
        let (first, started) = std::sync::mpsc::sync_channel::<Result<Said, String>>(1);
        let (asked, platform) = (settings.workers, settings.program.platform);
        let supervisor = {
            let pool = Arc::clone(&pool);
            std::thread::Builder::new()
                .name("worker-supervisor".into())
                .spawn(move || pool.supervise(&settings, &script, first))?
        };
        let said = started.recv().context("the workers' supervisor ended")?.map_err(anyhow::Error::msg);
        let made = said.and_then(|said| {
            let ports = |heads: Option<Vec<Head>>, what: &str| {
                heads.map(|h| h.into_iter().map(|h| port(h, what)).collect::<anyhow::Result<Vec<_>>>()).transpose()
            };
            let (inputs, outputs) = (ports(said.inputs, "inputs")?, ports(said.outputs, "outputs")?);
            let workers = asked.unwrap_or(said.workers);
            anyhow::ensure!(
                (1..=WORKERS_MAX).contains(&workers),
                "the model asks for {workers} workers; there are 1 to {WORKERS_MAX}"
            );
            let fixed = inputs.iter().chain(&outputs).flatten().find(|p| p.shape.first().is_none_or(|n| *n >= 0));
            if let Some(port) = fixed.filter(|_| said.batches) {
                anyhow::bail!("the model says that it takes batches, but not that the first dimension of '{}' is -1", port.name);
            }
            match said.shares {
                Shares::Model => tracing::info!("workers are forked with the model made"),
                Shares::Imports => tracing::info!("each worker makes the model itself: once made it has threads or open files, which a fork would not have"),
                Shares::Nothing => tracing::info!("each worker imports the model's program itself: it starts threads or opens files when it is imported, which a fork would not have"),
            }
            Ok((inputs, outputs, workers, said.batches, said.retry, said.numpy, said.table))
        });
        match made {
            Ok((inputs, outputs, workers, batches, retry, has_arrays, is_table)) => {
                let supervisor = std::sync::Mutex::new(Some(supervisor));
                Ok(Self { pool, inputs, outputs, workers, batches, retry, has_arrays, is_table, platform, supervisor })
            }
            Err(e) => {
                pool.stop();
                let _ = supervisor.join();
                Err(e)
            }
        }
    }

    /// Also where it may not be given to another worker.
    fn failed(&self, worker: Worker, error: CallError) -> Failed {
        let unavailable = |how: &str| {
            let why = format!("the model's worker {how} while it worked on this request; another is being started");
            Failure::new(ErrorCode::Unavailable, why)
        };
        let (why, failure, again) = match error {
            CallError::TimedOut => (
                "overran the time of a request and was ended".to_owned(),
                Failure::new(
                    ErrorCode::DeadlineExceeded,
                    "the model did not answer within the time limit; its worker was ended",
                ),
                Again::Never,
            ),
            // It cannot have seen the request.
            CallError::Gone(how) => (how.clone(), unavailable(&how), Again::Always),
            CallError::Died(how) => {
                let failure = unavailable(&how);
                (how, failure, if self.retry { Again::Once } else { Again::Never })
            }
            CallError::Garbled(what) => {
                let failure = Failure::new(ErrorCode::Internal, format!("the model's worker sent {what}"));
                (format!("sent {what} and was ended"), failure, Again::Never)
            }
        };
        tracing::warn!("the model's worker {why}; another is started");
        self.pool.give_up(worker, why);
        Failed { failure, again }
    }
}

struct Failed {
    failure: Failure,
    again: Again,
}

/// Whether a request may be given to another worker.
#[derive(Clone, Copy, PartialEq)]
enum Again {
    Never,
    Once,
    Always,
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
        self.platform
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
        self.workers
    }

    fn batches(&self) -> bool {
        self.batches
    }

    fn is_table(&self) -> bool {
        self.is_table
    }

    fn ready(&self) -> Result<(), String> {
        self.pool.ready()
    }

    fn infer(&self, inputs: Vec<Tensor>, stop: &Stop) -> Result<Vec<Tensor>, Failure> {
        let until = Instant::now() + stop.limit;
        // A worker that is found dead costs nothing; one that dies with the request may cost it.
        let (mut died, mut found_dead) = (0, 0);
        loop {
            if stop.is_fired() {
                return Err(Failure::new(ErrorCode::DeadlineExceeded, "the request was stopped before it ran"));
            }
            let mut worker = self.pool.take(until).map_err(|why| Failure::new(ErrorCode::Unavailable, why))?;
            let Failed { failure, again } = match call(&mut worker, &inputs, until) {
                Ok(frame) => {
                    self.pool.put_back(worker);
                    return decode(frame);
                }
                Err(e) => self.failed(worker, e),
            };
            match again {
                Again::Once if died == 0 => died += 1,
                Again::Always if found_dead < FOUND_DEAD_MAX => found_dead += 1,
                _ => return Err(failure),
            }
        }
    }

    fn shut_down(&self) {
        self.pool.stop();
        let supervisor = self.supervisor.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(supervisor) = supervisor {
            let _ = supervisor.join();
        }
    }
}

/// Workers that one request may find dead, as when somebody ends them all.
const FOUND_DEAD_MAX: usize = 2 * WORKERS_MAX;

impl Drop for Handler {
    fn drop(&mut self) {
        self.shut_down();
    }
}

fn call(worker: &mut Worker, inputs: &[Tensor], deadline: Instant) -> Result<Frame, CallError> {
    let parts: Vec<&[u8]> = inputs
        .iter()
        .map(|tensor| match &tensor.data {
            Data::Raw(bytes) => &bytes[..],
            Data::Text(items) => &items.packed()[..],
        })
        .collect();
    let heads = inputs.iter().zip(&parts).map(|(t, bytes)| Head {
        name: t.name.clone(),
        datatype: t.datatype.name().to_owned(),
        shape: t.shape.clone(),
        bytes: bytes.len(),
    });
    let json = serde_json::to_vec(&Call { inputs: heads.collect() })
        .map_err(|e| CallError::Garbled(format!("nothing: {e}")))?;
    worker.call(&json, &parts, deadline)
}

pub(crate) fn decode(frame: Frame) -> Result<Vec<Tensor>, Failure> {
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
            if frame.is_aligned {
                let gap = head.bytes.next_multiple_of(ALIGN) - head.bytes;
                binary.advance(gap.min(binary.len()));
            }
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
