//! ONNX models without onnxruntime: what all runtimes have in common, the same
//! numbers as onnxruntime's, and a sentence for what only that can do.

mod common;
mod runtimes;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use axum::Router;
use common::{get, infer, infer_bytes, model, options};
use muonic_serve::{Limits, LoadOptions, Replica, load, router};
use runtimes::turns;
use serde_json::{Value, json};

const PLATFORM: &str = "onnx_rten";

fn serve_path(path: &Path, limits: Limits) -> anyhow::Result<Router> {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let model = load(path, &LoadOptions { onnxruntime: Some("none".into()), ..options(cache) })?;
    Ok(router(Replica::new("m".into(), "7".into(), model, limits).unwrap()))
}

fn serve_model(name: &str) -> Router {
    serve_path(&model(name), Limits::default()).unwrap()
}

#[test]
fn what_it_lacks_is_named_with_the_remedy() {
    for (name, lacking) in [
        ("classifier.onnx", "operator error: ai.onnx.ml/LinearClassifier operator not supported or not enabled"),
        ("types.onnx", "input 'in_UINT16' is of UINT16"),
        ("scalar.onnx", "input 'x' is of FP64"),
    ] {
        assert_eq!(
            serve_path(&model(name), Limits::default()).unwrap_err().to_string(),
            format!(
                "the ONNX model {name} needs onnxruntime, which is not installed; the built-in runtime lacks: {lacking}; \
                 put libonnxruntime.so beside the program or in ../lib from there, or name it in MUONIC_ONNXRUNTIME"
            )
        );
    }
}

#[tokio::test]
async fn integers_that_do_not_fit_are_refused() {
    let m = serve_model("loop.onnx");
    assert_eq!(
        infer(&m, &turns(10)).await.json()["outputs"][0],
        json!({ "name": "turns", "datatype": "INT64", "shape": [], "data": [10] })
    );
    let answer = infer(&m, &turns(1 << 40)).await;
    assert_eq!(answer.status, 422);
    assert_eq!(
        answer.error(),
        "input 'n' has the value 1099511627776; the built-in runtime counts in 32 bits, onnxruntime would take it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_over_its_limit_is_told_and_waited_for() {
    let limits =
        Limits { run_time: Duration::from_millis(100), wait_time: Duration::from_millis(100), ..Limits::default() };
    let m = serve_path(&model("loop.onnx"), limits).unwrap();
    let mut n = 20_000;
    while infer(&m, &turns(n)).await.status == 200 {
        n *= 2;
    }
    // It goes on, and others get no turn until it has ended.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = infer(&m, &turns(10)).await;
        if answer.status == 200 {
            return;
        }
        assert_eq!(answer.status, 429, "{}", answer.error());
        assert!(Instant::now() < deadline, "the slot was not freed");
    }
}

/// A tensor of the model's type, the same for every runtime: small numbers.
fn input(port: &Value, rows: usize) -> Value {
    let shape: Vec<usize> = port["shape"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
        .map(|(at, n)| match n.as_i64().unwrap() {
            -1 if at == 0 => rows,
            -1 => 160,
            n => usize::try_from(n).unwrap(),
        })
        .collect();
    let count: usize = shape.iter().product();
    let is_float = port["datatype"] == "FP32";
    let name = port["name"].as_str().unwrap();
    let data: Vec<Value> = (0..count)
        .map(|n| match name {
            "attention_mask" => json!(1),
            "token_type_ids" => json!(0),
            _ if is_float => json!((n * 7919 % 1000) as f64 / 62.5),
            _ => json!(1000 + n * 7919 % 20_000),
        })
        .collect();
    json!({ "name": name, "datatype": port["datatype"], "shape": shape, "data": data })
}

async fn compared(path: &Path) -> f64 {
    let here = serve_path(path, Limits::default()).unwrap();
    let there = common::serve_path(path, Limits::default()).unwrap();
    let about = get(&here, "/v2/models/m").await.json();
    assert_eq!(about["inputs"], get(&there, "/v2/models/m").await.json()["inputs"]);
    let mut worst = 0.0_f64;
    for rows in [1, 5] {
        let inputs: Vec<Value> = about["inputs"].as_array().unwrap().iter().map(|port| input(port, rows)).collect();
        let request = json!({ "inputs": inputs }).to_string();
        let (ours, theirs) =
            (infer_bytes(&here, request.clone()).await.json(), infer_bytes(&there, request).await.json());
        for (a, b) in ours["outputs"]
            .as_array()
            .unwrap_or_else(|| panic!("{ours}"))
            .iter()
            .zip(theirs["outputs"].as_array().unwrap_or_else(|| panic!("{theirs}")))
        {
            assert_eq!((&a["name"], &a["datatype"], &a["shape"]), (&b["name"], &b["datatype"], &b["shape"]));
            for (a, b) in a["data"].as_array().unwrap().iter().zip(b["data"].as_array().unwrap()) {
                worst = worst.max((a.as_f64().unwrap() - b.as_f64().unwrap()).abs());
            }
        }
    }
    worst
}

#[tokio::test]
async fn answers_as_onnxruntime_does() {
    for name in ["add.onnx", "double.onnx"] {
        assert!(compared(&model(name)).await < 1e-6, "{name}");
    }
    // More files, where somebody has them: folders or files, with ':' between.
    let more = std::env::var("MUONIC_TEST_ONNX").unwrap_or_default();
    for path in more.split(':').filter(|path| !path.is_empty()).map(PathBuf::from) {
        let worst = compared(&path).await;
        println!("{}: {worst:e}", path.display());
        assert!(worst < 1e-3, "{}: {worst:e}", path.display());
    }
}
