//! ONNX models by onnxruntime: what all runtimes have in common, every datatype,
//! scikit-learn's models, and runs that are ended.

mod common;
mod runtimes;

use std::time::Duration;

use axum::body::Body;
use common::{drip, infer, infer_bytes, model, send, serve_model, serve_path};
use http::Request;
use muonic_serve::Limits;
use runtimes::turns;
use serde_json::{Value, json};

const PLATFORM: &str = "onnx_onnxv1";

const TYPES: [(&str, &str, &str); 13] = [
    ("BOOL", "[true,false]", "[2]"),
    ("UINT8", "[0,255]", "[256]"),
    ("UINT16", "[0,65535]", "[-1]"),
    ("UINT32", "[0,4294967295]", "[4294967296]"),
    ("UINT64", "[0,18446744073709551615]", "[-1]"),
    ("INT8", "[-128,127]", "[128]"),
    ("INT16", "[-32768,32767]", "[1.5]"),
    ("INT32", "[-2147483648,2147483647]", "[\"a\"]"),
    ("INT64", "[-9223372036854775808,9223372036854775807]", "[9223372036854775808]"),
    ("FP16", "[0.5,-65504.0]", "[65520]"),
    ("FP32", "[0.1,-3.4028235e38]", "[1e39]"),
    ("FP64", "[0.1,1.7976931348623157e308]", "[null]"),
    ("BYTES", "[\"\",\"näive ☃\"]", "[1]"),
];

fn one_of_each(change: Option<(&str, &str)>) -> String {
    let inputs = TYPES.map(|(name, good, _)| match change {
        Some((changed, data)) if changed == name => {
            format!("{{\"name\":\"in_{name}\",\"datatype\":\"{name}\",\"shape\":[1,1],\"data\":{data}}}")
        }
        _ => format!("{{\"name\":\"in_{name}\",\"datatype\":\"{name}\",\"shape\":[1,2],\"data\":{good}}}"),
    });
    format!("{{\"inputs\":[{}]}}", inputs.join(","))
}

#[tokio::test]
async fn carries_every_datatype() {
    let m = serve_model("types.onnx");
    let answer = infer_bytes(&m, one_of_each(None)).await;
    assert_eq!(answer.status, 200, "{:?}", answer.bytes);
    let stages = answer.headers["server-timing"].to_str().unwrap();
    assert!(stages.starts_with("queue;dur=") && stages.contains(", compute;dur="), "{stages}");
    // Compared as text: no number may change on its way.
    let text = String::from_utf8(answer.bytes.to_vec()).unwrap();
    for (name, good, _) in TYPES {
        let wanted = format!("{{\"name\":\"out_{name}\",\"datatype\":\"{name}\",\"shape\":[1,2],\"data\":{good}}}");
        let wanted = wanted.replace("e308", "e+308").replace("e38", "e+38");
        let text = text.replace("e308", "e+308").replace("e38", "e+38");
        assert!(text.contains(&wanted), "{wanted} is not in {text}");
    }
    for (name, _, bad) in TYPES {
        let answer = infer_bytes(&m, one_of_each(Some((name, bad)))).await;
        assert_eq!(answer.status, 400, "{name}");
        assert!(
            answer.error().starts_with(&format!("input 'in_{name}' wants {name}, but value 0 is ")),
            "{}",
            answer.error()
        );
    }
}

