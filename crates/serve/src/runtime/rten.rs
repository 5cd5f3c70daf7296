//! ONNX models in this process without any library beside the program: `rten`,
//! in Rust. What is used where onnxruntime is not installed.
//!
//! It knows fewer operators, and computes in four types only: the 64-bit
//! integers and booleans of a model are 32-bit integers in it. So a model
//! whose inputs or outputs are of other types is refused, and so is an integer
//! that would not fit. A run cannot be ended early: one that overruns its
//! limit keeps the model busy, and the replica says that it is not ready.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use bytes::Bytes;
use muonic_types::ErrorCode;
use rten::{LoadErrorKind, Model, NodeId, RunOptions, ThreadPool, Value, ValueOrView};
use rten_tensor::Layout;

use super::declared::{self, Declaration};
use super::onnx::LIBRARY_HINT;
use super::{Runtime, Stop, name_of};
use crate::failure::Failure;
use crate::tensor::{Data, DataType, Port, Tensor};

/// Beyond a run's limit, before the replica counts as not ready.
const GRACE: Duration = Duration::from_secs(5);

pub struct Rten {
    model: Model,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    output_ids: Vec<NodeId>,
    options: RunOptions,
    /// When the run that is going on is overdue.
    overdue: Mutex<Option<Instant>>,
}

impl Rten {
    /// Loads `model`, to run each request on up to `threads` threads.
    pub fn load(model: &Path, threads: usize) -> anyhow::Result<Self> {
        caught(|| Self::load_inner(model, threads)).unwrap_or_else(|panic| {
            Err(anyhow!("the ONNX model {} cannot be loaded by the built-in runtime: {panic}", name_of(model)))
        })
    }

    fn load_inner(file: &Path, threads: usize) -> anyhow::Result<Self> {
        let declared = declared::read(file)?;
        let ports = |declarations: Vec<Declaration>, what: &str| {
            let port = |Declaration { name, port }: Declaration| match port {
                Ok(port) if is_known(port.datatype) => Ok(port),
                Ok(port) => Err(lacks(file, &format!("{what} '{name}' is of {}", port.datatype.name()))),
                Err(why) => Err(lacks(file, &format!("{what} '{name}' {why}"))),
            };
            declarations.into_iter().map(port).collect::<anyhow::Result<Vec<_>>>()
        };
        // First, since operators are what is lacking more often.
        let model = Model::load_file(file).map_err(|e| match e.kind() {
            LoadErrorKind::OperatorInvalid => lacks(file, &e.to_string()),
            _ => anyhow!("the ONNX model {} cannot be loaded: {e}", name_of(file)),
        })?;
        let (inputs, outputs) = (ports(declared.inputs, "input")?, ports(declared.outputs, "output")?);
        if outputs.is_empty() {
            bail!("the ONNX model {} cannot be loaded: it has no output", name_of(file));
        }
        let id = |port: &Port| model.node_id(&port.name).map_err(|e| lacks(file, &e.to_string()));
        let output_ids = outputs.iter().map(id).collect::<anyhow::Result<_>>()?;
        inputs.iter().try_for_each(|port| id(port).map(drop))?;
        let pool = ThreadPool::with_num_threads(threads.max(1));
        let options = RunOptions::default().with_thread_pool(Some(Arc::new(pool)));
        Ok(Self { model, inputs, outputs, output_ids, options, overdue: Mutex::default() })
    }

    fn overdue(&self) -> MutexGuard<'_, Option<Instant>> {
        self.overdue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lacks(file: &Path, what: &str) -> anyhow::Error {
    anyhow!(
        "the ONNX model {} needs onnxruntime, which is not installed; the built-in runtime lacks: {what}; {LIBRARY_HINT}",
        name_of(file)
    )
}

/// The error is the panic's words.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
    })
}

fn is_known(datatype: DataType) -> bool {
    use DataType::{Bool, F32, I8, I32, I64, U8};
    matches!(datatype, Bool | F32 | I8 | I32 | I64 | U8)
}

fn to_value(tensor: &Tensor) -> Result<Value, Failure> {
    let odd = || Failure::new(ErrorCode::Internal, format!("input '{}' has no elements of its type", tensor.name));
    let Data::Raw(bytes) = &tensor.data else { return Err(odd()) };
    let shape = tensor.shape.iter().map(|n| usize::try_from(*n).map_err(|_| odd())).collect::<Result<Vec<_>, _>>()?;
    let value = match tensor.datatype {
        DataType::F32 => Value::from_shape(&shape, elements(bytes, f32::from_le_bytes)).ok(),
        DataType::I32 => Value::from_shape(&shape, elements(bytes, i32::from_le_bytes)).ok(),
        DataType::I64 => Value::from_shape(&shape, narrowed(&tensor.name, bytes)?).ok(),
        DataType::Bool => Value::from_shape(&shape, elements(bytes, |[b]| i32::from(b != 0))).ok(),
        DataType::U8 => Value::from_shape(&shape, bytes.to_vec()).ok(),
        DataType::I8 => Value::from_shape(&shape, elements(bytes, i8::from_le_bytes)).ok(),
        _ => None,
    };
    value.ok_or_else(odd)
}

