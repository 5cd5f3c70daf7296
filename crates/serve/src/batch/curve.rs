//! How long runs of so many rows take, as seen, and what follows: how many
//! rows are worth to run together, and how long a queue will take.

use std::time::Duration;

/// Rows of one run at most, as a power of two: 2^8.
const CLASSES: usize = 9;
/// Weight of the newest run.
const NEWEST: f64 = 0.2;
/// Runs of a size before it counts as known.
const KNOWN: u32 = 3;
/// Where even two lose, they are tried again after so many runs of one: what
/// was seen of them may have been the machine's noise.
const AGAIN: u32 = 64;
/// Doubling must gain so much in rows a second, or is taken back where it
/// loses so much.
const GAIN: f64 = 1.03;
const LOSS: f64 = 0.97;

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    runs: u32,
    /// Seconds for a row, as an average that forgets.
    per_row: f64,
}

/// Of one model on one machine. Row counts are taken in classes: 1, 2, 3 to 4,
/// 5 to 8 and so on.
#[derive(Debug, Clone)]
pub struct Curve {
    seen: [Seen; CLASSES],
    /// Class of the most rows that go together now.
    limit: usize,
    max: usize,
}

impl Curve {
    /// Never more than `rows_max` together (at least 1).
    pub fn new(rows_max: usize) -> Self {
        let max = rows_max.max(1).ilog2() as usize;
        Self { seen: Default::default(), limit: 1.min(max), max: max.min(CLASSES - 1) }
    }

    fn class(rows: usize) -> usize {
        (rows.max(1).next_power_of_two().ilog2() as usize).min(CLASSES - 1)
    }

    /// Rows that go together at most: begins small, and grows as long as more
    /// rows gain.
    pub fn rows(&self) -> usize {
        1 << self.limit
    }

    pub fn record(&mut self, rows: usize, took: Duration) {
        let class = Self::class(rows);
        let seen = &mut self.seen[class];
        let per_row = took.as_secs_f64() / rows.max(1) as f64;
        seen.per_row = if seen.runs == 0 { per_row } else { seen.per_row + (per_row - seen.per_row) * NEWEST };
        seen.runs = seen.runs.saturating_add(1);
        if class == 0 && self.limit == 0 && seen.runs.is_multiple_of(AGAIN) {
            self.limit = 1.min(self.max);
        }
        if class != self.limit || class == 0 {
            return;
        }
        let (here, below) = (self.seen[class], self.seen[class - 1]);
        if here.runs < KNOWN {
            return;
        }
        // Where nothing smaller was ever run, more is not known to be worse.
        let gain = if below.runs == 0 { GAIN } else { below.per_row / here.per_row.max(f64::MIN_POSITIVE) };
        if gain >= GAIN && self.limit < self.max {
            self.limit += 1;
        } else if gain < LOSS && self.limit > 0 {
            self.limit -= 1;
            // To be tried again from new measurements, should the machine change.
            self.seen[class] = Seen::default();
        }
    }

    /// How long a run of so many rows will take. `None` where none of about
    /// that size has run: what a row of a few took says nothing of a million.
    pub fn run(&self, rows: usize) -> Option<Duration> {
        let class = Self::class(rows);
        if rows > 1 << (CLASSES - 1) {
            return None;
        }
        let known = |at: &usize| self.seen[*at].runs > 0;
        let at = (class.saturating_sub(1)..=class).rev().find(known).or_else(|| (class..CLASSES).find(known))?;
        Some(Duration::from_secs_f64(self.seen[at].per_row * rows.max(1) as f64))
    }

    /// How long `lanes` take to work off so many rows.
    pub fn queue(&self, rows: usize, lanes: usize) -> Option<Duration> {
        let run = self.run(rows.min(self.rows()))?;
        let per_row = run.as_secs_f64() / rows.clamp(1, self.rows()) as f64;
        Some(Duration::from_secs_f64(per_row * rows as f64 / lanes.max(1) as f64))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lets runs be as large as the curve allows.
    fn settle(curve: &mut Curve, took: impl Fn(usize) -> f64) -> usize {
        for n in 0..2000 {
            // A light load now and then.
            let rows = if n % 7 == 0 { 1 } else { curve.rows() };
            curve.record(rows, Duration::from_secs_f64(took(rows)));
        }
        curve.rows()
    }

    #[test]
    fn noise_does_not_end_it_for_ever() {
        let mut curve = Curve::new(8);
        (0..10).for_each(|_| curve.record(1, Duration::from_millis(1)));
        (0..KNOWN).for_each(|_| curve.record(2, Duration::from_millis(50)));
        assert_eq!(curve.rows(), 1, "two have lost");
        (0..AGAIN).for_each(|_| curve.record(1, Duration::from_millis(1)));
        assert_eq!(curve.rows(), 2);
        (0..KNOWN).for_each(|_| curve.record(2, Duration::from_millis(1)));
        assert_eq!(curve.rows(), 4);
        let mut never = Curve::new(1);
        (0..2 * AGAIN).for_each(|_| never.record(1, Duration::from_millis(1)));
        assert_eq!(never.rows(), 1);
    }

    #[test]
    fn rows_grow_as_long_as_they_gain() {
        let overhead = |rows: usize| 1e-3 + rows as f64 * 1e-5;
        assert_eq!(settle(&mut Curve::new(256), overhead), 256);
        assert_eq!(settle(&mut Curve::new(100), overhead), 64);
        assert_eq!(settle(&mut Curve::new(1), overhead), 1);
        let none = |rows: usize| rows as f64 * 1e-3;
        assert!(settle(&mut Curve::new(256), none) <= 2);
        // Beyond 16 the cache is too small.
        let cliff = |rows: usize| 1e-3 + rows as f64 * if rows > 16 { 3e-4 } else { 1e-4 };
        assert!((16..=32).contains(&settle(&mut Curve::new(256), cliff)));
    }

    proptest! {
        #[test]
        fn never_out_of_bounds(max in 1usize..1000, runs in prop::collection::vec((1usize..600, 0u64..10_000_000), 0..300)) {
            let mut curve = Curve::new(max);
            for (rows, nanos) in runs {
                curve.record(rows, Duration::from_nanos(nanos));
                prop_assert!((1..=max.min(256)).contains(&curve.rows()));
                prop_assert_eq!(curve.run(rows).is_some(), rows <= 256);
            }
        }
    }
}
