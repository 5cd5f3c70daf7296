//! Endpoints as a table, a page and a line.

use muonic_types::Timestamp;
use muonic_types::endpoint::{Answers, Comparison, Endpoint, Progress, Release, ReplicaState, Revision};

use crate::render::page::INDENT;
use crate::render::{Page, Screen, Table, human, word};

/// What serves or should; of an endpoint that could not be started, what was tried.
fn serving(endpoint: &Endpoint) -> Option<&Revision> {
    match endpoint.active.or(endpoint.target) {
        Some(number) => endpoint.revisions.iter().find(|r| r.number == number),
        None => endpoint.revisions.first(),
    }
}

/// Ready replicas of the revision that serves, and how many there should be.
fn ready(endpoint: &Endpoint) -> String {
    let Some(revision) = serving(endpoint) else { return "0/0".to_owned() };
    let ready =
        endpoint.replicas.iter().filter(|r| r.revision == revision.number && r.state == ReplicaState::Ready).count();
    format!("{ready}/{}", number_of(revision))
}

/// How many replicas a revision should have.
fn number_of(revision: &Revision) -> String {
    match revision.scale {
        Some(scale) => format!("{}..{}", scale.min, scale.max),
        None => revision.replicas.to_string(),
    }
}

/// How a release goes, in a few words.
pub(super) fn progress(progress: &Progress) -> String {
    let what = if progress.compared.is_some() { "copies of" } else { "gets" };
    format!("{what} {} % of the requests, {}", human::number(progress.percent), answers(&progress.new))
}

fn answers(answers: &Answers) -> String {
    let mut text = format!("{}, {}", human::count(answers.requests, "answer"), human::count(answers.errors, "error"));
    if let Some(p99_s) = answers.p99_s {
        text += &format!(", p99 {}", human::duration(p99_s));
    }
    text
}

fn compared(c: &Comparison) -> String {
    format!(
        "{} of {} the same, {} close, {} different (by {} at most); {} not compared, {} left out",
        c.same,
        c.answered,
        c.close,
        c.different,
        human::number(c.difference_max),
        c.not_compared,
        c.left_out
    )
}

fn how(release: &Release) -> &'static str {
    match release {
        Release::AllAtOnce => "all at once",
        Release::Canary(_) => "as a canary",
        Release::Split(_) => "a share of the requests",
        Release::Shadow(_) => "copies of requests",
    }
}

pub(super) fn table(endpoints: &[Endpoint], now: Timestamp, screen: Screen) -> String {
    let mut costs = human::usd_column(endpoints.iter().map(|endpoint| endpoint.cost_usd));
    let mut table = Table::new(screen, ["NAME", "STATE", "MODEL", ">REVISION", ">READY", "MADE", ">COST"]);
    for endpoint in endpoints {
        let revision = serving(endpoint);
        table.row([
            endpoint.name.to_string(),
            word(&endpoint.state),
            revision.map(|r| r.model.to_string()).unwrap_or_default(),
            revision.map(|r| r.number.to_string()).unwrap_or_default(),
            ready(endpoint),
            human::ago(endpoint.created_at, now),
            costs.next().unwrap_or_default(),
        ]);
    }
    table.render()
}

/// What serves now, in one line.
pub(super) fn line(endpoint: &Endpoint) -> String {
    if let (Some(shown), Some(target)) = (&endpoint.progress, endpoint.target) {
        return format!("{} is {}: revision {target} {}", endpoint.name, word(&endpoint.state), progress(shown));
    }
    match serving(endpoint) {
        Some(r) => format!(
            "{} is {}: {}, revision {}, {} replicas ready",
            endpoint.name,
            word(&endpoint.state),
            r.model,
            r.number,
            ready(endpoint)
        ),
        None => format!("{} is {}", endpoint.name, word(&endpoint.state)),
    }
}

