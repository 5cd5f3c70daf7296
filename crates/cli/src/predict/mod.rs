//! `muonic predict`: plain JSON in, an Open Inference Protocol v2 request out,
//! and its answer as plain JSON again.

mod describe;

use std::io::Read;

use muonic_client::{Client, Error};
use muonic_types::{ErrorCode, Name};
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::failure::{Exit, Failure, Outcome, Result};
use crate::render::word;
use describe::sides;
pub(crate) use describe::{Body, example, inputs};

/// Largest input read from a file or from stdin: no gateway takes more.
const INPUT_MAX: u64 = 64 << 20;

/// For models that do not say what they take.
const REQUEST: &str = r#"{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0, 0]}]}"#;

/// Ask an endpoint for a prediction
///
/// INPUT is a JSON array for a model of one input, an object of arrays by
/// input name, or a whole request of the Open Inference Protocol v2. A model
/// that does not declare its inputs takes only such a request.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  muonic predict digits '[[0, 3, 12, 8]]'
  muonic predict digits @request.json
  cat rows.json | muonic predict digits -")]
pub struct PredictArgs {
    /// The endpoint
    endpoint: Name,
    /// JSON, @FILE, or - for stdin
    #[arg(allow_hyphen_values = true)]
    input: String,
}

impl PredictArgs {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let input = input(&self.input)?;
        let client = context.client()?;
        let failed = |error| not_answered(client, &self.endpoint, error);
        let request = match whole_request(&input) {
            true => input,
            false => request(&input, &client.endpoint_metadata(&self.endpoint).map_err(failed)?)?,
        };
        let answer = client.infer(&self.endpoint, &request).map_err(failed)?;
        context.show(&answer, || text(&answer))?;
        Ok(Exit::Ok)
    }
}

/// The gateway knows only what serves: an endpoint that never did is none to it.
fn not_answered(client: &Client, name: &Name, error: Error) -> Failure {
    if error.code() != Some(ErrorCode::NotFound) {
        return error.into();
    }
    match client.endpoint(name) {
        Ok(endpoint) => {
            Failure::new(Exit::Unavailable, format!("{name} serves nothing: it is {}", word(&endpoint.state)))
                .hint(format!("see why with: muonic endpoint show {name}"))
        }
        Err(_) => error.into(),
    }
}

fn input(text: &str) -> Result<Value> {
    let read = |from: &str, reader: &mut dyn Read| {
        let mut bytes = Vec::new();
        reader
            .take(INPUT_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| Failure::bad_input(format!("{from} cannot be read: {e}")))?;
        if bytes.len() as u64 > INPUT_MAX {
            let most = INPUT_MAX >> 20;
            return Err(Failure::bad_input(format!(
                "{from} is larger than {most} MiB, the most that an endpoint takes at once"
            ))
            .hint("ask for fewer rows at a time, in several calls"));
        }
        Ok(bytes)
    };
    let (from, bytes) = match text.strip_prefix('@') {
        Some(path) => {
            let mut file = std::fs::File::open(path).map_err(|e| Failure::bad_input(format!("{path}: {e}")))?;
            (path.to_owned(), read(path, &mut file)?)
        }
        None if text == "-" => ("stdin".to_owned(), read("stdin", &mut std::io::stdin())?),
        None => ("the input".to_owned(), text.as_bytes().to_vec()),
    };
    serde_json::from_slice(&bytes).map_err(|e| {
        Failure::bad_input(format!("{from} is not JSON: {e}"))
            .hint("give a JSON array such as '[[1, 2]]', @FILE, or - for stdin")
    })
}

/// A request of the protocol has a list of named tensors.
fn whole_request(input: &Value) -> bool {
    let tensors = input.get("inputs").and_then(Value::as_array);
    tensors.is_some_and(|all| all.iter().all(|t| t.get("name").is_some() && t.get("data").is_some()))
}

/// One input as the model's metadata describes it.
struct Spec {
    name: String,
    datatype: String,
    /// Negative: any length.
    shape: Vec<i64>,
}

fn specs(metadata: &Value) -> Option<Vec<Spec>> {
    let one = |input: &Value| {
        Some(Spec {
            name: input.get("name")?.as_str()?.to_owned(),
            datatype: input.get("datatype")?.as_str()?.to_owned(),
            shape: input.get("shape")?.as_array()?.iter().map(Value::as_i64).collect::<Option<_>>()?,
        })
    };
    metadata.get("inputs")?.as_array()?.iter().map(one).collect()
}

