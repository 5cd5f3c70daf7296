//! ONNX models in this process, by onnxruntime's shared library.
//!
//! The library is loaded once per process, from a file (see [`find_library`]),
//! never from the network. Outputs that are not tensors (the maps that
//! scikit-learn's converter makes for class probabilities unless told
//! `zipmap=False`) are left out with a note; a model with no other output is
//! refused.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use muonic_types::ErrorCode;
use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::memory::Allocator;
use ort::session::{RunOptions, Session, SessionInputValue};
use ort::value::{DynTensor, DynValue, Outlet, TensorElementType, ValueType};

use super::{Runtime, Stop, VALUE_COST, name_of};
use crate::failure::Failure;
use crate::tensor::{Data, DataType, Packer, Port, Tensor};

/// Environment variable that names the library.
pub const LIBRARY_VARIABLE: &str = "MUONIC_ONNXRUNTIME";
const LIBRARY: &str = "libonnxruntime.so";

/// In its place: the built-in runtime is wanted.
const NONE: &str = "none";
/// What to do to have it.
pub const LIBRARY_HINT: &str =
    "put libonnxruntime.so beside the program or in ../lib from there, or name it in MUONIC_ONNXRUNTIME";

/// The first that exists of: `setting`, the environment variable, beside the
/// executable, `../lib/` from it. A place that was named must exist. `None`
/// where it is nowhere, or `none` was named.
pub fn find_library(setting: Option<&str>) -> anyhow::Result<Option<PathBuf>> {
    let variable = std::env::var(LIBRARY_VARIABLE).ok().filter(|v| !v.is_empty());
    for (named, by) in [(setting.map(str::to_owned), "the setting 'onnxruntime'"), (variable, LIBRARY_VARIABLE)] {
        if let Some(path) = named.map(PathBuf::from) {
            if path.as_os_str() == NONE {
                return Ok(None);
            }
            if !path.is_file() {
                bail!("{by} names {}, where there is no file", path.display());
            }
            return Ok(Some(path));
        }
    }
    let exe = std::env::current_exe().context("cannot find the own executable")?;
    let dir = exe.parent().unwrap_or(Path::new("/"));
    Ok([dir.join(LIBRARY), dir.join("../lib").join(LIBRARY)].into_iter().find(|place| place.is_file()))
}

pub struct Onnx {
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// `run` wants the session for itself alone.
    session: Mutex<Session>,
}

impl Onnx {
    /// Loads `model`, to run each request on up to `threads` threads.
    pub fn load(model: &Path, library: &Path, threads: usize) -> anyhow::Result<Self> {
        // The bindings panic on a library that is too old or is none, and on
        // types they do not know.
        catch_unwind(AssertUnwindSafe(|| Self::load_inner(model, library, threads))).unwrap_or_else(|panic| {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or(panic.downcast_ref::<&str>().copied())
                .unwrap_or("unknown");
            Err(anyhow!("onnxruntime ({}) cannot load {}: {text}", library.display(), model.display()))
        })
    }

    fn load_inner(model: &Path, library: &Path, threads: usize) -> anyhow::Result<Self> {
        let environment = environment(library)?;
        let session = Session::builder(&environment)
            .and_then(|b| b.with_intra_threads(threads.max(1)).map_err(ort::Error::from))
            .and_then(|b| b.with_log_level(LogLevel::Fatal).map_err(ort::Error::from))
            .and_then(|b| b.with_intra_op_spinning(false).map_err(ort::Error::from))
            .and_then(|mut b| b.commit_from_file(model))
            .map_err(|e| anyhow!("the ONNX model {} cannot be loaded: {e}", name_of(model)))?;
        let inputs = session
            .inputs()
            .iter()
            .map(|i| port(i).map_err(|why| anyhow!("input '{}' of the model {why}", i.name())))
            .collect::<Result<Vec<_>, _>>()?;
        let mut outputs = Vec::new();
        let mut skipped = Vec::new();
        for output in session.outputs() {
            match port(output) {
                Ok(port) => outputs.push(port),
                Err(why) => skipped.push(format!("output '{}' {why}", output.name())),
            }
        }
        if outputs.is_empty() {
            bail!(
                "the ONNX model {} has no output that is a tensor: {}; a scikit-learn classifier must be exported with zipmap=False",
                name_of(model),
                skipped.join("; ")
            );
        }
        for note in &skipped {
            tracing::warn!("{note} and is left out; export with zipmap=False to have it");
        }
        Ok(Self { inputs, outputs, session: Mutex::new(session) })
    }
}

