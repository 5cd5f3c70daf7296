//! Runs the user's command to its end and leaves nothing of it.

use std::collections::BTreeMap;
use std::io::{self, PipeReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use muonic_types::{Memory, Timestamp};
use muonic_unit::limits::Group;
use muonic_unit::processes;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getppid, setsid};

use crate::control::Control;
use crate::ending::{Ended, Stop};
use crate::log::Log;
use crate::metrics::{Finder, Lines};
use crate::sender::Outbox;

/// Longest wait for killed processes to be gone and for the rest of their output.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How often memory is measured where the kernel does not limit it.
const MEASURE: Duration = Duration::from_millis(200);

pub struct Plan<'a> {
    pub program: Vec<String>,
    pub folder: &'a Path,
    pub variables: BTreeMap<String, String>,
    pub grace: Duration,
    pub time_limit: Option<Instant>,
    pub group: &'a Group,
    /// To be watched here, since the kernel does not limit it.
    pub memory: Option<Memory>,
}

/// A command that runs.
pub struct Running {
    pid: Pid,
    output: Receiver<()>,
}

/// Starts the command in a session of its own, inside the groups.
pub fn start(plan: &Plan<'_>, log: &Arc<Log>, outbox: &Arc<Outbox>, finder: Finder) -> io::Result<Running> {
    let (program, args) = plan.program.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
    let (read, write) = io::pipe()?;
    let mut command = Command::new(program);
    // One pipe for both keeps their order.
    command.args(args).current_dir(plan.folder).env_clear().envs(&plan.variables);
    command.stdin(Stdio::null()).stdout(write.try_clone()?).stderr(write);
    plan.group.entrance()?.attach(&mut command);
    let parent = Pid::this();
    // SAFETY: between fork and exec only four system calls are made; they
    // allocate nothing and take no lock.
    unsafe {
        command.pre_exec(move || {
            // The mask of blocked signals is inherited; ours is not for others.
            SigSet::empty().thread_set_mask()?;
            setsid()?;
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before the line above took effect.
            if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
        });
    }
    let child = command.spawn()?;
    // Our ends of the pipe close here, so that its end can be seen.
    drop(command);
    let (done, output) = sync_channel(1);
    let (log, outbox) = (log.clone(), outbox.clone());
    std::thread::Builder::new().name("output".into()).spawn(move || {
        read_output(read, &log, &outbox, &finder);
        let _ = done.send(());
    })?;
    Ok(Running { pid: Pid::from_raw(child.id() as i32), output })
}

fn read_output(mut read: PipeReader, log: &Log, outbox: &Outbox, finder: &Finder) {
    let mut buffer = vec![0; 64 << 10];
    let mut lines = Lines::default();
    let each = |line: &str| finder.find(line).into_iter().for_each(|found| outbox.metric(found));
    loop {
        match read.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                log.push(&buffer[..n]);
                lines.push(&buffer[..n], each);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => (),
            Err(_) => break,
        }
    }
    lines.finish(each);
}

/// To the microsecond, which is what the server keeps.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

impl Running {
    /// Supervises until the command has ended, then ends what it left. Says
    /// too whether all of its output was read.
    pub fn supervise(self, plan: &Plan<'_>, control: &mut Control) -> io::Result<(Ended, bool)> {
        let flags = control.flags();
        let (mut stop, mut kill_at) = (None, None);
        let mut status = None;
        let mut measure_at = plan.memory.map(|_| Instant::now() + MEASURE);
        loop {
            reap(self.pid, &mut status);
            if status.is_some() {
                break;
            }
            let now = Instant::now();
            if flags.closed() && stop != Some(Stop::Closed) {
                stop = Some(Stop::Closed);
                kill_at = Some(now);
            }
            let over = plan.time_limit.is_some_and(|limit| limit <= now);
            if stop.is_none() && (flags.cancelled() || over) {
                stop = Some(if flags.cancelled() { Stop::Cancelled } else { Stop::TimeLimit });
                kill_at = Some(now + plan.grace);
                let _ = killpg(self.pid, Signal::SIGTERM);
            }
            if measure_at.is_some_and(|at| at <= now) {
                if stop.is_none() && plan.memory.is_some_and(uses_more_than) {
                    stop = Some(Stop::OutOfMemory);
                    kill_at = Some(now);
                }
                measure_at = Some(now + MEASURE);
            }
            if kill_at.is_some_and(|at| at <= now) {
                self.kill_all(plan.group, &mut status)?;
                reap(self.pid, &mut status);
                if status.is_some() {
                    break;
                }
            }
            let limit = plan.time_limit.filter(|_| stop.is_none());
            control.wait([kill_at, limit, measure_at].into_iter().flatten().min())?;
        }
        self.kill_all(plan.group, &mut status)?;
        let oom_kills = plan.group.oom_kills();
        let is_whole = self.output.recv_timeout(PATIENCE).is_ok();
        let status = status.unwrap_or(WaitStatus::StillAlive);
        Ok((Ended { status, stop, oom_kills }, is_whole))
    }

    fn kill_all(&self, group: &Group, status: &mut Option<WaitStatus>) -> io::Result<()> {
        let find = || {
            group.kill();
            processes::below_this()
        };
        processes::kill_until_none(find, || reap(self.pid, status), PATIENCE)
    }
}

fn uses_more_than(limit: Memory) -> bool {
    let all = processes::below_this();
    // The quick sum counts shared pages for each; only a doubt is looked into.
    processes::memory_held(&all, false) > limit.bytes && processes::memory_held(&all, true) > limit.bytes
}

/// Reaps every child that has ended, and notes the status of one.
fn reap(wanted: Pid, status: &mut Option<WaitStatus>) {
    while let Ok(found) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        match found {
            WaitStatus::StillAlive => break,
            WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) if pid == wanted => *status = Some(found),
            _ => (),
        }
    }
}

/// Reaps every child that has ended.
pub fn reap_all() {
    reap(Pid::from_raw(0), &mut None);
}
