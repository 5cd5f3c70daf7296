//! What a watcher is told about a job, line by line. Pure: from the job as it
//! was last seen and as it is now to the lines that are new.

use muonic_types::job::{Attempt, AttemptState, Job, JobState, Phase};

use super::reason_parts;
use crate::render::human;

/// `log_shown`: since the last note some of the log was. It may be of the command.
pub(crate) fn notes(before: Option<&Job>, now: &Job, log_shown: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for attempt in &now.attempts {
        let was = before.and_then(|job| job.attempts.iter().find(|a| a.number == attempt.number));
        lines.extend(attempt_notes(was, attempt, now, log_shown));
    }
    if let Some(wait) = waits(now)
        && before.and_then(waits).is_none_or(|was| was.key != wait.key)
    {
        lines.push(wait.text);
    }
    if now.cancel_requested && !now.state.is_final() && !before.is_some_and(|job| job.cancel_requested) {
        lines.push("stopping".to_owned());
    }
    lines.into_iter().map(|line| format!("[{}] {line}", now.id)).collect()
}

/// How the queue sees a job that nobody will watch.
pub(crate) fn accepted(job: &Job) -> Option<String> {
    (job.state == JobState::Queued).then(|| format!("[{}] {}, asks for {}", job.id, place(job), job.spec.resources))
}

/// What a queued job is told to wait for.
struct Wait {
    text: String,
    /// Told again only where this differs: a countdown is told once.
    key: String,
}

fn waits(job: &Job) -> Option<Wait> {
    if job.state != JobState::Queued {
        return None;
    }
    let reason = wait_reason(job);
    if let Some(rest) = job.not_before {
        return reason.map(|text| Wait { text: text.to_owned(), key: rest.to_string() });
    }
    // What starts at once need not be told to wait.
    let at_once = job.estimate.as_ref().is_some_and(|e| e.ahead == 0 && e.starts_in_s.is_some_and(|s| s < 1.0));
    (!at_once || reason.is_some()).then(|| Wait { text: place(job), key: place(job) })
}

/// The reason without how the attempt before ended, which was told as it ended.
fn wait_reason(job: &Job) -> Option<&str> {
    let reason = job.reason.as_deref()?;
    let before = job.attempts.iter().map(|a| a.number).max().map(|last| format!("attempt {last} "));
    let waits = before.and_then(|text| reason.find(&text)).map_or(reason, |at| &reason[..at]);
    Some(waits.trim_end_matches([' ', ';', ':'])).filter(|waits| !waits.is_empty())
}

fn place(job: &Job) -> String {
    let mut text = "queued".to_owned();
    if let Some(estimate) = &job.estimate {
        text.push_str(&match estimate.ahead {
            0 if estimate.starts_in_s.is_some_and(|s| s < 1.0) => String::new(),
            0 => ", next in line".to_owned(),
            n => format!(", {} ahead", human::count(n.into(), "job")),
        });
        match estimate.starts_in_s {
            Some(s) if s < 1.0 => text.push_str(", starts now"),
            Some(s) => text.push_str(&format!(", starts in about {} ({})", round(s), estimate.basis)),
            None => text.push_str(&format!(", start not known ({})", estimate.basis)),
        }
    }
    if let Some(reason) = wait_reason(job) {
        text.push_str(&format!(": {reason}"));
    }
    text
}

/// Coarse, so that a countdown is not a new line each second.
fn round(seconds: f64) -> String {
    let step = match seconds {
        s if s < 60.0 => 10.0,
        s if s < 3600.0 => 60.0,
        _ => 3600.0,
    };
    human::about((seconds / step).ceil() * step)
}

