//! Starts the program, looks after it, and starts it again.
//!
//! One thread does all of it: the kernel ties the program's life to the thread
//! that started it, so that it ends with us however we end.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::{Settings, Shared, State};
use crate::prints::LogBudget;

const BACK_OFF_FIRST: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// A program that lived this long was well; the next failure starts afresh.
const WELL_AFTER: Duration = Duration::from_secs(60);
/// How often it is looked at, and how often it is asked how it is.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const ASK_EVERY: Duration = Duration::from_secs(5);
const ASK_TIME: Duration = Duration::from_secs(5);
/// Unwell answers in a row, before no more requests go to it, and before it is
/// started again.
const ILL_AFTER: u32 = 2;
const DEAD_AFTER: u32 = 12;
/// From SIGTERM to SIGKILL.
const END_TIME: Duration = Duration::from_secs(10);

pub(super) fn run(settings: &Settings, shared: &Shared, first: SyncSender<Result<(), String>>) {
    let budget = LogBudget::new(settings.log_bytes_max);
    let mut first = Some(first);
    let mut back_off = BACK_OFF_FIRST;
    loop {
        let began = Instant::now();
        let why = match live(settings, shared, &budget, &mut first) {
            Ok(()) => return,
            Err(why) => why,
        };
        if let Some(first) = first.take() {
            let _ = first.send(Err(why));
            return;
        }
        back_off = if began.elapsed() > WELL_AFTER { BACK_OFF_FIRST } else { (back_off * 2).min(BACK_OFF_MAX) };
        tracing::warn!("the model's program {why}; it is started again in {} s", back_off.as_secs_f64());
        shared.set(State::Down(format!("{why} and is started again")));
        if !shared.pause(back_off) {
            return;
        }
    }
}

/// One life of the program. Ok where the end of all has come; the error says
/// how it ended, as the rest of a sentence.
fn live(
    settings: &Settings,
    shared: &Shared,
    budget: &Arc<LogBudget>,
    first: &mut Option<SyncSender<Result<(), String>>>,
) -> Result<(), String> {
    let spec = &settings.spec;
    let port = free_port().map_err(|e| format!("has no port to listen at: {e}"))?;
    let mut running = Running::spawn(settings, port, budget)
        .map_err(|e| format!("'{}' cannot be started: {e}", spec.command.first().map_or("", String::as_str)))?;
    let start_by = Instant::now() + Duration::from_secs(spec.start_seconds);
    loop {
        if let Some(how) = running.ended() {
            return Err(format!("{how} before GET {} answered; its log says more", spec.health));
        }
        let answer = ask(port, &spec.health, Duration::from_secs(1));
        if answer.is_ok() {
            break;
        }
        if Instant::now() > start_by {
            let why = answer.err().unwrap_or_default();
            return Err(format!("was not well within {} s: GET {} {why}", spec.start_seconds, spec.health));
        }
        if !shared.pause(LOOK_EVERY) {
            return Ok(());
        }
    }
    shared.set(State::Up(port));
    if let Some(first) = first.take() {
        let _ = first.send(Ok(()));
    } else {
        tracing::info!("the model's program is up again");
    }
    let (mut asked, mut unwell) = (Instant::now(), 0);
    while shared.pause(LOOK_EVERY) {
        if let Some(how) = running.ended() {
            return Err(how);
        }
        if asked.elapsed() < ASK_EVERY {
            continue;
        }
        match ask(port, &spec.health, ASK_TIME) {
            Ok(()) => {
                unwell = 0;
                shared.set(State::Up(port));
            }
            Err(why) => {
                unwell += 1;
                tracing::warn!("the model's program is unwell: GET {} {why}", spec.health);
                if unwell >= DEAD_AFTER {
                    return Err(format!("was unwell for too long: GET {} {why}", spec.health));
                }
                if unwell >= ILL_AFTER {
                    shared.set(State::Down(format!("is unwell: GET {} {why}", spec.health)));
                }
            }
        }
        asked = Instant::now();
    }
    Ok(())
}

/// One that nobody has at this moment.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The error says what it answered instead of 2xx, as the rest of a sentence.
fn ask(port: u16, path: &str, limit: Duration) -> Result<(), String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let answer = || -> std::io::Result<[u8; 12]> {
        let mut stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes())?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(status)
    };
    let status = answer().map_err(|e| format!("is not answered: {e}"))?;
    match status.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..)) {
        Some([b'2', ..]) => Ok(()),
        Some(code) => Err(format!("is answered {}", String::from_utf8_lossy(code))),
        None => Err("is not answered in HTTP/1.1".into()),
    }
}

/// The program, leading a process group of its own. Dropped, it and the group
/// are asked to end, then made to.
struct Running<'a> {
    child: Child,
    settings: &'a Settings,
    oom_kills: u64,
    status: Option<ExitStatus>,
}

impl<'a> Running<'a> {
    fn spawn(settings: &'a Settings, port: u16, budget: &Arc<LogBudget>) -> std::io::Result<Self> {
        let mut words = settings.spec.words(port);
        let name = words.next().unwrap_or_default();
        // Beside the model, if it is named by a path.
        let program = if name.contains('/') { settings.folder.join(&name) } else { name.into() };
        let mut command = Command::new(program);
        command
            .args(words)
            .current_dir(&settings.folder)
            .env("PORT", port.to_string())
            .env_remove(muonic_unit::HEAP_VARIABLE.0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if let Some(python) = &settings.python {
            let mut path = python.bin.clone().into_os_string();
            if let Some(rest) = std::env::var_os("PATH") {
                path.push(":");
                path.push(rest);
            }
            command.env("PATH", path);
        }
        // SAFETY: prctl is async-signal-safe and touches no memory of ours.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let oom_kills = settings.confined.as_ref().map_or(0, |confined| confined.oom_kills());
        let mut running = Self { child: command.spawn()?, settings, oom_kills, status: None };
        if let Some(stdout) = running.child.stdout.take() {
            budget.copy(stdout)?;
        }
        if let Some(stderr) = running.child.stderr.take() {
            budget.copy(stderr)?;
        }
        Ok(running)
    }

    /// How it ended, where it has.
    fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        self.status = Some(status);
        Some(match &self.settings.confined {
            Some(confined) if status.signal() == Some(libc::SIGKILL) && confined.oom_kills() > self.oom_kills => {
                confined.was_out_of_memory()
            }
            _ => match (status.code(), status.signal()) {
                (Some(code), _) => format!("ended with code {code}"),
                (_, Some(signal)) => format!("was ended by signal {signal}"),
                _ => "ended".to_owned(),
            },
        })
    }

    fn signal(&self, signal: Signal) {
        if let Ok(id) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(id), signal);
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.status.is_none() {
            self.signal(Signal::SIGTERM);
            let until = Instant::now() + END_TIME;
            while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(LOOK_EVERY);
            }
        }
        // What it has started and left behind.
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }
}
