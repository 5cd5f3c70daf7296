//! How many replicas each endpoint should have now: the deciders, fed with what
//! the gateway saw.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use muonic_ports::metastore::ReplicaRecord;
use muonic_ports::routes::{Activity, Asked, Burst};
use muonic_scheduler::autoscale::{Aim, Autoscaler, Seen, Targets};
use muonic_scheduler::keep_alive::{self, Fleet, History};
use muonic_types::endpoint::{Endpoint, EndpointState, PerReplica, ReplicaState, Revision, Scale};
use muonic_types::{Name, Timestamp};
use tokio::sync::Notify;

use super::learned;

/// The autoscaler is asked so often.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// What one cold start less is worth, in seconds of an idle replica.
const WORTH_S: f64 = 1800.0;
/// A new revision stays so long without a request.
const NEW_S: f64 = 300.0;
/// Where no replica of it was ever ready.
const COLD_START_S: f64 = 5.0;
/// Requests of one burst that the history is told of: the more say no more.
const OF_A_BURST: u64 = 64;

pub(super) struct Scalers {
    endpoints: HashMap<Name, Scaler>,
    fleet: Fleet,
    /// Told when a request waits for a replica.
    pub(super) wanted: Arc<Notify>,
}

struct Scaler {
    activity: Arc<Activity>,
    autoscaler: Autoscaler,
    asked: Option<Instant>,
    history: History,
    /// The last burst goes on.
    open: bool,
    wanted: u32,
    /// What was learned has changed since it was last kept.
    changed: bool,
}

/// An instant on the clocks that are needed.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) wall: Timestamp,
    pub(super) instant: Instant,
}

impl Now {
    fn s(&self) -> f64 {
        self.wall.as_microsecond() as f64 / 1e6
    }

    fn s_of(&self, instant: Instant) -> f64 {
        self.s() - self.instant.saturating_duration_since(instant).as_secs_f64()
    }
}

impl Scalers {
    /// `kept`: what [`Self::learned`] answered last.
    pub(super) fn new(kept: Vec<(Name, String)>, at: Timestamp) -> Self {
        let wanted = Arc::new(Notify::new());
        let mut scalers = Self { endpoints: HashMap::new(), fleet: Fleet::default(), wanted };
        // Else all hours since the clock began would fade what is added now.
        scalers.fleet.advance(at.as_microsecond() as f64 / 1e6);
        for (name, document) in kept {
            match learned::read(&document) {
                Ok(history) => {
                    for (all, own) in scalers.fleet.by_hour.iter_mut().zip(history.by_hour) {
                        *all += own;
                    }
                    scalers.of(&name).history = history;
                }
                Err(e) => tracing::warn!(endpoint = %name, error = %e, "what was learned of an endpoint is forgotten"),
            }
        }
        scalers
    }

    fn of(&mut self, name: &Name) -> &mut Scaler {
        let wanted = &self.wanted;
        self.endpoints.entry(name.clone()).or_insert_with(|| Scaler {
            activity: Arc::new(Activity::new(Arc::clone(wanted))),
            autoscaler: Autoscaler::default(),
            asked: None,
            history: History::default(),
            open: false,
            wanted: 0,
            changed: false,
        })
    }

    pub(super) fn activity(&mut self, name: &Name) -> Arc<Activity> {
        Arc::clone(&self.of(name).activity)
    }

    pub(super) fn forget_all_but(&mut self, endpoints: &[Endpoint]) {
        self.endpoints.retain(|name, _| endpoints.iter().any(|e| e.name == *name));
    }

    /// Documents of those that have changed since this was last asked.
    pub(super) fn learned(&mut self) -> Vec<(Name, String)> {
        let changed = self.endpoints.iter_mut().filter_map(|(name, scaler)| {
            let document = || learned::write(&scaler.history);
            std::mem::take(&mut scaler.changed).then(document).flatten().map(|document| (name.clone(), document))
        });
        changed.collect()
    }

