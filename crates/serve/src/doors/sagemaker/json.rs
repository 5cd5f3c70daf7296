//! `application/json`, in the forms that people send: the Open Inference
//! Protocol, `{"instances": …}`, `{"inputs": …}`, MLflow's `dataframe_split`
//! and `dataframe_records`, or a bare list.

use std::collections::BTreeMap;

use bytes::Bytes;
use muonic_types::ErrorCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{only, shaped, table, tensor};
use crate::failure::Failure;
use crate::oip::{data, request, response};
use crate::replica::Replica;
use crate::tensor::{DataType, Port, Tensor, elements};

/// In which form the answer goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Style {
    /// `{"predictions": rows}`
    Predictions,
    /// `{"outputs": values}`
    Outputs,
    /// The list alone.
    Bare,
    /// `{"outputs": [{"name", "datatype", "shape", "data"}]}`
    Protocol { id: Option<String> },
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(default, borrow)]
    instances: Option<&'a RawValue>,
    #[serde(default, borrow)]
    inputs: Option<&'a RawValue>,
    #[serde(default, borrow)]
    dataframe_split: Option<Frame<'a>>,
    #[serde(default, borrow)]
    dataframe_records: Option<&'a RawValue>,
    #[serde(default, borrow)]
    params: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(default)]
    columns: Vec<serde_json::Value>,
    #[serde(borrow)]
    data: &'a RawValue,
}

pub(super) type Charge<'c> = &'c mut dyn FnMut(usize) -> Result<(), Failure>;
pub(super) type Cost<'c> = &'c dyn Fn(DataType) -> usize;

/// Deepest list that is read.
const DEPTH_MAX: usize = 32;

/// `table` where the model's inputs are columns.
pub(super) fn read(
    body: &Bytes,
    ports: Option<&[Port]>,
    is_table: bool,
    cost: Cost<'_>,
    charge: Charge<'_>,
) -> Result<(Vec<Tensor>, Style), Failure> {
    // Lists and objects that the parser remembers, and rows that are put together anew.
    charge(body.len().saturating_add(64 * body.iter().filter(|b| matches!(b, b'[' | b'{')).count()))?;
    let text = std::str::from_utf8(body).map_err(|_| Failure::bad("the body is not UTF-8"))?;
    let begins = text.trim_start().chars().next();
    let invalid = |e: serde_json::Error| Failure::bad(format!("the body is not valid JSON: {e}"));
    let columns = ports.filter(|_| is_table);
    if begins == Some('[') {
        let list: &RawValue = serde_json::from_str(text).map_err(invalid)?;
        if let Some(columns) = columns {
            return Ok((table::rows(list, None, columns, cost, charge)?, Style::Bare));
        }
        return Ok((vec![list_tensor(list, only(ports)?, cost, charge)?], Style::Bare));
    }
    if begins != Some('{') {
        return Err(Failure::bad("the body is neither a JSON object nor a list"));
    }
    let sent: Body<'_> = serde_json::from_str(text).map_err(invalid)?;
    if sent.params.is_some_and(|params| !matches!(params.get(), "null" | "{}")) {
        return Err(Failure::new(ErrorCode::NotImplemented, "not implemented: params"));
    }
    if let (Some(frame), Some(columns)) = (&sent.dataframe_split, columns) {
        let names = frame.columns.iter().map(|name| name.as_str().map_or_else(|| name.to_string(), str::to_owned));
        let names: Vec<String> = names.collect();
        let names = Some(&*names).filter(|names| !names.is_empty());
        return Ok((table::rows(frame.data, names, columns, cost, charge)?, Style::Predictions));
    }
    if let Some(frame) = &sent.dataframe_split {
        return Ok((vec![frame_tensor(frame, ports, cost, charge)?], Style::Predictions));
    }
    if let Some(rows) = sent.instances.or(sent.dataframe_records) {
        if let Some(columns) = columns {
            return Ok((table::rows(rows, None, columns, cost, charge)?, Style::Predictions));
        }
        return Ok((rows_tensors(rows, ports, cost, charge)?, Style::Predictions));
    }
    let Some(inputs) = sent.inputs else {
        return Err(Failure::bad("the body has none of inputs, instances, dataframe_split and dataframe_records"));
    };
    if inputs.get().starts_with('{') {
        let named: BTreeMap<String, &RawValue> = serde_json::from_str(inputs.get()).map_err(invalid)?;
        let tensors = named.into_iter().map(|(name, value)| named_tensor(&name, value, ports, cost, charge));
        return Ok((tensors.collect::<Result<_, _>>()?, Style::Outputs));
    }
    if is_protocol(inputs) {
        let request::Request { id, inputs, .. } = request::read(body, None, ports, None, cost, charge)?;
        return Ok((inputs, Style::Protocol { id }));
    }
    if let Some(columns) = columns {
        return Ok((table::rows(inputs, None, columns, cost, charge)?, Style::Predictions));
    }
    Ok((vec![list_tensor(inputs, only(ports)?, cost, charge)?], Style::Outputs))
}

