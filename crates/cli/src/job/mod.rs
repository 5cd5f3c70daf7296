//! `muonic job`

mod notes;
mod run;
mod show;
mod watch;

use std::time::{Duration, Instant};

use muonic_client::LogRange;
use muonic_types::job::{Job, JobState};
use muonic_types::{JobId, Name};

use crate::context::{Context, note};
use crate::failure::{Exit, Failure, Outcome};
use crate::link::{Link, ask};
use crate::{log, parse};
use run::{show_line, verdict};
use watch::{AttemptLog, LogTo, Watch};

#[derive(Debug, clap::Subcommand)]
pub enum JobCommand {
    Run(Box<run::RunArgs>),
    Ls(LsArgs),
    Show(ShowArgs),
    Logs(LogsArgs),
    Cancel(CancelArgs),
    Wait(WaitArgs),
}

/// List jobs, newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic job ls --state running")]
pub struct LsArgs {
    /// Only jobs of this name
    #[arg(long)]
    name: Option<Name>,
    /// Only jobs in this state
    #[arg(long, value_parser = state)]
    state: Option<JobState>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

/// Show a job with its attempts and metrics
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic job show train-1")]
pub struct ShowArgs {
    /// The job
    id: JobId,
}

/// Print a job's log
///
/// With -f it goes on until the job ends, through retries and through
/// restarts of the server. A terminal gets it without control sequences, a
/// pipe byte for byte.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic job logs -f train-1")]
pub struct LogsArgs {
    /// The job
    id: JobId,
    /// Go on until the job ends
    #[arg(long, short)]
    follow: bool,
    /// The log of this attempt only; the newest without
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    attempt: Option<u32>,
}

/// Stop a job: at once while it waits, else with its grace period
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic job cancel train-1")]
pub struct CancelArgs {
    /// The job
    id: JobId,
}

/// Wait until a job ends; exit 0 where it succeeded, else 1
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic job wait train-1 --timeout 10m")]
pub struct WaitArgs {
    /// The job
    id: JobId,
    /// Give up after this time; never without
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    timeout: Option<Duration>,
}

fn state(text: &str) -> Result<JobState, String> {
    use JobState::*;
    let all = [Queued, Starting, Running, Succeeded, Failed, Cancelled];
    all.into_iter()
        .find(|s| s.as_str() == text)
        .ok_or_else(|| format!("'{text}' is not a state: there are {}", all.map(JobState::as_str).join(", ")))
}

impl JobCommand {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Run(args) => args.run(context),
            Self::Ls(args) => args.run(context),
            Self::Show(args) => {
                let job = context.client()?.job(&args.id)?;
                context.show(&job, || show::page(&job, context.now(), context.screen()))?;
                Ok(Exit::Ok)
            }
            Self::Logs(args) => args.run(context),
            Self::Cancel(args) => args.run(context),
            Self::Wait(args) => args.run(context),
        }
    }
}

impl LsArgs {
    fn run(self, context: &Context) -> Outcome {
        let list = context.client()?.jobs(self.name.as_ref(), self.state, Some(self.limit))?;
        if list.jobs.is_empty() && !context.json() {
            note(if self.name.is_none() && self.state.is_none() {
                "there are no jobs yet; run one with: muonic job run DIR -- COMMAND"
            } else {
                "no job is of that name and state"
            });
            return Ok(Exit::Ok);
        }
        context.show(&list, || show::table(&list.jobs, context.now(), context.screen()))?;
        Ok(Exit::Ok)
    }
}

impl LogsArgs {
    fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let job = client.job(&self.id)?;
        if let Some(number) = self.attempt
            && !job.attempts.iter().any(|a| a.number == number)
        {
            return Err(Failure::new(Exit::NotFound, format!("{} has no attempt {number}", self.id))
                .hint(format!("see its attempts with: muonic job show {}", self.id)));
        }
        let to = if context.json() { LogTo::JsonLines } else { LogTo::Stdout };
        match (self.follow, self.attempt) {
            (false, attempt) => {
                if job.attempts.is_empty() {
                    note(format!("{} has no log yet: it is {}", self.id, job.state.as_str()));
                    return Ok(Exit::Ok);
                }
                let reader = client.job_logs(&self.id, LogRange { attempt, ..LogRange::default() })?;
                log::print(reader, &mut to.sink())?;
            }
            (true, Some(attempt)) => {
                let source = AttemptLog { job: self.id, attempt, shown: Default::default() };
                log::follow(&Link::new(context)?, &source, &mut to.sink())?;
            }
            (true, None) => {
                let from = newest_attempt(&job).unwrap_or(1);
                Watch { notes: false, log: Some((to, from)), catch_interrupt: false }.run(context, &self.id)?;
            }
        }
        Ok(Exit::Ok)
    }
}

