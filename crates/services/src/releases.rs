//! What is seen of releases under way: how they go, for people to look at, and
//! the values of people's own metrics. In memory: a release that goes on after
//! a restart begins its step anew.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use muonic_types::endpoint::{Endpoint, Mean, NewMetric, Progress};
use muonic_types::{Name, Timestamp};

/// Values kept of each metric; the oldest go first.
const VALUES_MAX: usize = 10_000;
/// Metrics of one revision.
const METRICS_MAX: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct Releases {
    inner: Mutex<HashMap<Name, One>>,
}

#[derive(Debug, Default)]
struct One {
    progress: Option<Progress>,
    /// By revision and name.
    metrics: HashMap<(u32, String), VecDeque<(Timestamp, f64)>>,
}

impl Releases {
    fn lock(&self) -> MutexGuard<'_, HashMap<Name, One>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn show(&self, endpoint: &Name, progress: Option<Progress>) {
        self.lock().entry(endpoint.clone()).or_default().progress = progress;
    }

    pub(crate) fn progress(&self, endpoint: &Endpoint) -> Option<Progress> {
        let inner = self.lock();
        let progress = inner.get(&endpoint.name)?.progress.as_ref()?;
        (Some(progress.revision) == endpoint.target).then(|| progress.clone())
    }

    /// False where the revision has too many metrics already.
    pub(crate) fn add(&self, endpoint: &Name, metric: NewMetric, at: Timestamp) -> bool {
        let mut inner = self.lock();
        let metrics = &mut inner.entry(endpoint.clone()).or_default().metrics;
        let key = (metric.revision, metric.name);
        if !metrics.contains_key(&key) && metrics.keys().filter(|(n, _)| *n == key.0).count() >= METRICS_MAX {
            return false;
        }
        let values = metrics.entry(key).or_default();
        if values.len() >= VALUES_MAX {
            values.pop_front();
        }
        values.push_back((at, metric.value));
        true
    }

    pub(crate) fn mean(&self, endpoint: &Name, revision: u32, name: &str, since: Timestamp) -> Mean {
        let inner = self.lock();
        let values = inner.get(endpoint).and_then(|one| one.metrics.get(&(revision, name.to_owned())));
        let (mut mean, Some(values)) = (Mean::default(), values) else { return Mean::default() };
        for (_, value) in values.iter().filter(|(at, _)| *at >= since) {
            mean.values += 1;
            mean.mean += (value - mean.mean) / mean.values as f64;
        }
        mean
    }

    /// Forgets endpoints that are gone, and revisions that are neither active
    /// nor a target.
    pub(crate) fn forget_all_but(&self, endpoints: &[Endpoint]) {
        let mut inner = self.lock();
        inner.retain(|name, one| {
            let Some(endpoint) = endpoints.iter().find(|e| e.name == *name) else { return false };
            one.metrics.retain(|(revision, _), _| [endpoint.active, endpoint.target].contains(&Some(*revision)));
            if endpoint.target.is_none() {
                one.progress = None;
            }
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_of_what_came_since_and_memory_is_bounded() {
        let releases = Releases::default();
        let name: Name = "e".parse().unwrap();
        let at = |s| Timestamp::from_second(s).unwrap();
        let metric = |name: &str, value| NewMetric { name: name.into(), value, revision: 2 };
        for (s, value) in [(1, 100.0), (2, 1.0), (3, 2.0)] {
            assert!(releases.add(&name, metric("m", value), at(s)));
        }
        assert_eq!(releases.mean(&name, 2, "m", at(2)), Mean { values: 2, mean: 1.5 });
        assert_eq!(releases.mean(&name, 1, "m", at(2)), Mean::default());
        for n in 1..METRICS_MAX {
            assert!(releases.add(&name, metric(&n.to_string(), 0.0), at(1)));
        }
        assert!(!releases.add(&name, metric("one more", 0.0), at(1)));
        for _ in 0..VALUES_MAX + 5 {
            releases.add(&name, metric("m", 3.0), at(4));
        }
        assert_eq!(releases.mean(&name, 2, "m", at(0)), Mean { values: VALUES_MAX as u64, mean: 3.0 });
        releases.forget_all_but(&[]);
        assert_eq!(releases.mean(&name, 2, "m", at(0)), Mean::default());
    }
}
