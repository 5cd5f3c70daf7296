//! Models that are Python classes, in real worker processes.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use common::{Answer, drip, get, infer, infer_bytes, send, serve_path};
use http::Request;
use http_body_util::BodyExt;
use muonic_serve::Limits;
use serde_json::{Value, json};
use tower::ServiceExt;

fn write(dir: &Path, handler: &str) {
    std::fs::write(dir.join("handler.py"), handler).unwrap();
}

fn serve(handler: &str) -> (tempfile::TempDir, Router) {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), handler);
    let router = serve_path(dir.path(), Limits::default()).unwrap();
    (dir, router)
}

fn one(datatype: &str, shape: Value, data: Value) -> Value {
    json!({ "inputs": [{ "name": "x", "datatype": datatype, "shape": shape, "data": data }] })
}

const DOUBLE: &str = r#"
import os

class Handler:
    def __init__(self, path):
        print("loading", path, "with", os.getcwd())
        self.factor = int(open(os.path.join(path, "factor.txt")).read())

    def predict(self, inputs):
        print("a line on stdout does not disturb")
        x = inputs["x"]
        values = x.tolist() if hasattr(x, "tolist") else x
        double = lambda v: [double(i) for i in v] if isinstance(v, list) else v * self.factor
        return {"y": double(values), "n": len(values), "s": ["a", "ü"], "ok": [True], "half": 0.5}
"#;

#[tokio::test]
async fn runs_a_class() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), DOUBLE);
    std::fs::write(dir.path().join("factor.txt"), "2").unwrap();
    let m = serve_path(dir.path(), Limits::default()).unwrap();
    let answer = infer(&m, &one("INT64", json!([2, 2]), json!([[1, 2], [3, 4]]))).await;
    assert_eq!(
        answer.json()["outputs"],
        json!([
            { "name": "y", "datatype": "INT64", "shape": [2, 2], "data": [2, 4, 6, 8] },
            { "name": "n", "datatype": "INT64", "shape": [], "data": [2] },
            { "name": "s", "datatype": "BYTES", "shape": [2], "data": ["a", "ü"] },
            { "name": "ok", "datatype": "BOOL", "shape": [1], "data": [true] },
            { "name": "half", "datatype": "FP64", "shape": [], "data": [0.5] },
        ])
    );
    let mut request = one("BYTES", json!([1]), json!(["ab"]));
    request["outputs"] = json!([{ "name": "y" }]);
    assert_eq!(infer(&m, &request).await.json()["outputs"][0]["data"], json!(["abab"]));
    request["outputs"] = json!([{ "name": "none" }]);
    assert_eq!(infer(&m, &request).await.error(), "the model gave no output 'none'");
    let about = get(&m, "/v2/models/m").await.json();
    assert_eq!(about["platform"], "muonic_python");
    assert_eq!(about["inputs"], json!([]));
}

#[tokio::test]
async fn declared_ports_are_checked() {
    let (_dir, m) = serve(
        "class Handler:\n inputs = [{'name': 'x', 'datatype': 'FP32', 'shape': [-1, 2]}]\n outputs = [{'name': 'y', 'datatype': 'FP32', 'shape': [-1]}]\n def __init__(self, path): pass\n def predict(self, inputs): return {'y': [1.0]}\n",
    );
    assert_eq!(
        get(&m, "/v2/models/m").await.json()["inputs"],
        json!([{ "name": "x", "datatype": "FP32", "shape": [-1, 2] }])
    );
    let answer = infer(&m, &one("FP32", json!([1, 3]), json!([1, 2, 3]))).await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().as_str()),
        (400, "input 'x' has shape [1,3]; the model wants [-1,2]")
    );
    assert_eq!(infer(&m, &one("FP32", json!([1, 2]), json!([1, 2]))).await.status, 200);
}