/// Builds a request of arrays and the model's metadata.
fn request(input: &Value, metadata: &Value) -> Result<Value> {
    let specs = specs(metadata).filter(|specs| !specs.is_empty()).ok_or_else(|| {
        Failure::bad_input("the model does not declare its inputs, so no request can be made of plain arrays")
            .hint(format!("give a whole request of the Open Inference Protocol v2, such as '{REQUEST}'"))
    })?;
    let names = || specs.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ");
    let tensors = match (input, specs.as_slice()) {
        (Value::Array(_), [only]) => vec![tensor(input, only)?],
        (Value::Array(_), _) => {
            return Err(Failure::bad_input(format!("the model has {} inputs: {}", specs.len(), names()))
                .hint("give an object with an array for each, such as '{\"a\": [1], \"b\": [2]}'"));
        }
        (Value::Object(map), specs) => {
            if let Some(other) = map.keys().find(|key| !specs.iter().any(|s| s.name == **key)) {
                return Err(Failure::bad_input(format!("the model has no input '{other}'; it has {}", names())));
            }
            let one = |spec: &Spec| {
                let array = map.get(&spec.name);
                let array = array.ok_or_else(|| Failure::bad_input(format!("the input '{}' is missing", spec.name)))?;
                tensor(array, spec)
            };
            specs.iter().map(one).collect::<Result<_>>()?
        }
        _ => {
            return Err(Failure::bad_input("the input is neither a JSON array nor an object")
                .hint("give an array such as '[[1, 2]]', or a whole request of the Open Inference Protocol v2"));
        }
    };
    Ok(json!({"inputs": tensors}))
}

fn tensor(array: &Value, spec: &Spec) -> Result<Value> {
    let mut shape = Vec::new();
    let mut data = Vec::new();
    flatten(array, 0, &mut shape, &mut data)
        .map_err(|why| Failure::bad_input(format!("the input '{}' {why}", spec.name)))?;
    // One row for a model that takes rows: the batch is understood.
    if shape.len() + 1 == spec.shape.len() && spec.shape.first().is_some_and(|n| *n < 0 || *n == 1) {
        shape.insert(0, 1);
    }
    let fits = shape.len() == spec.shape.len()
        && shape.iter().zip(&spec.shape).all(|(is, want)| *want < 0 || *is as i64 == *want);
    if !fits {
        return Err(Failure::bad_input(format!(
            "the input '{}' has the shape {shape:?}; the model takes [{}]",
            spec.name,
            sides(&spec.shape)
        )));
    }
    let right = |value: &Value| match spec.datatype.as_str() {
        "BOOL" => value.is_boolean(),
        "BYTES" => value.is_string(),
        t if t.starts_with("INT") || t.starts_with("UINT") => value.is_i64() || value.is_u64(),
        _ => value.is_number(),
    };
    if let Some(wrong) = data.iter().find(|value| !right(value)) {
        return Err(Failure::bad_input(format!(
            "the input '{}' holds {wrong}, which is not of type {}",
            spec.name, spec.datatype
        )));
    }
    Ok(json!({"name": spec.name, "shape": shape, "datatype": spec.datatype, "data": data}))
}

/// Nested arrays as a shape and a flat list; all rows must be equally long.
fn flatten(
    value: &Value,
    depth: usize,
    shape: &mut Vec<usize>,
    data: &mut Vec<Value>,
) -> std::result::Result<(), String> {
    let Value::Array(items) = value else {
        if value.is_object() || value.is_null() {
            return Err(format!("holds {value}, which is not a number, a string, true or false"));
        }
        if depth != shape.len() {
            return Err("has a plain value where other rows have an array".to_owned());
        }
        data.push(value.clone());
        return Ok(());
    };
    match shape.get(depth) {
        None if data.is_empty() => shape.push(items.len()),
        None => return Err("has an array where other rows have a plain value".to_owned()),
        Some(len) if *len == items.len() => {}
        Some(len) => return Err(format!("has rows of {len} and of {} values", items.len())),
    }
    items.iter().try_for_each(|item| flatten(item, depth + 1, shape, data))
}

/// A flat list in its shape again.
fn nest(flat: &mut impl Iterator<Item = Value>, shape: &[u64]) -> Value {
    match shape {
        [] => flat.next().unwrap_or(Value::Null),
        [len, rest @ ..] => Value::Array((0..*len).map(|_| nest(flat, rest)).collect()),
    }
}

/// Each output on a line of its own: its name and its values in their shape.
fn text(answer: &Value) -> String {
    let Some(outputs) = answer.get("outputs").and_then(Value::as_array) else { return format!("{answer}\n") };
    let mut text = String::new();
    for output in outputs {
        let empty = Map::new();
        let output = output.as_object().unwrap_or(&empty);
        let name = output.get("name").and_then(Value::as_str).unwrap_or("output");
        text.push_str(&format!("{name} = {}\n", shaped(output).unwrap_or(Value::Null)));
    }
    text
}

