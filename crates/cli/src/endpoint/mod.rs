//! `muonic endpoint` and `muonic deploy`

mod deploy;
mod logs;
mod show;
mod wait;

use std::time::{Duration, Instant};

use muonic_types::endpoint::{Endpoint, NewRevision, RESOURCES};
use muonic_types::{ErrorCode, Name, ReplicaId, Resources, VersionRef};

use crate::confirm::confirmed;
use crate::context::{Context, note};
use crate::failure::{Exit, Failure, Outcome, Result};
use crate::link::{Link, ask};
use crate::parse::{self, PartialResources};
use crate::progress::Spinner;

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
    Release(ReleaseArgs),
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
/// Traffic moves in one step once all new replicas are ready; until then the
/// old revision serves.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic endpoint release digits digits@2")]
pub struct ReleaseArgs {
    /// The endpoint
    name: Name,
    /// The model, with @VERSION or @ALIAS, or the latest without
    model: VersionRef,
    #[command(flatten)]
    size: Size,
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

/// How large a revision is.
#[derive(Debug, clap::Args)]
struct Size {
    /// Processes that serve it; 1, or as many as the revision before, without
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=100))]
    replicas: Option<u32>,
    /// What each replica asks for; what is not named is as in the revision
    /// before, or cpu=250m and memory=256Mi
    #[arg(long, value_name = "cpu=N,memory=N,gpu=N", value_parser = parse::partial_resources(RESOURCES))]
    resources: Option<PartialResources>,
}

impl Size {
    /// `before`: what a replica of the revision before asks for.
    fn revision(self, model: VersionRef, before: impl FnOnce() -> Result<Resources>) -> Result<NewRevision> {
        let resources = match self.resources {
            Some(named) => Some(named.over(before()?)?),
            None => None,
        };
        Ok(NewRevision { model, replicas: self.replicas, resources })
    }
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
                let revision = args.size.revision(args.model, || {
                    let endpoint = client.endpoint(&args.name)?;
                    Ok(endpoint.revisions.first().map_or(RESOURCES, |newest| newest.resources))
                })?;
                let endpoint = client.endpoint_release(&args.name, &revision)?;
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
    use muonic_types::endpoint::{EndpointState, Replica, ReplicaState, Revision, RevisionState};

    pub(crate) fn revision(number: u32, state: RevisionState) -> Revision {
        Revision {
            number,
            model: muonic_types::model::ModelVersionId { name: "digits".parse().unwrap(), version: number },
            replicas: 1,
            resources: Resources::parse_over(Resources::default(), "cpu=250m,memory=256Mi").unwrap(),
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

    #[test]
    fn what_is_not_named_is_as_before() {
        let size = |text: Option<&str>| Size {
            replicas: None,
            resources: text.map(|text| parse::partial_resources(RESOURCES)(text).unwrap()),
        };
        let model: VersionRef = "digits".parse().unwrap();
        let before = Resources::parse_over(RESOURCES, "memory=2Gi").unwrap();
        let asked = size(Some("cpu=1")).revision(model.clone(), || Ok(before)).unwrap();
        assert_eq!(asked.resources.unwrap().to_string(), "cpu=1 memory=2Gi");
        let unsaid = size(None).revision(model, || unreachable!("not needed")).unwrap();
        assert_eq!(unsaid.resources, None);
    }
}