    /// How many replicas the active revision and the target should have.
    pub(super) fn wanted(&mut self, endpoint: &Endpoint, replicas: &[ReplicaRecord], now: Now) -> (u32, u32) {
        let revision = |number: Option<u32>| endpoint.revisions.iter().find(|r| Some(r.number) == number);
        let (active, target) = (revision(endpoint.active), revision(endpoint.target));
        let own: Vec<&ReplicaRecord> = replicas.iter().filter(|r| r.endpoint == endpoint.name).collect();
        self.of(&endpoint.name);
        let Self { endpoints, fleet, .. } = self;
        let Some(scaler) = endpoints.get_mut(&endpoint.name) else { return (0, 0) };
        let asked = scaler.activity.take();
        scaler.learn(&asked.bursts, fleet, now);
        let mut wanted = active.map_or(0, |revision| match revision.scale {
            None => revision.replicas,
            Some(scale) => scaler.decide(revision, &scale, &asked, &own, fleet, now),
        });
        // Requests go there until the target has all of them.
        if target.is_some() && endpoint.state != EndpointState::Deleting && active.is_some() {
            wanted = wanted.max(1);
        }
        let as_many = |revision: &Revision| match revision.scale {
            None => revision.replicas,
            Some(scale) => wanted.clamp(scale.min.max(1), scale.max),
        };
        (wanted, target.map_or(0, as_many))
    }
}

impl Scaler {
    fn learn(&mut self, bursts: &[Burst], fleet: &mut Fleet, now: Now) {
        fleet.advance(now.s());
        let mut told = 0;
        for burst in bursts {
            let began_s = now.s_of(burst.began);
            let mut requests = burst.requests;
            if !std::mem::take(&mut self.open) {
                fleet.request(began_s);
                self.history.request(began_s);
                requests = requests.saturating_sub(1);
            }
            for _ in 0..requests.min(OF_A_BURST) {
                if told < 4 * OF_A_BURST {
                    told += 1;
                    self.history.request(began_s);
                    self.history.ended(began_s);
                }
            }
            match burst.ended {
                Some(ended) => self.history.ended(now.s_of(ended)),
                None => self.open = true,
            }
            self.changed = true;
        }
    }

    fn decide(
        &mut self,
        revision: &Revision,
        scale: &Scale,
        asked: &Asked,
        replicas: &[&ReplicaRecord],
        fleet: &Fleet,
        now: Now,
    ) -> u32 {
        let warm = scale.min > 0 || self.is_warm(revision, scale, asked, fleet, now);
        let least = if warm { scale.min.max(1) } else { 0 };
        let due = self.asked.is_none_or(|at| now.instant.saturating_duration_since(at) >= ASK_EVERY);
        if due {
            self.asked = Some(now.instant);
            let own = || replicas.iter().filter(|r| r.revision == revision.number);
            let count = |state| own().filter(|r| r.state == state).count() as u32;
            let ready = count(ReplicaState::Ready);
            let took = own().filter_map(|r| Some(seconds(r.launched_at, r.ready_at?)));
            let targets = Targets {
                min_replicas: least,
                max_replicas: scale.max,
                aim: aim(scale),
                cold_start_s: took.reduce(f64::max).unwrap_or(COLD_START_S),
            };
            let seen = seen(scale, asked, ready, count(ReplicaState::Launching), now);
            self.wanted = self.autoscaler.decide(&targets, &seen);
        }
        self.wanted = if warm { self.wanted.clamp(least, scale.max) } else { 0 };
        self.wanted
    }

