//! Reads an inference request and checks it against what the model says of
//! itself. What comes out is right in names, datatypes, shapes and element
//! counts, or the error is a sentence about the first thing that is not.

use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use bytes::{Buf, Bytes};
use muonic_types::{ErrorCode, Object};
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::check::{self, NAME_BYTES_MAX, PORTS_MAX, RANK_MAX, clip};
use super::data;
use crate::failure::Failure;
use crate::tensor::{DataType, Port, Tensor};

/// Of requests that do not say.
pub const PRIORITY_DEFAULT: u32 = 1 << 16;
/// Longest `parameters` that is read.
const PARAMETERS_BYTES_MAX: usize = 64 << 10;

#[derive(Debug)]
pub struct Request {
    pub id: Option<String>,
    /// Smaller numbers go first. Triton's parameter, in which 0 is what most
    /// requests have and 1 goes first.
    pub priority: u32,
    /// Triton's parameter, in microseconds; 0 for none.
    pub timeout: Option<Duration>,
    pub inputs: Vec<Tensor>,
    pub outputs: Wanted,
}

/// Which outputs the caller asked for, and in which form.
#[derive(Debug, PartialEq)]
pub enum Wanted {
    All { binary: bool },
    These(Vec<WantedOutput>),
}

#[derive(Debug, PartialEq)]
pub struct WantedOutput {
    pub name: String,
    pub binary: bool,
}

#[derive(Deserialize)]
struct RawRequest<'a> {
    #[serde(default, borrow)]
    id: Option<&'a RawValue>,
    #[serde(default, borrow)]
    parameters: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "bounded::<_, _, PORTS_MAX>")]
    inputs: Vec<Object<RawInput<'a>>>,
    #[serde(default, borrow, deserialize_with = "bounded::<_, _, PORTS_MAX>")]
    outputs: Vec<Object<RawOutput<'a>>>,
}

#[derive(Deserialize)]
struct RawInput<'a> {
    #[serde(borrow)]
    name: &'a RawValue,
    #[serde(borrow)]
    datatype: &'a RawValue,
    #[serde(deserialize_with = "bounded::<_, _, RANK_MAX>")]
    shape: Vec<i64>,
    #[serde(default, borrow)]
    parameters: Option<&'a RawValue>,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawOutput<'a> {
    #[serde(borrow)]
    name: &'a RawValue,
    #[serde(default, borrow)]
    parameters: Option<&'a RawValue>,
}

/// The parameters that mean something to us; others are let pass.
#[derive(Deserialize, Default)]
struct Parameters {
    binary_data_size: Option<usize>,
    binary_data: Option<bool>,
    binary_data_output: Option<bool>,
    priority: Option<u32>,
    timeout: Option<u64>,
    sequence_id: Option<serde_json::Value>,
    classification: Option<serde_json::Value>,
    shared_memory_region: Option<serde_json::Value>,
}

/// `json_length` is the value of the header of that name, where there is one.
/// `inputs` and `outputs` are what the model says of itself, `None` where it
/// says nothing; `cost` is what the runtime takes for an element beside its
/// bytes. `charge` is told of memory that is about to be taken beyond the
/// body's own, and may refuse it.
pub fn read(
    body: &Bytes,
    json_length: Option<usize>,
    inputs: Option<&[Port]>,
    outputs: Option<&[Port]>,
    cost: impl Fn(DataType) -> usize,
    mut charge: impl FnMut(usize) -> Result<(), Failure>,
) -> Result<Request, Failure> {
    let (json, mut binary) = match json_length {
        None => (body.clone(), Bytes::new()),
        Some(n) if n <= body.len() => (body.slice(..n), body.slice(n..)),
        Some(n) => {
            return Err(Failure::bad(format!(
                "the header Inference-Header-Content-Length says {n} bytes, but the body has only {}",
                body.len()
            )));
        }
    };
    // The parser remembers each list and object it is in.
    charge(2 * json.iter().filter(|b| matches!(b, b'[' | b'{')).count())?;
    let Object(raw): Object<RawRequest<'_>> = serde_json::from_slice(&json)
        .map_err(|e| Failure::bad(format!("the body is not an inference request: {e}")))?;
    let parameters = parameters(raw.parameters, "the request")?;
    if parameters.sequence_id.is_some_and(|id| id != 0 && id != "") {
        return Err(Failure::new(ErrorCode::NotImplemented, "not implemented: sequences of requests (sequence_id)"));
    }
    let mut names = HashSet::new();
    let mut tensors = Vec::with_capacity(raw.inputs.len());
    for Object(input) in raw.inputs {
        let name = text(input.name, "the name of an input")?;
        if !names.insert(name.clone()) {
            return Err(Failure::bad(format!("input '{}' stands twice in the request", clip(&name))));
        }
        tensors.push(tensor(name, input, &mut binary, inputs, &cost, &mut charge)?);
    }
    if binary.has_remaining() {
        return Err(Failure::bad(format!(
            "{} bytes of binary data are left over after the last input",
            binary.remaining()
        )));
    }
    check::complete(&names, inputs)?;
    let outputs = wanted(raw.outputs, parameters.binary_data_output.unwrap_or(false), outputs)?;
    let id = raw.id.filter(|id| id.get() != "null").map(|id| text(id, "the id")).transpose()?;
    let priority = parameters.priority.filter(|p| *p > 0).unwrap_or(PRIORITY_DEFAULT);
    let timeout = parameters.timeout.filter(|micros| *micros > 0).map(Duration::from_micros);
    Ok(Request { id, priority, timeout, inputs: tensors, outputs })
}

