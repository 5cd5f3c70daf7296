//! `muonic endpoint` and `muonic deploy`

mod deploy;
mod logs;
mod show;
mod size;
mod wait;

use std::time::{Duration, Instant};

use muonic_types::endpoint::{Endpoint, RESOURCES};
use muonic_types::{ErrorCode, Name, ReplicaId, VersionRef};

use crate::confirm::confirmed;
use crate::context::{Context, note};
use crate::failure::{Exit, Failure, Outcome};
use crate::link::{Link, ask};
use crate::parse;
use crate::progress::Spinner;

use self::size::{Size, Traffic};

pub use deploy::DeployArgs;

/// How long a new revision may take until it serves: its environment may
/// have to be built first.
const READY_MAX: &str = "20m";
/// How long replicas may take to finish what they have.
const DELETE_MAX: Duration = Duration::from_secs(180);

#[derive(Debug, clap::Subcommand)]
pub enum EndpointCommand {
    Ls(LsArgs),
    Show(ShowArgs),
    Release(Box<ReleaseArgs>),
    Promote(PromoteArgs),
    Rollback(RollbackArgs),
    Logs(logs::LogsArgs),
    Delete(DeleteArgs),
}

/// List endpoints
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic endpoint ls")]
pub struct LsArgs {}

/// Show an endpoint with its revisions and replicas
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic endpoint show digits")]
pub struct ShowArgs {
    /// The endpoint
    name: Name,
}

/// Serve another model version from the same address
///
/// Traffic moves once all new replicas are ready, in one step or as you say;
/// until then the old revision serves.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  muonic endpoint release digits digits@2
  muonic endpoint release digits digits@2 --canary --max-p99 50ms
  muonic endpoint release digits digits@2 --shadow
  muonic endpoint release digits digits@2 --split 20 --sticky x-user")]
pub struct ReleaseArgs {
    /// The endpoint
    name: Name,
    /// The model, with @VERSION or @ALIAS, or the latest without
    model: VersionRef,
    #[command(flatten)]
    size: Size,
    #[command(flatten)]
    traffic: Traffic,
    #[command(flatten)]
    waiting: Waiting,
}

/// Give all traffic to the revision that is being released
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic endpoint promote digits")]
pub struct PromoteArgs {
    /// The endpoint
    name: Name,
    #[command(flatten)]
    waiting: Waiting,
}

/// Go back to an earlier revision
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic endpoint rollback digits")]
pub struct RollbackArgs {
    /// The endpoint
    name: Name,
    /// The revision's number; the one that served before without
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(u32).range(1..))]
    to: Option<u32>,
    #[command(flatten)]
    waiting: Waiting,
}

/// Stop an endpoint's replicas and forget it; its model stays
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic endpoint delete digits --yes")]
pub struct DeleteArgs {
    /// The endpoint
    name: Name,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Whether and how long to wait.
#[derive(Debug, clap::Args)]
struct Waiting {
    /// Do not wait until it serves
    #[arg(long)]
    detach: bool,
    /// Wait at most so long
    #[arg(long, value_name = "DURATION", value_parser = parse::duration, default_value = READY_MAX)]
    timeout: Duration,
}

impl EndpointCommand {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Ls(_) => ls(context),
            Self::Show(args) => {
                let endpoint = context.client()?.endpoint(&args.name)?;
                context.show(&endpoint, || show::page(&endpoint, context.now(), context.screen()))?;
                Ok(Exit::Ok)
            }
            Self::Release(args) => {
                let client = context.client()?;
                let mut revision = args.size.revision(args.model, || {
                    let endpoint = client.endpoint(&args.name)?;
                    Ok(endpoint.revisions.first().map_or(RESOURCES, |newest| newest.resources))
                })?;
                revision.release = Some(args.traffic.release());
                let endpoint = client.endpoint_release(&args.name, &revision)?;
                changed(context, endpoint, &args.waiting)
            }
            Self::Promote(args) => {
                let endpoint = context.client()?.endpoint_promote(&args.name)?;
                changed(context, endpoint, &args.waiting)
            }
            Self::Rollback(args) => {
                let endpoint = context.client()?.endpoint_rollback(&args.name, args.to)?;
                changed(context, endpoint, &args.waiting)
            }
            Self::Logs(args) => args.run(context),
            Self::Delete(args) => args.run(context),
        }
    }
}

fn ls(context: &Context) -> Outcome {
    let list = context.client()?.endpoints()?;
    if list.endpoints.is_empty() && !context.json() {
        note("there are no endpoints yet; make one with: muonic deploy MODEL");
        return Ok(Exit::Ok);
    }
    context.show(&list, || show::table(&list.endpoints, context.now(), context.screen()))?;
    Ok(Exit::Ok)
}

