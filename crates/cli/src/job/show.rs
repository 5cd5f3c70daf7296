//! Jobs as a table and as a page.

use muonic_types::Timestamp;
use muonic_types::job::{Attempt, AttemptState, Exit, Job, JobState, StartEstimate};

use super::reason_parts;
use crate::render::page::INDENT;
use crate::render::{Page, Screen, Table, human, shell, word};

pub(super) fn table(jobs: &[Job], now: Timestamp, screen: Screen) -> String {
    let mut costs = human::usd_column(jobs.iter().map(|job| job.cost_usd));
    let mut table = Table::new(screen, ["ID", "STATE", "MADE", ">TIME", ">COST", "ABOUT"]).cut();
    for job in jobs {
        table.row([
            job.id.to_string(),
            job.state.as_str().to_owned(),
            human::ago(job.created_at, now),
            time(job, now).unwrap_or_default(),
            costs.next().unwrap_or_default(),
            about(job),
        ]);
    }
    table.render()
}

fn time(job: &Job, now: Timestamp) -> Option<String> {
    let end = job.finished_at.unwrap_or(now);
    job.started_at.map(|start| human::duration(human::between(start, end)))
}

/// Why it waits or failed, else what came out of it.
fn about(job: &Job) -> String {
    if job.state != JobState::Succeeded {
        // Tables have one line per job: the first sentence, not a log's end.
        let reason = job.reason.as_deref().map(|r| reason_parts(r).0).unwrap_or_default();
        // `cancelled` is said by the state already.
        return if reason == job.state.as_str() { String::new() } else { reason.to_owned() };
    }
    let version = job.model_version.iter().map(ToString::to_string);
    let metrics = job.metrics.iter().take(4).map(|(name, value)| format!("{name}={}", human::number(*value)));
    version.chain(metrics).collect::<Vec<_>>().join(" ")
}

pub(super) fn page(job: &Job, now: Timestamp, screen: Screen) -> String {
    let spec = &job.spec;
    let pairs = |pairs: Vec<String>| Some(pairs.join(" ")).filter(|p| !p.is_empty());
    let mut page = Page::new(screen, &job.id).line("state", job.state.as_str());
    let (first, rest) = reason_parts(job.reason.as_deref().unwrap_or_default());
    page = page.maybe("reason", Some(first).filter(|r| !r.is_empty() && *r != job.state.as_str()));
    // A rest is told by its reason already.
    let estimate = job.estimate.as_ref().filter(|_| job.not_before.is_none());
    page = page.maybe("starts", estimate.map(starts));
    page.line("command", shell::command(&spec.command))
        .line("resources", spec.resources)
        .maybe("inputs", pairs(spec.inputs.iter().map(|(channel, data)| format!("{channel}={data}")).collect()))
        .maybe("params", pairs(spec.params.iter().map(|(k, v)| format!("{k}={v}")).collect()))
        .maybe("code", spec.code.map(|d| screen.digest(&d)))
        .maybe("priority", Some(spec.priority).filter(|p| *p != 0))
        .maybe("time limit", spec.time_limit_s.map(|s| human::duration(s as f64)))
        .maybe("retries", Some(spec.retries).filter(|r| *r > 0))
        .line("created", human::instant(job.created_at))
        .maybe("started", job.started_at.map(human::instant))
        .maybe("finished", job.finished_at.map(human::instant))
        .maybe("time", time(job, now))
        .line("cost", human::usd(job.cost_usd))
        .maybe("model", job.model_version.as_ref())
        .section("last lines", rest)
        .section("metrics", &metrics(job))
        .section("attempts", &attempts(&job.attempts, now, screen))
        .text()
}

fn starts(estimate: &StartEstimate) -> String {
    let when = match estimate.starts_in_s {
        Some(s) if s < 1.0 => "now".to_owned(),
        Some(s) => format!("in about {}", human::duration(s)),
        None => "not known".to_owned(),
    };
    let ahead = match estimate.ahead {
        0 => String::new(),
        n => format!(", {} ahead", human::count(n.into(), "job")),
    };
    format!("{when}{ahead} ({})", estimate.basis)
}

fn metrics(job: &Job) -> String {
    let width = job.metrics.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    job.metrics.iter().map(|(name, value)| format!("{name:<width$}  {}\n", human::number(*value))).collect()
}

