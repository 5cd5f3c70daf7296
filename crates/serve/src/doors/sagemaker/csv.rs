//! `text/csv`: a row for each line, numbers or text, without a head.

use muonic_types::ErrorCode;

use super::{shaped, tensor};
use crate::failure::Failure;
use crate::oip::response;
use crate::tensor::{Data, DataType, Packer, Port, Tensor, f64_to_f16};

pub(super) fn read(
    body: &[u8],
    port: Option<&Port>,
    cost: &dyn Fn(DataType) -> usize,
    charge: &mut dyn FnMut(usize) -> Result<(), Failure>,
) -> Result<Tensor, Failure> {
    let text = std::str::from_utf8(body).map_err(|_| Failure::bad("the body is not UTF-8"))?;
    let datatype = port.map_or(DataType::F64, |port| port.datatype);
    let cells_max = text.bytes().filter(|b| matches!(b, b',' | b'\n')).count() + 1;
    let each = datatype.size().unwrap_or(4) + cost(datatype);
    charge(cells_max.saturating_mul(each).saturating_add(if datatype == DataType::Text { text.len() } else { 0 }))?;
    let (mut rows, mut columns) = (0_i64, None);
    let (mut bytes, mut texts) = (Vec::new(), Packer::default());
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let mut cells = 0_i64;
        for cell in line.split(',') {
            cells += 1;
            let bad = |why: String| Failure::bad(format!("line {}, value {cells}: {why}", at + 1));
            let cell = cell.trim();
            match datatype {
                DataType::Text => texts.push(cell.trim_matches('"').as_bytes()).map_err(bad)?,
                _ => number(cell, datatype, &mut bytes).map_err(bad)?,
            }
        }
        if *columns.get_or_insert(cells) != cells {
            let first = columns.unwrap_or_default();
            return Err(Failure::bad(format!("line {} has {cells} values, those before have {first}", at + 1)));
        }
        rows += 1;
    }
    let Some(columns) = columns else { return Err(Failure::bad("the body has no line of values")) };
    // One value a line for an input of one dimension.
    let is_flat = port.is_some_and(|port| port.shape.len() == 1) && (rows == 1 || columns == 1);
    let shape = if is_flat { vec![rows * columns] } else { vec![rows, columns] };
    let shape = shaped(port, shape, "the body")?;
    let data = if datatype == DataType::Text { Data::Text(texts.finish()) } else { Data::Raw(bytes.into()) };
    tensor(port, datatype, shape, data)
}

/// The error ends a sentence.
pub(super) fn number(cell: &str, datatype: DataType, bytes: &mut Vec<u8>) -> Result<(), String> {
    let wrong = || format!("'{}' is no {}", super::super::clip(cell), datatype.name());
    macro_rules! put {
        ($t:ty) => {{
            // Tools write whole numbers as 3.0 too.
            let whole = cell.strip_suffix(".0").unwrap_or(cell);
            let value: $t = whole.parse().map_err(|_| wrong())?;
            bytes.extend_from_slice(&value.to_le_bytes());
        }};
    }
    match datatype {
        DataType::U8 => put!(u8),
        DataType::U16 => put!(u16),
        DataType::U32 => put!(u32),
        DataType::U64 => put!(u64),
        DataType::I8 => put!(i8),
        DataType::I16 => put!(i16),
        DataType::I32 => put!(i32),
        DataType::I64 => put!(i64),
        DataType::F32 => put!(f32),
        DataType::F64 => put!(f64),
        DataType::F16 => {
            let value: f64 = cell.parse().map_err(|_| wrong())?;
            bytes.extend_from_slice(&f64_to_f16(value).to_le_bytes());
        }
        DataType::Bool => match cell {
            "0" | "false" | "False" => bytes.push(0),
            "1" | "true" | "True" => bytes.push(1),
            _ => return Err(wrong()),
        },
        DataType::Text => return Err(wrong()),
    }
    Ok(())
}

/// A line for each of the first dimension.
pub(super) fn write(output: &Tensor) -> Result<Vec<u8>, Failure> {
    let rows = output.shape.first().map_or(1, |n| usize::try_from(*n).unwrap_or(0));
    let mut flat = Vec::new();
    let mut ends = Vec::new();
    response::elements(output, |written: &[u8]| {
        flat.extend_from_slice(written);
        ends.push(flat.len());
    })?;
    if output.datatype == DataType::Text && flat.iter().any(|b| matches!(b, b'\n' | b',')) {
        return Err(Failure::new(ErrorCode::InvalidInput, "the output has text with commas; accept application/json"));
    }
    let columns = ends.len().checked_div(rows).unwrap_or(0).max(1);
    let mut csv = Vec::with_capacity(flat.len() + ends.len());
    let mut from = 0;
    for (at, end) in ends.iter().enumerate() {
        csv.extend_from_slice(&flat[from..*end]);
        csv.push(if (at + 1) % columns == 0 { b'\n' } else { b',' });
        from = *end;
    }
    Ok(csv)
}