    /// Whether an endpoint that may sleep has a replica.
    fn is_warm(&self, revision: &Revision, scale: &Scale, asked: &Asked, fleet: &Fleet, now: Now) -> bool {
        if asked.inside > 0 {
            return true;
        }
        let new_s = revision.activated_at.map_or(0.0, |at| seconds(at, now.wall));
        match scale.idle_s {
            Some(idle_s) => {
                let idle = self.history.idle_since_s().map_or(f64::INFINITY, |since_s| now.s() - since_s);
                idle.min(new_s) < idle_s
            }
            None => {
                let targets = keep_alive::Targets { min_replicas: 0, worth_s: WORTH_S };
                new_s < NEW_S || keep_alive::decide(&self.history, fleet, &targets, now.s()).warm
            }
        }
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    (to.as_microsecond() - from.as_microsecond()).max(0) as f64 / 1e6
}

fn aim(scale: &Scale) -> Aim {
    match scale.per_replica {
        PerReplica::Concurrency(per_replica) => Aim::Concurrency { per_replica },
        PerReplica::RatePerS(per_replica) => Aim::Rate { per_replica },
        PerReplica::QueueTimeS(wait_s) => Aim::QueueTime { wait_s, slots: 1 },
    }
}

/// What runs is not told by the gateway: of the requests that replicas have, as
/// many as they should have at once are taken to run, and the others to wait.
fn seen(scale: &Scale, asked: &Asked, ready: u32, starting: u32, now: Now) -> Seen {
    let given = asked.inside.saturating_sub(asked.waiting);
    let at_once = match scale.per_replica {
        PerReplica::Concurrency(at_once) => (f64::from(ready) * at_once).ceil() as u32,
        PerReplica::RatePerS(_) => u32::MAX,
        PerReplica::QueueTimeS(_) => ready,
    };
    let running = given.min(at_once);
    let held_s = asked.waiting_since.map_or(0.0, |at| now.instant.saturating_duration_since(at).as_secs_f64());
    Seen {
        at_s: now.s(),
        ready,
        starting,
        running,
        queued: asked.inside - running,
        oldest_wait_s: held_s.max(asked.queued_s),
        arrived: asked.arrived,
    }
}

#[cfg(test)]
mod tests {
    use muonic_types::endpoint::{Release, RevisionState};
    use muonic_types::key::{Key, Role};
    use muonic_types::model::ModelVersionId;
    use muonic_types::{ProjectId, Resources};

    use super::*;

    fn endpoint(scale: Scale, activated_at: Timestamp) -> Endpoint {
        let name: Name = "e".parse().unwrap();
        let revision = Revision {
            number: 1,
            model: ModelVersionId { name: name.clone(), version: 1 },
            replicas: scale.min,
            scale: Some(scale),
            resources: Resources::default(),
            release: Release::AllAtOnce,
            step: 0,
            state: RevisionState::Active,
            reason: None,
            created_at: activated_at,
            activated_at: Some(activated_at),
        };
        Endpoint {
            path: "/endpoints/e".into(),
            name,
            project: ProjectId::default_project(),
            state: EndpointState::Ready,
            active: Some(1),
            target: None,
            revisions: vec![revision],
            replicas: Vec::new(),
            created_at: activated_at,
            cost_usd: 0.0,
            progress: None,
        }
    }

    fn sleeper(idle_s: Option<f64>) -> Scale {
        Scale { min: 0, max: 3, per_replica: PerReplica::Concurrency(1.0), idle_s }
    }

    fn ready(at: Timestamp) -> ReplicaRecord {
        let name: Name = "e".parse().unwrap();
        let id = muonic_types::ReplicaId::new(&name, 1, 1);
        ReplicaRecord {
            key: Key {
                id: "MKAAAAAAAAAAAAAAAAAA".parse().unwrap(),
                name: name.clone(),
                project: ProjectId::default_project(),
                role: Role::Replica,
                attempt: None,
                replica: Some(id.clone()),
                limits: Default::default(),
                created_at: at,
                expires_at: None,
            },
            id,
            endpoint: name.clone(),
            project: ProjectId::default_project(),
            revision: 1,
            model: ModelVersionId { name, version: 1 },
            tree: muonic_types::Digest::of(b""),
            state: ReplicaState::Ready,
            reason: None,
            address: Some("unix:/run/e".into()),
            resources: Resources::default(),
            price: muonic_types::Price::default(),
            launched_at: at,
            ready_at: Some(at),
            ended_at: None,
        }
    }

    /// Clocks that walk together, and came by so many seconds to this instant.
    struct Clocks(Now);