/// A list of objects with a datatype.
fn is_protocol(inputs: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Input<'a> {
        #[serde(borrow)]
        datatype: Option<&'a RawValue>,
    }
    let inner = inputs.get().strip_prefix('[').map(str::trim_start);
    inner.is_some_and(|inner| inner.starts_with('{'))
        && serde_json::from_str::<Vec<Input<'_>>>(inputs.get())
            .is_ok_and(|all| all.iter().all(|input| input.datatype.is_some()))
}

/// `[{"a": …, "b": …}, …]`, or a list for the one input.
fn rows_tensors(
    rows: &RawValue,
    ports: Option<&[Port]>,
    cost: Cost<'_>,
    charge: Charge<'_>,
) -> Result<Vec<Tensor>, Failure> {
    let is_named = rows.get().strip_prefix('[').is_some_and(|inner| inner.trim_start().starts_with('{'));
    if !is_named {
        return Ok(vec![list_tensor(rows, only(ports)?, cost, charge)?]);
    }
    let rows: Vec<BTreeMap<String, &RawValue>> = serde_json::from_str(rows.get())
        .map_err(|e| Failure::bad(format!("the rows are not objects of values: {e}")))?;
    // Columns that are no inputs are the values of the one input, as MLflow's records have them.
    if let Some([port]) = ports
        && rows.iter().all(|row| !row.contains_key(&port.name))
    {
        let lists = rows.iter().map(|row| format!("[{}]", joined(row.values().map(|v| v.get()))));
        let list = format!("[{}]", joined(lists.collect::<Vec<_>>().iter().map(String::as_str)));
        let list = RawValue::from_string(list).map_err(|e| Failure::bad(format!("the rows cannot be read: {e}")))?;
        return Ok(vec![list_tensor(&list, Some(port), cost, charge)?]);
    }
    let Some(first) = rows.first() else { return Err(Failure::bad("there are no rows")) };
    let mut tensors = Vec::with_capacity(first.len());
    for name in first.keys() {
        let values = rows.iter().enumerate().map(|(at, row)| {
            row.get(name)
                .map(|value| value.get())
                .ok_or_else(|| Failure::bad(format!("row {at} has no '{}'", super::super::clip(name))))
        });
        let values = values.collect::<Result<Vec<_>, _>>()?;
        if rows.iter().any(|row| row.len() != first.len()) {
            return Err(Failure::bad("the rows have different names"));
        }
        let list = RawValue::from_string(format!("[{}]", joined(values.into_iter())));
        let list = list.map_err(|e| Failure::bad(format!("the rows cannot be read: {e}")))?;
        tensors.push(named_tensor(name, &list, ports, cost, charge)?);
    }
    Ok(tensors)
}

fn joined<'t>(parts: impl Iterator<Item = &'t str>) -> String {
    parts.collect::<Vec<_>>().join(",")
}

/// `{"columns": […], "data": [[…], …]}`: the columns in the order they come.
fn frame_tensor(
    frame: &Frame<'_>,
    ports: Option<&[Port]>,
    cost: Cost<'_>,
    charge: Charge<'_>,
) -> Result<Tensor, Failure> {
    let tensor = list_tensor(frame.data, only(ports)?, cost, charge)?;
    let columns = frame.columns.len();
    match tensor.shape.get(1) {
        Some(wide) if columns > 0 && usize::try_from(*wide).ok() != Some(columns) => {
            Err(Failure::bad(format!("dataframe_split has {columns} columns, and rows of {wide} values")))
        }
        _ => Ok(tensor),
    }
}

fn named_tensor(
    name: &str,
    value: &RawValue,
    ports: Option<&[Port]>,
    cost: Cost<'_>,
    charge: Charge<'_>,
) -> Result<Tensor, Failure> {
    let port = match ports {
        None => None,
        Some(ports) => Some(ports.iter().find(|port| port.name == name).ok_or_else(|| {
            Failure::bad(format!("the model has no input '{}'; send {}", super::super::clip(name), example(ports)))
        })?),
    };
    let tensor = list_tensor(value, port, cost, charge)?;
    Ok(Tensor { name: name.to_owned(), ..tensor })
}

