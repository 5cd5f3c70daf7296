//! Waiting until an endpoint serves what it should.

use std::time::{Duration, Instant};

use muonic_types::endpoint::{Endpoint, Release, ReplicaState, RevisionState};

use super::{Waiting, show};
use crate::context::Context;
use crate::failure::{Exit, Failure, Result};
use crate::link::{Link, ask};
use crate::progress::Steps;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// Where the endpoint stands on its way to a revision.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Served,
    /// With what it waits for.
    Waiting(String),
    Failed(String),
}

fn step(endpoint: &Endpoint, revision: u32) -> Step {
    let Some(wanted) = endpoint.revisions.iter().find(|r| r.number == revision) else {
        return Step::Failed(format!("revision {revision} of {} is gone", endpoint.name));
    };
    let why = |text: String| match &wanted.reason {
        Some(reason) => format!("{text}: {reason}"),
        None => text,
    };
    match wanted.state {
        RevisionState::Active if endpoint.active == Some(revision) => Step::Served,
        RevisionState::Failed if wanted.step > 0 => {
            Step::Failed(why(format!("{} on {} is not released", wanted.model, endpoint.name)))
        }
        RevisionState::Failed => {
            Step::Failed(why(format!("{} on {} could not be started", wanted.model, endpoint.name)))
        }
        RevisionState::Retired => {
            Step::Failed(format!("another revision took the place of revision {revision} of {}", endpoint.name))
        }
        // It stays so until somebody decides.
        RevisionState::Pending
            if wanted.step > 0 && matches!(wanted.release, Release::Split(_) | Release::Shadow(_)) =>
        {
            Step::Served
        }
        RevisionState::Pending if wanted.step > 0 => Step::Waiting(match &endpoint.progress {
            Some(progress) => format!("{} on {}: {}", wanted.model, endpoint.name, show::progress(progress)),
            None => format!("{} on {}: step {}", wanted.model, endpoint.name, wanted.step),
        }),
        RevisionState::Active | RevisionState::Pending => {
            let ready =
                endpoint.replicas.iter().filter(|r| r.revision == revision && r.state == ReplicaState::Ready).count();
            Step::Waiting(why(format!(
                "{} on {}: {ready} of {} ready",
                wanted.model,
                endpoint.name,
                wanted.replicas.max(1)
            )))
        }
    }
}

/// Waits for the revision that `endpoint` now moves to.
pub(super) fn until_served(context: &Context, endpoint: Endpoint, waiting: &Waiting) -> Result<Endpoint> {
    let Some(revision) = endpoint.target.or(endpoint.active) else { return Ok(endpoint) };
    if waiting.detach {
        return Ok(endpoint);
    }
    let link = Link::new(context)?;
    let mut steps = Steps::new("starting");
    let began = Instant::now();
    let (name, mut pause) = (endpoint.name.clone(), FIRST_PAUSE);
    let mut now = endpoint;
    loop {
        let logs = || format!("see more with: muonic endpoint show {name}, or muonic endpoint logs {name}");
        match step(&now, revision) {
            Step::Served => return Ok(now),
            Step::Failed(message) => return Err(Failure::new(Exit::Failed, message).hint(logs())),
            Step::Waiting(text) if began.elapsed() >= waiting.timeout => {
                return Err(Failure::new(Exit::Failed, format!("it does not serve yet: {text}"))
                    .hint(format!("it goes on starting; {}", logs())));
            }
            Step::Waiting(text) => steps.say(text),
        }
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(LAST_PAUSE);
        now = ask(&link, |client| client.endpoint(&name))?;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{endpoint, replica, revision};
    use super::*;
    use muonic_types::endpoint::EndpointState;

    #[test]
    fn each_state_is_a_step() {
        let ready = endpoint(EndpointState::Ready);
        assert_eq!(step(&ready, 1), Step::Served);
        let mut releasing = ready.clone();
        releasing.target = Some(2);
        releasing.revisions.insert(0, revision(2, RevisionState::Pending));
        releasing.replicas.push(replica(2, ReplicaState::Launching));
        assert_eq!(step(&releasing, 2), Step::Waiting("digits@2 on digits: 0 of 1 ready".into()));
        releasing.revisions[0].reason = Some("no .onnx file".into());
        releasing.revisions[0].state = RevisionState::Failed;
        assert_eq!(step(&releasing, 2), Step::Failed("digits@2 on digits could not be started: no .onnx file".into()));
        releasing.revisions[0].state = RevisionState::Retired;
        assert!(matches!(step(&releasing, 2), Step::Failed(_)));
        assert!(matches!(step(&releasing, 9), Step::Failed(_)));
    }
}
