//! SageMaker's contract, with real ONNX models.

mod common;

use axum::body::Body;
use axum::http::StatusCode;
use common::{Answer, get, send, serve_model};
use http::Request;
use serde_json::{Value, json};

async fn invoke(m: &axum::Router, media: &str, accept: Option<&str>, body: impl Into<Body>) -> Answer {
    let mut request = Request::post("/invocations").header("content-type", media);
    if let Some(accept) = accept {
        request = request.header("accept", accept);
    }
    send(m, request.body(body.into()).unwrap()).await
}

async fn in_json(m: &axum::Router, body: &Value) -> Value {
    let answer = invoke(m, "application/json", None, body.to_string()).await;
    assert_eq!(answer.status, StatusCode::OK, "{body}: {:?}", answer.bytes);
    assert_eq!(answer.headers["content-type"], "application/json");
    answer.json()
}

#[tokio::test]
async fn json_in_all_its_forms() {
    let m = serve_model("add.onnx");
    assert_eq!(get(&m, "/ping").await.status, 200);
    let rows = json!([[2.0, 4.0, 6.0], [1.0, 2.0, 3.5]]);
    let sent = json!([[1, 2, 3], [0, 0, 0.5]]);
    assert_eq!(in_json(&m, &sent).await, rows);
    assert_eq!(in_json(&m, &json!({ "instances": sent })).await, json!({ "predictions": rows }));
    assert_eq!(in_json(&m, &json!({ "inputs": sent })).await, json!({ "outputs": rows }));
    assert_eq!(in_json(&m, &json!({ "inputs": { "x": sent } })).await, json!({ "outputs": rows }));
    let named = json!({ "instances": [{ "x": [1, 2, 3] }, { "x": [0, 0, 0.5] }] });
    assert_eq!(in_json(&m, &named).await, json!({ "predictions": rows }));
    let frame = json!({ "dataframe_split": { "columns": ["a", "b", "c"], "data": sent } });
    assert_eq!(in_json(&m, &frame).await, json!({ "predictions": rows }));
    let records = json!({ "dataframe_records": [{ "a": 1, "b": 2, "c": 3 }, { "a": 0, "b": 0, "c": 0.5 }] });
    assert_eq!(in_json(&m, &records).await, json!({ "predictions": rows }));
    assert_eq!(in_json(&m, &json!([1, 2, 3])).await, json!([[2.0, 4.0, 6.0]]), "one row alone");
    let protocol =
        json!({ "id": "7", "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3] }] });
    let answer = in_json(&m, &protocol).await;
    assert_eq!((&answer["id"], &answer["outputs"][0]["data"]), (&json!("7"), &json!([2.0, 4.0, 6.0])));
}

#[tokio::test]
async fn tables_and_arrays() {
    let m = serve_model("add.onnx");
    let answer = invoke(&m, "text/csv; charset=utf-8", None, "1,2,3\n0, 0, .5\r\n\n").await;
    assert_eq!((answer.status, &answer.bytes[..]), (StatusCode::OK, &b"2.0,4.0,6.0\n1.0,2.0,3.5\n"[..]));
    assert_eq!(answer.headers["content-type"], "text/csv");
    let answer = invoke(&m, "text/csv", Some("text/html, application/json"), "1,2,3").await;
    assert_eq!(answer.json(), json!({ "predictions": [[2.0, 4.0, 6.0]] }));

    let npy = |version: &[u8], descr: &str, shape: &str, data: &[u8]| {
        let head = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut file = b"\x93NUMPY".to_vec();
        file.extend_from_slice(version);
        match version[0] {
            1 => file.extend_from_slice(&(head.len() as u16).to_le_bytes()),
            _ => file.extend_from_slice(&(head.len() as u32).to_le_bytes()),
        }
        file.extend_from_slice(head.as_bytes());
        file.extend_from_slice(data);
        file
    };
    let floats = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    for version in [[1, 0], [2, 0], [3, 0]] {
        let file = npy(&version, "<f4", "(1, 3)", &floats(&[1.0, 2.0, 3.0]));
        let answer = invoke(&m, "application/x-npy", None, file).await;
        assert_eq!(answer.status, 200, "{:?}", answer.bytes);
        assert!(answer.bytes.starts_with(b"\x93NUMPY\x01\0"));
        assert_eq!(answer.bytes.len() % 64, 12, "the data begins at a multiple of 64");
        let head = String::from_utf8_lossy(&answer.bytes[10..answer.bytes.len() - 12]).into_owned();
        assert_eq!(head.trim_end(), "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }");
        assert!(answer.bytes.ends_with(&floats(&[2.0, 4.0, 6.0])));
        let again = invoke(&m, "application/x-npy", Some("*/*"), answer.bytes.clone()).await;
        assert!(again.bytes.ends_with(&floats(&[3.0, 6.0, 9.0])), "what it gives it takes");
    }
    for (file, why) in [
        (b"hello".to_vec(), "it does not begin as one"),
        (npy(&[9, 0], "<f4", "(1, 3)", &[]), "its version is not known"),
        (npy(&[1, 0], "<f4", "(1, 3)", &[0; 11]), "the array has 11 bytes"),
        (npy(&[1, 0], ">f4", "(1, 3)", &[0; 12]), "arrays of '>f4' are not understood"),
        (npy(&[1, 0], "<f8", "(1, 3)", &[0; 24]), "the array has the datatype FP64; the model's input 'x' wants FP32"),
        (npy(&[1, 0], "<f4", "(1, -3)", &[0; 12]), "its head is not understood"),
        (npy(&[1, 0], "<f4", "(3, 1)", &[0; 12]), "the array has shape [3,1]; the model's input 'x' wants [-1,3]"),
        (npy(&[1, 0], "<f4", "(9223372036854775807, 9223372036854775807)", &[]), "its head is not understood"),
    ] {
        let answer = invoke(&m, "application/x-npy", None, file).await;
        assert_eq!(answer.status, 400);
        assert!(answer.error().contains(why), "{} without {why}", answer.error());
    }
}

#[tokio::test]
async fn what_is_wrong_gets_a_sentence() {
    let m = serve_model("add.onnx");
    for (body, why) in [
        ("", "the body is neither a JSON object nor a list"),
        ("nonsense", "the body is neither a JSON object nor a list"),
        ("[1, 2", "the body is not valid JSON"),
        ("{}", "the body has none of inputs, instances, dataframe_split and dataframe_records"),
        ("[]", "what was sent for 'x' has shape [0]; the model's input 'x' wants [-1,3]"),
        ("[[1, 2], [3]]", "has a list of 1 at depth 1 of its data"),
        ("[[1, 2, \"3\"]]", "wants FP32, but value 2 is a string"),
        ("[[1, 2]]", "what was sent for 'x' has shape [1,2]; the model's input 'x' wants [-1,3]"),
        ("{\"inputs\": {\"y\": [1]}}", "the model has no input 'y'; send {\"inputs\": {\"x\": [...]}}"),
        ("{\"inputs\": {}}", "the model's input 'x' is missing"),
        ("{\"instances\": [{\"x\": [1, 2, 3]}, {}]}", "row 1 has no 'x'"),
        ("{\"dataframe_split\": {\"columns\": [\"a\"], \"data\": [[1, 2, 3]]}}", "has 1 columns, and rows of 3 values"),
    ] {
        let answer = invoke(&m, "application/json", None, body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.error().contains(why), "{body}: {} without {why}", answer.error());
    }
    for (body, why) in [
        ("", "the body has no line of values"),
        ("1,2\n3", "line 2 has 1 values, those before have 2"),
        ("1,2,x", "line 1, value 3: 'x' is no FP32"),
        ("1,2", "the body has shape [1,2]; the model's input 'x' wants [-1,3]"),
    ] {
        let answer = invoke(&m, "text/csv", None, body).await;
        assert_eq!((answer.status.as_u16(), answer.error().contains(why)), (400, true), "{}", answer.error());
    }
    assert_eq!(invoke(&m, "image/png", None, "x").await.status, 415);
    assert_eq!(invoke(&m, "text/csv", Some("image/png"), "1,2,3").await.status, 400);
    let target = Request::post("/invocations").header("x-amzn-sagemaker-target-model", "a.tar.gz");
    let answer = send(&m, target.body(Body::from("[[1,2,3]]")).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.error().starts_with("not implemented: ")), (501, true));
    let attributes = Request::post("/invocations").header("x-amzn-sagemaker-custom-attributes", "trace=7");
    let answer = send(&m, attributes.body(Body::from("[[1,2,3]]")).unwrap()).await;
    assert_eq!(answer.headers["x-amzn-sagemaker-custom-attributes"], "trace=7");
}

#[tokio::test]
async fn binary_tensors_through_sagemaker() {
    let m = serve_model("add.onnx");
    let head = json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 3], "parameters": { "binary_data_size": 12 } }],
                       "parameters": { "binary_data_output": true } })
    .to_string();
    let mut body = head.clone().into_bytes();
    [1f32, 2.0, 3.0].iter().for_each(|v| body.extend_from_slice(&v.to_le_bytes()));
    let media = format!("application/vnd.sagemaker-triton.binary+json;json-header-size={}", head.len());
    let answer = invoke(&m, &media, None, body).await;
    assert_eq!(answer.status, 200, "{:?}", answer.bytes);
    assert_eq!(answer.headers["content-type"], "application/octet-stream");
    assert!(answer.bytes.ends_with(&6f32.to_le_bytes()));
}