fn attempt_notes(was: Option<&Attempt>, attempt: &Attempt, job: &Job, log_shown: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if was.is_none() {
        lines.push(match job.spec.retries {
            0 => "starting".to_owned(),
            retries => format!("starting, attempt {} of at most {}", attempt.number, retries + 1),
        });
    }
    let ended = attempt.state == AttemptState::Finished;
    // An attempt that had nothing to prepare is running as it starts.
    let at_once = attempt.phase == Some(Phase::Running) && was.is_none_or(|a| a.phase.is_none());
    // After the command's first words it would be told too late.
    let said_itself = attempt.phase == Some(Phase::Running) && log_shown;
    if !ended && !at_once && !said_itself && attempt.phase != was.and_then(|a| a.phase) {
        lines.extend(attempt.phase.map(|phase| {
            match phase {
                Phase::Fetching => "fetching code and inputs",
                Phase::Environment => "preparing the Python environment",
                Phase::Running => "running",
                Phase::Saving => "saving outputs",
            }
            .to_owned()
        }));
    }
    // The end of the last attempt is told with the end of the job.
    if ended && !job.state.is_final() && was.is_none_or(|a| a.state != AttemptState::Finished) {
        lines.push(match attempt.message.as_deref().map(|message| reason_parts(message).0) {
            Some(how) => format!("attempt {} {how}", attempt.number),
            None => format!("attempt {} ended", attempt.number),
        });
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::tests::{attempt, job};
    use super::*;
    use muonic_types::job::StartEstimate;

    #[test]
    fn each_change_is_told_once() {
        let mut queued = job(JobState::Queued);
        queued.reason = Some("waits for cpu=2 (1 free)".into());
        queued.estimate = Some(StartEstimate { ahead: 2, starts_in_s: Some(41.0), basis: "time limits".into() });
        let first = notes(None, &queued, false);
        assert_eq!(
            first,
            ["[train-1] queued, 2 jobs ahead, starts in about 50s (time limits): waits for cpu=2 (1 free)"]
        );
        let mut later = queued.clone();
        later.estimate.as_mut().unwrap().starts_in_s = Some(40.5);
        assert!(notes(Some(&queued), &later, false).is_empty());

        let mut starting = job(JobState::Starting);
        starting.attempts = vec![attempt(1, AttemptState::Launching, None)];
        assert_eq!(notes(Some(&queued), &starting, false), ["[train-1] starting"]);

        let mut running = job(JobState::Running);
        running.attempts = vec![attempt(1, AttemptState::Running, Some(Phase::Running))];
        assert!(notes(Some(&starting), &running, false).is_empty());
        let mut building = starting.clone();
        building.attempts[0].phase = Some(Phase::Environment);
        assert_eq!(notes(Some(&starting), &building, false), ["[train-1] preparing the Python environment"]);
        assert_eq!(notes(Some(&building), &running, false), ["[train-1] running"]);
        assert!(notes(Some(&building), &running, true).is_empty());
        assert_eq!(notes(Some(&starting), &building, true), ["[train-1] preparing the Python environment"]);
        assert!(notes(Some(&running), &running, false).is_empty());
        // Seen only now: nothing is left out.
        assert_eq!(notes(Some(&queued), &running, false), ["[train-1] starting"]);

        let mut stopping = running.clone();
        stopping.cancel_requested = true;
        assert_eq!(notes(Some(&running), &stopping, false), ["[train-1] stopping"]);
    }

    #[test]
    fn a_job_left_alone_is_told_with_its_place() {
        let mut queued = job(JobState::Queued);
        queued.estimate = Some(StartEstimate { ahead: 0, starts_in_s: Some(0.0), basis: String::new() });
        let asks = queued.spec.resources;
        assert_eq!(accepted(&queued), Some(format!("[train-1] queued, starts now, asks for {asks}")));
        assert!(notes(None, &queued, false).is_empty());
        assert_eq!(accepted(&job(JobState::Running)), None);
    }

    #[test]
    fn a_retry_is_told_with_its_cause() {
        let mut running = job(JobState::Running);
        running.spec.retries = 2;
        running.attempts = vec![attempt(1, AttemptState::Running, Some(Phase::Running))];
        let mut again = running.clone();
        again.state = JobState::Queued;
        again.attempts[0].state = AttemptState::Finished;
        again.attempts[0].message = Some("exited with code 3; the log ends:\nboom".into());
        again.not_before = Some("2026-11-03T12:00:08Z".parse().unwrap());
        again.reason = Some("tries again in 4s: attempt 1 exited with code 3; the log ends:\nboom".into());
        again.estimate = Some(StartEstimate { ahead: 0, starts_in_s: Some(4.0), basis: "the pause".into() });
        assert_eq!(
            notes(Some(&running), &again, false),
            ["[train-1] attempt 1 exited with code 3", "[train-1] tries again in 4s"]
        );
        let mut later = again.clone();
        later.reason = Some("tries again in 3s: attempt 1 exited with code 3; the log ends:\nboom".into());
        assert!(notes(Some(&again), &later, false).is_empty(), "a countdown is told once");
        later.not_before = None;
        later.reason = Some("attempt 1 exited with code 3; the log ends:\nboom".into());
        later.estimate.as_mut().unwrap().starts_in_s = Some(0.0);
        assert!(notes(Some(&again), &later, false).is_empty(), "what starts at once does not wait");
        later.estimate.as_mut().unwrap().starts_in_s = None;
        later.reason = Some("waits for cpu=2 (1 free); attempt 1 exited with code 3".into());
        assert_eq!(
            notes(Some(&again), &later, false),
            ["[train-1] queued, next in line, start not known (the pause): waits for cpu=2 (1 free)"]
        );
        let mut second = again.clone();
        second.state = JobState::Starting;
        second.attempts.push(attempt(2, AttemptState::Launching, None));
        assert_eq!(notes(Some(&again), &second, false), ["[train-1] starting, attempt 2 of at most 3"]);
    }
}