/// One environment per process, whichever model asks first.
fn environment(library: &Path) -> anyhow::Result<Environment> {
    static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);
    let mut environment = ENVIRONMENT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(environment) = &*environment {
        return Ok(environment.clone());
    }
    let made = ort::init_from(library)
        .map_err(|e| anyhow!("onnxruntime cannot be loaded from {}: {e}", library.display()))?
        .with_name("muonic")
        .with_telemetry(false)
        .build()
        .map_err(|e| anyhow!("onnxruntime does not start: {e}"))?;
    // Its errors come back to the caller, who answers them; printed too, a
    // client could fill the log with bad requests.
    made.set_log_level(LogLevel::Fatal);
    Ok(environment.insert(made).clone())
}

fn port(outlet: &Outlet) -> Result<Port, String> {
    match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => match datatype(*ty) {
            Some(datatype) => Ok(Port { name: outlet.name().to_owned(), datatype, shape: shape.to_vec() }),
            None => Err(format!("is a tensor of {ty}, which is not implemented")),
        },
        ValueType::Sequence(_) => Err("is a sequence, not a tensor".into()),
        ValueType::Map { .. } => Err("is a map, not a tensor".into()),
        ValueType::Optional(_) => Err("is an optional value, not a tensor".into()),
    }
}

fn datatype(ty: TensorElementType) -> Option<DataType> {
    Some(match ty {
        TensorElementType::Bool => DataType::Bool,
        TensorElementType::Uint8 => DataType::U8,
        TensorElementType::Uint16 => DataType::U16,
        TensorElementType::Uint32 => DataType::U32,
        TensorElementType::Uint64 => DataType::U64,
        TensorElementType::Int8 => DataType::I8,
        TensorElementType::Int16 => DataType::I16,
        TensorElementType::Int32 => DataType::I32,
        TensorElementType::Int64 => DataType::I64,
        TensorElementType::Float16 => DataType::F16,
        TensorElementType::Float32 => DataType::F32,
        TensorElementType::Float64 => DataType::F64,
        TensorElementType::String => DataType::Text,
        _ => return None,
    })
}

fn element_type(datatype: DataType) -> TensorElementType {
    match datatype {
        DataType::Bool => TensorElementType::Bool,
        DataType::U8 => TensorElementType::Uint8,
        DataType::U16 => TensorElementType::Uint16,
        DataType::U32 => TensorElementType::Uint32,
        DataType::U64 => TensorElementType::Uint64,
        DataType::I8 => TensorElementType::Int8,
        DataType::I16 => TensorElementType::Int16,
        DataType::I32 => TensorElementType::Int32,
        DataType::I64 => TensorElementType::Int64,
        DataType::F16 => TensorElementType::Float16,
        DataType::F32 => TensorElementType::Float32,
        DataType::F64 => TensorElementType::Float64,
        DataType::Text => TensorElementType::String,
    }
}

/// Copies a tensor into the runtime's own memory.
fn to_ort(tensor: &Tensor) -> Result<DynValue, Failure> {
    let refused = |e: &dyn std::fmt::Display| {
        Failure::new(ErrorCode::InvalidInput, format!("input '{}' was refused: {e}", tensor.name))
    };
    match &tensor.data {
        Data::Raw(bytes) => {
            let mut value =
                DynTensor::new(&Allocator::default(), element_type(tensor.datatype), tensor.shape.as_slice())
                    .map_err(|e| refused(&e))?;
            let target = value.data_ptr_mut();
            if !bytes.is_empty() && !target.is_null() {
                // SAFETY: the runtime has just allocated this tensor on the
                // CPU for `shape` elements of `datatype`, and `Tensor::new`
                // checked that `bytes` is exactly that long; the two cannot
                // overlap.
                unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target.cast::<u8>(), bytes.len()) };
            }
            Ok(value.into_dyn())
        }
        Data::Text(items) => {
            let strings = items
                .iter()
                .map(|item| match std::str::from_utf8(item) {
                    Ok(text) if !text.contains('\0') => Ok(text.to_owned()),
                    _ => Err(Failure::bad(format!(
                        "input '{}' holds a string that is not UTF-8 or has a NUL in it; the model wants text",
                        tensor.name
                    ))),
                })
                .collect::<Result<Vec<String>, _>>()?;
            let value = ort::value::Tensor::from_string_array((tensor.shape.clone(), strings.as_slice()))
                .map_err(|e| refused(&e))?;
            Ok(value.into_dyn())
        }
    }
}

