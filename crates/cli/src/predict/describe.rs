//! What a model takes, in words and by example, from its metadata.

use serde_json::{Value, json};

use super::{Spec, nest, specs};
use crate::render::human;

/// Largest input of an example that is written out, in numbers.
const EXAMPLE_MAX: u64 = 16;

/// What a model takes, for people: `images FP32 [any, 64]`.
pub(crate) fn inputs(metadata: &Value) -> Option<String> {
    let specs = specs(metadata).filter(|specs| !specs.is_empty())?;
    let one = |spec: &Spec| format!("{} {} [{}]", spec.name, spec.datatype, sides(&spec.shape));
    Some(specs.iter().map(one).collect::<Vec<_>>().join(", "))
}

pub(super) fn sides(shape: &[i64]) -> String {
    let side = |n: &i64| if *n < 0 { "any".to_owned() } else { n.to_string() };
    shape.iter().map(side).collect::<Vec<_>>().join(", ")
}

/// What is sent: as JSON where that is short, else what a file of it holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Json(String),
    File(String),
}

/// An example of zeros: for `muonic predict`, and as a whole request.
pub(crate) fn example(metadata: Option<&Value>) -> (Body, Body) {
    let specs = metadata.and_then(specs).unwrap_or_default();
    if let [only] = specs.as_slice()
        && let Some((input, request)) = written_out(only)
    {
        return (Body::Json(input.to_string()), Body::Json(request.to_string()));
    }
    let input = match specs.as_slice() {
        [] => "a request of the Open Inference Protocol v2".to_owned(),
        [only] => format!("{}, such as {}", rows(only), sketch(&only.shape, &zero(only))),
        several => {
            let of = |spec: &Spec| format!("{}: {}", json!(spec.name), sketch(&spec.shape, &zero(spec)));
            format!("an array for each input, such as {{{}}}", several.iter().map(of).collect::<Vec<_>>().join(", "))
        }
    };
    let request = match specs.as_slice() {
        [] => "a request of the Open Inference Protocol v2".to_owned(),
        some => format!("{{\"inputs\": [{}]}}", some.iter().map(tensor_sketch).collect::<Vec<_>>().join(", ")),
    };
    (Body::File(input), Body::File(request))
}

/// The array and the request made of it, where they are small.
fn written_out(spec: &Spec) -> Option<(Value, Value)> {
    let shape = least(&spec.shape);
    let size = shape.iter().try_fold(1u64, |all, n| all.checked_mul(*n)).filter(|n| (1..=EXAMPLE_MAX).contains(n))?;
    let flat = vec![zero(spec); usize::try_from(size).ok()?];
    let array = nest(&mut flat.iter().cloned(), &shape);
    let tensor = json!({"name": spec.name, "shape": shape, "datatype": spec.datatype, "data": flat});
    Some((array, json!({"inputs": [tensor]})))
}

/// The smallest shape that fits.
fn least(shape: &[i64]) -> Vec<u64> {
    shape.iter().map(|n| u64::try_from(*n).unwrap_or(1)).collect()
}

fn zero(spec: &Spec) -> Value {
    match spec.datatype.as_str() {
        "BOOL" => json!(false),
        "BYTES" => json!("text"),
        _ => json!(0),
    }
}

/// `rows of 64 numbers`.
fn rows(spec: &Spec) -> String {
    let values = match spec.datatype.as_str() {
        "BOOL" => "values true or false",
        "BYTES" => "strings",
        _ => "numbers",
    };
    match spec.shape.as_slice() {
        [n @ (0..)] => format!("{n} {values}"),
        [..0, n @ (0..)] => format!("rows of {n} {values}"),
        [rows @ (0..), n @ (0..)] => format!("{} of {n} {values}", human::count(rows.unsigned_abs(), "row")),
        shape => format!("{values} in the shape [{}]", sides(shape)),
    }
}

/// The beginning of an array: `[[0, 0, …]]`.
fn sketch(shape: &[i64], zero: &Value) -> String {
    match shape {
        [] => zero.to_string(),
        [n] => data_sketch(u64::try_from(*n).unwrap_or(1), zero),
        [..=1, rest @ ..] => format!("[{}]", sketch(rest, zero)),
        [_, rest @ ..] => format!("[{}, …]", sketch(rest, zero)),
    }
}

fn data_sketch(size: u64, zero: &Value) -> String {
    match size {
        0 => "[]".to_owned(),
        1 => format!("[{zero}]"),
        2 => format!("[{zero}, {zero}]"),
        _ => format!("[{zero}, {zero}, …]"),
    }
}

fn tensor_sketch(spec: &Spec) -> String {
    let shape = least(&spec.shape);
    let size = shape.iter().fold(1u64, |all, n| all.saturating_mul(*n));
    format!(
        "{{\"name\": {}, \"shape\": [{}], \"datatype\": {}, \"data\": {}}}",
        json!(spec.name),
        shape.iter().map(u64::to_string).collect::<Vec<_>>().join(", "),
        json!(spec.datatype),
        data_sketch(size, &zero(spec))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(datatype: &str, shape: &[i64]) -> Value {
        json!({"inputs": [{"name": "x", "datatype": datatype, "shape": shape}]})
    }

    #[test]
    fn short_examples_are_written_out() {
        let (input, request) = example(Some(&one("FP32", &[-1, 2])));
        assert_eq!(input, Body::Json("[[0,0]]".into()));
        let Body::Json(request) = request else { panic!("{request:?}") };
        let request: Value = serde_json::from_str(&request).unwrap();
        assert_eq!(request["inputs"][0], json!({"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0, 0]}));
    }

    #[test]
    fn long_ones_are_sketched() {
        let cases: [(&str, &[i64], &str); 8] = [
            ("FP32", &[-1, 64], "rows of 64 numbers, such as [[0, 0, …]]"),
            ("INT64", &[64], "64 numbers, such as [0, 0, …]"),
            ("BOOL", &[1, 64], "1 row of 64 values true or false, such as [[false, false, …]]"),
            ("BYTES", &[20, 2], "20 rows of 2 strings, such as [[\"text\", \"text\"], …]"),
            ("FP32", &[20, -1], "numbers in the shape [20, any], such as [[0], …]"),
            ("FP32", &[-1, 3, 8, 8], "numbers in the shape [any, 3, 8, 8], such as [[[[0, 0, …], …], …]]"),
            ("FP32", &[0], "0 numbers, such as []"),
            (
                "FP32",
                &[i64::MAX, i64::MAX],
                "9223372036854775807 rows of 9223372036854775807 numbers, such as [[0, 0, …], …]",
            ),
        ];
        for (datatype, shape, text) in cases {
            assert_eq!(example(Some(&one(datatype, shape))).0, Body::File(text.into()));
        }
    }

    #[test]
    fn several_inputs_are_named() {
        let metadata = json!({"inputs": [
            {"name": "a", "datatype": "FP32", "shape": [-1, 64]}, {"name": "b", "datatype": "BOOL", "shape": [1]},
        ]});
        let (input, request) = example(Some(&metadata));
        let array = r#"an array for each input, such as {"a": [[0, 0, …]], "b": [false]}"#;
        assert_eq!(input, Body::File(array.into()));
        let tensors = r#"{"inputs": [{"name": "a", "shape": [1, 64], "datatype": "FP32", "data": [0, 0, …]}, "#
            .to_owned()
            + r#"{"name": "b", "shape": [1], "datatype": "BOOL", "data": [false]}]}"#;
        assert_eq!(request, Body::File(tensors));
    }
}
