//! What every runtime of ONNX models answers alike: right numbers, and a
//! sentence for each thing that is wrong with a request. Who includes this says
//! which runtime `serve_model` and `serve_path` take.

use std::time::Duration;

use axum::body::Body;
use http::Request;
use muonic_serve::Limits;
use serde_json::{Value, json};

use super::common::{get, infer, infer_bytes, model, send};
use super::{PLATFORM, serve_model, serve_path};

pub fn x(shape: Value, data: Value) -> Value {
    json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": shape, "data": data }] })
}

#[tokio::test]
async fn adds_and_echoes() {
    let m = serve_model("add.onnx");
    let mut request = x(json!([2, 3]), json!([1, 2, 3, 4.5, 5, -6]));
    request["id"] = json!("abc");
    request["parameters"] = json!({ "whatever": 1 });
    let answer = infer(&m, &request).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(
        answer.json(),
        json!({ "model_name": "m", "model_version": "7", "id": "abc", "outputs": [
            { "name": "y", "datatype": "FP32", "shape": [2, 3], "data": [2.0, 4.0, 6.0, 5.5, 7.0, -3.0] }
        ]})
    );
    // Nested data is the same; so are the path with a version and an empty batch.
    let nested = infer(&m, &x(json!([2, 3]), json!([[1, 2, 3], [4.5, 5, -6]]))).await;
    assert_eq!(nested.json()["outputs"], answer.json()["outputs"]);
    let request =
        Request::post("/v2/models/m/versions/7/infer").body(Body::from(x(json!([1, 3]), json!([0, 0, 0])).to_string()));
    assert_eq!(send(&m, request.unwrap()).await.json()["outputs"][0]["data"], json!([1.0, 2.0, 3.0]));
    let empty = infer(&m, &x(json!([0, 3]), json!([]))).await;
    assert_eq!(empty.json()["outputs"][0], json!({ "name": "y", "datatype": "FP32", "shape": [0, 3], "data": [] }));
}

