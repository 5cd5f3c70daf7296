//! What an endpoint needs next: replicas to launch, traffic to move, replicas
//! to drain or stop. Asked again after every change and every tick; with
//! nothing to do it answers nothing.

use muonic_types::endpoint::ReplicaState;
use muonic_types::{ReplicaId, Resources};

/// A revision that cannot keep its first replica alive is given up after this
/// many failures in a row.
pub const FAILURES_MAX: u32 = 3;

/// A revision that should have replicas.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub number: u32,
    /// How many it should have now.
    pub replicas: u32,
    pub resources: Resources,
    /// Replicas that failed in a row, without one becoming ready in between.
    pub failures: u32,
    /// Seconds since the last of them failed.
    pub last_failure_s: Option<f64>,
    /// How the last one failed.
    pub last_reason: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Live {
    pub id: ReplicaId,
    pub revision: u32,
    pub state: ReplicaState,
    /// Requests in it.
    pub in_flight: usize,
    /// Seconds since it was launched, or since it began to drain.
    pub in_state_s: f64,
}

#[derive(Debug, Clone)]
pub struct View {
    pub active: Option<Wanted>,
    pub target: Option<Wanted>,
    /// Traffic comes to the target step by step, which is decided elsewhere.
    pub stepwise: bool,
    pub deleting: bool,
    pub live: Vec<Live>,
    /// What of the machine is free.
    pub free: Resources,
    pub ready_timeout_s: f64,
    pub drain_timeout_s: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    Launch {
        revision: u32,
    },
    /// Launching has to wait; the text says for what.
    Waits {
        revision: u32,
        reason: String,
    },
    /// Move all traffic to the target.
    Activate {
        revision: u32,
    },
    /// Give the target up.
    Fail {
        revision: u32,
        reason: String,
    },
    /// No new requests for it.
    Drain {
        replica: ReplicaId,
    },
    /// It has none left (or had its time): end it.
    Stop {
        replica: ReplicaId,
    },
    /// It was not ready in time.
    TimedOut {
        replica: ReplicaId,
    },
    /// Nothing of a deleted endpoint is left.
    Remove,
}

pub fn plan(view: &View) -> Vec<Step> {
    let mut steps = Vec::new();
    let wanted: Vec<&Wanted> =
        if view.deleting { Vec::new() } else { [&view.active, &view.target].into_iter().flatten().collect() };
    for replica in &view.live {
        step_replica(view, &wanted, replica, &mut steps);
    }
    if view.deleting {
        if view.live.is_empty() {
            steps.push(Step::Remove);
        }
        return steps;
    }
    let mut free = view.free;
    for (index, revision) in wanted.iter().enumerate() {
        let is_target = view.target.is_some() && index + 1 == wanted.len();
        step_revision(view, revision, is_target, &mut free, &mut steps);
    }
    steps
}

fn step_replica(view: &View, wanted: &[&Wanted], replica: &Live, steps: &mut Vec<Step>) {
    let drained = replica.in_flight == 0 || replica.in_state_s > view.drain_timeout_s;
    match replica.state {
        ReplicaState::Draining if drained => steps.push(Step::Stop { replica: replica.id.clone() }),
        ReplicaState::Draining => {}
        _ if !wanted.iter().any(|w| w.number == replica.revision) => {
            steps.push(Step::Drain { replica: replica.id.clone() })
        }
        ReplicaState::Launching if replica.in_state_s > view.ready_timeout_s => {
            steps.push(Step::TimedOut { replica: replica.id.clone() });
        }
        _ => {}
    }
}

