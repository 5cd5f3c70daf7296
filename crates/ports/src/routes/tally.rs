//! How a revision answers, counted without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Times fall in classes, eight to a doubling, from 50 µs to 20 minutes: a time
/// is known to 9 %.
const CLASSES: usize = 200;
const SHORTEST_S: f64 = 5e-5;
const PER_DOUBLING: f64 = 8.0;

/// Of one revision, since it was first routed to.
#[derive(Debug)]
pub struct Tally {
    errors: AtomicU64,
    times: [AtomicU64; CLASSES],
}

impl Default for Tally {
    fn default() -> Self {
        Self { errors: AtomicU64::new(0), times: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Tally {
    /// A request was answered, or was not for a reason of the revision's.
    pub fn count(&self, took: Duration, failed: bool) {
        if failed {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        self.times[class(took.as_secs_f64())].fetch_add(1, Ordering::Relaxed);
    }

    pub fn counts(&self) -> Counts {
        let times = self.times.iter().map(|n| n.load(Ordering::Relaxed)).collect();
        Counts { errors: self.errors.load(Ordering::Relaxed), times }
    }
}

fn class(s: f64) -> usize {
    let doublings = (s / SHORTEST_S).log2().max(0.0);
    ((doublings * PER_DOUBLING) as usize).min(CLASSES - 1)
}

/// The shortest time of a class.
fn begin_s(class: usize) -> f64 {
    SHORTEST_S * (class as f64 / PER_DOUBLING).exp2()
}

/// A tally at an instant, or what came between two.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Counts {
    pub errors: u64,
    times: Vec<u64>,
}

impl Counts {
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = earlier.times.iter().copied().chain(std::iter::repeat(0));
        Self {
            errors: self.errors.saturating_sub(earlier.errors),
            times: self.times.iter().zip(before).map(|(now, before)| now.saturating_sub(before)).collect(),
        }
    }

    pub fn requests(&self) -> u64 {
        self.times.iter().sum()
    }

    /// Requests that certainly took longer, to 9 %.
    pub fn slower_than(&self, s: f64) -> u64 {
        self.times.iter().enumerate().filter(|(class, _)| begin_s(*class) >= s).map(|(_, n)| n).sum()
    }

    /// The time within which this fraction of the requests was answered, in seconds.
    pub fn quantile_s(&self, fraction: f64) -> Option<f64> {
        let wanted = (self.requests() as f64 * fraction).ceil().max(1.0) as u64;
        let mut sum = 0;
        let class = self.times.iter().position(|n| {
            sum += n;
            sum >= wanted
        })?;
        Some(begin_s(class + 1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_came_between_is_told() {
        let tally = Tally::default();
        tally.count(Duration::from_millis(1), true);
        let before = tally.counts();
        for ms in 1..=100 {
            tally.count(Duration::from_millis(ms), ms == 100);
        }
        let counts = tally.counts().since(&before);
        assert_eq!((counts.requests(), counts.errors), (100, 1));
        let (p50, p99) = (counts.quantile_s(0.5).unwrap(), counts.quantile_s(0.99).unwrap());
        assert!((0.046..0.056).contains(&p50) && (0.095..0.11).contains(&p99), "{p50} {p99}");
        assert!((40..=50).contains(&counts.slower_than(0.05)), "{}", counts.slower_than(0.05));
        assert_eq!(Counts::default().quantile_s(0.5), None);
    }

    proptest! {
        #[test]
        fn a_time_is_in_its_class(s in 0.0f64..1e6) {
            let class = class(s);
            prop_assert!(class == 0 || begin_s(class) <= s * 1.000_001);
            prop_assert!(class == CLASSES - 1 || s < begin_s(class + 1) * 1.000_001);
        }
    }
}
