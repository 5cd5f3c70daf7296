//! The Python programs that we bring along, as files that Python can read
//! without leaving any behind: anonymous ones, which live as long as they are
//! held.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// The worker's program, in the order of its parts.
const WORKER: [&str; 4] = [
    include_str!("worker/values.py"),
    include_str!("worker/frames.py"),
    include_str!("worker/fork.py"),
    include_str!("worker/main.py"),
];

/// A file with a program.
pub struct Program {
    path: PathBuf,
    _held: Option<File>,
    /// How messages call it.
    pub name: &'static str,
    /// The protocol's `platform` of a model that it runs.
    pub platform: &'static str,
}

impl Program {
    /// A model's own `handler.py`.
    pub fn of(path: PathBuf) -> Self {
        Self { path, _held: None, name: "handler.py", platform: "muonic_python" }
    }

    /// What runs a model that MLflow has saved.
    pub fn mlflow() -> io::Result<Self> {
        let made = Self::ours(c"mlflow.py", &[include_str!("worker/mlflow.py")])?;
        Ok(Self { name: "the MLflow model", platform: "mlflow_pyfunc", ..made })
    }

    /// The worker.
    pub fn worker() -> io::Result<Self> {
        Self::ours(c"worker.py", &WORKER)
    }

    fn ours(name: &std::ffi::CStr, parts: &[&str]) -> io::Result<Self> {
        // Without close-on-exec: a child opens its own copy by this path.
        let fd = nix::sys::memfd::memfd_create(name, nix::sys::memfd::MFdFlags::empty())?;
        let mut file = File::from(fd);
        for part in parts {
            file.write_all(part.as_bytes())?;
        }
        let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
        Ok(Self { path, _held: Some(file), name: "worker.py", platform: "muonic_python" })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}
