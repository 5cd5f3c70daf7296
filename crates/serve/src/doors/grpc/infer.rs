//! `ModelInfer`: the messages as tensors, and tensors as the messages.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use muonic_types::ErrorCode;
use prost::Message;

use super::frame::{self, Source};
use super::messages::{
    InferInputTensor, InferOutputTensor, InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse,
    ModelStreamInferResponse, Parameter, Parameters,
};
use super::{status, weight};
use crate::failure::Failure;
use crate::oip::check::{self, NAME_BYTES_MAX, PORTS_MAX, RANK_MAX};
use crate::oip::request::{PRIORITY_DEFAULT, Wanted, WantedOutput};
use crate::oip::response;
use crate::replica::{Asked, Exchanged, Form, Replica};
use crate::tensor::{Data, DataType, Packer, Port, Tensor};

pub(super) async fn unary(
    replica: &Arc<Replica>,
    mut body: Source,
    timeout: Option<Duration>,
) -> Result<Response, Failure> {
    let length = super::head(&mut body).await?;
    let (message, _) = body.message(length);
    let answer = exchange(replica, message, length, Infer { timeout, in_stream: false }).await?;
    Ok(status::answered(answer.into_body()))
}

/// The walk of one message, of which `length` is what its head said.
pub(super) async fn exchange(
    replica: &Arc<Replica>,
    message: axum::body::Body,
    length: usize,
    form: Infer,
) -> Result<Exchanged<Written>, Failure> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    replica.exchange(&headers, message, form).await
}

pub(super) struct Infer {
    /// The caller's own, beside the one that the message may have.
    pub(super) timeout: Option<Duration>,
    pub(super) in_stream: bool,
}

pub(super) struct Plan {
    id: String,
    outputs: Wanted,
    /// Whether the answer is to say that no other follows it.
    says_final: bool,
}

pub(super) struct Written(Bytes);

impl AsRef<Bytes> for Written {
    fn as_ref(&self) -> &Bytes {
        &self.0
    }
}

impl Form for Infer {
    type Plan = Plan;
    type Written = Written;

    fn read(
        &self,
        replica: &Replica,
        body: &Bytes,
        charge: &mut dyn FnMut(usize) -> Result<(), Failure>,
    ) -> Result<Asked<Plan>, Failure> {
        charge(weight::weigh(body)?)?;
        let request = ModelInferRequest::decode(body.clone()).map_err(|e| weight::not_a_request(&e))?;
        super::super::check(
            replica,
            &request.model_name,
            Some(request.model_version.as_str()).filter(|v| !v.is_empty()),
        )?;
        if request.id.len() > NAME_BYTES_MAX {
            return Err(Failure::bad(format!("the id is longer than {NAME_BYTES_MAX} bytes")));
        }
        let told = Told::of(&request.parameters)?;
        let outputs = wanted(replica.runtime.outputs(), &request)?;
        let inputs = inputs(replica, request.inputs, request.raw_input_contents, charge)?;
        let timeout = [told.timeout, self.timeout].into_iter().flatten().min();
        let plan = Plan { id: request.id, outputs, says_final: self.in_stream && told.says_final };
        Ok(Asked { inputs, priority: told.priority, timeout, plan })
    }

    fn bytes_max(&self, outputs: &[Tensor], plan: &Plan) -> usize {
        response::bytes_max(outputs, &plan.outputs)
    }

    fn write(&self, replica: &Replica, outputs: Vec<Tensor>, plan: Plan) -> Result<Written, Failure> {
        let mut answer = ModelInferResponse {
            model_name: replica.name.clone(),
            model_version: replica.version.clone(),
            id: plan.id,
            ..Default::default()
        };
        if plan.says_final {
            let yes = InferParameter { parameter_choice: Some(Parameter::Bool(true)) };
            answer.parameters.insert("triton_final_response".into(), yes);
        }
        for (Tensor { name, datatype, shape, data }, _) in response::choose(outputs, &plan.outputs)? {
            answer.outputs.push(InferOutputTensor { name, datatype: datatype.name().into(), shape });
            answer.raw_output_contents.push(match data {
                Data::Raw(bytes) => bytes,
                Data::Text(texts) => texts.packed().clone(),
            });
        }
        Ok(Written(if self.in_stream {
            frame::written(&ModelStreamInferResponse { infer_response: Some(answer), ..Default::default() })?
        } else {
            frame::written(&answer)?
        }))
    }
}

