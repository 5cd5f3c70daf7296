//! Releases whose traffic comes step by step: where each stands, what was seen
//! since its step began, and what the decider says of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use muonic_ports::routes::{Counts, Share, Tally};
use muonic_scheduler::canary::{Answered, Seen, Verdict, judge};
use muonic_types::endpoint::{Answers, Comparison, Endpoint, Mean, Progress, Release, Revision, Split};
use muonic_types::{Name, Timestamp};

#[derive(Default)]
pub(super) struct Stepwise {
    /// By endpoint and revision, while they are in the route table.
    tallies: HashMap<(Name, u32), Arc<Tally>>,
    under_way: HashMap<Name, UnderWay>,
}

/// A target that has begun to get requests.
struct UnderWay {
    revision: u32,
    step: u32,
    since: Instant,
    since_at: Timestamp,
    new_before: Counts,
    active_before: Counts,
    compared: Arc<Mutex<Comparison>>,
}

/// What a release wants next.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    Nothing,
    Step(u32),
    Promote,
    RollBack(String),
}

/// The target that gets its traffic step by step, if there is one.
pub(super) fn target(endpoint: &Endpoint) -> Option<&Revision> {
    // The first revision has nothing to share with.
    endpoint.active?;
    let target = endpoint.revisions.iter().find(|r| Some(r.number) == endpoint.target)?;
    (target.release != Release::AllAtOnce).then_some(target)
}

/// What a revision gets at its step, in percent.
fn percent(revision: &Revision) -> f64 {
    match (&revision.release, revision.step) {
        (_, 0) => 0.0,
        (Release::AllAtOnce, _) => 100.0,
        (Release::Canary(canary), step) => {
            canary.steps.get(step as usize - 1).or(canary.steps.last()).copied().unwrap_or(0.0)
        }
        (Release::Split(split), _) => split.percent,
        (Release::Shadow(shadow), _) => shadow.percent,
    }
}

impl Stepwise {
    pub(super) fn tally(&mut self, endpoint: &Name, revision: u32) -> Arc<Tally> {
        Arc::clone(self.tallies.entry((endpoint.clone(), revision)).or_default())
    }

    /// What comes to the target by the route table.
    pub(super) fn share(&self, endpoint: &Name, target: &Revision) -> Option<Share> {
        let percent = percent(target);
        if percent <= 0.0 {
            return None;
        }
        Some(match &target.release {
            Release::Shadow(_) => {
                let under_way = self.under_way.get(endpoint).filter(|u| u.revision == target.number)?;
                Share::Copies { percent, compared: Arc::clone(&under_way.compared) }
            }
            Release::Split(Split { sticky_header, .. }) => {
                Share::Percent { percent, sticky_header: sticky_header.clone() }
            }
            Release::AllAtOnce | Release::Canary(_) => Share::Percent { percent, sticky_header: None },
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    pub(super) fn forget_all_but(&mut self, endpoints: &[Endpoint]) {
        let find = |name: &Name| endpoints.iter().find(|e| e.name == *name);
        self.tallies
            .retain(|(name, revision), _| find(name).is_some_and(|e| [e.active, e.target].contains(&Some(*revision))));
        self.under_way.retain(|name, under_way| {
            find(name).and_then(target).is_some_and(|target| target.number == under_way.revision)
        });
    }

    /// What follows for a target whose replicas are all ready. `metric`: the
    /// values of the canary's own metric since this was last asked.
    pub(super) fn next(
        &mut self,
        endpoint: &Endpoint,
        target: &Revision,
        metric: impl Fn(&str, Timestamp) -> Mean,
        now: (Instant, Timestamp),
    ) -> (Next, Option<Progress>) {
        if target.step == 0 {
            return (Next::Step(1), None);
        }
        let active = endpoint.active.unwrap_or_default();
        let new_now = self.tally(&endpoint.name, target.number).counts();
        let active_now = self.tally(&endpoint.name, active).counts();
        let known = self.under_way.get(&endpoint.name);
        if known.is_none_or(|u| (u.revision, u.step) != (target.number, target.step)) {
            // Copies are compared over all of a shadow's time.
            let compared = known.filter(|u| u.revision == target.number).map(|u| Arc::clone(&u.compared));
            let begun = UnderWay {
                revision: target.number,
                step: target.step,
                since: now.0,
                since_at: now.1,
                new_before: new_now.clone(),
                active_before: active_now.clone(),
                compared: compared.unwrap_or_default(),
            };
            self.under_way.insert(endpoint.name.clone(), begun);
        }
        let Some(under_way) = self.under_way.get(&endpoint.name) else { return (Next::Nothing, None) };
        let (new, active) = (new_now.since(&under_way.new_before), active_now.since(&under_way.active_before));
        let rule = match &target.release {
            Release::Canary(canary) => canary.metric.as_ref(),
            _ => None,
        };
        let mean = rule.map(|rule| metric(&rule.name, under_way.since_at));
        let progress = Progress {
            revision: target.number,
            percent: percent(target),
            since: under_way.since_at,
            new: answers(&new),
            active: answers(&active),
            metric: mean,
            compared: matches!(target.release, Release::Shadow(_))
                .then(|| *under_way.compared.lock().unwrap_or_else(PoisonError::into_inner)),
        };
        let next = match &target.release {
            Release::Canary(canary) => {
                let answered = |counts: &Counts| Answered {
                    requests: counts.requests(),
                    errors: counts.errors,
                    slow: canary.p99_max_s.map_or(0, |s| counts.slower_than(s)),
                };
                let seen = Seen {
                    new: answered(&new),
                    active: answered(&active),
                    metric: mean.unwrap_or_default(),
                    in_step_s: now.0.saturating_duration_since(under_way.since).as_secs_f64(),
                };
                match judge(canary, target.step, &seen) {
                    Verdict::Stay => Next::Nothing,
                    Verdict::Step(step) => Next::Step(step),
                    Verdict::Promote => Next::Promote,
                    Verdict::RollBack(reason) => Next::RollBack(reason),
                }
            }
            _ => Next::Nothing,
        };
        (next, Some(progress))
    }
}

fn answers(counts: &Counts) -> Answers {
    Answers {
        requests: counts.requests(),
        errors: counts.errors,
        p50_s: counts.quantile_s(0.5),
        p99_s: counts.quantile_s(0.99),
    }
}