    impl Clocks {
        fn new(passed_s: f64) -> Self {
            let instant = Instant::now().checked_sub(Duration::from_secs_f64(passed_s)).unwrap();
            Self(Now { wall: "2026-11-03T12:00:00Z".parse().unwrap(), instant })
        }

        fn after(&self, s: f64) -> Now {
            let micros = self.0.wall.as_microsecond() + (s * 1e6) as i64;
            Now {
                wall: Timestamp::from_microsecond(micros).unwrap(),
                instant: self.0.instant + Duration::from_secs_f64(s),
            }
        }
    }

    #[test]
    fn it_sleeps_after_its_idle_time_and_a_waiting_request_wakes_it_at_once() {
        let clocks = Clocks::new(11.5);
        let e = endpoint(sleeper(Some(10.0)), clocks.0.wall);
        let mut scalers = Scalers::new(Vec::new(), clocks.0.wall);
        assert_eq!(scalers.wanted(&e, &[], clocks.after(1.0)), (1, 0));
        assert_eq!(scalers.wanted(&e, &[], clocks.after(11.0)), (0, 0));
        let activity = scalers.activity(&e.name);
        let (visit, waiting) = (activity.enter(), activity.wait());
        assert_eq!(scalers.wanted(&e, &[], clocks.after(11.5)), (1, 0), "between two looks of the autoscaler");
        drop((visit, waiting));
        assert_eq!(scalers.wanted(&e, &[], clocks.after(12.0)), (1, 0), "the request ended just now");
        assert_eq!(scalers.wanted(&e, &[], clocks.after(60.0)), (0, 0));
    }

    #[test]
    fn what_was_learned_survives() {
        let clocks = Clocks::new(0.0);
        let e = endpoint(sleeper(None), clocks.0.wall);
        let mut scalers = Scalers::new(Vec::new(), clocks.0.wall);
        drop(scalers.activity(&e.name).enter());
        scalers.wanted(&e, &[], clocks.after(1.0));
        let learned = scalers.learned();
        assert_eq!(learned.len(), 1);
        assert!(scalers.learned().is_empty(), "it is told once");
        let again = Scalers::new(learned, clocks.after(60.0).wall);
        let (before, after) = (&scalers.endpoints[&e.name].history, &again.endpoints[&e.name].history);
        assert!((before.last_end_s.unwrap() - after.last_end_s.unwrap()).abs() < 1e-3, "{after:?}");
        assert_eq!(before.by_hour, after.by_hour);
        let mut again = again;
        again.fleet.advance(clocks.after(60.0).s());
        assert!(again.fleet.by_hour[12] > again.fleet.by_hour[0], "the hours of all too: {:?}", again.fleet);
        assert!(Scalers::new(vec![(e.name, "{}".into())], clocks.0.wall).endpoints.is_empty());
    }

    #[test]
    fn many_at_once_get_more_replicas_and_no_more_than_the_most() {
        let clocks = Clocks::new(0.0);
        let e = endpoint(Scale { min: 1, ..sleeper(None) }, clocks.0.wall);
        let mut scalers = Scalers::new(Vec::new(), clocks.0.wall);
        let activity = scalers.activity(&e.name);
        assert_eq!(scalers.wanted(&e, &[], clocks.after(0.0)).0, 1);
        let visits: Vec<_> = (0..50).map(|_| activity.enter()).collect();
        let one = [ready(clocks.0.wall)];
        let wanted: Vec<u32> = (1..20).map(|n| scalers.wanted(&e, &one, clocks.after(f64::from(n) * 5.0)).0).collect();
        assert_eq!(wanted.last(), Some(&3), "{wanted:?}");
        drop(visits);
    }

    #[test]
    fn during_a_release_both_have_what_they_need() {
        let clocks = Clocks::new(0.0);
        let mut e = endpoint(sleeper(Some(0.0)), clocks.0.wall);
        let second = Revision { number: 2, ..e.revisions[0].clone() };
        e.revisions.push(second);
        e.target = Some(2);
        assert_eq!(Scalers::new(Vec::new(), clocks.0.wall).wanted(&e, &[], clocks.after(9.0)), (1, 1));
    }
}