/// The values in their shape, or as they came where the shape does not fit.
fn shaped(output: &Map<String, Value>) -> Option<Value> {
    let data = output.get("data")?;
    let flat = data.as_array()?;
    let shape = output.get("shape")?.as_array()?.iter().map(Value::as_u64).collect::<Option<Vec<_>>>()?;
    let size = shape.iter().try_fold(1u64, |all, n| all.checked_mul(*n));
    let fits = size == Some(flat.len() as u64) && !flat.iter().any(Value::is_array);
    Some(if fits && !flat.is_empty() { nest(&mut flat.iter().cloned(), &shape) } else { data.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn metadata(inputs: Value) -> Value {
        json!({"name": "m", "inputs": inputs})
    }

    fn one(datatype: &str, shape: Value) -> Value {
        metadata(json!([{"name": "x", "datatype": datatype, "shape": shape}]))
    }

    #[test]
    fn arrays_become_requests() {
        let rows = request(&json!([[1, 2], [3, 4]]), &one("FP32", json!([-1, 2]))).unwrap();
        assert_eq!(rows, json!({"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}]}));
        let row = request(&json!([1, 2]), &one("FP32", json!([-1, 2]))).unwrap();
        assert_eq!(row["inputs"][0]["shape"], json!([1, 2]));
        let two = metadata(
            json!([{"name": "a", "datatype": "INT64", "shape": [1]}, {"name": "b", "datatype": "BYTES", "shape": [1]}]),
        );
        let request = request(&json!({"a": [7], "b": ["t"]}), &two).unwrap();
        assert_eq!(request["inputs"][1]["data"], json!(["t"]));
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let cases = [
            (json!([[1, 2], [3]]), "has rows of 2 and of 1 values"),
            (json!([[1, 2], 3]), "has a plain value where other rows have an array"),
            (json!([1, [2]]), "has an array where other rows have a plain value"),
            (json!([[1, 2, 3]]), "has the shape [1, 3]; the model takes [any, 2]"),
            (json!([["a", "b"]]), "holds \"a\", which is not of type FP32"),
            (json!([[null, 1]]), "holds null"),
            (json!(3), "neither a JSON array nor an object"),
            (json!({"y": [1]}), "the model has no input 'y'; it has x"),
            (json!({}), "the input 'x' is missing"),
        ];
        for (input, message) in cases {
            let failure = request(&input, &one("FP32", json!([-1, 2]))).unwrap_err();
            assert!(failure.message.contains(message), "{input}: {}", failure.message);
            assert_eq!(failure.exit, Exit::BadInput);
        }
        for undeclared in [json!({"name": "m"}), metadata(json!([]))] {
            let failure = request(&json!([[1, 2]]), &undeclared).unwrap_err();
            assert_eq!(failure.exit, Exit::BadInput);
            assert!(failure.message.contains("does not declare its inputs"), "{}", failure.message);
            let hint = failure.hint.unwrap();
            let shown: Value = serde_json::from_str(hint.split('\'').nth(1).unwrap()).unwrap();
            assert!(whole_request(&shown), "{hint}");
        }
        assert!(request(&json!([1.5]), &one("INT64", json!([-1]))).unwrap_err().message.contains("INT64"));
    }

    #[test]
    fn whole_requests_pass_as_they_are() {
        assert!(whole_request(&json!({"inputs": [{"name": "x", "data": [1]}]})));
        assert!(!whole_request(&json!({"inputs": [[1, 2]]})));
        assert!(!whole_request(&json!([1])));
    }

    #[test]
    fn answers_are_shaped() {
        let answer = json!({"outputs": [
            {"name": "label", "datatype": "INT64", "shape": [2], "data": [7, 1]},
            {"name": "p", "datatype": "FP32", "shape": [2, 2], "data": [0.1, 0.9, 0.5, 0.5]},
            {"name": "odd", "shape": [3], "data": [1]},
        ]});
        assert_eq!(text(&answer), "label = [7,1]\np = [[0.1,0.9],[0.5,0.5]]\nodd = [1]\n");
    }

    #[test]
    fn input_is_text_or_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.json");
        std::fs::write(&path, "[1]").unwrap();
        assert_eq!(input(&format!("@{}", path.display())).unwrap(), json!([1]));
        assert_eq!(input("[1]").unwrap(), json!([1]));
        assert_eq!(input("nonsense").unwrap_err().exit, Exit::BadInput);
        assert_eq!(input("@/nowhere").unwrap_err().exit, Exit::BadInput);
    }

    #[test]
    fn more_than_an_endpoint_takes_is_not_sent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.json");
        std::fs::File::create(&path).unwrap().set_len((64 << 20) + 1).unwrap();
        let failure = input(&format!("@{}", path.display())).unwrap_err();
        assert_eq!(failure.exit, Exit::BadInput);
        assert!(failure.message.ends_with("rows.json is larger than 64 MiB, the most that an endpoint takes at once"));
        assert_eq!(failure.hint.unwrap(), "ask for fewer rows at a time, in several calls");
    }

    proptest! {
        #[test]
        fn flat_and_nested_are_the_same(shape in proptest::collection::vec(1u64..4, 1..4)) {
            let size = shape.iter().product::<u64>();
            let values: Vec<Value> = (0..size).map(|n| json!(n)).collect();
            let array = nest(&mut values.iter().cloned(), &shape);
            let (mut seen, mut data) = (Vec::new(), Vec::new());
            flatten(&array, 0, &mut seen, &mut data).unwrap();
            prop_assert_eq!(seen.iter().map(|n| *n as u64).collect::<Vec<_>>(), shape);
            prop_assert_eq!(data, values);
        }
    }
}
