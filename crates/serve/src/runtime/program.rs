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

pub struct Script {
    _file: File,
    path: PathBuf,
}

impl Script {
    pub fn worker() -> io::Result<Self> {
        Self::new(c"worker.py", &WORKER)
    }

    fn new(name: &std::ffi::CStr, parts: &[&str]) -> io::Result<Self> {
        // Without close-on-exec: a child opens its own copy by this path.
        let fd = nix::sys::memfd::memfd_create(name, nix::sys::memfd::MFdFlags::empty())?;
        let mut file = File::from(fd);
        for part in parts {
            file.write_all(part.as_bytes())?;
        }
        let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
        Ok(Self { _file: file, path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}