#[tokio::test]
async fn faults_of_the_handler_are_told() {
    let (_dir, m) = serve(
        r#"
class Odd: pass

class Handler:
    def __init__(self, path): pass
    def predict(self, inputs):
        what = str(list(inputs["x"])[0])
        if what == "value": raise ValueError("x must be\n positive")
        if what == "type": raise TypeError("no")
        if what == "none": return None
        if what == "odd": return {"y": Odd()}
        if what == "ragged": return {"y": [[1], [2, 3]]}
        if what == "mixed": return {"y": [1, "a"]}
        if what == "huge": return {"y": 2 ** 70}
        if what == "key": return {1: 2}
        return {"y": [1]}
"#,
    );
    for (what, status, error) in [
        ("value", 422, "the model refused the input: ValueError: x must be positive"),
        ("type", 500, "the model failed: TypeError: no"),
        ("none", 500, "the model failed: predict returned a NoneType; it must return a dict of output name to values"),
        ("odd", 500, "the model failed: output 'y' is a Odd; give a list, a number, a string or an array"),
        ("ragged", 500, "the model failed: output 'y' is a list whose parts differ in shape"),
        ("mixed", 500, "the model failed: output 'y' holds a str; give numbers, booleans or strings"),
        ("huge", 500, "the model failed: output 'y' holds a number beyond 64 bits"),
        ("key", 500, "the model failed: predict returned a dict whose key 1 is not a string"),
    ] {
        let answer = infer(&m, &one("BYTES", json!([1]), json!([what]))).await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (status, error));
    }
    // The same worker still serves.
    assert_eq!(infer(&m, &one("BYTES", json!([1]), json!(["fine"]))).await.status, 200);
}

#[tokio::test]
async fn strings_in_binary() {
    let (_dir, m) =
        serve("class Handler:\n def __init__(self, path): pass\n def predict(self, inputs): return inputs\n");
    let call = async |data: &[u8]| {
        let head = json!({
            "parameters": { "binary_data_output": true },
            "inputs": [{ "name": "x", "datatype": "BYTES", "shape": [2], "parameters": { "binary_data_size": data.len() } }],
        })
        .to_string();
        let request =
            Request::post("/v2/models/m/infer").header("Inference-Header-Content-Length", head.len().to_string());
        send(&m, request.body(Body::from([head.as_bytes(), data].concat())).unwrap()).await
    };
    let good = b"\x02\0\0\0\xc3\xbc\0\0\0\0";
    let answer = call(good).await;
    assert_eq!(answer.status, 200, "{:?}", answer.bytes);
    assert!(answer.bytes.ends_with(good), "{:?}", answer.bytes);
    for (data, error) in [
        (&good[..9], "input 'x' has binary data that ends within a length"),
        (&b"\0\0\0\0\x02\0\0\0a"[..], "input 'x' has binary data that ends within value 1"),
        (&[0; 4], "input 'x' has 1 values; its shape [2] asks for 2"),
        (&[0; 12], "input 'x' has 3 values; its shape [2] asks for 2"),
    ] {
        let answer = call(data).await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (400, error));
    }
}

async fn until_ready(m: &Router) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while get(m, "/v2/health/ready").await.status != 200 {
        assert!(Instant::now() < deadline, "no other worker came");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

const MORTAL: &str = r#"
import os, signal, time

class Handler:
    def __init__(self, path): pass
    def predict(self, inputs):
        what = str(list(inputs["x"])[0])
        if what == "exit": os._exit(3)
        if what == "kill": os.kill(os.getpid(), signal.SIGKILL)
        if what == "hang": time.sleep(3600)
        return {"pid": os.getpid()}
"#;

fn pid(answer: &Answer) -> i64 {
    answer.json()["outputs"][0]["data"][0].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_is_replaced() {
    let (_dir, m) = serve(MORTAL);
    let say = |what: &str| one("BYTES", json!([1]), json!([what]));
    let first = pid(&infer(&m, &say("pid")).await);
    for (what, how) in [("exit", "ended with exit code 3"), ("kill", "was ended by signal 9 (SIGKILL)")] {
        let answer = infer(&m, &say(what)).await;
        assert_eq!(answer.status, 503);
        assert_eq!(
            answer.error(),
            format!("the model's worker {how} while it worked on this request; another is being started")
        );
        until_ready(&m).await;
        assert_ne!(pid(&infer(&m, &say("pid")).await), first);
    }
    // One that dies while nothing is asked of it.
    let before = pid(&infer(&m, &say("pid")).await);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(before as i32), nix::sys::signal::Signal::SIGKILL).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = infer(&m, &say("pid")).await;
        if answer.status == 200 && pid(&answer) != before {
            break;
        }
        assert!(answer.status == 503 || answer.status == 200, "{}", answer.error());
        assert!(Instant::now() < deadline, "no other worker came");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_hangs_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), MORTAL);
    let limits = Limits { run_time: Duration::from_millis(500), ..Limits::default() };
    let m = serve_path(dir.path(), limits).unwrap();
    let say = |what: &str| one("BYTES", json!([1]), json!([what]));
    let answer = infer(&m, &say("hang")).await;
    assert_eq!(answer.status, 504);
    let deadline = Instant::now() + Duration::from_secs(60);
    while infer(&m, &say("pid")).await.status != 200 {
        assert!(Instant::now() < deadline, "no other worker came");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

const SLEEPY: &str = r#"
import os, time

class Handler:
    def __init__(self, path): pass
    def predict(self, inputs):
        time.sleep(float(list(inputs["x"])[0]))
        return {"pid": os.getpid()}
"#;

fn sleepy(limits: Limits) -> (tempfile::TempDir, Router) {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), SLEEPY);
    let router = serve_path(dir.path(), limits).unwrap();
    (dir, router)
}