/// The parameters of a request that mean something to us; others are let pass.
struct Told {
    priority: u32,
    timeout: Option<Duration>,
    says_final: bool,
}

impl Told {
    fn of(parameters: &Parameters) -> Result<Self, Failure> {
        let get = |name: &str| parameters.get(name).and_then(|p| p.parameter_choice.as_ref());
        match get("sequence_id") {
            None | Some(Parameter::Int64(0) | Parameter::Uint64(0)) => {}
            Some(Parameter::String(id)) if id.is_empty() => {}
            Some(_) => {
                let what = "not implemented: sequences of requests (sequence_id)";
                return Err(Failure::new(ErrorCode::NotImplemented, what));
            }
        }
        let number = |name: &str| match get(name) {
            None => Ok(0),
            Some(Parameter::Uint64(n)) => Ok(*n),
            Some(Parameter::Int64(n)) if *n >= 0 => Ok(n.unsigned_abs()),
            Some(_) => Err(Failure::bad(format!("the parameter '{name}' is not a number of 0 or more"))),
        };
        let priority = match number("priority")? {
            0 => PRIORITY_DEFAULT,
            priority => u32::try_from(priority)
                .map_err(|_| Failure::bad(format!("the parameter 'priority' is above {}", u32::MAX)))?,
        };
        let timeout = Some(number("timeout")?).filter(|micros| *micros > 0).map(Duration::from_micros);
        let says_final = matches!(get("triton_enable_empty_final_response"), Some(Parameter::Bool(true)));
        Ok(Self { priority, timeout, says_final })
    }
}

fn refuse_shared_memory(parameters: &Parameters) -> Result<(), Failure> {
    if parameters.contains_key("shared_memory_region") {
        return Err(Failure::new(ErrorCode::NotImplemented, "not implemented: shared memory tensors"));
    }
    Ok(())
}

fn wanted(ports: Option<&[Port]>, request: &ModelInferRequest) -> Result<Wanted, Failure> {
    if request.inputs.len() > PORTS_MAX || request.outputs.len() > PORTS_MAX {
        return Err(Failure::bad(format!("the request has more than {PORTS_MAX} inputs or outputs")));
    }
    if request.outputs.is_empty() {
        return Ok(Wanted::All { binary: true });
    }
    let mut names = HashSet::new();
    let outputs = request.outputs.iter().map(|output| {
        if output.parameters.contains_key("classification") {
            return Err(Failure::new(ErrorCode::NotImplemented, "not implemented: classification outputs"));
        }
        refuse_shared_memory(&output.parameters)?;
        check::output(&output.name, ports, &mut names)?;
        Ok(WantedOutput { name: output.name.clone(), binary: true })
    });
    Ok(Wanted::These(outputs.collect::<Result<_, _>>()?))
}

