//! Writes an inference response. Numbers that JSON does not have (NaN and the
//! infinities) become `null`; binary tensor data carries them exactly.

use bytes::Bytes;
use muonic_types::ErrorCode;
use serde::Serialize;

use super::request::Wanted;
use crate::failure::Failure;
use crate::tensor::{Data, DataType, Tensor, f16_to_f32};

#[derive(Debug)]
pub struct Body {
    pub bytes: Bytes,
    /// Length of the JSON part where binary tensors follow it.
    pub json_length: Option<usize>,
}

impl AsRef<Bytes> for Body {
    fn as_ref(&self) -> &Bytes {
        &self.bytes
    }
}

/// The bytes that the outputs and the answer with those that are wanted take,
/// at most, but for names.
pub fn bytes_max(tensors: &[Tensor], wanted: &Wanted) -> usize {
    let written = |tensor: &Tensor| match wanted {
        Wanted::All { binary } => Some(*binary),
        Wanted::These(outputs) => outputs.iter().find(|w| w.name == tensor.name).map(|w| w.binary),
    };
    let bytes = |tensor: &Tensor| match written(tensor) {
        None => 0,
        Some(true) => size(&tensor.data),
        Some(false) => json_bytes_max(tensor),
    };
    tensors.iter().map(|tensor| size(&tensor.data).saturating_add(bytes(tensor))).fold(1024, usize::saturating_add)
}

/// The longest that the elements can be as JSON, each with its comma.
fn json_bytes_max(tensor: &Tensor) -> usize {
    let longest = match tensor.datatype {
        DataType::Bool => 6,
        DataType::U8 => 4,
        DataType::I8 => 5,
        DataType::U16 => 6,
        DataType::I16 => 7,
        DataType::U32 => 11,
        DataType::I32 => 12,
        DataType::U64 | DataType::I64 => 21,
        DataType::F16 | DataType::F32 => 16,
        DataType::F64 => 26,
        DataType::Text => 0,
    };
    match &tensor.data {
        Data::Raw(bytes) => bytes.len() / tensor.datatype.size().unwrap_or(1) * longest,
        // Control characters take six bytes.
        Data::Text(items) => items
            .iter()
            .map(|item| {
                3 + item.iter().map(|b| if *b < b' ' || matches!(b, b'"' | b'\\') { 6 } else { 1 }).sum::<usize>()
            })
            .sum(),
    }
}

/// The outputs that are wanted, in the order wanted. `tensors` are what the
/// model gave.
pub fn write(
    model: &str,
    version: &str,
    id: Option<&str>,
    tensors: Vec<Tensor>,
    wanted: &Wanted,
) -> Result<Body, Failure> {
    let chosen = choose(tensors, wanted)?;
    let mut json = Vec::with_capacity(
        256 + chosen.iter().map(|(t, binary)| size(&t.data) * if *binary { 1 } else { 3 }).sum::<usize>(),
    );
    let any_binary = chosen.iter().any(|(_, b)| *b);
    json.extend_from_slice(b"{\"model_name\":");
    put(&mut json, &model)?;
    json.extend_from_slice(b",\"model_version\":");
    put(&mut json, &version)?;
    if let Some(id) = id {
        json.extend_from_slice(b",\"id\":");
        put(&mut json, &id)?;
    }
    json.extend_from_slice(b",\"outputs\":[");
    for (at, (tensor, as_binary)) in chosen.iter().enumerate() {
        if at > 0 {
            json.push(b',');
        }
        json.extend_from_slice(b"{\"name\":");
        put(&mut json, &tensor.name)?;
        json.extend_from_slice(b",\"datatype\":");
        put(&mut json, &tensor.datatype.name())?;
        json.extend_from_slice(b",\"shape\":");
        put(&mut json, &tensor.shape)?;
        if *as_binary {
            json.extend_from_slice(b",\"parameters\":{\"binary_data_size\":");
            put(&mut json, &size(&tensor.data))?;
            json.extend_from_slice(b"}}");
        } else {
            json.extend_from_slice(b",\"data\":[");
            put_data(&mut json, tensor)?;
            json.extend_from_slice(b"]}");
        }
    }
    json.extend_from_slice(b"]}");
    let json_length = any_binary.then_some(json.len());
    for (tensor, _) in chosen.iter().filter(|(_, as_binary)| *as_binary) {
        json.extend_from_slice(packed(&tensor.data));
    }
    // Only what is written is counted while it leaves.
    json.shrink_to_fit();
    Ok(Body { bytes: json.into(), json_length })
}

