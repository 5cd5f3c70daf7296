//! Which values become points of a metric, and at which step.
//!
//! The server keeps so many names and points of an attempt and refuses a
//! whole request that goes beyond, so what is too much stops here.

use std::collections::HashMap;

use muonic_types::job::{METRIC_NAMES_MAX, METRIC_POINTS_MAX, MetricPoint};

use crate::command::now;
use crate::metrics::Found;

#[derive(Default)]
pub struct Points {
    /// How many points each name has, the step of those without one.
    counts: HashMap<String, i64>,
    total: u64,
    left_out: u64,
}

impl Points {
    pub fn admit(&mut self, found: Found) -> Option<MetricPoint> {
        let is_new = !self.counts.contains_key(&found.name);
        if self.total >= METRIC_POINTS_MAX || (is_new && self.counts.len() as u64 >= METRIC_NAMES_MAX) {
            self.left_out += 1;
            return None;
        }
        self.total += 1;
        let count = self.counts.entry(found.name.clone()).or_default();
        let step = found.step.unwrap_or(*count);
        *count += 1;
        Some(MetricPoint { name: found.name, step, value: found.value, at: now() })
    }

    /// A sentence about what was too much.
    pub fn trouble(&self) -> Option<String> {
        (self.left_out > 0).then(|| {
            format!(
                "{} metric points were left out: an attempt may have {METRIC_NAMES_MAX} metrics and {METRIC_POINTS_MAX} points of them",
                self.left_out
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: String, step: Option<i64>) -> Found {
        Found { name, step, value: 0.5 }
    }

    #[test]
    fn points_without_a_step_are_counted() {
        let mut points = Points::default();
        let steps: Vec<i64> = [None, None, Some(9), None]
            .into_iter()
            .map(|step| points.admit(found("loss".into(), step)).unwrap().step)
            .collect();
        assert_eq!((steps, points.trouble()), (vec![0, 1, 9, 3], None));
    }

    #[test]
    fn names_and_points_beyond_what_the_server_keeps_are_left_out() {
        let mut points = Points::default();
        for n in 0..METRIC_NAMES_MAX {
            assert!(points.admit(found(format!("n{n}"), None)).is_some());
        }
        assert!(points.admit(found("one more".into(), None)).is_none());
        for _ in METRIC_NAMES_MAX..METRIC_POINTS_MAX {
            assert!(points.admit(found("n0".into(), None)).is_some());
        }
        assert!(points.admit(found("n0".into(), None)).is_none());
        assert!(points.trouble().unwrap().starts_with("2 metric points were left out"));
    }
}
