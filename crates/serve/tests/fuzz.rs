//! Whatever the body is, the answer is a success or a sentence with a 4xx.

mod common;

use std::sync::LazyLock;

use axum::Router;
use axum::body::Body;
use common::{send, serve_model};
use http::Request;
use proptest::prelude::*;
use serde_json::{Value, json};

fn valid() -> Value {
    json!({
        "id": "1", "parameters": { "binary_data_output": false },
        "inputs": [{ "name": "x", "datatype": "FP32", "shape": [2, 3], "parameters": {}, "data": [[1, 2, 3], [4, 5, 6]] }],
        "outputs": [{ "name": "y", "parameters": { "binary_data": false } }],
    })
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop_oneof![Just("x"), Just("y"), Just("FP32"), Just("BYTES"), Just("BF16"), Just("INT64")]
            .prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        Just(json!([2, 3])),
        Just(json!({ "binary_data_size": 8 })),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map(
                prop_oneof![Just("name".to_owned()), Just("data".to_owned()), ".{0,4}".prop_map(String::from)],
                inner,
                0..4
            )
            .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

/// Replaces, removes or repeats the part of the document that `pick` lands on.
fn mutate(value: &mut Value, pick: &mut usize, how: u8, with: &Value) -> bool {
    if *pick == 0 {
        match (how % 3, &mut *value) {
            (1, Value::Array(items)) if !items.is_empty() => {
                let again = items[0].clone();
                items.push(again);
            }
            (2, Value::Array(items)) => {
                items.pop();
            }
            (2, Value::Object(fields)) => {
                let first = fields.keys().next().cloned();
                first.map(|k| fields.remove(&k));
            }
            _ => *value = with.clone(),
        }
        return true;
    }
    *pick -= 1;
    match value {
        Value::Array(items) => items.iter_mut().any(|v| mutate(v, pick, how, with)),
        Value::Object(fields) => fields.values_mut().any(|v| mutate(v, pick, how, with)),
        _ => false,
    }
}

static MODEL: LazyLock<Router> = LazyLock::new(|| serve_model("add.onnx"));
static THREADS: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| tokio::runtime::Runtime::new().unwrap());

fn check(body: Vec<u8>, json_length: Option<String>) -> Result<(), TestCaseError> {
    let mut request = Request::post("/v2/models/m/infer");
    if let Some(length) = json_length {
        request = request.header("inference-header-content-length", length);
    }
    let answer = THREADS.block_on(send(&MODEL, request.body(Body::from(body)).unwrap()));
    let status = answer.status.as_u16();
    prop_assert!((200..500).contains(&status) || status == 501, "{status}: {:?}", answer.bytes);
    if status != 200 {
        prop_assert!(!answer.error().is_empty());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_requests(changes in proptest::collection::vec((0usize..30, any::<u8>(), anything()), 1..4)) {
        let mut value = valid();
        for (mut pick, how, with) in changes {
            mutate(&mut value, &mut pick, how, &with);
        }
        check(value.to_string().into_bytes(), None)?;
    }

    #[test]
    fn changed_bytes(at in 0usize..300, byte in any::<u8>(), cut in 0usize..400, length in proptest::option::of(prop_oneof![(0usize..400).prop_map(|n| n.to_string()), ".{0,5}".prop_filter("a header", |s| http::HeaderValue::from_str(s).is_ok())])) {
        let mut bytes = valid().to_string().into_bytes();
        let size = bytes.len();
        bytes[at % size] = byte;
        bytes.truncate(cut);
        check(bytes, length)?;
    }

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200), length in proptest::option::of(0usize..250)) {
        check(bytes, length.map(|n| n.to_string()))?;
    }
}