/// After a release or a rollback: waits, then says what serves.
fn changed(context: &Context, endpoint: Endpoint, waiting: &Waiting) -> Outcome {
    let endpoint = wait::until_served(context, endpoint, waiting)?;
    context.show(&endpoint, || format!("{}\n", show::line(&endpoint)))?;
    Ok(Exit::Ok)
}

impl DeleteArgs {
    fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let endpoint = client.endpoint(&self.name)?;
        let refusal = || format!("{} is not deleted without a yes", self.name);
        if !self.yes && !confirmed(&plan(&endpoint), "Delete it?", &refusal())? {
            return Ok(Exit::Ok);
        }
        let mut endpoint = client.endpoint_delete(&self.name)?;
        let link = Link::new(context)?;
        let began = Instant::now();
        let _spinner = Spinner::new(&format!("stopping the replicas of {}", self.name));
        loop {
            let seen = ask(&link, |client| match client.endpoint(&self.name) {
                Err(e) if e.code() == Some(ErrorCode::NotFound) => Ok(None),
                other => other.map(Some),
            })?;
            match seen {
                None => break,
                Some(now) => endpoint = now,
            }
            if began.elapsed() > DELETE_MAX {
                return Err(Failure::new(
                    Exit::Failed,
                    format!("{} is being deleted, but its replicas still run", self.name),
                )
                .hint(format!("see them with: muonic endpoint show {}", self.name)));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        context.show(&endpoint, || format!("{} is deleted\n", self.name))?;
        Ok(Exit::Ok)
    }
}

/// What a deletion does.
fn plan(endpoint: &Endpoint) -> String {
    let live: Vec<&ReplicaId> = endpoint.replicas.iter().filter(|r| r.state.is_live()).map(|r| &r.id).collect();
    let live: Vec<_> = live.iter().map(|id| id.as_str()).collect();
    let models: std::collections::BTreeSet<_> = endpoint.revisions.iter().map(|r| r.model.to_string()).collect();
    let models: Vec<_> = models.into_iter().collect();
    format!(
        "This deletes the endpoint {}:\n  - calls to {} get 404\n  - replicas stop once they have finished what they have: {}\n  - its history is gone: {}\nThese model versions stay: {}",
        endpoint.name,
        endpoint.path,
        if live.is_empty() { "none is running".to_owned() } else { live.join(" ") },
        crate::render::human::count(endpoint.revisions.len() as u64, "revision"),
        models.join(" ")
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use muonic_types::Resources;
    use muonic_types::endpoint::{EndpointState, Release, Replica, ReplicaState, Revision, RevisionState};

    pub(crate) fn revision(number: u32, state: RevisionState) -> Revision {
        Revision {
            number,
            model: muonic_types::model::ModelVersionId { name: "digits".parse().unwrap(), version: number },
            replicas: 1,
            scale: None,
            resources: Resources::parse_over(Resources::default(), "cpu=250m,memory=256Mi").unwrap(),
            release: Release::AllAtOnce,
            step: 0,
            state,
            reason: None,
            created_at: "2026-11-03T12:00:00Z".parse().unwrap(),
            activated_at: None,
        }
    }

    pub(crate) fn replica(revision: u32, state: ReplicaState) -> Replica {
        Replica {
            id: format!("digits.{revision}.1").parse().unwrap(),
            revision,
            state,
            reason: None,
            address: None,
            launched_at: "2026-11-03T12:00:00Z".parse().unwrap(),
            ready_at: None,
            ended_at: None,
        }
    }

    pub(crate) fn endpoint(state: EndpointState) -> Endpoint {
        Endpoint {
            name: "digits".parse().unwrap(),
            project: "default".parse().unwrap(),
            state,
            active: Some(1),
            target: None,
            revisions: vec![revision(1, RevisionState::Active)],
            replicas: vec![replica(1, ReplicaState::Ready)],
            created_at: "2026-11-03T12:00:00Z".parse().unwrap(),
            cost_usd: 0.0012,
            path: "/endpoints/digits".into(),
            progress: None,
        }
    }

    #[test]
    fn a_deletion_shows_its_plan() {
        assert_eq!(
            plan(&endpoint(EndpointState::Ready)),
            "This deletes the endpoint digits:
  - calls to /endpoints/digits get 404
  - replicas stop once they have finished what they have: digits.1.1
  - its history is gone: 1 revision
These model versions stay: digits@1"
        );
    }
}
