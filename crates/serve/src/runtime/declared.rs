//! What an ONNX file says of its inputs and outputs: as much of the format as
//! that takes. Its weights are skipped.
//!
//! Source: `onnx.proto3` of ONNX; the numbers are its field numbers.

use std::path::Path;

use anyhow::{Context, anyhow};
use prost::Message;

use super::name_of;
use crate::tensor::{DataType, Port};

pub struct Declared {
    pub inputs: Vec<Declaration>,
    pub outputs: Vec<Declaration>,
}

pub struct Declaration {
    pub name: String,
    /// The error ends a sentence.
    pub port: Result<Port, String>,
}

/// Reads the whole file once, which may be large.
pub fn read(model: &Path) -> anyhow::Result<Declared> {
    let bytes = std::fs::read(model).with_context(|| format!("the ONNX model {} cannot be read", name_of(model)))?;
    let file = Model::decode(&bytes[..])
        .map_err(|e| anyhow!("the ONNX model {} cannot be loaded: it is damaged or none: {e}", name_of(model)))?;
    let graph = file.graph.unwrap_or_default();
    // Old files list weights among the inputs.
    let is_weight = |value: &&Value| graph.initializer.iter().any(|weight| weight.name == value.name);
    Ok(Declared {
        inputs: graph.input.iter().filter(|value| !is_weight(value)).map(Value::declaration).collect(),
        outputs: graph.output.iter().map(Value::declaration).collect(),
    })
}

#[derive(Message)]
struct Model {
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
}

#[derive(Message)]
struct Graph {
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<Weight>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<Value>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<Value>,
}

#[derive(Message)]
struct Weight {
    #[prost(string, tag = "8")]
    name: String,
}

#[derive(Message)]
struct Value {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    r#type: Option<Type>,
}

#[derive(Message)]
struct Type {
    #[prost(message, optional, tag = "1")]
    tensor: Option<TensorType>,
}

#[derive(Message)]
struct TensorType {
    #[prost(int32, tag = "1")]
    element: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

#[derive(Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<Dimension>,
}

#[derive(Message)]
struct Dimension {
    #[prost(int64, optional, tag = "1")]
    size: Option<i64>,
}

impl Value {
    fn declaration(&self) -> Declaration {
        Declaration { name: self.name.clone(), port: self.port() }
    }

    fn port(&self) -> Result<Port, String> {
        let tensor = self.r#type.as_ref().and_then(|of| of.tensor.as_ref()).ok_or("is not a tensor")?;
        let datatype = datatype(tensor.element)
            .ok_or_else(|| format!("has elements of ONNX's type {}, which is not implemented", tensor.element))?;
        let shape = tensor.shape.as_ref().ok_or("says nothing of its shape")?;
        let shape = shape.dim.iter().map(|dim| dim.size.filter(|size| *size >= 0).unwrap_or(-1)).collect();
        Ok(Port { name: self.name.clone(), datatype, shape })
    }
}

fn datatype(element: i32) -> Option<DataType> {
    Some(match element {
        1 => DataType::F32,
        2 => DataType::U8,
        3 => DataType::I8,
        4 => DataType::U16,
        5 => DataType::I16,
        6 => DataType::I32,
        7 => DataType::I64,
        8 => DataType::Text,
        9 => DataType::Bool,
        10 => DataType::F16,
        11 => DataType::F64,
        12 => DataType::U32,
        13 => DataType::U64,
        _ => return None,
    })
}