/// A short text.
fn text(raw: &RawValue, what: &str) -> Result<String, Failure> {
    if raw.get().len() > NAME_BYTES_MAX {
        return Err(Failure::bad(format!("{what} is longer than {NAME_BYTES_MAX} bytes")));
    }
    serde_json::from_str(raw.get()).map_err(|_| Failure::bad(format!("{what} is not text: {}", clip(raw.get()))))
}

fn tensor(
    name: String,
    raw: RawInput<'_>,
    binary: &mut Bytes,
    ports: Option<&[Port]>,
    cost: &impl Fn(DataType) -> usize,
    charge: &mut impl FnMut(usize) -> Result<(), Failure>,
) -> Result<Tensor, Failure> {
    let shown = clip(&name).to_owned();
    let bad = |message: String| Failure::bad(format!("input '{shown}' {message}"));
    let datatype = text(raw.datatype, &format!("the datatype of input '{shown}'"))?;
    let (datatype, wanted) = check::input(&name, &datatype, &raw.shape, ports)?;
    let parameters = parameters(raw.parameters, &format!("input '{shown}'"))?;
    if parameters.shared_memory_region.is_some() {
        return Err(Failure::new(ErrorCode::NotImplemented, "not implemented: shared memory tensors"));
    }
    let data = match (parameters.binary_data_size, raw.data) {
        (Some(_), Some(_)) => return Err(bad("has both data and binary_data_size; give one of them".into())),
        (None, None) => return Err(bad("has no data".into())),
        (None, Some(json)) => {
            let (bytes, elements) = data::size(json, datatype, wanted);
            charge(data::scratch(json).saturating_add(bytes + elements * cost(datatype)))?;
            data::read(json, datatype, &raw.shape, wanted).map_err(bad)?
        }
        (Some(size), None) if size > binary.remaining() => {
            return Err(bad(format!(
                "has binary_data_size {size}, but only {} bytes are left in the body",
                binary.remaining()
            )));
        }
        (Some(size), None) => {
            // A string has its length in four bytes.
            charge(wanted.min(size / datatype.size().unwrap_or(4)) * cost(datatype))?;
            check::binary(binary.split_to(size), datatype, &raw.shape, wanted).map_err(bad)?
        }
    };
    Tensor::new(name, datatype, raw.shape, data).map_err(Failure::bad)
}

fn wanted(raw: Vec<Object<RawOutput<'_>>>, binary: bool, ports: Option<&[Port]>) -> Result<Wanted, Failure> {
    if raw.is_empty() {
        return Ok(Wanted::All { binary });
    }
    let mut names = HashSet::new();
    let mut outputs = Vec::with_capacity(raw.len());
    for Object(output) in raw {
        let name = text(output.name, "the name of an output")?;
        let shown = clip(&name).to_owned();
        let parameters = parameters(output.parameters, &format!("output '{shown}'"))?;
        if parameters.classification.is_some() {
            return Err(Failure::new(ErrorCode::NotImplemented, "not implemented: classification outputs"));
        }
        if parameters.shared_memory_region.is_some() {
            return Err(Failure::new(ErrorCode::NotImplemented, "not implemented: shared memory tensors"));
        }
        check::output(&name, ports, &mut names)?;
        outputs.push(WantedOutput { name, binary: parameters.binary_data.unwrap_or(binary) });
    }
    Ok(Wanted::These(outputs))
}

fn parameters(raw: Option<&RawValue>, of: &str) -> Result<Parameters, Failure> {
    let Some(raw) = raw.filter(|r| r.get() != "null") else { return Ok(Parameters::default()) };
    if raw.get().len() > PARAMETERS_BYTES_MAX {
        return Err(Failure::bad(format!("the parameters of {of} are longer than {PARAMETERS_BYTES_MAX} bytes")));
    }
    if !raw.get().trim_start().starts_with('{') {
        return Err(Failure::bad(format!("the parameters of {of} are not an object")));
    }
    serde_json::from_str(raw.get()).map_err(|e| Failure::bad(format!("the parameters of {of} are not valid: {e}")))
}

/// A list of at most `MAX` items, refused at the first one beyond.
fn bounded<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MAX: usize>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct Bounded<T, const MAX: usize>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Bounded<T, MAX> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX}")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = list.next_element()? {
                if items.len() == MAX {
                    return Err(A::Error::custom(format!("the list has more than {MAX} items")));
                }
                items.push(item);
            }
            Ok(items)
        }
        fn visit_unit<E: Error>(self) -> Result<Vec<T>, E> {
            Ok(Vec::new())
        }
    }
    deserializer.deserialize_any(Bounded::<T, MAX>(PhantomData))
}
