//! One worker process and the frames to and from it (see `worker.py`).
//!
//! Pipes are non-blocking and every transfer has a deadline, so a worker that
//! hangs cannot hold a thread of ours. The worker leads its own process
//! group; dropping it kills the group.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::handler::Settings;
use crate::confined::Confined;

/// Longest answer: room for a 64 MiB request's worth many times over.
const JSON_BYTES_MAX: usize = 16 << 20;
const BINARY_BYTES_MAX: usize = 1 << 30;

pub struct Frame {
    pub json: Vec<u8>,
    pub binary: Vec<u8>,
}

#[derive(Debug)]
pub enum CallError {
    /// The worker ended; how, in words.
    Died(String),
    TimedOut,
    /// It sent something that is no frame.
    Garbled(String),
}

pub struct Worker {
    child: Child,
    to: OwnedFd,
    from: OwnedFd,
    /// With how many processes had been ended for want of memory before.
    confined: Option<(Arc<Confined>, u64)>,
}

/// Copies what the worker prints to our own stderr, up to a total, so that a
/// worker that prints for ever cannot fill the disk.
pub struct LogBudget {
    left: AtomicU64,
}

impl LogBudget {
    pub fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(bytes) })
    }

    fn pump(&self, from: impl Read) {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        loop {
            line.clear();
            // A line without end comes in pieces.
            match from.by_ref().take(64 << 10).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(n) => {
                    let n = n as u64;
                    let before = self
                        .left
                        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| Some(left.saturating_sub(n)))
                        .unwrap_or(0);
                    if before >= n {
                        let _ = io::stderr().lock().write_all(&line);
                    } else if before > 0 {
                        let _ = io::stderr()
                            .lock()
                            .write_all(b"muonic: the log is full; what the model prints from here on is dropped\n");
                    }
                }
            }
        }
    }
}

impl Worker {
    /// Starts a worker. The kernel kills it when the calling *thread* ends, so
    /// call this from one that lives as long as the worker shall.
    pub fn spawn(settings: &Settings, script: &Path, budget: &Arc<LogBudget>) -> io::Result<Self> {
        let Settings { python, model, confined, .. } = settings;
        let confined = confined.as_ref().map(|c| (Arc::clone(c), c.oom_kills()));
        let mut path = python.bin.clone().into_os_string();
        if let Some(rest) = std::env::var_os("PATH") {
            path.push(":");
            path.push(rest);
        }
        let mut command = Command::new(&python.python);
        command
            .arg("-u")
            .arg(script)
            .arg(model)
            .env("PATH", path)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        // SAFETY: prctl is async-signal-safe and touches no memory of ours.
        unsafe {
            command.pre_exec(|| {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0 {
                    Ok(())
                } else {
                    Err(io::Error::last_os_error())
                }
            });
        }
        let mut child = command.spawn()?;
        let taken = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(to), Some(from), Some(log)) = taken else {
            let _ = child.kill();
            return Err(io::Error::other("the worker has no pipes"));
        };
        let worker = Self { child, to: to.into(), from: from.into(), confined };
        for fd in [&worker.to, &worker.from] {
            fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let budget = Arc::clone(budget);
        std::thread::Builder::new().name("worker-log".into()).spawn(move || budget.pump(log))?;
        Ok(worker)
    }

    /// How it ended, where it has.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        let is_killed = status.signal() == Some(Signal::SIGKILL as i32);
        match &self.confined {
            Some((confined, before)) if is_killed && confined.oom_kills() > *before => {
                Some(confined.was_out_of_memory())
            }
            _ => Some(describe(status)),
        }
    }

    pub fn send(&mut self, json: &[u8], binary: &[&[u8]], deadline: Instant) -> Result<(), CallError> {
        let binary_length: usize = binary.iter().map(|b| b.len()).sum();
        let lengths = [json.len(), binary_length]
            .map(|n| u32::try_from(n).map_err(|_| CallError::Garbled("a request above 4 GiB".into())));
        let [json_length, binary_length] = lengths;
        let mut head = [0; 8];
        head[..4].copy_from_slice(&json_length?.to_le_bytes());
        head[4..].copy_from_slice(&binary_length?.to_le_bytes());
        for part in [&head[..], json].into_iter().chain(binary.iter().copied()) {
            self.write(part, deadline)?;
        }
        Ok(())
    }

    pub fn receive(&mut self, deadline: Instant) -> Result<Frame, CallError> {
        let head = self.read(8, deadline)?;
        let length = |at: usize| {
            head.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, |b| u32::from_le_bytes(b) as usize)
        };
        let (json, binary) = (length(0), length(4));
        if json > JSON_BYTES_MAX || binary > BINARY_BYTES_MAX {
            return Err(CallError::Garbled(format!(
                "an answer of {} bytes; at most {BINARY_BYTES_MAX} are accepted",
                json + binary
            )));
        }
        Ok(Frame { json: self.read(json, deadline)?, binary: self.read(binary, deadline)? })
    }

    fn write(&mut self, mut bytes: &[u8], deadline: Instant) -> Result<(), CallError> {
        while !bytes.is_empty() {
            match nix::unistd::write(&self.to, bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(nix::errno::Errno::EAGAIN) => wait(&self.to, PollFlags::POLLOUT, deadline)?,
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return Err(self.died()),
            }
        }
        Ok(())
    }

    fn read(&mut self, length: usize, deadline: Instant) -> Result<Vec<u8>, CallError> {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match nix::unistd::read(&self.from, &mut bytes[filled..]) {
                Ok(0) => return Err(self.died()),
                Ok(n) => filled += n,
                Err(nix::errno::Errno::EAGAIN) => wait(&self.from, PollFlags::POLLIN, deadline)?,
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return Err(self.died()),
            }
        }
        Ok(bytes)
    }

    /// Its pipe has closed, so it is ending or has closed it on purpose.
    fn died(&mut self) -> CallError {
        let patience = Instant::now() + Duration::from_secs(2);
        loop {
            if let Some(how) = self.ended() {
                return CallError::Died(how);
            }
            if Instant::now() > patience {
                return CallError::Died("closed its pipes".into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The group may hold processes that the worker has started, also
        // where the worker itself is gone.
        if let Ok(id) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait(fd: &impl AsFd, flags: PollFlags, deadline: Instant) -> Result<(), CallError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(CallError::TimedOut);
        }
        let millis = i32::try_from(left.as_millis()).unwrap_or(i32::MAX).saturating_add(1);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd.as_fd(), flags)], timeout) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(e) => return Err(CallError::Garbled(format!("nothing: its pipe cannot be watched ({e})"))),
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(name) => format!("was ended by signal {signal} ({name})"),
            Err(_) => format!("was ended by signal {signal}"),
        },
        (None, None) => "ended".into(),
    }
}

/// The worker's program as a file that Python can read, without leaving one
/// behind: an anonymous file that lives as long as it is held.
pub struct Script {
    _file: File,
    path: std::path::PathBuf,
}

impl Script {
    pub fn new() -> io::Result<Self> {
        // Without close-on-exec: a worker opens its own copy by this path.
        let fd = nix::sys::memfd::memfd_create(c"worker.py", nix::sys::memfd::MFdFlags::empty())?;
        let mut file = File::from(fd);
        file.write_all(include_bytes!("worker.py"))?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
        Ok(Self { _file: file, path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}
