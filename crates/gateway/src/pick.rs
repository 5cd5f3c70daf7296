//! Which replica gets a request: the one with the fewest requests in it, of
//! those that took the last connection.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use muonic_ports::routes::{Backend, Route, RouteTable};
use muonic_types::ReplicaId;

/// A picked replica; its count is lowered when this is dropped.
#[derive(Debug)]
pub struct Lease {
    pub replica: ReplicaId,
    pub address: String,
    pub revision: u32,
    in_flight: Arc<AtomicUsize>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Picks and counts. Call it while the route's table is borrowed. `tried` are
/// left out.
pub fn pick(route: &Route, tried: &[ReplicaId], health: &Health, now: Instant) -> Option<Lease> {
    // Ties go round, or the first would get all of a light load.
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let bad = health.bad(now);
    let turn = TURN.fetch_add(1, Ordering::Relaxed);
    let count = route.backends.len();
    let best = (0..count)
        .filter_map(|i| route.backends.get((i + turn) % count))
        .filter(|b| !tried.contains(&b.replica))
        // Where all are bad, the one that is so for the shortest time.
        .min_by_key(|b| (bad.get(&b.replica).copied(), b.in_flight.load(Ordering::SeqCst)))?;
    let Backend { replica, address, in_flight } = best;
    in_flight.fetch_add(1, Ordering::SeqCst);
    Some(Lease {
        replica: replica.clone(),
        address: address.clone(),
        revision: route.revision,
        in_flight: Arc::clone(in_flight),
    })
}

const BACK_OFF_FIRST: Duration = Duration::from_millis(250);
const BACK_OFF_MAX: Duration = Duration::from_secs(8);

/// Which replicas refused their last connection.
#[derive(Default)]
pub struct Health {
    refused: Mutex<HashMap<ReplicaId, Refused>>,
    /// How many stand in the map, so that a healthy day takes no lock.
    count: AtomicUsize,
}

struct Refused {
    until: Instant,
    back_off: Duration,
}

impl Health {
    /// Those to be left alone now, and until when.
    fn bad(&self, now: Instant) -> HashMap<ReplicaId, Instant> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return HashMap::new();
        }
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.iter().filter(|(_, r)| r.until > now).map(|(id, r)| (id.clone(), r.until)).collect()
    }

    pub fn refused(&self, replica: &ReplicaId, table: &RouteTable, now: Instant) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.retain(|id, _| {
            table.routes.get(&id.endpoint()).is_some_and(|r| r.backends.iter().any(|b| b.replica == *id))
        });
        let back_off = refused.get(replica).map_or(BACK_OFF_FIRST, |r| (r.back_off * 2).min(BACK_OFF_MAX));
        refused.insert(replica.clone(), Refused { until: now + back_off, back_off });
        self.count.store(refused.len(), Ordering::Relaxed);
    }

    pub fn connected(&self, replica: &ReplicaId) {
        if self.count.load(Ordering::Relaxed) > 0 {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            refused.remove(replica);
            self.count.store(refused.len(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muonic_types::ProjectId;
    use muonic_types::endpoint::EndpointState;
    use muonic_types::model::ModelVersionId;
    use proptest::prelude::*;

    fn route(counts: &[usize]) -> Route {
        let backends = counts.iter().enumerate().map(|(i, n)| Backend {
            replica: format!("e.1.{i}").parse().unwrap(),
            address: format!("unix:/{i}"),
            in_flight: Arc::new(AtomicUsize::new(*n)),
        });
        Route {
            endpoint: "e".parse().unwrap(),
            project: ProjectId::default_project(),
            state: EndpointState::Ready,
            revision: 1,
            model: ModelVersionId { name: "m".parse().unwrap(), version: 1 },
            backends: backends.collect(),
        }
    }

    fn table(route: &Route) -> RouteTable {
        RouteTable { routes: [(route.endpoint.clone(), route.clone())].into() }
    }

    proptest! {
        #[test]
        fn picks_the_least_of_the_good(counts in proptest::collection::vec(0usize..5, 1..6), bad in any::<u8>(), tried in any::<u8>()) {
            let now = Instant::now();
            let route = route(&counts);
            let health = Health::default();
            let is = |mask: u8, i: usize| mask & (1 << i) != 0;
            for (i, b) in route.backends.iter().enumerate().filter(|(i, _)| is(bad, *i)) {
                let _ = i;
                health.refused(&b.replica, &table(&route), now);
            }
            let tried_ids: Vec<_> = route.backends.iter().enumerate().filter(|(i, _)| is(tried, *i)).map(|(_, b)| b.replica.clone()).collect();
            let open: Vec<usize> = (0..counts.len()).filter(|i| !is(tried, *i)).collect();
            let good: Vec<usize> = open.iter().copied().filter(|i| !is(bad, *i)).collect();
            let among = if good.is_empty() { &open } else { &good };
            match pick(&route, &tried_ids, &health, now) {
                None => prop_assert!(open.is_empty()),
                Some(lease) => {
                    let at = route.backends.iter().position(|b| b.replica == lease.replica).unwrap();
                    prop_assert!(among.contains(&at));
                    prop_assert_eq!(counts[at], among.iter().map(|i| counts[*i]).min().unwrap());
                    prop_assert_eq!(route.backends[at].in_flight.load(Ordering::SeqCst), counts[at] + 1);
                    drop(lease);
                    prop_assert_eq!(route.backends[at].in_flight.load(Ordering::SeqCst), counts[at]);
                }
            }
        }
    }

    #[test]
    fn a_refusal_is_forgotten() {
        let route = route(&[0, 3]);
        let (health, now) = (Health::default(), Instant::now());
        let first = route.backends[0].replica.clone();
        let picked = |now| pick(&route, &[], &health, now).unwrap().replica.clone();
        health.refused(&first, &table(&route), now);
        assert_ne!(picked(now), first);
        assert_eq!(picked(now + BACK_OFF_FIRST), first);
        health.refused(&first, &table(&route), now);
        assert_ne!(picked(now + BACK_OFF_FIRST), first, "the back-off grows");
        health.connected(&first);
        assert_eq!(picked(now), first);
    }
}