pub(super) fn page(endpoint: &Endpoint, now: Timestamp, screen: Screen) -> String {
    let target = endpoint.revisions.iter().find(|r| Some(r.number) == endpoint.target);
    Page::new(screen, &endpoint.name)
        .line("state", word(&endpoint.state))
        .line("path", &endpoint.path)
        .maybe("serves", endpoint.active.map(|n| format!("revision {n}")))
        .maybe("moves to", target.map(|r| format!("revision {}, {}", r.number, how(&r.release))))
        .maybe("new", endpoint.progress.as_ref().map(progress))
        .maybe("active", endpoint.progress.as_ref().map(|p| answers(&p.active)))
        .maybe("compared", endpoint.progress.as_ref().and_then(|p| p.compared.as_ref()).map(compared))
        .line("created", human::instant(endpoint.created_at))
        .line("cost", human::usd(endpoint.cost_usd))
        .section("revisions", &revisions(endpoint, now, screen.indented(INDENT)))
        .section("replicas", &replicas(endpoint, now, screen.indented(INDENT)))
        .text()
}

fn revisions(endpoint: &Endpoint, now: Timestamp, screen: Screen) -> String {
    let mut table = Table::new(screen, ["NUMBER", "MODEL", "STATE", ">REPLICAS", "RESOURCES", "MADE", "REASON"]);
    for revision in &endpoint.revisions {
        table.row([
            revision.number.to_string(),
            revision.model.to_string(),
            word(&revision.state),
            number_of(revision),
            revision.resources.to_string(),
            human::ago(revision.created_at, now),
            revision.reason.clone().unwrap_or_default(),
        ]);
    }
    table.render()
}

fn replicas(endpoint: &Endpoint, now: Timestamp, screen: Screen) -> String {
    if endpoint.replicas.is_empty() {
        return String::new();
    }
    let mut table = Table::new(screen, ["ID", "STATE", "LAUNCHED", ">READY IN", "REASON"]);
    let mut last = None;
    for replica in &endpoint.replicas {
        // Replicas that fail in a row mostly fail alike.
        let reason = match &replica.reason {
            Some(reason) if last == Some(reason) => "the same",
            Some(reason) => reason,
            None => "",
        };
        last = replica.reason.as_ref();
        table.row([
            replica.id.to_string(),
            word(&replica.state),
            human::ago(replica.launched_at, now),
            replica.ready_at.map(|t| human::duration(human::between(replica.launched_at, t))).unwrap_or_default(),
            reason.to_owned(),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{endpoint, replica};
    use super::*;
    use muonic_types::endpoint::EndpointState;

    #[test]
    fn a_list_a_line_and_a_page() {
        let now = "2026-11-03T12:10:00Z".parse().unwrap();
        let mut one = endpoint(EndpointState::Ready);
        one.replicas[0].ready_at = Some("2026-11-03T12:00:00.25Z".parse().unwrap());
        let mut failed = replica(1, ReplicaState::Failed);
        failed.reason = Some("ended by signal 9".into());
        one.replicas.extend([failed.clone(), failed]);
        assert_eq!(
            table(std::slice::from_ref(&one), now, Screen::PIPE),
            "NAME    STATE  MODEL     REVISION  READY  MADE        COST
digits  ready  digits@1         1    1/1  10m ago  $0.0012
"
        );
        assert_eq!(line(&one), "digits is ready: digits@1, revision 1, 1/1 replicas ready");
        assert_eq!(
            page(&one, now, Screen::PIPE),
            "digits
  state         ready
  path          /endpoints/digits
  serves        revision 1
  created       2026-11-03 12:00:00 UTC
  cost          $0.0012

revisions
  NUMBER  MODEL     STATE   REPLICAS  RESOURCES              MADE     REASON
  1       digits@1  active         1  cpu=250m memory=256Mi  10m ago

replicas
  ID          STATE   LAUNCHED  READY IN  REASON
  digits.1.1  ready   10m ago      250ms
  digits.1.1  failed  10m ago             ended by signal 9
  digits.1.1  failed  10m ago             the same
"
        );
        let mut failed = endpoint(EndpointState::Failed);
        failed.active = None;
        failed.replicas.clear();
        assert_eq!(line(&failed), "digits is failed: digits@1, revision 1, 0/1 replicas ready");
    }
}
