//! Runs one step of a build: its lines go on as they come, and it can be
//! cancelled with all that it started.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::Pid;

use crate::Error;

/// Longest build of one environment.
const STEP_MAX: Duration = Duration::from_secs(3600);
const LINE_BYTES_MAX: u64 = 4096;

pub(crate) struct Step<'a> {
    pub log: &'a mut std::fs::File,
    pub log_path: &'a Path,
    pub progress: &'a mut dyn FnMut(&str),
    pub cancelled: &'a dyn Fn() -> bool,
}

impl Step<'_> {
    pub fn say(&mut self, line: &str) {
        // The log is for people; a full disk shows in the step itself.
        let _ = writeln!(self.log, "{line}");
        (self.progress)(line);
    }

    pub fn run(&mut self, name: &str, mut command: Command) -> Result<(), Error> {
        let (read, write) = io::pipe().map_err(Error::file(self.log_path))?;
        let both = write.try_clone().map_err(Error::file(self.log_path))?;
        command.stdin(Stdio::null()).stdout(write).stderr(both).process_group(0);
        unblock_signals(&mut command);
        let program = command.get_program().to_owned();
        let mut child = command.spawn().map_err(Error::file(Path::new(&program)))?;
        // Its ends of the pipe must be closed here for the end to be seen.
        drop(command);
        let (send, lines) = sync_channel::<String>(256);
        std::thread::spawn(move || {
            let mut read = BufReader::new(read);
            let mut line = Vec::new();
            while (&mut read).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if !text.is_empty() && send.send(text).is_err() {
                    break;
                }
                line.clear();
            }
        });
        let until = Instant::now() + STEP_MAX;
        let group = Pid::from_raw(child.id() as i32);
        let mut outcome = Ok(());
        loop {
            match lines.recv_timeout(Duration::from_millis(50)) {
                Ok(line) => self.say(&line),
                Err(RecvTimeoutError::Disconnected) => break,
                // Something it left behind may hold the pipe.
                Err(RecvTimeoutError::Timeout) if matches!(child.try_wait(), Ok(Some(_))) => break,
                Err(RecvTimeoutError::Timeout) => (),
            }
            let over = Instant::now() > until;
            if outcome.is_ok() && ((self.cancelled)() || over) {
                let why = format!("took longer than {} s", STEP_MAX.as_secs());
                outcome = Err(if over { self.failed(name, why) } else { Error::Cancelled });
                let _ = killpg(group, Signal::SIGKILL);
                break;
            }
        }
        drop(lines);
        let status = child.wait().map_err(Error::file(Path::new(&program)))?;
        let _ = killpg(group, Signal::SIGKILL);
        outcome?;
        if status.success() { Ok(()) } else { Err(self.failed(name, how(&status))) }
    }

    fn failed(&self, name: &str, how: String) -> Error {
        let text = std::fs::read(self.log_path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text[text.len().saturating_sub(8192)..]).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(8)..].join("\n");
        Error::Build { step: name.to_owned(), how, log: self.log_path.to_owned(), tail }
    }
}

/// Lets a program have its signals though this thread may have blocked them;
/// a program that waits for its own children by SIGCHLD would hang.
pub(crate) fn unblock_signals(command: &mut Command) {
    // SAFETY: between fork and exec only one system call is made; it
    // allocates nothing and takes no lock.
    unsafe { command.pre_exec(|| Ok(SigSet::empty().thread_set_mask()?)) };
}

fn how(status: &ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}