#[tokio::test]
async fn picks_outputs_in_the_order_asked_for() {
    let m = serve_model("types.onnx");
    let mut request: Value = serde_json::from_str(&one_of_each(None)).unwrap();
    request["outputs"] = json!([{ "name": "out_INT8" }, { "name": "out_BOOL" }]);
    let answer = infer(&m, &request).await.json();
    let names: Vec<&str> = answer["outputs"].as_array().unwrap().iter().map(|o| o["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["out_INT8", "out_BOOL"]);
    request["outputs"] = json!([{ "name": "nope" }]);
    assert!(
        infer(&m, &request)
            .await
            .error()
            .starts_with("the model has no output 'nope'; it has 'out_BOOL' (BOOL [-1,-1])")
    );
}

#[tokio::test]
async fn scalars_have_an_empty_shape() {
    let m = serve_model("scalar.onnx");
    for data in [json!([2.5]), json!(2.5)] {
        let request = json!({ "inputs": [{ "name": "x", "datatype": "FP64", "shape": [], "data": data }] });
        assert_eq!(
            infer(&m, &request).await.json()["outputs"][0],
            json!({ "name": "y", "datatype": "FP64", "shape": [], "data": [-2.5] })
        );
    }
}

#[tokio::test]
async fn classifiers_of_scikit_learn() {
    let request = json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [2, 4], "data": [1, 2, 3, 4, -1, 0.5, 0, 2] }] });
    let answer = infer(&serve_model("classifier.onnx"), &request).await.json();
    assert_eq!(answer["outputs"][0], json!({ "name": "label", "datatype": "INT64", "shape": [2], "data": [1, 1] }));
    // From Python's onnxruntime.
    let expected = [5.54112252e-03, 9.94457245e-01, 1.63223910e-06, 1.02957495e-01, 8.53474736e-01, 4.35677022e-02];
    for (got, want) in answer["outputs"][1]["data"].as_array().unwrap().iter().zip(expected) {
        assert!((got.as_f64().unwrap() - want).abs() < 1e-6, "{got} is not {want}");
    }
    // Maps are left out; a model with nothing else is refused.
    let answer = infer(&serve_model("zipmap.onnx"), &request).await.json();
    assert_eq!(answer["outputs"].as_array().unwrap().len(), 1);
    let error = serve_path(&model("only_maps.onnx"), Limits::default()).unwrap_err().to_string();
    assert_eq!(
        error,
        "the ONNX model only_maps.onnx has no output that is a tensor: output 'maps' is a sequence, not a tensor; \
         a scikit-learn classifier must be exported with zipmap=False"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_end_is_ended() {
    let limits = Limits { run_time: Duration::from_millis(300), ..Limits::default() };
    let m = serve_path(&model("loop.onnx"), limits).unwrap();
    let answer = infer(&m, &turns(1 << 40)).await;
    assert_eq!(answer.status, 504);
    assert_eq!(answer.headers["x-muonic-error"], "deadline_exceeded");
    // The slot is free again, or this would run into the limit too.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let answer = infer(&m, &turns(10)).await;
        if answer.status == 200 {
            assert_eq!(answer.json()["outputs"][0]["data"], json!([10]));
            break;
        }
        assert!(std::time::Instant::now() < deadline, "the slot was not freed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_does_not_come_is_refused() {
    let limits =
        Limits { run_time: Duration::from_secs(2), wait_time: Duration::from_millis(200), ..Limits::default() };
    let m = serve_path(&model("loop.onnx"), limits).unwrap();
    let (one, other) = (turns(1 << 40), turns(1 << 40));
    let (one, other) = tokio::join!(infer(&m, &one), infer(&m, &other));
    let (ran, refused) = if one.status == 504 { (one, other) } else { (other, one) };
    assert_eq!(ran.error(), "the model did not answer within 2 s");
    assert_eq!(
        (refused.status.as_u16(), refused.error().as_str()),
        (429, "the model was busy with other requests for 0.2 s; try again later")
    );
    assert_eq!(refused.headers["retry-after"], "1");
}

#[tokio::test]
async fn what_the_parser_takes_counts_too() {
    let limits = Limits { requests_bytes_max: 1 << 20, ..Limits::default() };
    let deep = |depth: usize| format!("{{\"inputs\":{}", "[".repeat(depth));
    let m = serve_path(&model("add.onnx"), limits).unwrap();
    assert_eq!(infer_bytes(&m, deep(300_000)).await.status, 400);
    assert_eq!(infer_bytes(&m, deep(400_000)).await.status, 413);
    // A string with escapes is put together before it is kept.
    let m = serve_path(&model("types.onnx"), limits).unwrap();
    let string = |start: &str| one_of_each(Some(("BYTES", &format!("[\"{start}{}\"]", "x".repeat(400_000)))));
    assert_eq!(infer_bytes(&m, string("y")).await.status, 200);
    assert_eq!(infer_bytes(&m, string("\\n")).await.status, 413);
}

#[tokio::test]
async fn bodies_have_limits() {
    // Above their size, announced or not.
    let limits = Limits { body_bytes_max: 1000, requests_bytes_max: 2048, ..Limits::default() };
    let m = serve_path(&model("add.onnx"), limits).unwrap();
    let announced = Request::post("/v2/models/m/infer").header("content-length", "1001").body(Body::empty()).unwrap();
    assert_eq!(send(&m, announced).await.status, 413);
    assert_eq!(infer_bytes(&m, vec![b' '; 1001]).await.status, 413);
    let (short, long) = (Duration::from_millis(100), Duration::from_secs(60));
    for (limits, error) in [
        (Limits { body_idle_time: short, body_time: long, ..limits }, "nothing of the body came for 0.1 s"),
        (Limits { body_idle_time: long, body_time: short, ..limits }, "the body did not arrive within 0.1 s"),
    ] {
        let m = serve_path(&model("add.onnx"), limits).unwrap();
        let answer = infer_bytes(&m, drip(vec![b' '; 500], 2, long)).await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (400, error));
    }
}
