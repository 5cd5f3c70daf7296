//! `application/x-npy`: NumPy's file format, versions 1 to 3.
//!
//! Source: "A simple file format for NumPy arrays" (numpy.lib.format).

use bytes::Bytes;

use super::{shaped, tensor};
use crate::failure::Failure;
use crate::tensor::{Data, DataType, Port, Tensor, elements};

const MAGIC: &[u8] = b"\x93NUMPY";
/// Longest head that is read.
const HEAD_MAX: usize = 64 << 10;

const TYPES: [(&str, DataType); 13] = [
    ("|b1", DataType::Bool),
    ("|u1", DataType::U8),
    ("<u2", DataType::U16),
    ("<u4", DataType::U32),
    ("<u8", DataType::U64),
    ("|i1", DataType::I8),
    ("<i2", DataType::I16),
    ("<i4", DataType::I32),
    ("<i8", DataType::I64),
    ("<f2", DataType::F16),
    ("<f4", DataType::F32),
    ("<f8", DataType::F64),
    ("|S", DataType::Text),
];

pub(super) fn read(
    body: &Bytes,
    port: Option<&Port>,
    cost: &dyn Fn(DataType) -> usize,
    charge: &mut dyn FnMut(usize) -> Result<(), Failure>,
) -> Result<Tensor, Failure> {
    let (head, at) = head(body).map_err(|why| Failure::bad(format!("the body is no .npy file: {why}")))?;
    let field = |name: &str| {
        let (_, rest) = head.split_once(&format!("'{name}':"))?;
        Some(rest.trim_start())
    };
    let odd = || Failure::bad("the body is no .npy file: its head is not understood");
    let descr = field("descr").and_then(|f| f.strip_prefix('\'')?.split_once('\'')).ok_or_else(odd)?.0;
    let datatype = TYPES.iter().find(|(name, datatype)| *name == descr && *datatype != DataType::Text);
    let datatype = datatype.map(|(_, datatype)| *datatype).ok_or_else(|| {
        let shown = super::super::clip(descr);
        Failure::bad(format!("arrays of '{shown}' are not understood; send little-endian numbers or booleans"))
    })?;
    if field("fortran_order").is_none_or(|order| !order.starts_with("False")) {
        return Err(Failure::bad("the array is in Fortran order; send numpy.ascontiguousarray(array)"));
    }
    let shape = field("shape").and_then(|f| f.strip_prefix('(')?.split_once(')')).ok_or_else(odd)?.0;
    let shape = shape.split(',').map(str::trim).filter(|n| !n.is_empty());
    let shape =
        shape.map(|n| n.trim_end_matches('L').parse::<i64>()).collect::<Result<Vec<_>, _>>().map_err(|_| odd())?;
    let wanted = elements(&shape).ok_or_else(odd)?;
    let bytes = body.slice(at..);
    if wanted.checked_mul(datatype.size().unwrap_or(1)) != Some(bytes.len()) {
        return Err(Failure::bad(format!("the array has {} bytes; its shape and type ask for others", bytes.len())));
    }
    if datatype == DataType::Bool && bytes.iter().any(|b| *b > 1) {
        return Err(Failure::bad("the array has a boolean that is neither 0 nor 1"));
    }
    charge(wanted.saturating_mul(cost(datatype)))?;
    if let Some(port) = port
        && port.datatype != datatype
    {
        let (want, got) = (port.datatype.name(), datatype.name());
        return Err(Failure::bad(format!(
            "the array has the datatype {got}; the model's input '{}' wants {want}",
            port.name
        )));
    }
    tensor(port, datatype, shaped(port, shape, "the array")?, Data::Raw(bytes))
}

/// The head as text, and where the data begins.
fn head(body: &[u8]) -> Result<(&str, usize), &'static str> {
    let rest = body.strip_prefix(MAGIC).ok_or("it does not begin as one")?;
    let (length, from) = match rest {
        [1, _, a, b, ..] => (usize::from(u16::from_le_bytes([*a, *b])), 10),
        [2 | 3, _, a, b, c, d, ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, 12),
        _ => return Err("its version is not known"),
    };
    if length > HEAD_MAX {
        return Err("its head is too long");
    }
    let head = body.get(from..from + length).ok_or("its head is cut off")?;
    Ok((std::str::from_utf8(head).map_err(|_| "its head is not text")?, from + length))
}

pub(super) fn write(output: &Tensor) -> Result<Vec<u8>, Failure> {
    let Data::Raw(bytes) = &output.data else {
        return Err(Failure::bad("the output is text; accept application/json"));
    };
    let descr = TYPES.iter().find(|(_, datatype)| *datatype == output.datatype).map_or("<f4", |(descr, _)| descr);
    let mut shape: String = output.shape.iter().map(|n| format!("{n}, ")).collect();
    if output.shape.len() > 1 {
        shape.truncate(shape.len() - 2);
    }
    let shape = shape.trim_end();
    let mut head = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    // What follows is to begin at a multiple of 64.
    while !(MAGIC.len() + 4 + head.len() + 1).is_multiple_of(64) {
        head.push(' ');
    }
    head.push('\n');
    let length = u16::try_from(head.len()).map_err(|_| Failure::bad("the output has too many dimensions"))?;
    let mut file = Vec::with_capacity(10 + head.len() + bytes.len());
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&[1, 0]);
    file.extend_from_slice(&length.to_le_bytes());
    file.extend_from_slice(head.as_bytes());
    file.extend_from_slice(bytes);
    Ok(file)
}