fn attempts(attempts: &[Attempt], now: Timestamp, screen: Screen) -> String {
    if attempts.is_empty() {
        return String::new();
    }
    let mut table = Table::new(screen.indented(INDENT), ["NUMBER", "STATE", ">TIME", "EXIT", "ENVIRONMENT"]);
    for attempt in attempts {
        let end = attempt.finished_at.unwrap_or(now);
        let state = match (attempt.state, attempt.phase) {
            (AttemptState::Running, Some(phase)) => word(&phase),
            (state, _) => word(&state),
        };
        table.row([
            attempt.number.to_string(),
            state,
            human::duration(human::between(attempt.launched_at, end)),
            attempt.exit.as_ref().map(exit).unwrap_or_default(),
            attempt.environment.map(|d| screen.digest(&d)).unwrap_or_default(),
        ]);
    }
    table.render()
}

fn exit(exit: &Exit) -> String {
    match exit {
        Exit::Code { code } => format!("exit code {code}"),
        Exit::Signal { signal } => format!("signal {signal}"),
        Exit::OutOfMemory => "out of memory".to_owned(),
        Exit::TimeLimit => "time limit".to_owned(),
        Exit::Cancelled => "cancelled".to_owned(),
        Exit::EnvironmentFailed => "environment failed".to_owned(),
        Exit::SetupFailed => "setup failed".to_owned(),
        Exit::Lost => "lost".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{attempt, job};
    use super::*;

    #[test]
    fn a_list_and_a_page() {
        let now = "2026-11-03T12:10:00Z".parse().unwrap();
        let mut failed = job(JobState::Failed);
        failed.reason = Some("the command ended with exit code 3\nTraceback\nValueError".into());
        let mut first = attempt(1, AttemptState::Finished, None);
        first.exit = Some(Exit::Code { code: 3 });
        first.finished_at = failed.finished_at;
        failed.attempts = vec![first];
        failed.metrics = [("loss".to_owned(), 0.5)].into();
        assert_eq!(
            table(&[failed.clone(), job(JobState::Queued)], now, Screen::PIPE),
            "ID       STATE   MADE     TIME   COST  ABOUT
train-1  failed  10m ago  4.5s  $0.00  the command ended with exit code 3
train-1  queued  10m ago        $0.00
"
        );
        assert_eq!(
            page(&failed, now, Screen::PIPE),
            "train-1
  state         failed
  reason        the command ended with exit code 3
  command       python train.py
  resources     cpu=1 memory=1Gi
  inputs        train=digits@1
  params        c=1.5
  created       2026-11-03 11:59:58 UTC
  started       2026-11-03 12:00:00 UTC
  finished      2026-11-03 12:00:04 UTC
  time          4.5s
  cost          $0.00

last lines
  Traceback
  ValueError

metrics
  loss  0.5

attempts
  NUMBER  STATE     TIME  EXIT         ENVIRONMENT
  1       finished  4.5s  exit code 3
"
        );
    }

    #[test]
    fn a_command_can_be_copied_to_a_shell() {
        let mut quoted = job(JobState::Queued);
        quoted.spec.command = ["sh", "-c", "exit 3"].map(str::to_owned).to_vec();
        let text = page(&quoted, "2026-11-03T12:00:05Z".parse().unwrap(), Screen::PIPE);
        assert!(text.contains("  command       sh -c 'exit 3'\n"), "{text}");
    }

    #[test]
    fn a_rest_is_told_once_and_a_wait_with_its_estimate() {
        let now = "2026-11-03T12:00:05Z".parse().unwrap();
        let mut queued = job(JobState::Queued);
        queued.estimate = Some(StartEstimate { ahead: 1, starts_in_s: Some(41.0), basis: "past runs".into() });
        let text = page(&queued, now, Screen::PIPE);
        assert!(text.contains("  starts        in about 41.0s, 1 job ahead (past runs)\n"), "{text}");
        queued.not_before = Some("2026-11-03T12:00:08Z".parse().unwrap());
        queued.reason = Some("tries again in 3s: attempt 1 exited with code 3".into());
        let text = page(&queued, now, Screen::PIPE);
        assert!(text.contains("  reason        tries again in 3s: attempt 1 exited with code 3\n"), "{text}");
        assert!(!text.contains("starts"), "{text}");
    }
}