#[tokio::test]
async fn a_body_that_drips_takes_nothing_of_the_runs_time() {
    let (_dir, m) = sleepy(Limits { run_time: Duration::from_secs(2), ..Limits::default() });
    let worker = pid(&infer(&m, &one("FP32", json!([1]), json!([0]))).await);
    let body = one("FP32", json!([1]), json!([0.7])).to_string();
    let answer = infer_bytes(&m, drip(body, 8, Duration::from_millis(210))).await;
    assert_eq!(answer.status, 200, "{:?}", answer.bytes);
    assert_eq!(pid(&answer), worker);
}

#[tokio::test]
async fn requests_that_wait_too_long_are_refused_and_cost_no_worker() {
    let limits = Limits { run_time: Duration::from_secs(2), wait_time: Duration::from_secs(1), ..Limits::default() };
    let (_dir, m) = sleepy(limits);
    let worker = pid(&infer(&m, &one("FP32", json!([1]), json!([0]))).await);
    let calls: Vec<_> = (0..6)
        .map(|_| {
            let m = m.clone();
            tokio::spawn(async move { infer(&m, &one("FP32", json!([1]), json!([0.7]))).await })
        })
        .collect();
    let (mut good, mut refused) = (0, 0);
    for call in calls {
        let answer = call.await.unwrap();
        match answer.status.as_u16() {
            200 => {
                assert_eq!(pid(&answer), worker);
                good += 1;
            }
            429 => {
                assert_eq!(answer.headers["retry-after"], "1");
                refused += 1;
            }
            other => panic!("{other}: {}", answer.error()),
        }
    }
    assert!(good > 0 && refused > 0, "{good} answered, {refused} refused");
    assert_eq!(pid(&infer(&m, &one("FP32", json!([1]), json!([0]))).await), worker);
}

#[tokio::test]
async fn a_body_counts_with_what_it_becomes() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "class Handler:\n def __init__(self, path): pass\n def predict(self, inputs): return {'n': 1}\n");
    let m = serve_path(dir.path(), Limits { requests_bytes_max: 1 << 20, ..Limits::default() }).unwrap();
    // 3 bytes in the body, many times as many in a runtime.
    let strings = |n: usize| one("BYTES", json!([n]), json!(vec![""; n]));
    assert_eq!(infer(&m, &strings(5_000)).await.status, 200);
    let answer = infer(&m, &strings(20_000)).await;
    assert_eq!(answer.status, 413, "{:?}", answer.bytes);
    assert!(
        answer.error().ends_with("bytes of memory; this replica has 1048576 for all of its requests"),
        "{}",
        answer.error()
    );
    // 2 bytes in the body, 8 as a number.
    let numbers = |n: usize| one("FP64", json!([n]), json!(vec![1; n]));
    assert_eq!(infer(&m, &numbers(50_000)).await.status, 200);
    assert_eq!(infer(&m, &numbers(150_000)).await.status, 413);
    // What was counted is given back.
    assert_eq!(infer(&m, &numbers(50_000)).await.status, 200);
}