fn inputs(
    replica: &Replica,
    inputs: Vec<InferInputTensor>,
    raw: Vec<Bytes>,
    charge: &mut dyn FnMut(usize) -> Result<(), Failure>,
) -> Result<Vec<Tensor>, Failure> {
    let ports = replica.runtime.inputs();
    if !raw.is_empty() && raw.len() != inputs.len() {
        return Err(Failure::bad(format!(
            "raw_input_contents has {} items; the request has {} inputs, and each needs one",
            raw.len(),
            inputs.len()
        )));
    }
    let mut names = HashSet::new();
    let mut tensors = Vec::with_capacity(inputs.len());
    let mut raw = raw.into_iter();
    for input in inputs {
        let shown = check::clip(&input.name).to_owned();
        let bad = |message: String| Failure::bad(format!("input '{shown}' {message}"));
        if input.name.len() > NAME_BYTES_MAX {
            return Err(bad(format!("has a name of more than {NAME_BYTES_MAX} bytes")));
        }
        if input.shape.len() > RANK_MAX {
            return Err(bad(format!("has more than {RANK_MAX} dimensions")));
        }
        if !names.insert(input.name.clone()) {
            return Err(bad("stands twice in the request".into()));
        }
        let (datatype, wanted) = check::input(&input.name, &input.datatype, &input.shape, ports)?;
        refuse_shared_memory(&input.parameters)?;
        let cost = replica.runtime.element_cost(datatype);
        let data = match (raw.next(), input.contents) {
            (Some(_), Some(_)) => return Err(bad("has both contents and raw_input_contents; give one of them".into())),
            (Some(bytes), None) => {
                // A string has its length in four bytes.
                charge(wanted.min(bytes.len() / datatype.size().unwrap_or(4)).saturating_mul(cost))?;
                check::binary(bytes, datatype, &input.shape, wanted).map_err(bad)?
            }
            (None, contents) => {
                let contents = contents.unwrap_or_default();
                let (count, bytes) = size(&contents, datatype);
                charge(bytes.saturating_add(count.saturating_mul(cost)))?;
                typed(contents, datatype).map_err(bad)?
            }
        };
        tensors.push(Tensor::new(input.name, datatype, input.shape, data).map_err(Failure::bad)?);
    }
    check::complete(&names, ports)?;
    Ok(tensors)
}

/// The elements that [`typed`] finds, and the bytes it takes for them.
fn size(contents: &InferTensorContents, datatype: DataType) -> (usize, usize) {
    let all = lengths(contents);
    let count = list(datatype).map_or(0, |at| all[at].1);
    let bytes = match datatype.size() {
        Some(size) => count * size,
        None => contents.bytes_contents.iter().map(|item| 4 + item.len()).sum(),
    };
    (count, bytes)
}