/// Those that are wanted, in the order wanted, each with whether it goes as
/// binary data.
pub fn choose(tensors: Vec<Tensor>, wanted: &Wanted) -> Result<Vec<(Tensor, bool)>, Failure> {
    match wanted {
        Wanted::All { binary } => Ok(tensors.into_iter().map(|t| (t, *binary)).collect()),
        Wanted::These(outputs) => {
            let mut tensors = tensors;
            outputs
                .iter()
                .map(|w| match tensors.iter().position(|t| t.name == w.name) {
                    Some(at) => Ok((tensors.swap_remove(at), w.binary)),
                    None => Err(Failure::bad(format!("the model gave no output '{}'", w.name))),
                })
                .collect()
        }
    }
}

fn packed(data: &Data) -> &Bytes {
    match data {
        Data::Raw(bytes) => bytes,
        Data::Text(items) => items.packed(),
    }
}

fn size(data: &Data) -> usize {
    packed(data).len()
}

pub fn put(out: &mut Vec<u8>, value: &impl Serialize) -> Result<(), Failure> {
    serde_json::to_writer(out, value)
        .map_err(|e| Failure::new(ErrorCode::Internal, format!("the answer cannot be written: {e}")))
}

fn put_data(out: &mut Vec<u8>, tensor: &Tensor) -> Result<(), Failure> {
    let mut is_first = true;
    elements(tensor, |element| {
        if !std::mem::take(&mut is_first) {
            out.push(b',');
        }
        out.extend_from_slice(element);
    })
}

/// Each element in row order, as JSON.
pub fn elements(tensor: &Tensor, mut each: impl FnMut(&[u8])) -> Result<(), Failure> {
    let mut written = Vec::with_capacity(32);
    macro_rules! numbers {
        ($bytes:expr, $t:ty, $map:expr) => {{
            let (chunks, _) = $bytes.as_chunks::<{ size_of::<$t>() }>();
            for chunk in chunks {
                written.clear();
                put(&mut written, &$map(<$t>::from_le_bytes(*chunk)))?;
                each(&written);
            }
        }};
    }
    match (&tensor.data, tensor.datatype) {
        (Data::Raw(b), DataType::Bool) => numbers!(b, u8, |v| v != 0),
        (Data::Raw(b), DataType::U8) => numbers!(b, u8, |v| v),
        (Data::Raw(b), DataType::U16) => numbers!(b, u16, |v| v),
        (Data::Raw(b), DataType::U32) => numbers!(b, u32, |v| v),
        (Data::Raw(b), DataType::U64) => numbers!(b, u64, |v| v),
        (Data::Raw(b), DataType::I8) => numbers!(b, i8, |v| v),
        (Data::Raw(b), DataType::I16) => numbers!(b, i16, |v| v),
        (Data::Raw(b), DataType::I32) => numbers!(b, i32, |v| v),
        (Data::Raw(b), DataType::I64) => numbers!(b, i64, |v| v),
        (Data::Raw(b), DataType::F16) => numbers!(b, u16, f16_to_f32),
        (Data::Raw(b), DataType::F32) => numbers!(b, f32, |v| v),
        (Data::Raw(b), DataType::F64) => numbers!(b, f64, |v| v),
        (Data::Raw(_), DataType::Text) => {}
        (Data::Text(items), _) => {
            for item in items.iter() {
                let text = std::str::from_utf8(item).map_err(|_| {
                    Failure::new(
                        ErrorCode::InvalidInput,
                        format!(
                            "output '{}' holds bytes that are not UTF-8; ask for it as binary tensor data",
                            tensor.name
                        ),
                    )
                })?;
                written.clear();
                put(&mut written, &text)?;
                each(&written);
            }
        }
    }
    Ok(())
}
