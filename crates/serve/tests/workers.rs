//! Worker processes: forked, shared, replaced; in real processes.

mod common;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use common::{Answer, infer, serve_path};
use muonic_serve::Limits;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

fn serve(handler: &str) -> (tempfile::TempDir, Router) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("handler.py"), handler).unwrap();
    let router = serve_path(dir.path(), Limits::default()).unwrap();
    (dir, router)
}

fn number(x: f64) -> Value {
    json!({ "inputs": [{ "name": "x", "datatype": "FP64", "shape": [1], "data": [x] }] })
}

fn output(answer: &Answer, name: &str) -> i64 {
    assert_eq!(answer.status, 200, "{:?}", answer.bytes);
    let outputs = answer.json()["outputs"].clone();
    let found = outputs.as_array().unwrap().iter().find(|o| o["name"] == name).unwrap();
    found["data"][0].as_f64().unwrap() as i64
}

async fn pid(m: &Router) -> i64 {
    output(&infer(m, &number(0.0)).await, "pid")
}

fn end(pid: i64) {
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
}

/// Lines that the class has written, one each time it was made.
fn made(dir: &Path) -> usize {
    std::fs::read_to_string(dir.join("made")).unwrap_or_default().lines().count()
}

/// A class that counts how often it is made, with more of it.
fn counting(first: &str, init: &str, settings: &str, predict: &str) -> String {
    format!(
        r#"
import os, sys, threading, time
{first}

def made(path):
    with open(os.path.join(path, "made"), "a") as file:
        file.write("%d\n" % os.getpid())

class Handler:
    {settings}
    def __init__(self, path):
        made(path)
        self.path = path
        {init}
    def predict(self, inputs):
        x = float(list(inputs["x"])[0])
        {predict}
        return {{"pid": os.getpid(), "x": x}}
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_when_workers_are_killed() {
    const CALLERS: usize = 8;
    for workers in [1, 3] {
        let (_dir, m) = serve(&counting("", "pass", &format!("workers = {workers}"), "time.sleep(0.002)"));
        let done = Arc::new(AtomicBool::new(false));
        let answered: Arc<[AtomicUsize; CALLERS]> = Arc::default();
        let last = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..CALLERS)
            .map(|n| {
                let (m, done, answered, last) = (m.clone(), done.clone(), answered.clone(), last.clone());
                tokio::spawn(async move {
                    while !done.load(Ordering::SeqCst) {
                        let answer = infer(&m, &number(n as f64)).await;
                        assert_eq!(output(&answer, "x"), n as i64);
                        last.store(output(&answer, "pid") as usize, Ordering::SeqCst);
                        answered[n].fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        let mut killed = 0;
        let counts = || answered.iter().map(|n| n.load(Ordering::SeqCst)).collect::<Vec<_>>();
        let deadline = Instant::now() + Duration::from_secs(120);
        while killed < 20 {
            // Each has an answer to what it asked after the last kill: no
            // request meets two.
            let before = counts();
            while counts().iter().zip(&before).any(|(now, before)| *now < before + 2) {
                assert!(Instant::now() < deadline && !callers.iter().any(|c| c.is_finished()), "after {killed} kills");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let pid = last.load(Ordering::SeqCst) as i32;
            killed += usize::from(kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok());
        }
        done.store(true, Ordering::SeqCst);
        for caller in callers {
            caller.await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_a_fork_would_not_have_is_made_in_each_worker() {
    let numpy = "import numpy as np";
    let blas = "self.w = np.ones((300, 300)); self.w @ self.w";
    // What is done, how often the class is made for two workers one after the other.
    for (what, first, init, settings, predict, expected) in [
        ("nothing", "", "pass", "", "pass", 1),
        ("BLAS", numpy, blas, "", "assert (self.w @ self.w)[0, 0] == 300", 1),
        ("BLAS, by wish", numpy, blas, "share = False", "assert (self.w @ self.w)[0, 0] == 300", 2),
        ("a closed file", "", "open(__file__).read()", "", "pass", 1),
        ("an open file", "", "self.f = open(__file__)", "", "self.f.seek(0); assert self.f.read(1)", 2),
        (
            "a database",
            "import sqlite3",
            "self.db = sqlite3.connect(os.path.join(path, 'db'))",
            "",
            "self.db.execute('select 1')",
            2,
        ),
        (
            "a process",
            "import subprocess",
            "self.p = subprocess.Popen(['sleep', '1000'])",
            "",
            "assert self.p.poll() is None",
            2,
        ),
        (
            "a thread",
            "",
            "self.t = threading.Thread(target=time.sleep, args=(1000,), daemon=True); self.t.start()",
            "",
            "assert self.t.is_alive()",
            2,
        ),
        (
            "a thread of the module",
            "t = threading.Thread(target=time.sleep, args=(1000,), daemon=True); t.start()",
            "pass",
            "",
            "assert t.is_alive()",
            2,
        ),
        (
            "OpenMP",
            "import numpy as np\nfrom sklearn.ensemble import HistGradientBoostingClassifier as Trees",
            "X = np.arange(4000.0).reshape(-1, 2); self.m = Trees(max_iter=3).fit(X, X[:, 0] > 900)",
            "",
            "assert self.m.predict(np.full((5000, 2), 1e6)).all()",
            2,
        ),
    ] {
        let (dir, m) = serve(&counting(first, init, settings, predict));
        let before = pid(&m).await;
        assert_eq!(made(dir.path()), 1, "{what}");
        end(before);
        let after = pid(&m).await;
        assert_ne!(after, before, "{what}");
        assert_eq!(made(dir.path()), expected, "{what}");
        assert_eq!(pid(&m).await, after, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_given_to_another_worker_once() {
    // The first, or the first two, or all that get the request die of it.
    let deadly = |times: u32| {
        format!(
            "
        if x > 0:
            tries = os.path.join(self.path, 'tries')
            with open(tries, 'a') as file: file.write('+')
            if os.path.getsize(tries) <= {times}: os.kill(os.getpid(), 9)"
        )
    };
    let tries = |dir: &Path| std::fs::read_to_string(dir.join("tries")).unwrap().len();
    let (dir, m) = serve(&counting("", "pass", "", &deadly(1)));
    assert_eq!(infer(&m, &number(1.0)).await.status, 200);
    assert_eq!(tries(dir.path()), 2);

    let (dir, m) = serve(&counting("", "pass", "", &deadly(2)));
    let answer = infer(&m, &number(1.0)).await;
    assert_eq!(answer.status, 503);
    let why =
        "the model's worker was ended by signal 9 (SIGKILL) while it worked on this request; another is being started";
    assert_eq!(answer.error(), why);
    assert_eq!(tries(dir.path()), 2);
    assert_eq!(infer(&m, &number(0.0)).await.status, 200);

    let (dir, m) = serve(&counting("", "pass", "retry = False", &deadly(1)));
    assert_eq!(infer(&m, &number(1.0)).await.error(), why);
    assert_eq!(tries(dir.path()), 1);
    assert_eq!(infer(&m, &number(0.0)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_share_the_memory_of_the_model() {
    let init = "self.big = b'x' * (96 << 20)";
    let (dir, m) = serve(&counting("", init, "workers = 2", "time.sleep(0.05)"));
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut pids = HashSet::new();
    while pids.len() < 2 {
        assert!(Instant::now() < deadline, "{pids:?}");
        let (one, other, input) = (m.clone(), m.clone(), number(0.0));
        let (one, other) = tokio::join!(infer(&one, &input), infer(&other, &input));
        pids.extend([output(&one, "pid"), output(&other, "pid")]);
    }
    assert_eq!(made(dir.path()), 1);
    for pid in pids {
        let memory = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let of = |name: &str| -> u64 {
            let line = memory.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let own = of("Private_Dirty:") + of("Private_Clean:");
        assert!(of("Rss:") > 96 << 10 && own < 16 << 10, "{own} KiB are its own: {memory}");
    }
}

#[tokio::test]
async fn a_worker_that_leaks_is_replaced_between_requests() {
    // 5 MiB with each of 64 requests, once it is warm.
    let leak = "\n        self.n += 1\n        if 128 < self.n <= 192: self.kept.append(b'x' * (5 << 20))";
    let (_dir, m) = serve(&counting("", "self.n, self.kept = 0, []", "", leak));
    let first = pid(&m).await;
    for _ in 1..256 {
        assert_eq!(pid(&m).await, first);
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    while pid(&m).await == first {
        assert!(Instant::now() < deadline);
    }
    // The old one ends with what it had.
    while Path::new(&format!("/proc/{first}")).exists() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn each_worker_is_told_before_its_first_request() {
    let start = "def start_worker(self): self.begun = os.getpid()\n    workers = 1";
    let (_dir, m) = serve(&counting("", "pass", start, "assert self.begun == os.getpid()"));
    let before = pid(&m).await;
    end(before);
    assert_ne!(pid(&m).await, before);
}

#[tokio::test]
async fn settings_that_are_none_are_told() {
    for (settings, why) in [
        ("workers = 'two'", "Handler.workers is 'two'; it must be a number"),
        ("share = 1", "Handler.share is 1; it must be True or False"),
        ("workers = 0", "the model asks for 0 workers; there are 1 to 64"),
        (
            "batches = True; inputs = [{'name': 'x', 'datatype': 'FP64', 'shape': [1]}]",
            "the model says that it takes batches, but not that the first dimension of 'x' is -1",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("handler.py"), counting("", "pass", settings, "pass")).unwrap();
        let error = serve_path(dir.path(), Limits::default()).unwrap_err().to_string();
        assert!(error.ends_with(why), "{error}");
    }
}

/// What is started by a test and must end with it.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn nothing_outlives_a_replica_that_is_killed() {
    for init in ["pass", "self.t = threading.Thread(target=time.sleep, args=(1000,), daemon=True); self.t.start()"] {
        let dir = tempfile::tempdir().unwrap();
        // Each process that is forked is noted.
        let first = "os.register_at_fork(after_in_child=lambda: note())\ndef note():\n    with open(os.path.join(os.path.dirname(__file__), 'pids'), 'a') as f: f.write('%d\\n' % os.getpid())\nnote()";
        std::fs::write(dir.path().join("handler.py"), counting(first, init, "workers = 3", "pass")).unwrap();
        let mut command = std::process::Command::new(common::process::program());
        command.arg(dir.path()).args(["--port", "0", "--python"]).arg(common::python());
        command.env("XDG_CACHE_HOME", dir.path().join("cache")).stdout(std::process::Stdio::piped());
        let mut replica = Ended(command.spawn().unwrap());
        let pids = || -> Vec<i32> {
            let text = std::fs::read_to_string(dir.path().join("pids")).unwrap_or_default();
            text.lines().map(|line| line.parse().unwrap()).filter(|pid| alive(*pid)).collect()
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while pids().len() < 3 {
            assert!(Instant::now() < deadline, "{:?}", pids());
            std::thread::sleep(Duration::from_millis(10));
        }
        replica.0.kill().unwrap();
        replica.0.wait().unwrap();
        while !pids().is_empty() {
            assert!(Instant::now() < deadline, "{:?} are left", pids());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z')))
}

/// A request with numbers as binary data, and the numbers of the answer.
async fn binary(m: &Router, values: &[f64]) -> (Answer, Vec<f64>) {
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let head = json!({
        "parameters": { "binary_data_output": true },
        "inputs": [{ "name": "x", "datatype": "FP64", "shape": [values.len()], "parameters": { "binary_data_size": data.len() } }],
    });
    let head = head.to_string();
    let request = http::Request::post("/v2/models/m/infer").header("inference-header-content-length", head.len());
    let body = [head.as_bytes(), &data].concat();
    let answer = common::send(m, request.body(axum::body::Body::from(body)).unwrap()).await;
    let mut numbers = Vec::new();
    if answer.status == 200 {
        let at: usize = answer.headers["inference-header-content-length"].to_str().unwrap().parse().unwrap();
        numbers = answer.bytes[at..].as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
    }
    (answer, numbers)
}

fn counted(from: usize, length: usize) -> Vec<f64> {
    (from..from + length).map(|n| n as f64).collect()
}

const SIZES: [usize; 8] = [1, 1000, 32_768, 32_760, 200_000, 40_000, 2_200_000, 50_000];

#[tokio::test]
async fn tensors_of_every_size_arrive_and_return() {
    for class in [
        // What came is what goes; an array of its own; what came, changed in place.
        "return inputs",
        "return {'y': inputs['x'] + 0}",
        "x = inputs['x']; x += 1; x -= 1; return {'y': x}",
        "x = inputs['x']; n = len(x) // 2; return {'a': x[:n], 'b': x[n:]}",
    ] {
        let (_dir, m) =
            serve(&format!("class Handler:\n def __init__(self, path): pass\n def predict(self, inputs): {class}\n"));
        for (n, size) in SIZES.into_iter().enumerate() {
            let values = counted(n, size);
            let (answer, got) = binary(&m, &values).await;
            assert_eq!(answer.status, 200, "{class}: {:?}", answer.bytes);
            assert!(got == values, "{class}: {size} numbers");
        }
    }
}

#[tokio::test]
async fn what_a_class_keeps_stays_as_it_is() {
    let (_dir, m) = serve(
        "class Handler:\n def __init__(self, path): self.kept = []\n def predict(self, inputs):\n  self.kept.append(inputs['x'][5:])\n  return {'y': [float(k[0]) for k in self.kept]}\n",
    );
    for n in 0..8 {
        let (_, got) = binary(&m, &counted(10 * n, 100_000)).await;
        assert_eq!(got, (0..=n).map(|n| (10 * n + 5) as f64).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_worker_that_breaks_what_it_shares_is_ended() {
    let class = |sabotage: &str| {
        format!(
            "import os, sys\nC = sys.modules['__main__'].Channel\nclass Handler:\n def __init__(self, path): pass\n def predict(self, inputs):\n  x = inputs['x']\n  if x[0] > 0: {sabotage}\n  return {{'y': x + 0, 'pid': float(os.getpid())}}\n"
        )
    };
    for (sabotage, why) in [
        (
            "os.pwrite = lambda fd, data, at: len(data); os.ftruncate = lambda *_: 0",
            "more than is in the memory that it shares",
        ),
        (
            "s = C.settle; C.settle = lambda self, parts: (s(self, parts), os.ftruncate(self._ours, 100))[0]",
            "more than is in the memory",
        ),
        ("C.settle = lambda self, parts: ([], 1 << 20)", "more than is in the memory"),
        ("C.settle = lambda self, parts: ([], (1 << 32) - 1)", "at most 1073741824 are accepted"),
    ] {
        let (_dir, m) = serve(&class(sabotage));
        let (answer, _) = binary(&m, &counted(1, 100_000)).await;
        assert_eq!(answer.status, 500, "{sabotage}");
        assert!(
            answer.error().starts_with("the model's worker sent ") && answer.error().contains(why),
            "{}",
            answer.error()
        );
        // Others are not hurt.
        let (answer, got) = binary(&m, &counted(0, 100_000)).await;
        assert_eq!(answer.status, 200, "{:?}", answer.bytes);
        assert!(got[..100_000] == counted(0, 100_000));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_that_says_so_gets_requests_together() {
    for (batches, together) in [("True", true), ("False", false)] {
        let (dir, m) = serve(&format!(
            r#"
import os, time
class Handler:
    batches = {batches}
    def __init__(self, path): self.path = path
    def predict(self, inputs):
        x = inputs["x"]
        with open(os.path.join(self.path, "rows"), "a") as file: file.write("%d\n" % len(x))
        time.sleep(0.005)
        return {{"y": [2 * float(v) for v in x]}}
"#
        ));
        let calls: Vec<_> = (0..200)
            .map(|n| {
                let m = m.clone();
                tokio::spawn(async move {
                    let answer = infer(&m, &number(f64::from(n))).await;
                    assert_eq!(output(&answer, "y"), i64::from(2 * n));
                })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
        let rows = std::fs::read_to_string(dir.path().join("rows")).unwrap();
        let most = rows.lines().map(|line| line.parse::<usize>().unwrap()).max().unwrap();
        assert_eq!(most > 2, together, "{most}");
    }
}