fn newest_attempt(job: &Job) -> Option<u32> {
    job.attempts.iter().map(|a| a.number).max()
}

impl CancelArgs {
    fn run(self, context: &Context) -> Outcome {
        let job = context.client()?.job_cancel(&self.id)?;
        let line = match job.state.is_final() {
            true => format!("{} is {}", job.id, job.state.as_str()),
            false => format!("{} is being stopped (it has {} s to end by itself)", job.id, job.spec.grace_s),
        };
        show_line(context, &job, line)?;
        Ok(Exit::Ok)
    }
}

/// A reason's first sentence, and the end of the log that may follow it.
fn reason_parts(reason: &str) -> (&str, &str) {
    let (first, rest) = reason.split_once('\n').unwrap_or((reason, ""));
    (first.trim_end_matches("; the log ends:"), rest)
}

impl WaitArgs {
    fn run(self, context: &Context) -> Outcome {
        let link = Link::new(context)?;
        let began = Instant::now();
        let spinner = crate::progress::Spinner::new(&format!("waiting for {}", self.id));
        let job = loop {
            let left = self.timeout.map(|t| t.saturating_sub(began.elapsed()));
            // At least a second, so that the end of the time is not a busy loop.
            let at_most = left.unwrap_or(Duration::from_secs(30)).max(Duration::from_secs(1));
            let job = ask(&link, |client| client.job_wait(&self.id, at_most))?;
            if job.state.is_final() {
                break job;
            }
            spinner.say(&format!("waiting for {}: {}", self.id, job.state.as_str()));
            if left.is_some_and(|l| l.is_zero()) {
                return Err(Failure::new(
                    Exit::Failed,
                    format!("{} is still {} after the time given", self.id, job.state.as_str()),
                )
                .hint("wait again, with a longer --timeout or none"));
            }
        };
        drop(spinner);
        show_line(context, &job, format!("{} {}", job.id, job.state.as_str()))?;
        verdict(&job, |reason| reason)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use muonic_types::job::{Attempt, AttemptState, Phase};

    /// A job named train-1 that began at 12:00:00 and, where final, ended 4.5 s later.
    pub(crate) fn job(state: JobState) -> Job {
        let spec = serde_json::json!({"name": "train", "command": ["python", "train.py"], "inputs": {"train": "digits@1"}, "params": {"c": 1.5}});
        let begun = !matches!(state, JobState::Queued);
        Job {
            id: "train-1".parse().unwrap(),
            project: "default".parse().unwrap(),
            spec: serde_json::from_value(spec).unwrap(),
            state,
            reason: None,
            cancel_requested: false,
            created_at: "2026-11-03T11:59:58Z".parse().unwrap(),
            started_at: begun.then(|| "2026-11-03T12:00:00Z".parse().unwrap()),
            finished_at: state.is_final().then(|| "2026-11-03T12:00:04.5Z".parse().unwrap()),
            not_before: None,
            attempts: Vec::new(),
            model_version: None,
            metrics: Default::default(),
            estimate: None,
            cost_usd: 0.0,
        }
    }

    pub(crate) fn attempt(number: u32, state: AttemptState, phase: Option<Phase>) -> Attempt {
        Attempt {
            id: format!("train-1.{number}").parse().unwrap(),
            number,
            state,
            phase,
            exit: None,
            message: None,
            environment: None,
            launched_at: "2026-11-03T12:00:00Z".parse().unwrap(),
            started_at: None,
            finished_at: None,
        }
    }

    #[test]
    fn a_reason_has_a_sentence_and_a_tail() {
        assert_eq!(reason_parts("exited with code 3; the log ends:\na\nb"), ("exited with code 3", "a\nb"));
        assert_eq!(reason_parts("waits"), ("waits", ""));
    }

    #[test]
    fn states_are_words() {
        assert_eq!(state("running"), Ok(JobState::Running));
        assert!(state("done").unwrap_err().contains("queued, starting"));
    }
}
