//! What the machine has, for `muonic doctor`: Python, uv, the ONNX runtime.

use std::io;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use muonic_services::system::MachineChecks;
use muonic_types::system::{Check, CheckResult};

/// For a program to say its version.
const PATIENCE: Duration = Duration::from_secs(10);

/// Checks that look at the machine each time they are asked for.
pub fn checks(python: Option<PathBuf>, onnxruntime: Option<PathBuf>) -> MachineChecks {
    // One at a time, however many ask.
    let one = Mutex::new(());
    Arc::new(move || {
        let _one = one.lock().unwrap_or_else(|e| e.into_inner());
        vec![python_check(python.clone()), uv_check(), runtime_check(onnxruntime.clone())]
    })
}

fn check(name: &str, result: CheckResult, detail: String, hint: Option<&str>) -> Check {
    Check { name: name.to_owned(), result, detail, hint: hint.map(str::to_owned) }
}

/// What a program prints, which is killed where it takes too long.
fn output(command: &mut Command) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let until = Instant::now() + PATIENCE;
    while child.try_wait()?.is_none() {
        if Instant::now() > until {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", PATIENCE.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output()
}

fn python_check(interpreter: Option<PathBuf>) -> Check {
    let program = interpreter.unwrap_or_else(|| PathBuf::from("python3"));
    let ask = "import sys, venv, ensurepip; print(sys.version.split()[0], sys.executable)";
    let hint = "install it with 'apt-get install -y python3 python3-venv', or set python.interpreter";
    match output(Command::new(&program).args(["-c", ask])) {
        Ok(out) if out.status.success() => {
            check("python", CheckResult::Ok, String::from_utf8_lossy(&out.stdout).trim().to_owned(), None)
        }
        Ok(out) => {
            let error = String::from_utf8_lossy(&out.stderr);
            let last = error.lines().last().unwrap_or("it fails").to_owned();
            check(
                "python",
                CheckResult::Warning,
                format!("{} cannot make environments: {last}", program.display()),
                Some(hint),
            )
        }
        Err(e) => {
            check("python", CheckResult::Warning, format!("{} does not start: {e}", program.display()), Some(hint))
        }
    }
}

fn uv_check() -> Check {
    match output(Command::new("uv").arg("--version")) {
        Ok(out) if out.status.success() => {
            check("uv", CheckResult::Ok, String::from_utf8_lossy(&out.stdout).trim().to_owned(), None)
        }
        _ => check("uv", CheckResult::Ok, "not found; environments are built with venv and pip".to_owned(), None),
    }
}

fn runtime_check(setting: Option<PathBuf>) -> Check {
    match find_library(setting) {
        Ok(Some(path)) => check("onnxruntime", CheckResult::Ok, path.display().to_string(), None),
        Ok(None) => check(
            "onnxruntime",
            CheckResult::Warning,
            "not installed; the built-in runtime (rten) serves ONNX models, but not scikit-learn's".to_owned(),
            Some("run scripts/setup, or set serving.onnxruntime to the library's path"),
        ),
        Err(e) => check(
            "onnxruntime",
            CheckResult::Warning,
            format!("ONNX models cannot be served: {e:#}"),
            Some("run scripts/setup, or set serving.onnxruntime to the library's path"),
        ),
    }
}

/// Where replicas find the ONNX runtime. They do not inherit the server's
/// environment, so they are told.
pub fn find_library(setting: Option<PathBuf>) -> anyhow::Result<Option<PathBuf>> {
    muonic_serve::find_library(setting.as_ref().and_then(|p| p.to_str()))
}
