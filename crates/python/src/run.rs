//! Runs one step of a build: its lines go on as they come, and it can be
//! cancelled with all that it started.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::{Pid, getppid};

use crate::Error;

/// Longest build of one environment.
const STEP_MAX: Duration = Duration::from_secs(3600);
const LINE_BYTES_MAX: u64 = 4096;
/// What the error of a failed build quotes of its log.
const LINES_QUOTED: usize = 8;
const LINE_CHARS_QUOTED: usize = 400;
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// How long a program may take to end once it has answered.
const ANSWER_END: Duration = Duration::from_secs(5);

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
        command.stdin(Stdio::null()).stdout(write).stderr(both);
        bind(&mut command);
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
        let printable = |c: char| if c.is_control() && c != '\t' { '\u{fffd}' } else { c };
        let clip = |line: &&str| line.chars().take(LINE_CHARS_QUOTED).map(printable).collect::<String>();
        let last = &lines[lines.len().saturating_sub(LINES_QUOTED)..];
        let tail = last.iter().map(clip).collect::<Vec<_>>().join("\n");
        Error::Build { step: name.to_owned(), how, log: self.log_path.to_owned(), tail }
    }
}

/// Gives a program a group of its own and binds it to this thread, which must
/// wait for it: when the thread ends, however it ends, so does the program.
fn bind(command: &mut Command) {
    let parent = Pid::this();
    command.process_group(0);
    // SAFETY: between fork and exec only three system calls are made; they
    // allocate nothing and take no lock.
    unsafe {
        command.pre_exec(move || {
            // This thread may have blocked signals; a program that waits for
            // its own children by SIGCHLD would hang.
            SigSet::empty().thread_set_mask()?;
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before the line above took effect.
            if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
        });
    }
}

/// What a program that should end at once answers; one that does not is ended
/// and is an error of the kind `TimedOut`.
pub(crate) fn answer(mut command: Command, limit: Duration) -> io::Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    bind(&mut command);
    let mut child = command.spawn()?;
    let group = Pid::from_raw(child.id() as i32);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (send, read) = sync_channel(1);
    std::thread::spawn(move || {
        let read = |pipe: Option<&mut dyn Read>| {
            let mut bytes = Vec::new();
            // More than this is no answer.
            let _ = pipe.map(|pipe| pipe.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes));
            bytes
        };
        let (mut out, mut err) = (out, err);
        let out = read(out.as_mut().map(|pipe| pipe as &mut dyn Read));
        let _ = send.send((out, read(err.as_mut().map(|pipe| pipe as &mut dyn Read))));
    });
    let both = read.recv_timeout(limit);
    // It has closed its output: it ends by itself, or is not worth a wait.
    let until = Instant::now() + if both.is_ok() { ANSWER_END } else { Duration::ZERO };
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ = killpg(group, Signal::SIGKILL);
    let status = child.wait()?;
    let (stdout, stderr) =
        both.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", limit.as_secs())))?;
    Ok(Output { status, stdout, stderr })
}

fn how(status: &ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}
