//! What is checked of a request whichever way it is encoded.

use std::collections::HashSet;

use bytes::Bytes;
use muonic_types::ErrorCode;

use crate::failure::Failure;
use crate::tensor::{Data, DataType, Port, Texts, elements};

/// Most inputs or outputs in one request.
pub const PORTS_MAX: usize = 1024;
/// Most dimensions of a tensor.
pub const RANK_MAX: usize = 32;
/// Longest name, datatype or id, as it stands in the request.
pub const NAME_BYTES_MAX: usize = 4 << 10;

/// The datatype of an input and the number of its elements, where the model
/// takes such an input.
pub fn input(name: &str, datatype: &str, dims: &[i64], ports: Option<&[Port]>) -> Result<(DataType, usize), Failure> {
    let shown = clip(name);
    let bad = |message: String| Failure::bad(format!("input '{shown}' {message}"));
    let datatype = DataType::parse(datatype).ok_or_else(|| match datatype {
        "BF16" => Failure::new(ErrorCode::NotImplemented, "not implemented: BF16 tensors"),
        other => bad(format!("has the unknown datatype '{}'; there are {}", clip(other), DataType::names())),
    })?;
    let wanted = elements(dims).ok_or_else(|| {
        bad(format!("has shape {:?}; dimensions must be 0 or more and their product fit in memory", dims))
    })?;
    if let Some(ports) = ports {
        let port = ports
            .iter()
            .find(|p| p.name == name)
            .ok_or_else(|| Failure::bad(format!("the model has no input '{shown}'; it wants {}", list(ports))))?;
        if port.datatype != datatype {
            return Err(bad(format!("has datatype {}; the model wants {}", datatype.name(), port.datatype.name())));
        }
        let fits =
            port.shape.len() == dims.len() && port.shape.iter().zip(dims).all(|(want, got)| *want < 0 || want == got);
        if !fits {
            return Err(bad(format!("has shape {}; the model wants {}", shape(dims), shape(&port.shape))));
        }
    }
    Ok((datatype, wanted))
}

/// That no input is missing.
pub fn complete(names: &HashSet<String>, ports: Option<&[Port]>) -> Result<(), Failure> {
    match ports.and_then(|ports| Some((ports, ports.iter().find(|p| !names.contains(&p.name))?))) {
        Some((ports, missing)) => {
            Err(Failure::bad(format!("input '{}' is missing; the model wants {}", missing.name, list(ports))))
        }
        None => Ok(()),
    }
}

/// That the model has such an output, and that it is not among `names`, which
/// it joins.
pub fn output(name: &str, ports: Option<&[Port]>, names: &mut HashSet<String>) -> Result<(), Failure> {
    let shown = clip(name);
    if let Some(ports) = ports
        && !ports.iter().any(|p| p.name == name)
    {
        return Err(Failure::bad(format!("the model has no output '{shown}'; it has {}", list(ports))));
    }
    if !names.insert(name.to_owned()) {
        return Err(Failure::bad(format!("output '{shown}' stands twice in the request")));
    }
    Ok(())
}

/// Elements as they stand in the memory of a little-endian machine. The error
/// ends a sentence.
pub fn binary(bytes: Bytes, datatype: DataType, dims: &[i64], wanted: usize) -> Result<Data, String> {
    if let Some(size) = datatype.size() {
        let expected = wanted.checked_mul(size);
        if expected != Some(bytes.len()) {
            return Err(format!(
                "has {} bytes of binary data; {} of shape {} takes {} bytes for each of {wanted} values",
                bytes.len(),
                datatype.name(),
                shape(dims),
                size
            ));
        }
        if datatype == DataType::Bool && bytes.iter().any(|b| *b > 1) {
            return Err("has binary data with a byte above 1; BOOL wants 0 or 1".into());
        }
        return Ok(Data::Raw(bytes));
    }
    let items = Texts::parse(bytes).map_err(|why| format!("has binary data that {why}"))?;
    if items.count() != wanted {
        return Err(format!("has {} values; its shape {} asks for {wanted}", items.count(), shape(dims)));
    }
    Ok(Data::Text(items))
}

/// `[-1,64]`, as messages show shapes.
pub fn shape(dims: &[i64]) -> String {
    format!("[{}]", dims.iter().map(i64::to_string).collect::<Vec<_>>().join(","))
}

fn list(ports: &[Port]) -> String {
    ports
        .iter()
        .map(|p| format!("'{}' ({} {})", p.name, p.datatype.name(), shape(&p.shape)))
        .collect::<Vec<_>>()
        .join(", ")
}

pub fn clip(text: &str) -> &str {
    &text[..text.floor_char_boundary(100)]
}
