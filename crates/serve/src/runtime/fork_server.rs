//! The process that workers are forked from (`worker/fork.py`), and what it is
//! told.
//!
//! It leads a process group of its own and is killed by the kernel when the
//! thread that started it ends; its workers, when it ends.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, recv, sendmsg, shutdown, socketpair,
};
use nix::unistd::Pid;

use super::pool::Settings;
use super::program::Program;
use crate::prints::LogBudget;

/// For an answer of the server, beyond what it was told to wait.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

pub struct ForkServer {
    child: Mutex<Child>,
    control: Mutex<OwnedFd>,
    /// Its first worker has said that it is ready: from then on it listens.
    pub listens: AtomicBool,
    /// It has ended, and its workers before it.
    is_over: AtomicBool,
}

impl ForkServer {
    /// Starts one. The kernel kills it when the calling *thread* ends, so call
    /// this from one that lives as long as the workers shall.
    pub fn start(settings: &Settings, script: &Program, budget: &Arc<LogBudget>) -> io::Result<Self> {
        let Settings { python, model, program, .. } = settings;
        let mut path = python.bin.clone().into_os_string();
        if let Some(rest) = std::env::var_os("PATH") {
            path.push(":");
            path.push(rest);
        }
        let flags = SockFlag::SOCK_CLOEXEC;
        let (control, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        let mut command = Command::new(&python.python);
        command
            .arg(script.path())
            .arg(model)
            .arg(program.path())
            .env("PATH", path)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env_remove(muonic_unit::HEAP_VARIABLE.0)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
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
        let log = child.stderr.take();
        let server = Self {
            child: Mutex::new(child),
            control: Mutex::new(control),
            listens: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        };
        if let Some(log) = log {
            budget.copy(log)?;
        }
        Ok(server)
    }

    /// Has worker `number` forked, with its end of a channel. Whether that
    /// works shows there.
    pub fn fork(&self, number: u64, channel: &[OwnedFd; 3]) -> io::Result<()> {
        let message = format!("[\"spawn\",{number}]");
        let fds = channel.each_ref().map(AsRawFd::as_raw_fd);
        let passed = [ControlMessage::ScmRights(&fds)];
        let control = lock(&self.control);
        let parts = [io::IoSlice::new(message.as_bytes())];
        sendmsg::<()>(control.as_raw_fd(), &parts, &passed, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT, None)?;
        Ok(())
    }

    /// How worker `number` ended, which is ended if it has not within
    /// `patience`. `None` where the server itself is gone, or busy with the
    /// model's own code.
    pub fn end(&self, number: u64, patience: Duration) -> Option<ExitStatus> {
        if !self.listens.load(Ordering::SeqCst) {
            return None;
        }
        let message = format!("[\"end\",{number},{}]", patience.as_millis());
        let control = lock(&self.control);
        let parts = [io::IoSlice::new(message.as_bytes())];
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        sendmsg::<()>(control.as_raw_fd(), &parts, &[], flags, None).ok()?;
        let mut answer = [0; 64];
        if !comes(&*control, Instant::now() + patience + ANSWER_LIMIT) {
            // Its answers could not be told apart any more.
            self.kill();
            return None;
        }
        let length = recv(control.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT).ok()?;
        serde_json::from_slice::<Option<i32>>(answer.get(..length)?).ok()?.map(ExitStatus::from_raw)
    }

    /// How it ended, where it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        lock(&self.child).try_wait().ok().flatten()
    }

    /// How it ended; it has this long to do so.
    pub fn ended_within(&self, patience: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + patience;
        loop {
            match self.ended() {
                None if Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
                ended => return ended,
            }
        }
    }

    /// Ends it with all of its workers.
    pub fn stop(&self) {
        let _ = shutdown(lock(&self.control).as_raw_fd(), Shutdown::Both);
        let listens = self.listens.load(Ordering::SeqCst);
        if listens && self.ended_within(ANSWER_LIMIT).is_some_and(|status| status.success()) {
            self.is_over.store(true, Ordering::SeqCst);
        }
        self.kill();
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    fn kill(&self) {
        let mut child = lock(&self.child);
        // The group has the processes that it was forked from itself.
        if let (Ok(None), Ok(id)) = (child.try_wait(), i32::try_from(child.id())) {
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for ForkServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// False where nothing came in time.
fn comes(fd: &impl AsFd, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let millis = i32::try_from(left.as_millis()).unwrap_or(i32::MAX).saturating_add(1);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) | Err(nix::errno::Errno::EINTR) if !left.is_zero() => {}
            came => return came.is_ok_and(|n| n > 0),
        }
    }
}

pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(name) => format!("was ended by signal {signal} ({name})"),
            Err(_) => format!("was ended by signal {signal}"),
        },
        (None, None) => "ended".into(),
    }
}
