//! Whether a canary goes on to its next step, is promoted or rolled back, from
//! what its revision and the active one have answered since the step began.
//!
//! A share of requests (failed, or slow) breaks its limit once the lower end of
//! its Wilson interval (Wilson 1927) is above it: few requests must do badly
//! for it, many only a little, and a single failure proves nothing.

use muonic_types::endpoint::{Canary, Mean, MetricRule};

/// Of one revision, since the step began.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Answered {
    pub requests: u64,
    pub errors: u64,
    /// Answers that took longer than the canary's `p99_max_s`.
    pub slow: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Seen {
    pub new: Answered,
    pub active: Answered,
    /// Of the canary's own metric.
    pub metric: Mean,
    pub in_step_s: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    Stay,
    /// To this step, from 1.
    Step(u32),
    Promote,
    /// With the reason in words.
    RollBack(String),
}

/// Quantile of the normal distribution for 99 %: it is looked at often.
const Z: f64 = 2.576;
/// Fewer failures, or slow answers, prove nothing.
const BAD_MIN: u64 = 3;
/// The share of answers that may be slower than the 99th percentile.
const SLOW_MAX: f64 = 0.01;

/// `step`: the one it is at, from 1; 0 before the first.
pub fn judge(canary: &Canary, step: u32, seen: &Seen) -> Verdict {
    if step == 0 {
        return Verdict::Step(1);
    }
    if let Some(reason) = breach(canary, seen) {
        return Verdict::RollBack(reason);
    }
    let done = seen.in_step_s >= canary.step_s
        && seen.new.requests >= canary.requests_min
        && canary.metric.as_ref().is_none_or(|rule| seen.metric.values >= rule.values_min);
    match done {
        false => Verdict::Stay,
        true if (step as usize) < canary.steps.len() => Verdict::Step(step + 1),
        true => Verdict::Promote,
    }
}

fn breach(canary: &Canary, seen: &Seen) -> Option<String> {
    let Answered { requests, errors, slow } = seen.new;
    let usual = share(seen.active.errors, seen.active.requests);
    if is_above(errors, requests, canary.error_rate_max + usual) {
        return Some(format!(
            "rolled back: {errors} of its {requests} requests failed, of the active revision's {} of {}",
            seen.active.errors, seen.active.requests
        ));
    }
    if let Some(limit_s) = canary.p99_max_s
        && is_above(slow, requests, SLOW_MAX)
    {
        return Some(format!(
            "rolled back: {slow} of its {requests} requests took longer than {limit_s} s, and 1 of 100 may"
        ));
    }
    canary.metric.as_ref().and_then(|rule| out_of_bounds(rule, &seen.metric))
}

fn out_of_bounds(rule: &MetricRule, Mean { values, mean }: &Mean) -> Option<String> {
    if *values < rule.values_min.max(1) {
        return None;
    }
    let name = rule.name.escape_debug();
    let (word, bound) = match (rule.min, rule.max) {
        (Some(min), _) if *mean < min => ("below", min),
        (_, Some(max)) if *mean > max => ("above", max),
        _ => return None,
    };
    Some(format!("rolled back: the mean of '{name}' over {values} values is {mean}, {word} {bound}"))
}

fn share(bad: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { bad as f64 / all as f64 }
}

fn is_above(bad: u64, all: u64, limit: f64) -> bool {
    if bad < BAD_MIN || all == 0 {
        return false;
    }
    let (n, p) = (all as f64, share(bad.min(all), all));
    let middle = p + Z * Z / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    (middle - half) / (1.0 + Z * Z / n) > limit
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(requests: u64, errors: u64) -> Seen {
        let new = Answered { requests, errors, slow: 0 };
        let active = Answered { requests: 1000, errors: 0, slow: 0 };
        Seen { new, active, metric: Mean::default(), in_step_s: 60.0 }
    }

    #[test]
    fn a_good_canary_walks_its_steps_and_is_promoted() {
        let canary = Canary::default();
        assert_eq!(judge(&canary, 0, &Seen::default()), Verdict::Step(1));
        assert_eq!(judge(&canary, 1, &Seen { in_step_s: 59.0, ..seen(100, 0) }), Verdict::Stay);
        assert_eq!(judge(&canary, 1, &seen(19, 0)), Verdict::Stay, "too few to tell");
        assert_eq!(judge(&canary, 1, &seen(20, 0)), Verdict::Step(2));
        assert_eq!(judge(&canary, 3, &seen(20, 0)), Verdict::Promote);
    }

    #[test]
    fn failures_roll_it_back_but_not_a_single_one_nor_those_that_all_have() {
        let canary = Canary::default();
        let bad = |seen: Seen| matches!(judge(&canary, 1, &Seen { in_step_s: 0.1, ..seen }), Verdict::RollBack(_));
        assert!(!bad(seen(1, 1)));
        assert!(bad(seen(3, 3)));
        assert!(!bad(seen(1000, 10)));
        assert!(bad(seen(1000, 40)));
        let sick = Answered { requests: 1000, errors: 100, slow: 0 };
        assert!(!bad(Seen { active: sick, ..seen(1000, 100) }), "the active one does no better");
    }

    #[test]
    fn slow_answers_and_an_own_metric_roll_it_back() {
        let rule = MetricRule { name: "accuracy".into(), min: Some(0.9), max: None, values_min: 10 };
        let canary = Canary { p99_max_s: Some(0.1), metric: Some(rule), ..Canary::default() };
        let with = |slow, values, mean| Seen {
            new: Answered { requests: 200, errors: 0, slow },
            metric: Mean { values, mean },
            ..seen(200, 0)
        };
        assert_eq!(judge(&canary, 1, &with(2, 10, 0.95)), Verdict::Step(2));
        assert!(matches!(judge(&canary, 1, &with(20, 10, 0.95)), Verdict::RollBack(why) if why.contains("0.1 s")));
        assert_eq!(judge(&canary, 1, &with(0, 9, 0.5)), Verdict::Stay, "too few values to tell");
        let why = "rolled back: the mean of 'accuracy' over 10 values is 0.5, below 0.9";
        assert_eq!(judge(&canary, 1, &with(0, 10, 0.5)), Verdict::RollBack(why.into()));
    }

    proptest! {
        /// More failures of as many requests never make it better.
        #[test]
        fn it_is_monotone(all in 1u64..10_000, bad in 0u64..10_000, limit in 0.0f64..1.0) {
            let bad = bad.min(all);
            if is_above(bad, all, limit) {
                prop_assert!(is_above((bad + 1).min(all), all, limit));
                prop_assert!(share(bad, all) > limit);
            }
        }
    }
}