fn elements<T, const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|chunk| read(*chunk)).collect()
}

fn narrowed(name: &str, bytes: &[u8]) -> Result<Vec<i32>, Failure> {
    let narrow = |b: &[u8; 8]| {
        let wide = i64::from_le_bytes(*b);
        i32::try_from(wide).map_err(|_| {
            Failure::new(
                ErrorCode::InvalidInput,
                format!("input '{name}' has the value {wide}; the built-in runtime counts in 32 bits, onnxruntime would take it"),
            )
        })
    };
    bytes.as_chunks().0.iter().map(narrow).collect()
}

fn from_value(port: &Port, value: Value) -> Result<Tensor, Failure> {
    let fault =
        |why: String| Failure::new(ErrorCode::Internal, format!("output '{}' cannot be read: {why}", port.name));
    let (shape, bytes): (Vec<usize>, Bytes) = match (port.datatype, value) {
        (DataType::F32, Value::FloatTensor(t)) => {
            (t.shape().to_vec(), t.into_data().iter().flat_map(|v| v.to_le_bytes()).collect())
        }
        (DataType::I32, Value::Int32Tensor(t)) => {
            (t.shape().to_vec(), t.into_data().iter().flat_map(|v| v.to_le_bytes()).collect())
        }
        (DataType::I64, Value::Int32Tensor(t)) => {
            (t.shape().to_vec(), t.into_data().iter().flat_map(|v| i64::from(*v).to_le_bytes()).collect())
        }
        (DataType::Bool, Value::Int32Tensor(t)) => {
            (t.shape().to_vec(), t.into_data().iter().map(|v| u8::from(*v != 0)).collect())
        }
        (DataType::U8, Value::UInt8Tensor(t)) => (t.shape().to_vec(), t.into_data().into()),
        (DataType::I8, Value::Int8Tensor(t)) => {
            (t.shape().to_vec(), t.into_data().iter().map(|v| v.cast_unsigned()).collect())
        }
        (wanted, other) => return Err(fault(format!("it is {}, not {}", other.dtype(), wanted.name()))),
    };
    let shape = shape.into_iter().map(|n| i64::try_from(n).unwrap_or(i64::MAX)).collect();
    Tensor::new(port.name.clone(), port.datatype, shape, Data::Raw(bytes)).map_err(fault)
}

impl Runtime for Rten {
    fn platform(&self) -> &'static str {
        "onnx_rten"
    }

    fn inputs(&self) -> Option<&[Port]> {
        Some(&self.inputs)
    }

    fn outputs(&self) -> Option<&[Port]> {
        Some(&self.outputs)
    }

    /// Booleans are four bytes in it.
    fn element_cost(&self, datatype: DataType) -> usize {
        if datatype == DataType::Bool { 4 } else { 0 }
    }

    fn slots(&self) -> usize {
        1
    }

    fn batches(&self) -> bool {
        let mut ports = self.inputs.iter().chain(&self.outputs);
        !self.inputs.is_empty() && ports.all(|port| port.shape.first() == Some(&-1))
    }

    fn ready(&self) -> Result<(), String> {
        match *self.overdue() {
            Some(overdue) if Instant::now() > overdue + GRACE => Err(format!(
                "a run is {} s over its limit, and the built-in runtime cannot end it",
                overdue.elapsed().as_secs()
            )),
            _ => Ok(()),
        }
    }

    fn infer(&self, inputs: Vec<Tensor>, stop: &Stop) -> Result<Vec<Tensor>, Failure> {
        let values = inputs
            .iter()
            .map(|tensor| {
                let id = self.model.node_id(&tensor.name);
                let id = id.map_err(|e| Failure::bad(format!("input '{}' was refused: {e}", tensor.name)))?;
                Ok((id, ValueOrView::from(to_value(tensor)?)))
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        drop(inputs);
        if stop.is_fired() {
            return Err(Failure::new(ErrorCode::DeadlineExceeded, "the request was stopped before it ran"));
        }
        *self.overdue() = Some(Instant::now() + stop.limit);
        let outputs = caught(|| self.model.run(values, &self.output_ids, Some(self.options.clone())));
        *self.overdue() = None;
        let outputs = match outputs {
            Ok(Ok(outputs)) => outputs,
            // Both depend on the input: shapes that do not fit each other,
            // indices out of range.
            Ok(Err(e)) => return Err(cannot_run(&e.to_string())),
            Err(panic) => return Err(cannot_run(&panic)),
        };
        if outputs.len() != self.outputs.len() {
            return Err(Failure::new(ErrorCode::Internal, "the built-in runtime gave too few outputs"));
        }
        self.outputs.iter().zip(outputs).map(|(port, value)| from_value(port, value)).collect()
    }
}

fn cannot_run(why: &str) -> Failure {
    Failure::new(ErrorCode::InvalidInput, format!("the model cannot run on this input: {why}"))
}