fn from_ort(port: &Port, value: &DynValue) -> Result<Tensor, Failure> {
    let fault =
        |why: String| Failure::new(ErrorCode::Internal, format!("output '{}' cannot be read: {why}", port.name));
    let tensor = value.view().downcast::<ort::value::DynTensorValueType>().map_err(|e| fault(e.to_string()))?;
    let shape = tensor.shape().to_vec();
    let datatype =
        datatype(*tensor.data_type()).ok_or_else(|| fault("it has a datatype that is not implemented".into()))?;
    let data = match datatype.size() {
        None => {
            let (_, strings) = tensor.try_extract_strings().map_err(|e| fault(e.to_string()))?;
            let mut packer = Packer::default();
            for text in &strings {
                packer.push(text.as_bytes()).map_err(&fault)?;
            }
            Data::Text(packer.finish())
        }
        Some(size) => {
            let length = crate::tensor::elements(&shape)
                .and_then(|n| n.checked_mul(size))
                .ok_or_else(|| fault(format!("it has shape {shape:?}")))?;
            let source = tensor.data_ptr();
            if length == 0 || source.is_null() {
                Data::Raw(Bytes::new())
            } else {
                // SAFETY: a CPU tensor of this shape and element size, which
                // lives as long as `value`; the bytes are copied at once.
                Data::Raw(Bytes::copy_from_slice(unsafe { std::slice::from_raw_parts(source.cast::<u8>(), length) }))
            }
        }
    };
    Tensor::new(port.name.clone(), datatype, shape, data).map_err(fault)
}

impl Runtime for Onnx {
    fn platform(&self) -> &'static str {
        "onnx_onnxv1"
    }

    fn inputs(&self) -> Option<&[Port]> {
        Some(&self.inputs)
    }

    fn outputs(&self) -> Option<&[Port]> {
        Some(&self.outputs)
    }

    fn element_cost(&self, datatype: DataType) -> usize {
        if datatype == DataType::Text { VALUE_COST } else { 0 }
    }

    fn slots(&self) -> usize {
        1
    }

    fn batches(&self) -> bool {
        let mut ports = self.inputs.iter().chain(&self.outputs);
        !self.inputs.is_empty() && ports.all(|port| port.shape.first() == Some(&-1))
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    fn infer(&self, inputs: Vec<Tensor>, stop: &Stop) -> Result<Vec<Tensor>, Failure> {
        let internal =
            |e: &dyn std::fmt::Display| Failure::new(ErrorCode::Internal, format!("onnxruntime failed: {e}"));
        let options = Arc::new(RunOptions::new().map_err(|e| internal(&e))?);
        let values = inputs
            .iter()
            .map(|t| Ok((t.name.clone(), SessionInputValue::from(to_ort(t)?))))
            .collect::<Result<Vec<_>, Failure>>()?;
        drop(inputs);
        let hook = Arc::clone(&options);
        stop.on_fire(move || {
            // Where it fails the run ends by itself, only later.
            let _ = hook.terminate();
        });
        let mut session = self.session.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if stop.is_fired() {
            return Err(Failure::new(ErrorCode::DeadlineExceeded, "the request was stopped before it ran"));
        }
        // What fails in here depends on the input: shapes that do not fit
        // each other, indices out of range.
        let outputs = session.run_with_options(values, &options).map_err(|e| {
            if stop.is_fired() {
                Failure::new(ErrorCode::DeadlineExceeded, "the request was stopped at its time limit")
            } else {
                Failure::new(ErrorCode::InvalidInput, format!("the model cannot run on this input: {e}"))
            }
        })?;
        self.outputs
            .iter()
            .map(|port| match outputs.get(&port.name) {
                Some(value) => from_ort(port, value),
                None => Err(internal(&format_args!("it gave no output '{}'", port.name))),
            })
            .collect()
    }
}