fn lengths(contents: &InferTensorContents) -> [(&'static str, usize); 8] {
    [
        ("bool_contents", contents.bool_contents.len()),
        ("int_contents", contents.int_contents.len()),
        ("int64_contents", contents.int64_contents.len()),
        ("uint_contents", contents.uint_contents.len()),
        ("uint64_contents", contents.uint64_contents.len()),
        ("fp32_contents", contents.fp32_contents.len()),
        ("fp64_contents", contents.fp64_contents.len()),
        ("bytes_contents", contents.bytes_contents.len()),
    ]
}

/// Which of the lists has the elements of a datatype.
fn list(datatype: DataType) -> Option<usize> {
    match datatype {
        DataType::Bool => Some(0),
        DataType::I8 | DataType::I16 | DataType::I32 => Some(1),
        DataType::I64 => Some(2),
        DataType::U8 | DataType::U16 | DataType::U32 => Some(3),
        DataType::U64 => Some(4),
        DataType::F16 => None,
        DataType::F32 => Some(5),
        DataType::F64 => Some(6),
        DataType::Text => Some(7),
    }
}

/// The error ends a sentence.
fn typed(contents: InferTensorContents, datatype: DataType) -> Result<Data, String> {
    let name = datatype.name();
    let lengths = lengths(&contents);
    let Some(right) = list(datatype) else {
        return Err(format!("has datatype {name}, which only raw_input_contents can carry"));
    };
    let stray = lengths.iter().enumerate().find(|(at, (_, length))| *at != right && *length > 0);
    if let Some((_, (stray, _))) = stray {
        return Err(format!("has values in {stray}; those of {name} belong in {}", lengths[right].0));
    }
    macro_rules! numbers {
        ($values:expr, $t:ty) => {{
            let mut bytes = Vec::with_capacity($values.len() * size_of::<$t>());
            for (at, value) in $values.into_iter().enumerate() {
                let value = <$t>::try_from(value)
                    .map_err(|_| format!("wants {name}, but value {at} is {value}, out of its range"))?;
                bytes.extend_from_slice(&value.to_le_bytes());
            }
            Ok(Data::Raw(bytes.into()))
        }};
    }
    match datatype {
        DataType::Bool => numbers!(contents.bool_contents, u8),
        DataType::I8 => numbers!(contents.int_contents, i8),
        DataType::I16 => numbers!(contents.int_contents, i16),
        DataType::I32 => numbers!(contents.int_contents, i32),
        DataType::I64 => numbers!(contents.int64_contents, i64),
        DataType::U8 => numbers!(contents.uint_contents, u8),
        DataType::U16 => numbers!(contents.uint_contents, u16),
        DataType::U32 => numbers!(contents.uint_contents, u32),
        DataType::U64 => numbers!(contents.uint64_contents, u64),
        DataType::F32 => numbers!(contents.fp32_contents, f32),
        DataType::F64 => numbers!(contents.fp64_contents, f64),
        DataType::Text | DataType::F16 => {
            let bytes = contents.bytes_contents.iter().map(|item| 4 + item.len()).sum();
            let mut packer = Packer::with_capacity(bytes);
            contents.bytes_contents.iter().try_for_each(|item| packer.push(item))?;
            Ok(Data::Text(packer.finish()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(set: impl FnOnce(&mut InferTensorContents)) -> InferTensorContents {
        let mut contents = InferTensorContents::default();
        set(&mut contents);
        contents
    }

    #[test]
    fn contents_become_bytes() {
        let raw = |bytes: &[u8]| Ok(Data::Raw(Bytes::copy_from_slice(bytes)));
        let int = || contents(|c| c.int_contents = vec![-1, 2]);
        let uint = || contents(|c| c.uint_contents = vec![255, 2]);
        let (high, low) = ([255; 8], [2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(typed(contents(|c| c.bool_contents = vec![true, false]), DataType::Bool), raw(&[1, 0]));
        for (datatype, size) in [(DataType::I8, 1), (DataType::I16, 2), (DataType::I32, 4)] {
            assert_eq!(typed(int(), datatype), raw(&[&high[..size], &low[..size]].concat()));
        }
        for (datatype, size) in [(DataType::U8, 1), (DataType::U16, 2), (DataType::U32, 4)] {
            assert_eq!(typed(uint(), datatype), raw(&[&[255], &[0; 7][..size - 1], &low[..size]].concat()));
        }
        let both = [high, low].concat();
        assert_eq!(typed(contents(|c| c.int64_contents = vec![-1, 2]), DataType::I64), raw(&both));
        assert_eq!(typed(contents(|c| c.uint64_contents = vec![u64::MAX, 2]), DataType::U64), raw(&both));
        assert_eq!(typed(contents(|c| c.fp32_contents = vec![1.0]), DataType::F32), raw(&[0, 0, 128, 63]));
        assert_eq!(typed(contents(|c| c.fp64_contents = vec![1.0]), DataType::F64), raw(&[0, 0, 0, 0, 0, 0, 240, 63]));
        let words = contents(|c| c.bytes_contents = vec![Bytes::from_static(b"ab"), Bytes::new()]);
        let Ok(Data::Text(texts)) = typed(words, DataType::Text) else { panic!("no text") };
        assert_eq!(texts.iter().collect::<Vec<_>>(), [&b"ab"[..], b""]);
    }

    #[test]
    fn contents_that_do_not_fit_are_refused() {
        let big = contents(|c| c.int_contents = vec![1, 128]);
        assert_eq!(typed(big.clone(), DataType::I8).unwrap_err(), "wants INT8, but value 1 is 128, out of its range");
        assert!(typed(big.clone(), DataType::F16).unwrap_err().contains("only raw_input_contents"));
        assert!(typed(big, DataType::U8).unwrap_err().contains("belong in uint_contents"));
    }
}
