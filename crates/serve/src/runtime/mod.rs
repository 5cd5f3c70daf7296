//! What can run a model: one trait, three runtimes. [`onnx`] runs ONNX files
//! in this process, and so does [`rten`] where onnxruntime is not installed;
//! [`handler`] runs a Python class in worker processes.
//!
//! A runtime is called from blocking threads, at most [`Runtime::slots`] at
//! once, with inputs already checked against [`Runtime::inputs`].

mod declared;
mod fork_server;
pub(crate) mod frames;
pub mod handler;
pub mod onnx;
pub mod pool;
pub mod program;
pub mod rten;
mod wear;
mod worker;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::failure::Failure;
use crate::tensor::{DataType, Port, Tensor};

pub trait Runtime: Send + Sync {
    /// The protocol's `platform`.
    fn platform(&self) -> &'static str;

    /// `None` where the model does not say.
    fn inputs(&self) -> Option<&[Port]>;

    /// `None` where the model does not say.
    fn outputs(&self) -> Option<&[Port]>;

    /// Bytes that an element of an input takes in it, at most, beside those it
    /// has in its tensor.
    fn element_cost(&self, datatype: DataType) -> usize;

    /// Requests it runs at once; more would only wait for each other.
    fn slots(&self) -> usize;

    /// Whether the first dimension of all inputs and outputs may have any size,
    /// so that it may count rows which could go together.
    fn batches(&self) -> bool {
        false
    }

    /// Whether inputs and outputs are columns of a table.
    fn is_table(&self) -> bool {
        false
    }

    /// The error is a sentence: why it cannot run requests now.
    fn ready(&self) -> Result<(), String>;

    /// Blocks until the answer is there, `stop` fires or its limit is over.
    fn infer(&self, inputs: Vec<Tensor>, stop: &Stop) -> Result<Vec<Tensor>, Failure>;

    /// Ends worker processes. No call comes after it.
    fn shut_down(&self) {}
}

fn name_of(model: &Path) -> String {
    model.file_name().unwrap_or(model.as_os_str()).to_string_lossy().into_owned()
}

/// A value of its own for each element: an allocation and what points to it,
/// once or twice; in Python perhaps within a list of its own.
const VALUE_COST: usize = 144;

/// Ends one run early: at its limit, or when nobody waits for its answer any
/// more.
pub struct Stop {
    /// Counts from the moment the runtime begins with the run.
    pub limit: Duration,
    fired: AtomicBool,
    hook: Mutex<Option<Hook>>,
}

type Hook = Box<dyn FnOnce() + Send>;

impl Stop {
    pub fn after(limit: Duration) -> Self {
        Self { limit, fired: AtomicBool::new(false), hook: Mutex::new(None) }
    }

    pub fn is_fired(&self) -> bool {
        self.fired.load(Ordering::SeqCst)
    }

    /// Runs `hook` when this fires, at once if it has.
    pub fn on_fire(&self, hook: impl FnOnce() + Send + 'static) {
        *self.lock() = Some(Box::new(hook));
        if self.is_fired() {
            self.run_hook();
        }
    }

    pub fn fire(&self) {
        self.fired.store(true, Ordering::SeqCst);
        self.run_hook();
    }

    fn run_hook(&self) {
        let hook = self.lock().take();
        if let Some(hook) = hook {
            hook();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Hook>> {
        self.hook.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