#[tokio::test]
async fn lists_count_as_the_values_they_become() {
    let dir = tempfile::tempdir().unwrap();
    let hidden = "import sys\nsys.modules['numpy'] = None\n";
    let class = "class Handler:\n def __init__(self, path): pass\n def predict(self, inputs): return {'is': type(inputs['x']).__name__}\n";
    write(dir.path(), &format!("{hidden}{class}"));
    let m = serve_path(dir.path(), Limits { requests_bytes_max: 1 << 20, ..Limits::default() }).unwrap();
    let small = async |n: usize| {
        let head = json!({ "inputs": [{ "name": "x", "datatype": "UINT8", "shape": [n, 1], "parameters": { "binary_data_size": n } }] });
        let (head, data) = (head.to_string(), vec![1; n]);
        let request = Request::post("/v2/models/m/infer").header("inference-header-content-length", head.len());
        send(&m, request.body(Body::from([head.as_bytes(), &data].concat())).unwrap()).await
    };
    assert_eq!(small(5_000).await.json()["outputs"][0]["data"], json!(["list"]));
    // A byte in the body, a list with a number in it in the worker.
    assert_eq!(small(20_000).await.status, 413);
}

#[tokio::test]
async fn answers_count_until_they_have_left() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        "class Handler:\n def __init__(self, path): pass\n def predict(self, inputs): return {'y': [1.5] * int(list(inputs['n'])[0])}\n",
    );
    let m = serve_path(dir.path(), Limits { requests_bytes_max: 4_000_000, ..Limits::default() }).unwrap();
    let call = async |n: u32| {
        let request = Request::post("/v2/models/m/infer")
            .body(Body::from(one("INT32", json!([1]), json!([n])).to_string().replace("\"x\"", "\"n\"")));
        m.clone().oneshot(request.unwrap()).await.unwrap()
    };
    let (first, second) = (call(100_000).await, call(100_000).await);
    assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 200));
    // Each takes 0.4 MB; one that is made takes 3.4 MB.
    let third = call(100_000).await;
    assert_eq!(third.status(), 429);
    drop(first);
    assert_eq!(call(100_000).await.status(), 200);
    let second = second.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(serde_json::from_slice::<Value>(&second).unwrap()["outputs"][0]["data"], json!(vec![1.5; 100_000]));
    let large = call(1_000_000).await;
    assert_eq!(large.status(), 413);
    let large = large.into_body().collect().await.unwrap().to_bytes();
    assert!(large.starts_with(b"{\"error\":\"the answer takes "), "{large:?}");
}

#[test]
fn what_cannot_be_loaded_says_why() {
    for (handler, error) in [
        ("class Other: pass", "handler.py cannot be loaded: handler.py has no class Handler"),
        ("class Handler: pass", "handler.py cannot be loaded: the class Handler has no method predict(self, inputs)"),
        (
            "import nothing_like_it",
            "handler.py cannot be loaded: ModuleNotFoundError: No module named 'nothing_like_it'",
        ),
        ("def f(:", "handler.py cannot be loaded: SyntaxError: "),
        ("import os; os._exit(7)", "the worker ended with exit code 7 while it loaded handler.py; its log says more"),
        (
            "class Handler:\n inputs = [{'name': 'x', 'datatype': 'float', 'shape': []}]\n def __init__(self, path): pass\n def predict(self, inputs): pass",
            "Handler.inputs says that 'x' has the datatype 'float'; there are BOOL",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), handler);
        let got = serve_path(dir.path(), Limits::default()).unwrap_err().to_string();
        assert!(got.starts_with(error), "{got}");
    }
}

#[tokio::test]
async fn tensors_of_every_datatype_reach_python() {
    let (_dir, m) =
        serve("class Handler:\n def __init__(self, path): pass\n def predict(self, inputs): return inputs\n");
    let types = [
        "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64",
        "BYTES",
    ];
    let data = |t: &str| match t {
        "BOOL" => json!([true, false, true, true, false, false]),
        "BYTES" => json!(["a", "", "ü", "b\u{0}", "c", "d"]),
        _ => json!([1, 2, 3, 4, 5, 100]),
    };
    let inputs: Vec<Value> =
        types.iter().map(|t| json!({ "name": t, "datatype": t, "shape": [2, 1, 3], "data": data(t) })).collect();
    let answer = infer(&m, &json!({ "inputs": inputs })).await.json();
    for (output, t) in answer["outputs"].as_array().unwrap().iter().zip(types) {
        assert_eq!(output["shape"], json!([2, 1, 3]), "{t}");
        let same = output["data"]
            .as_array()
            .unwrap()
            .iter()
            .zip(data(t).as_array().unwrap())
            .all(|(a, b)| a == b || a.as_f64() == b.as_f64());
        assert!(same, "{t}: {output}");
    }
}
