//! The supervisor of one attempt: `muonic shim --unit DIR`.
//!
//! ```text
//! lock ─▶ claim ─▶ fetch ─▶ environment ─▶ begin ─▶ run ─▶ save ─▶ report
//! ```
//!
//! It runs wherever an engine put it, needs only the unit folder and the
//! server's address, and outlives the server: while the server is away the
//! log stays on disk and every call is repeated for up to a day.
//!
//! Invariants:
//! - The user's command runs at most once per unit: it starts only after
//!   `begin` has been recorded durably, by the holder of the lock.
//! - When the shim ends, by itself or killed, its command does not outlive
//!   it: the kernel kills the command with the shim, and what daemonised is
//!   ended by the engine, which finds it by control group or environment.
//! - A server that says the attempt is over is obeyed at once, without a
//!   report: another attempt may be running.
//!
//! One thread supervises and is the only one that starts the command (the
//! kernel's kill-with-parent is tied to that thread); one reads the output,
//! one talks to the server.

mod aside;
mod attempt;
mod command;
mod control;
mod ending;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod link;
mod log;
mod metrics;
mod points;
mod prepare;
mod report;
mod save;
mod sender;
mod variables;

use std::io::Write;
use std::path::Path;

use muonic_types::UnitId;
use muonic_unit::{Folder, processes};

/// Supervises the unit in this folder to its end and answers the exit status
/// of the process: 0 unless the shim itself failed.
pub fn run(unit_dir: &Path) -> u8 {
    let dir = std::path::absolute(unit_dir).unwrap_or_else(|_| unit_dir.to_owned());
    match supervise(&Folder::new(dir)) {
        Ok(()) => 0,
        Err(message) => {
            say(message);
            1
        }
    }
}

/// Tells an operator, in the unit's `output.log`. Unlike `eprintln` it does
/// not end us where that is on a full disk.
fn say(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn supervise(folder: &Folder) -> Result<(), String> {
    let at = |what: &str| {
        let what = format!("{}: {what}", folder.path().display());
        move |e: std::io::Error| format!("{what}: {e}")
    };
    // Before any thread exists, so that all of them inherit it.
    let control = control::Control::new().map_err(at("signals cannot be taken over"))?;
    folder.enter().map_err(at("it cannot be entered"))?;
    let launch = folder.read_launch().map_err(at("the launch file cannot be read"))?;
    let UnitId::Task(id) = launch.unit.clone() else {
        return Err(format!("the unit {} is not a task; replicas are run by 'muonic serve'", launch.unit));
    };
    let Some(_lock) = folder.try_lock().map_err(at("the lock cannot be taken"))? else { return Ok(()) };
    if folder.is_done() {
        return Ok(());
    }
    folder.write_pid().map_err(at("the process id cannot be written"))?;
    nix::sys::prctl::set_child_subreaper(true).map_err(|e| at("this process cannot adopt orphans")(e.into()))?;
    let link = link::Link::new(launch, id, control.flags()).map_err(at("the server's address cannot be read"))?;
    let link = std::sync::Arc::new(link);
    if folder.has_begun() {
        report::lost(folder, &link)?;
    } else {
        attempt::run(folder, &link, control)?;
    }
    processes::kill_until_none(processes::below_this, command::reap_all, command::PATIENCE)
        .map_err(at("processes are left"))?;
    folder.write_done().map_err(at("the end cannot be recorded"))
}