#[tokio::test]
async fn says_what_it_is() {
    let m = serve_model("add.onnx");
    assert_eq!(get(&m, "/v2").await.json()["name"], "muonic");
    assert_eq!(get(&m, "/v2/health/live").await.json(), json!({ "live": true }));
    assert_eq!(get(&m, "/v2/health/ready").await.json(), json!({ "ready": true }));
    assert_eq!(get(&m, "/v2/models/m/ready").await.json(), json!({ "name": "m", "ready": true }));
    for path in ["/v2/models/m", "/v2/models/m/versions/7"] {
        assert_eq!(
            get(&m, path).await.json(),
            json!({ "name": "m", "versions": ["7"], "platform": PLATFORM,
                "inputs": [{ "name": "x", "datatype": "FP32", "shape": [-1, 3] }],
                "outputs": [{ "name": "y", "datatype": "FP32", "shape": [-1, 3] }] })
        );
    }
    for path in ["/v2/models/other", "/v2/models/m/versions/8", "/v2/models/other/ready", "/nothing"] {
        let answer = get(&m, path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.error().starts_with("there is no"), "{path}: {}", answer.error());
    }
    assert_eq!(get(&m, "/v2/models/m/infer").await.status, 405);
    let post = |path: &str| Request::post(path).body(Body::from("{}")).unwrap();
    for path in ["/v2/repository/models/m/unload", "/v2/models/m/generate", "/v2/systemsharedmemory/region/a/register"]
    {
        let answer = send(&m, post(path)).await;
        assert_eq!(answer.status, 501, "{path}");
        assert!(answer.error().starts_with("not implemented: "));
    }
    infer(&m, &x(json!([1, 3]), json!([0, 0, 0]))).await;
    infer(&m, &x(json!([1, 3]), json!([0]))).await;
    assert_eq!(
        send(&m, post("/v2/repository/index")).await.json(),
        json!([{ "name": "m", "version": "7", "state": "READY", "reason": "" }])
    );
    let config = get(&m, "/v2/models/m/config").await.json();
    assert_eq!(config["input"], json!([{ "name": "x", "data_type": "TYPE_FP32", "dims": [3] }]));
    for path in ["/v2/models/stats", "/v2/models/m/stats", "/v2/models/m/versions/7/stats"] {
        let statistics = &get(&m, path).await.json()["model_stats"][0];
        assert_eq!((&statistics["inference_count"], &statistics["execution_count"]), (&json!(1), &json!(1)));
        let of = &statistics["inference_stats"];
        assert_eq!(
            (&of["success"]["count"], &of["fail"]["count"], &of["queue"]["count"]),
            (&json!(1), &json!(1), &json!(1))
        );
        assert_eq!(statistics["batch_stats"][0]["batch_size"], 1);
    }
    let metrics = String::from_utf8(get(&m, "/metrics").await.bytes.to_vec()).unwrap();
    assert!(metrics.contains("nv_inference_request_success{model=\"m\",version=\"7\"} 1\n"), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    assert!(metrics.contains("muonic_replica_requests_total 2\n"), "{metrics}");
    assert!(metrics.contains("muonic_replica_failures_total{code=\"400\"} 1\n"), "{metrics}");
    assert!(metrics.contains("muonic_replica_in_flight 0\n"), "{metrics}");
}

#[tokio::test]
async fn binary_tensors_go_both_ways() {
    let m = serve_model("add.onnx");
    let head = json!({
        "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 3], "parameters": { "binary_data_size": 12 } }],
        "outputs": [{ "name": "y", "parameters": { "binary_data": true } }],
    })
    .to_string();
    let body = |head: &str, data: &[u8]| [head.as_bytes(), data].concat();
    let nan: Vec<u8> = [f32::NAN, f32::INFINITY, 1.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let call = |length: String, body: Vec<u8>| {
        Request::post("/v2/models/m/infer")
            .header("Inference-Header-Content-Length", length)
            .body(Body::from(body))
            .unwrap()
    };
    let answer = send(&m, call(head.len().to_string(), body(&head, &nan))).await;
    assert_eq!(answer.status, 200, "{:?}", answer.bytes);
    let length: usize = answer.headers["inference-header-content-length"].to_str().unwrap().parse().unwrap();
    let json: Value = serde_json::from_slice(&answer.bytes[..length]).unwrap();
    assert_eq!(
        json["outputs"][0],
        json!({ "name": "y", "datatype": "FP32", "shape": [1, 3], "parameters": { "binary_data_size": 12 } })
    );
    let values: Vec<f32> = answer.bytes[length..].as_chunks().0.iter().map(|c| f32::from_le_bytes(*c)).collect();
    assert!(values[0].is_nan() && values[1] == f32::INFINITY && values[2] == 4.0);
    // JSON has neither.
    let as_json = head.replace("\"binary_data\":true", "\"binary_data\":false");
    let answer = send(&m, call(as_json.len().to_string(), body(&as_json, &nan))).await;
    assert_eq!(answer.json()["outputs"][0]["data"], json!([null, null, 4.0]));

    for (length, bytes, error) in [
        ("x".to_owned(), body(&head, &nan), "the header Inference-Header-Content-Length is not a number"),
        (
            "9999".to_owned(),
            body(&head, &nan),
            "the header Inference-Header-Content-Length says 9999 bytes, but the body has only",
        ),
        (
            head.len().to_string(),
            body(&head, &nan[..8]),
            "input 'x' has binary_data_size 12, but only 8 bytes are left in the body",
        ),
        (head.len().to_string(), body(&head, &[0; 13]), "1 bytes of binary data are left over after the last input"),
    ] {
        let answer = send(&m, call(length, bytes)).await;
        assert_eq!(answer.status, 400);
        assert!(answer.error().starts_with(error), "{}", answer.error());
    }
}

#[tokio::test]
async fn bad_input_gets_a_sentence() {
    let m = serve_model("add.onnx");
    let input = |i: Value| json!({ "inputs": [i] });
    for (request, error) in [
        (json!({ "inputs": [] }), "input 'x' is missing; the model wants 'x' (FP32 [-1,3])"),
        (
            json!([null, null, [x(json!([1, 3]), json!([1, 2, 3]))["inputs"][0]]]),
            "the body is not an inference request: invalid type: sequence, expected an object",
        ),
        (
            input(json!(["x", "FP32", [1, 3], null, [1, 2, 3]])),
            "the body is not an inference request: invalid type: sequence, expected an object",
        ),
        (
            json!({ "inputs": x(json!([1, 3]), json!([1, 2, 3]))["inputs"], "outputs": [["y"]] }),
            "the body is not an inference request: invalid type: sequence, expected an object",
        ),
        (x(json!([2, 4]), json!([])), "input 'x' has shape [2,4]; the model wants [-1,3]"),
        (x(json!([3]), json!([1, 2, 3])), "input 'x' has shape [3]; the model wants [-1,3]"),
        (x(json!([-1, 3]), json!([1, 2, 3])), "input 'x' has shape [-1, 3]; dimensions must be 0 or more"),
        (x(json!([4_000_000_000_000_000_000_u64, 3]), json!([])), "input 'x' has shape "),
        (
            x(json!([1_000_000_000_000_u64, 3]), json!([1])),
            "input 'x' has 1 values; its shape [1000000000000, 3] asks for",
        ),
        (x(json!([1, 3]), json!([1, 2])), "input 'x' has 2 values; its shape [1, 3] asks for 3"),
        (x(json!([1, 3]), json!([1, 2, 3, 4])), "input 'x' has more than the 3 values that its shape [1, 3] asks for"),
        (
            x(json!([2, 3]), json!([[1, 2], [3, 4], [5, 6]])),
            "input 'x' has a list of 2 at depth 1 of its data; its shape [2, 3] asks for 3",
        ),
        (x(json!([1, 3]), json!([[1, 2, [3]]])), "input 'x' has data nested deeper than its shape [1, 3]"),
        (x(json!([2, 3]), json!([[1, 2, 3], 4, 5, 6])), "input 'x' has data that mixes values and lists in one list"),
        (x(json!([1, 3]), json!("abc")), "input 'x' wants FP32, but value 0 is a string"),
        (x(json!([1, 3]), json!({})), "input 'x' wants FP32, but value 0 is an object"),
        (x(json!([1, 3]), Value::Null), "input 'x' has no data"),
        (
            input(json!({ "name": "x", "datatype": "INT64", "shape": [1, 3], "data": [1, 2, 3] })),
            "input 'x' has datatype INT64; the model wants FP32",
        ),
        (
            input(json!({ "name": "x", "datatype": "FLOAT", "shape": [1, 3], "data": [1, 2, 3] })),
            "input 'x' has the unknown datatype 'FLOAT'; there are BOOL, ",
        ),
        (
            input(json!({ "name": "z", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3] })),
            "the model has no input 'z'; it wants 'x' (FP32 [-1,3])",
        ),
    ] {
        let answer = infer(&m, &request).await;
        assert_eq!(answer.status, 400, "{request}");
        assert!(answer.error().starts_with(error), "{request}: {}", answer.error());
    }
    let long = "n".repeat(5_000);
    let named = |name: Value| json!({ "name": name, "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3] });
    let inputs = json!([named(json!("x"))]);
    for (request, error) in [
        (json!({ "id": long, "inputs": inputs }), "the id is longer than 4096 bytes"),
        (json!({ "id": 1, "inputs": inputs }), "the id is not text: 1"),
        (input(named(json!(long))), "the name of an input is longer than 4096 bytes"),
        (input(named(json!(["x"]))), "the name of an input is not text: [\"x\"]"),
        (json!({ "inputs": inputs, "outputs": [{ "name": long }] }), "the name of an output is longer than 4096 bytes"),
    ] {
        let answer = infer(&m, &request).await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (400, error));
    }
    let nothing = json!({ "id": null, "inputs": inputs });
    assert!(infer(&m, &nothing).await.json().get("id").is_none());
    let twice = json!({ "inputs": [x(json!([1, 3]), json!([1, 2, 3]))["inputs"][0], x(json!([1, 3]), json!([1, 2, 3]))["inputs"][0]] });
    assert_eq!(infer(&m, &twice).await.error(), "input 'x' stands twice in the request");
    let compressed =
        Request::post("/v2/models/m/infer").header("content-encoding", "gzip").body(Body::from("x")).unwrap();
    assert_eq!(send(&m, compressed).await.status, 415);
    let deep = format!(
        "{{\"inputs\":[{{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1,3],\"data\":{}",
        "[".repeat(1 << 20)
    );
    assert_eq!(infer_bytes(&m, deep).await.status, 400);
}

#[tokio::test]
async fn what_only_the_run_can_find_is_the_inputs_fault() {
    let m = serve_model("matmul.onnx");
    let tensor = |name: &str, shape: Value| json!({ "name": name, "datatype": "FP32", "shape": shape, "data": [1, 2, 3, 4, 5, 6] });
    let right = json!({ "inputs": [tensor("a", json!([2, 3])), tensor("b", json!([3, 2]))] });
    assert_eq!(infer(&m, &right).await.json()["outputs"][0]["data"], json!([22.0, 28.0, 49.0, 64.0]));
    let wrong = json!({ "inputs": [tensor("a", json!([2, 3])), tensor("b", json!([2, 3]))] });
    let answer = infer(&m, &wrong).await;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.headers["x-muonic-error"], "invalid_input");
    assert!(answer.error().starts_with("the model cannot run on this input: "), "{}", answer.error());
    assert_eq!(infer(&m, &right).await.status, 200);
}

#[tokio::test]
async fn what_is_no_model_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.onnx");
    for bytes in [&b""[..], b"not a model", &std::fs::read(model("add.onnx")).unwrap()[..60]] {
        std::fs::write(&file, bytes).unwrap();
        let error = serve_path(dir.path(), Limits::default()).unwrap_err().to_string();
        assert!(error.starts_with("the ONNX model model.onnx cannot be loaded: "), "{error}");
    }
}

pub fn turns(n: u64) -> Value {
    json!({ "inputs": [{ "name": "n", "datatype": "INT64", "shape": [], "data": [n] }] })
}

#[tokio::test(flavor = "multi_thread")]
async fn overload_is_refused_at_once() {
    let limits = Limits { run_time: Duration::from_secs(2), requests_max: 4, ..Limits::default() };
    let m = serve_path(&model("loop.onnx"), limits).unwrap();
    let calls = (0..40).map(|_| {
        let m = m.clone();
        tokio::spawn(async move { infer(&m, &turns(50_000)).await })
    });
    let mut refused = 0;
    for call in calls.collect::<Vec<_>>() {
        let answer = call.await.unwrap();
        match answer.status.as_u16() {
            200 | 504 => {}
            429 => {
                assert_eq!(answer.headers["retry-after"], "1");
                refused += 1;
            }
            other => panic!("{other}: {}", answer.error()),
        }
    }
    assert!(refused > 0);
}