fn list_tensor(list: &RawValue, port: Option<&Port>, cost: Cost<'_>, charge: Charge<'_>) -> Result<Tensor, Failure> {
    let what = port.map_or_else(|| "the list".to_owned(), |port| format!("what was sent for '{}'", port.name));
    let shape = shape_of(list.get()).ok_or_else(|| Failure::bad(format!("{what} is no list of values")))?;
    let datatype = port.map_or_else(|| datatype_of(list.get()), |port| port.datatype);
    let wanted = elements(&shape).ok_or_else(|| Failure::bad(format!("{what} is too long")))?;
    let (bytes, count) = data::size(list, datatype, wanted);
    charge(data::scratch(list).saturating_add(bytes).saturating_add(count.saturating_mul(cost(datatype))))?;
    let values = data::read(list, datatype, &shape, wanted).map_err(|why| Failure::bad(format!("{what} {why}")))?;
    tensor(port, datatype, shaped(port, shape, &what)?, values)
}

/// By the first element of each level; whether all are alike is seen when they
/// are read.
fn shape_of(list: &str) -> Option<Vec<i64>> {
    let mut shape = Vec::new();
    let mut level: &RawValue = serde_json::from_str(list).ok()?;
    while level.get().starts_with('[') {
        if shape.len() == DEPTH_MAX {
            return None;
        }
        let items: Vec<&RawValue> = serde_json::from_str(level.get()).ok()?;
        shape.push(i64::try_from(items.len()).ok()?);
        match items.first() {
            Some(first) => level = first,
            None => break,
        }
    }
    (!shape.is_empty()).then_some(shape)
}

/// Of values that no model has named a type for.
fn datatype_of(list: &str) -> DataType {
    if list.contains('"') {
        DataType::Text
    } else if list.contains("true") || list.contains("false") {
        DataType::Bool
    } else if list.contains(['.', 'e', 'E']) {
        DataType::F64
    } else {
        DataType::I64
    }
}

pub(super) fn example(ports: &[Port]) -> String {
    let inputs: Vec<String> = ports.iter().map(|port| format!("{:?}: [...]", port.name)).collect();
    format!("{{\"inputs\": {{{}}}}}", inputs.join(", "))
}

pub(super) fn write(replica: &Replica, outputs: &[Tensor], style: Style) -> Result<Vec<u8>, Failure> {
    let mut json = Vec::new();
    if style == Style::Predictions
        && outputs.len() > 1
        && replica.runtime.is_table()
        && let Some(records) = table::records(outputs)?
    {
        return Ok([b"{\"predictions\":", &records[..], b"}"].concat());
    }
    match (style, outputs) {
        (Style::Protocol { id }, _) => {
            let all = request::Wanted::All { binary: false };
            let (name, version) = (&replica.name, &replica.version);
            return Ok(response::write(name, version, id.as_deref(), outputs.to_vec(), &all)?.bytes.to_vec());
        }
        (Style::Bare, [one]) => nested(&mut json, one)?,
        (Style::Predictions, [one]) => {
            json.extend_from_slice(b"{\"predictions\":");
            nested(&mut json, one)?;
            json.push(b'}');
        }
        (Style::Outputs, [one]) => {
            json.extend_from_slice(b"{\"outputs\":");
            nested(&mut json, one)?;
            json.push(b'}');
        }
        (style, many) => {
            let name: &[u8] = if style == Style::Predictions { b"{\"predictions\":{" } else { b"{\"outputs\":{" };
            json.extend_from_slice(name);
            for (at, output) in many.iter().enumerate() {
                if at > 0 {
                    json.push(b',');
                }
                response::put(&mut json, &output.name)?;
                json.push(b':');
                nested(&mut json, output)?;
            }
            json.extend_from_slice(b"}}");
        }
    }
    Ok(json)
}

/// Lists in lists, as the shape has them.
fn nested(json: &mut Vec<u8>, tensor: &Tensor) -> Result<(), Failure> {
    let sizes: Vec<usize> = tensor.shape.iter().map(|n| usize::try_from(*n).unwrap_or(0)).collect();
    if sizes.contains(&0) {
        json.extend_from_slice(b"[]");
        return Ok(());
    }
    // After so many elements a list of each level ends.
    let strides: Vec<usize> = (0..sizes.len()).map(|at| sizes[at..].iter().product()).collect();
    let mut count = 0;
    response::elements(tensor, |element| {
        if count > 0 {
            json.push(b',');
        }
        strides.iter().filter(|stride| count % **stride == 0).for_each(|_| json.push(b'['));
        json.extend_from_slice(element);
        count += 1;
        strides.iter().filter(|stride| count % **stride == 0).for_each(|_| json.push(b']'));
    })
}
