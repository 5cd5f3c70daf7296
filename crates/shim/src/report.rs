//! What the server is told at the end.

use muonic_types::job::Exit;
use muonic_types::task::{ExitReport, TaskSpec};
use muonic_types::{Digest, Timestamp};
use muonic_unit::{Folder, end_leftovers};

use crate::command::{self, PATIENCE, now};
use crate::ending::words;
use crate::link::{About, Fault, Link};

/// How it ends, once it has ended.
pub struct Outcome {
    pub exit: Exit,
    /// Instead of the usual words.
    pub message: Option<String>,
    pub started: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    pub environment: Option<Digest>,
}

impl Outcome {
    pub fn of(exit: Exit, message: Option<String>) -> Self {
        Self { exit, message, started: None, ended: None, environment: None }
    }
}

#[derive(Default)]
pub struct Saved {
    pub model: Option<Digest>,
    pub output: Option<Digest>,
}

/// For a unit that an earlier supervisor began: ends what it left and tells.
pub fn lost(folder: &Folder, link: &Link) -> Result<(), String> {
    if let Some(left) = end_leftovers(folder, command::reap_all, PATIENCE).map_err(|e| e.to_string())? {
        crate::say(left);
    }
    let words = "its supervisor died and its work was stopped".to_owned();
    send(link, &Outcome::of(Exit::Lost, Some(words)), Saved::default(), "", None)
}

/// `quoted` is the end of the log, where it says more.
pub fn send(link: &Link, outcome: &Outcome, saved: Saved, quoted: &str, task: Option<&TaskSpec>) -> Result<(), String> {
    let spec = task.map(|t| &t.spec);
    let memory = spec.map(|s| s.resources.memory).unwrap_or_default();
    let usual = || words(&outcome.exit, memory, spec.and_then(|s| s.time_limit_s));
    let mut message = outcome.message.clone().unwrap_or_else(usual);
    if !quoted.is_empty() {
        message.push_str("; the log ends:\n");
        message.push_str(quoted);
    }
    let report = ExitReport {
        exit: outcome.exit.clone(),
        message: (outcome.exit != Exit::Code { code: 0 }).then_some(message),
        command_started_at: outcome.started,
        command_ended_at: outcome.ended,
        ended_at: Some(now()),
        environment: outcome.environment,
        model: saved.model,
        output: saved.output,
    };
    match link.call(About::Attempt, &|| link.flags.closed(), |c| c.attempt_finish(&link.attempt, &report)) {
        Ok(()) | Err(Fault::Stopped) => Ok(()),
        Err(Fault::Refused(e)) => Err(format!("the report was not taken: {e}")),
    }
}
