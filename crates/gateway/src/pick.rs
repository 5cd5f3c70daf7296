//! Which replica gets a request: of the revision that its dice say, the one
//! with the fewest requests in it, of those that are well.
//!
//! A replica is left alone for a while after it refused a connection, and after
//! it failed several requests in a row; a new one gets its share by and by.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use muonic_ports::routes::{Arm, Backend, Route, RouteTable, Share, Tally};
use muonic_types::ReplicaId;

/// Where in 0 to 100 a request stands: those below the target's percent go there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dice(pub f64);

impl Dice {
    /// Requests with the same sticky header stand at the same place; others
    /// are spread so evenly that even a few are in proportion.
    pub fn cast(route: &Route, headers: &HeaderMap) -> Self {
        static TURN: AtomicU64 = AtomicU64::new(0);
        /// 2^64 over the golden ratio: its multiples fill the circle evenly.
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let sticky = match &route.target {
            Some((_, Share::Percent { sticky_header: Some(name), .. })) => headers.get(name),
            _ => None,
        };
        let place = match sticky {
            Some(value) => hash(route.endpoint.as_str().as_bytes(), value.as_bytes()),
            None => TURN.fetch_add(1, Ordering::Relaxed).wrapping_mul(GOLDEN),
        };
        Self((place >> 11) as f64 / (1u64 << 53) as f64 * 100.0)
    }
}