fn step_revision(view: &View, revision: &Wanted, is_target: bool, free: &mut Resources, steps: &mut Vec<Step>) {
    let count = |state| view.live.iter().filter(|r| r.revision == revision.number && r.state == state).count() as u32;
    let ready = count(ReplicaState::Ready);
    if is_target && !view.stepwise && ready >= revision.replicas {
        steps.push(Step::Activate { revision: revision.number });
        return;
    }
    let live = ready + count(ReplicaState::Launching);
    if live > revision.replicas {
        steps.extend(surplus(view, revision, (live - revision.replicas) as usize));
        return;
    }
    if is_target && ready < revision.replicas && revision.failures >= FAILURES_MAX {
        let reason = revision.last_reason.clone().unwrap_or_else(|| "its replicas ended".to_owned());
        steps.push(Step::Fail { revision: revision.number, reason });
        return;
    }
    let pause = crate::retry::back_off_s(revision.failures.saturating_sub(1)) as f64;
    if revision.failures > 0 && revision.last_failure_s.is_some_and(|s| s < pause) {
        return;
    }
    for _ in live..revision.replicas {
        if revision.resources.fits(free) {
            *free = free.minus(&revision.resources);
            steps.push(Step::Launch { revision: revision.number });
        } else {
            let reason = format!("waits for {} ({free} free)", revision.resources);
            steps.push(Step::Waits { revision: revision.number, reason });
            return;
        }
    }
}

/// Those that are given up where there are more than wanted: what starts
/// before what serves, then the least busy, then the newest.
fn surplus(view: &View, revision: &Wanted, many: usize) -> impl Iterator<Item = Step> {
    let is_live = |r: &&Live| matches!(r.state, ReplicaState::Launching | ReplicaState::Ready);
    let mut live: Vec<&Live> = view.live.iter().filter(|r| r.revision == revision.number).filter(is_live).collect();
    live.sort_by(|a, b| {
        let rank = |r: &Live| (r.state != ReplicaState::Launching, r.in_flight);
        rank(a).cmp(&rank(b)).then(a.in_state_s.total_cmp(&b.in_state_s))
    });
    live.into_iter().take(many).map(|r| Step::Drain { replica: r.id.clone() }).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use muonic_types::{Cpu, Memory, Name};
    use proptest::prelude::*;

    use super::*;

    fn small() -> Resources {
        Resources { cpu: Cpu::milli(100), memory: Memory::mib(10), gpu: 0 }
    }

    fn wanted(number: u32, replicas: u32) -> Wanted {
        Wanted { number, replicas, resources: small(), failures: 0, last_failure_s: None, last_reason: None }
    }

    fn live(revision: u32, n: u32, state: ReplicaState) -> Live {
        let name: Name = "e".parse().unwrap();
        Live { id: ReplicaId::new(&name, revision, n), revision, state, in_flight: 0, in_state_s: 0.0 }
    }

    fn view(active: Option<Wanted>, target: Option<Wanted>, live: Vec<Live>) -> View {
        let free = Resources { cpu: Cpu::milli(1000), memory: Memory::mib(1000), gpu: 0 };
        View {
            active,
            target,
            stepwise: false,
            deleting: false,
            live,
            free,
            ready_timeout_s: 60.0,
            drain_timeout_s: 60.0,
        }
    }

    #[test]
    fn a_release_launches_then_activates_then_drains_then_stops() {
        let mut v = view(Some(wanted(1, 1)), Some(wanted(2, 1)), vec![live(1, 1, ReplicaState::Ready)]);
        assert_eq!(plan(&v), [Step::Launch { revision: 2 }]);
        v.live.push(live(2, 1, ReplicaState::Launching));
        assert_eq!(plan(&v), []);
        v.live[1].state = ReplicaState::Ready;
        assert_eq!(plan(&v), [Step::Activate { revision: 2 }]);
        v.active = v.target.take();
        let old = v.live[0].id.clone();
        assert_eq!(plan(&v), [Step::Drain { replica: old.clone() }]);
        v.live[0].state = ReplicaState::Draining;
        v.live[0].in_flight = 3;
        assert_eq!(plan(&v), []);
        v.live[0].in_flight = 0;
        assert_eq!(plan(&v), [Step::Stop { replica: old }]);
    }

    #[test]
    fn a_target_that_keeps_failing_is_given_up_and_an_active_one_never_is() {
        let mut bad = wanted(2, 1);
        bad.failures = FAILURES_MAX;
        bad.last_failure_s = Some(0.0);
        bad.last_reason = Some("no such file".into());
        let v = view(Some(wanted(1, 1)), Some(bad.clone()), vec![live(1, 1, ReplicaState::Ready)]);
        assert_eq!(plan(&v), [Step::Fail { revision: 2, reason: "no such file".into() }]);
        bad.last_failure_s = Some(1e6);
        assert_eq!(plan(&view(Some(bad), None, vec![])), [Step::Launch { revision: 2 }]);
    }

    #[test]
    fn no_room_is_said() {
        let mut v = view(None, Some(wanted(1, 1)), vec![]);
        v.free = Resources::default();
        assert!(matches!(&plan(&v)[..], [Step::Waits { revision: 1, .. }]));
    }

    #[test]
    fn deleting_drains_all_and_removes_last() {
        let mut v = view(Some(wanted(1, 1)), None, vec![live(1, 1, ReplicaState::Ready)]);
        v.deleting = true;
        assert!(matches!(&plan(&v)[..], [Step::Drain { .. }]));
        v.live.clear();
        assert_eq!(plan(&v), [Step::Remove]);
    }

    #[test]
    fn a_target_that_gets_its_traffic_step_by_step_is_kept_as_it_is() {
        let ready = vec![live(1, 1, ReplicaState::Ready), live(2, 1, ReplicaState::Ready)];
        let mut v = view(Some(wanted(1, 1)), Some(wanted(2, 1)), ready);
        v.stepwise = true;
        assert_eq!(plan(&v), []);
        v.target.as_mut().unwrap().failures = FAILURES_MAX;
        assert_eq!(plan(&v), [], "it serves");
        v.live.pop();
        assert!(matches!(&plan(&v)[..], [Step::Fail { revision: 2, .. }]));
    }

    #[test]
    fn what_is_too_much_drains_beginning_with_what_serves_least() {
        let mut v = view(Some(wanted(1, 1)), None, (1..=4).map(|n| live(1, n, ReplicaState::Ready)).collect());
        v.live[0].in_flight = 1;
        v.live[1].in_flight = 2;
        v.live[2].in_state_s = 9.0;
        v.live[3].state = ReplicaState::Launching;
        let drains = |ids: &[usize]| -> Vec<Step> {
            ids.iter().map(|i| Step::Drain { replica: v.live[*i].id.clone() }).collect()
        };
        assert_eq!(plan(&v), drains(&[3, 2, 0]));
        assert_eq!(plan(&View { active: Some(wanted(1, 0)), ..v.clone() }), drains(&[3, 2, 0, 1]));
    }

    proptest! {
        /// Of the active revision's ready replicas as many as are wanted are left
        /// alone, and launches never exceed what is wanted or free.
        #[test]
        fn traffic_always_has_somewhere_to_go(
            states in prop::collection::vec((1u32..4, 0usize..3, 0usize..3, 0.0f64..100.0), 0..10),
            has_target in prop::bool::ANY,
            replicas in 1u32..4,
        ) {
            let kinds = [ReplicaState::Launching, ReplicaState::Ready, ReplicaState::Draining];
            let live: Vec<_> = states.iter().enumerate().map(|(n, (revision, kind, in_flight, age))| Live {
                in_flight: *in_flight, in_state_s: *age, ..live(*revision, n as u32, kinds[*kind])
            }).collect();
            let v = view(Some(wanted(1, replicas)), has_target.then(|| wanted(2, replicas)), live.clone());
            let steps = plan(&v);
            let ready: Vec<_> = live.iter().filter(|r| r.revision == 1 && r.state == ReplicaState::Ready).collect();
            let hit = |r: &&&Live| steps.iter().any(|s| matches!(s, Step::Drain { replica } | Step::Stop { replica } if *replica == r.id));
            prop_assert!(ready.len() - ready.iter().filter(hit).count() >= ready.len().min(replicas as usize));
            for number in [1, 2] {
                let launches = steps.iter().filter(|s| **s == Step::Launch { revision: number }).count();
                let have = live.iter().filter(|r| r.revision == number && r.state != ReplicaState::Draining).count();
                prop_assert!(launches == 0 || launches + have <= replicas as usize);
            }
            if steps.contains(&Step::Activate { revision: 2 }) {
                let ready = live.iter().filter(|r| r.revision == 2 && r.state == ReplicaState::Ready).count();
                prop_assert!(ready >= replicas as usize);
            }
        }
    }
}