/// FNV-1a, then the finalizer of SplitMix64: the same in every process, so that
/// who comes again goes the same way after a restart.
fn hash(salt: &[u8], value: &[u8]) -> u64 {
    let mut h = 0xcbf2_9ce4_8422_2325_u64;
    for byte in salt.iter().chain(&[0]).chain(value) {
        h = (h ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    h = (h ^ (h >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h = (h ^ (h >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    h ^ (h >> 31)
}

/// A picked replica; its count is lowered when this is dropped.
#[derive(Debug)]
pub struct Lease {
    pub replica: ReplicaId,
    pub address: String,
    pub revision: u32,
    pub tally: Arc<Tally>,
    in_flight: Arc<AtomicUsize>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Picks and counts. Call it while the route's table is borrowed. `tried` are
/// left out. Where the revision meant has none, the other one answers.
pub fn pick(route: &Route, dice: Dice, tried: &[ReplicaId], health: &Health, now: Instant) -> Option<Lease> {
    match &route.target {
        Some((target, Share::Percent { percent, .. })) => {
            let (first, second) = if dice.0 < *percent { (target, &route.active) } else { (&route.active, target) };
            pick_of(first, tried, health, now).or_else(|| pick_of(second, tried, health, now))
        }
        _ => pick_of(&route.active, tried, health, now),
    }
}

/// Picks of one revision, and counts.
pub fn pick_of(arm: &Arm, tried: &[ReplicaId], health: &Health, now: Instant) -> Option<Lease> {
    // Ties go round, or the first would get all of a light load.
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let bad = health.bad(now);
    let turn = TURN.fetch_add(1, Ordering::Relaxed);
    let count = arm.backends.len();
    let best = (0..count)
        .filter_map(|i| arm.backends.get((i + turn) % count))
        .filter(|b| !tried.contains(&b.replica))
        // Where all are bad, the one that is so for the shortest time.
        .map(|b| (bad.get(&b.replica).copied(), load(b, now), b))
        .min_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)))?
        .2;
    let Backend { replica, address, in_flight, .. } = best;
    in_flight.fetch_add(1, Ordering::SeqCst);
    Some(Lease {
        replica: replica.clone(),
        address: address.clone(),
        revision: arm.revision,
        tally: Arc::clone(&arm.tally),
        in_flight: Arc::clone(in_flight),
    })
}

/// A new replica counts as busier than it is, less so with every moment: its
/// caches are cold.
const SLOW_START: Duration = Duration::from_secs(5);
const SHARE_FIRST: f64 = 0.1;

fn load(backend: &Backend, now: Instant) -> f64 {
    let age = now.saturating_duration_since(backend.since).as_secs_f64() / SLOW_START.as_secs_f64();
    (backend.in_flight.load(Ordering::SeqCst) as f64 + 1.0) / age.clamp(SHARE_FIRST, 1.0)
}

const BACK_OFF_FIRST: Duration = Duration::from_millis(250);
const BACK_OFF_MAX: Duration = Duration::from_secs(8);
/// Requests failed in a row after which a replica is left alone.
const FAILURES_MAX: u32 = 5;
const EJECTED_FIRST: Duration = Duration::from_secs(5);
const EJECTED_MAX: Duration = Duration::from_secs(60);

/// Which replicas refused their last connection, or failed their last requests.
#[derive(Default)]
pub struct Health {
    sick: Mutex<HashMap<ReplicaId, Sick>>,
    /// How many stand in the map, so that a healthy day takes no lock.
    count: AtomicUsize,
}

#[derive(Default)]
struct Sick {
    refused: Option<Pause>,
    failures: u32,
    ejected: Option<Pause>,
}

struct Pause {
    until: Instant,
    length: Duration,
}

impl Pause {
    fn longer(before: Option<&Self>, first: Duration, most: Duration, now: Instant) -> Self {
        let length = before.map_or(first, |before| (before.length * 2).min(most));
        Self { until: now + length, length }
    }
}

impl Health {
    fn lock(&self) -> MutexGuard<'_, HashMap<ReplicaId, Sick>> {
        self.sick.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those to be left alone now, and until when.
    fn bad(&self, now: Instant) -> HashMap<ReplicaId, Instant> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return HashMap::new();
        }
        let until = |sick: &Sick| [&sick.refused, &sick.ejected].into_iter().flatten().map(|p| p.until).max();
        let sick = self.lock();
        sick.iter().filter_map(|(id, sick)| Some((id.clone(), until(sick).filter(|until| *until > now)?))).collect()
    }

    fn change(&self, replica: &ReplicaId, table: &RouteTable, change: impl FnOnce(&mut Sick)) {
        let mut sick = self.lock();
        sick.retain(|id, _| table.routes.get(&id.endpoint()).is_some_and(|r| r.backends().any(|b| b.replica == *id)));
        change(sick.entry(replica.clone()).or_default());
        self.count.store(sick.len(), Ordering::Relaxed);
    }

    fn clear(&self, replica: &ReplicaId, clear: impl FnOnce(&mut Sick)) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut sick = self.lock();
        if let Some(one) = sick.get_mut(replica) {
            clear(one);
            if one.refused.is_none() && one.failures == 0 {
                sick.remove(replica);
            }
        }
        self.count.store(sick.len(), Ordering::Relaxed);
    }

    pub fn refused(&self, replica: &ReplicaId, table: &RouteTable, now: Instant) {
        self.change(replica, table, |sick| {
            sick.refused = Some(Pause::longer(sick.refused.as_ref(), BACK_OFF_FIRST, BACK_OFF_MAX, now));
        });
    }

    pub fn connected(&self, replica: &ReplicaId) {
        self.clear(replica, |sick| sick.refused = None);
    }

    /// A request was given to it and not answered, or with a failure of its own.
    pub fn failed(&self, replica: &ReplicaId, table: &RouteTable, now: Instant) {
        self.change(replica, table, |sick| {
            sick.failures += 1;
            if sick.failures.is_multiple_of(FAILURES_MAX) {
                sick.ejected = Some(Pause::longer(sick.ejected.as_ref(), EJECTED_FIRST, EJECTED_MAX, now));
                tracing::warn!("replica {replica} failed {} requests in a row and is left alone", sick.failures);
            }
        });
    }

    pub fn answered(&self, replica: &ReplicaId) {
        self.clear(replica, |sick| {
            sick.failures = 0;
            sick.ejected = None;
        });
    }
}

/// Whether an answer of a replica is a failure of its own: not of the caller,
/// and no refusal for being busy or without what was asked for.
pub fn is_failure(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE && status != StatusCode::NOT_IMPLEMENTED
}

#[cfg(test)]
mod tests {
    use super::*;
    use muonic_ports::routes::Activity;
    use muonic_types::ProjectId;
    use muonic_types::endpoint::EndpointState;
    use proptest::prelude::*;

    fn route(counts: &[usize]) -> Route {
        let backends = counts.iter().enumerate().map(|(i, n)| Backend {
            replica: format!("e.1.{i}").parse().unwrap(),
            address: format!("unix:/{i}"),
            in_flight: Arc::new(AtomicUsize::new(*n)),
            since: old(),
        });
        Route {
            endpoint: "e".parse().unwrap(),
            project: ProjectId::default_project(),
            state: EndpointState::Ready,
            activity: Arc::new(Activity::new(Arc::default())),
            active: Arm { revision: 1, backends: backends.collect(), tally: Arc::default() },
            target: None,
        }
    }

    fn old() -> Instant {
        Instant::now().checked_sub(SLOW_START).unwrap()
    }

    /// The same with a revision 2 that gets so much.
    fn with_target(mut route: Route, percent: f64, sticky: Option<&str>) -> Route {
        let backend = Backend {
            replica: "e.2.0".parse().unwrap(),
            address: "unix:/2".into(),
            in_flight: Arc::default(),
            since: old(),
        };
        let arm = Arm { revision: 2, backends: vec![backend], tally: Arc::default() };
        route.target = Some((arm, Share::Percent { percent, sticky_header: sticky.map(str::to_owned) }));
        route
    }

    fn table(route: &Route) -> RouteTable {
        RouteTable { known: true, routes: [(route.endpoint.clone(), route.clone())].into() }
    }

    proptest! {
        #[test]
        fn picks_the_least_of_the_good(counts in proptest::collection::vec(0usize..5, 1..6), bad in any::<u8>(), tried in any::<u8>()) {
            let now = Instant::now();
            let route = route(&counts);
            let health = Health::default();
            let is = |mask: u8, i: usize| mask & (1 << i) != 0;
            for (i, b) in route.active.backends.iter().enumerate().filter(|(i, _)| is(bad, *i)) {
                let _ = i;
                health.refused(&b.replica, &table(&route), now);
            }
            let tried_ids: Vec<_> = route.active.backends.iter().enumerate().filter(|(i, _)| is(tried, *i)).map(|(_, b)| b.replica.clone()).collect();
            let open: Vec<usize> = (0..counts.len()).filter(|i| !is(tried, *i)).collect();
            let good: Vec<usize> = open.iter().copied().filter(|i| !is(bad, *i)).collect();
            let among = if good.is_empty() { &open } else { &good };
            match pick(&route, Dice(0.0), &tried_ids, &health, now) {
                None => prop_assert!(open.is_empty()),
                Some(lease) => {
                    let at = route.active.backends.iter().position(|b| b.replica == lease.replica).unwrap();
                    prop_assert!(among.contains(&at));
                    prop_assert_eq!(counts[at], among.iter().map(|i| counts[*i]).min().unwrap());
                    prop_assert_eq!(route.active.backends[at].in_flight.load(Ordering::SeqCst), counts[at] + 1);
                    drop(lease);
                    prop_assert_eq!(route.active.backends[at].in_flight.load(Ordering::SeqCst), counts[at]);
                }
            }
        }
    }

    #[test]
    fn a_refusal_is_forgotten() {
        let route = route(&[0, 3]);
        let (health, now) = (Health::default(), Instant::now());
        let first = route.active.backends[0].replica.clone();
        let picked = |now| pick(&route, Dice(0.0), &[], &health, now).unwrap().replica.clone();
        health.refused(&first, &table(&route), now);
        assert_ne!(picked(now), first);
        assert_eq!(picked(now + BACK_OFF_FIRST), first);
        health.refused(&first, &table(&route), now);
        assert_ne!(picked(now + BACK_OFF_FIRST), first, "the back-off grows");
        health.connected(&first);
        assert_eq!(picked(now), first);
    }

    #[test]
    fn failures_in_a_row_eject_and_one_answer_brings_back() {
        let route = route(&[0, 3]);
        let (health, now) = (Health::default(), Instant::now());
        let first = route.active.backends[0].replica.clone();
        let picked = |now| pick(&route, Dice(0.0), &[], &health, now).unwrap().replica.clone();
        for _ in 1..FAILURES_MAX {
            health.failed(&first, &table(&route), now);
        }
        health.connected(&first);
        assert_eq!(picked(now), first);
        health.failed(&first, &table(&route), now);
        assert_ne!(picked(now), first);
        assert_eq!(picked(now + EJECTED_FIRST), first);
        health.answered(&first);
        assert_eq!(picked(now), first);
        assert_eq!(health.count.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_new_replica_gets_its_share_by_and_by() {
        let mut route = route(&[0, 3]);
        route.active.backends[0].since = Instant::now();
        let new = route.active.backends[0].replica.clone();
        let picked = |now| pick(&route, Dice(0.0), &[], &Health::default(), now).unwrap().replica.clone();
        assert_ne!(picked(route.active.backends[0].since), new);
        assert_eq!(picked(route.active.backends[0].since + SLOW_START), new);
    }

    #[test]
    fn shares_are_kept_even_of_a_few_and_who_sticks_stays() {
        let route = with_target(route(&[0]), 25.0, Some("x-user"));
        let mut headers = HeaderMap::new();
        let is_new = |dice| pick(&route, dice, &[], &Health::default(), Instant::now()).unwrap().revision == 2;
        let new = (0..100).filter(|_| is_new(Dice::cast(&route, &headers))).count();
        assert!((23..=27).contains(&new), "{new}");
        let mut stuck = 0;
        for user in 0..1000 {
            headers.insert("x-user", user.to_string().parse().unwrap());
            let first = is_new(Dice::cast(&route, &headers));
            assert!((0..3).all(|_| is_new(Dice::cast(&route, &headers)) == first));
            stuck += usize::from(first);
        }
        assert!((200..300).contains(&stuck), "{stuck}");
    }

    #[test]
    fn the_other_revision_answers_where_one_has_none() {
        let now = Instant::now();
        let mut route = with_target(route(&[0]), 25.0, None);
        let health = Health::default();
        let revision = |route: &Route, dice| pick(route, Dice(dice), &[], &health, now).map(|lease| lease.revision);
        assert_eq!((revision(&route, 10.0), revision(&route, 30.0)), (Some(2), Some(1)));
        let active = std::mem::take(&mut route.active.backends);
        assert_eq!((revision(&route, 10.0), revision(&route, 30.0)), (Some(2), Some(2)));
        route.active.backends = active;
        route.target.as_mut().unwrap().0.backends.clear();
        assert_eq!((revision(&route, 10.0), revision(&route, 30.0)), (Some(1), Some(1)));
    }
}
