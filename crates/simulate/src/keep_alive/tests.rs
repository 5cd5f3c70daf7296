use proptest::prelude::*;

use super::*;

fn call(at_s: f64, endpoint: usize) -> Call {
    Call { at_s, endpoint, runs_s: 0.0 }
}

#[test]
fn gaps_are_kept_or_not() {
    // Gaps of 10, 100 and 1000 s, of two endpoints; each has a cold first request.
    let calls = [call(0.0, 0), call(5.0, 1), call(10.0, 0), call(105.0, 1), call(1010.0, 0)];
    let replay = Replay::new(&calls, 0.0);
    let fixed = replay.outcome(Policy::Fixed { keep_s: 100.0 });
    assert_eq!((fixed.cold, fixed.requests, fixed.endpoints), (3, 5, 2));
    // 10 and 100, then 100 in vain after each endpoint's last but one and last.
    assert!((fixed.warm_hours * 3600.0 - (10.0 + 100.0 + 100.0 + 100.0)).abs() < 1e-6, "{fixed:?}");
    assert!((fixed.clairvoyant_warm_hours * 3600.0 - 110.0).abs() < 1e-6, "{fixed:?}");
    assert_eq!(fixed.gap_closed_pct, Some(0.0), "{fixed:?}");
    let clairvoyant = replay.outcome(Policy::Clairvoyant { cold_pct: 60.0 });
    assert_eq!((clairvoyant.cold, clairvoyant.gap_closed_pct), (3, Some(100.0)));
    let all = replay.outcome(Policy::Learned { worth_s: 1e12 });
    assert_eq!(all.cold, 2, "only the first ones: {all:?}");
    assert_eq!(replay.outcome(Policy::Learned { worth_s: 0.0 }).cold, 5);
}

#[test]
fn time_in_which_requests_run_is_not_idle() {
    let calls = [
        Call { at_s: 0.0, endpoint: 0, runs_s: 60.0 },
        Call { at_s: 30.0, endpoint: 0, runs_s: 60.0 },
        Call { at_s: 100.0, endpoint: 0, runs_s: 1.0 },
    ];
    let outcome = Replay::new(&calls, 0.0).outcome(Policy::Fixed { keep_s: 1e9 });
    assert!((outcome.busy_hours * 3600.0 - 90.0).abs() < 1e-6, "{outcome:?}");
    assert!((outcome.warm_hours * 3600.0 - 10.0).abs() < 1e-6, "{outcome:?}");
    assert_eq!(outcome.cold, 1);
}

#[test]
fn days_before_are_learned_from_and_not_counted() {
    let calls: Vec<Call> = (0..100).map(|n| call(f64::from(n) * 100.0, 0)).collect();
    let outcome = Replay::new(&calls, 5000.0).outcome(Policy::Fixed { keep_s: 1000.0 });
    assert_eq!((outcome.requests, outcome.cold), (50, 0));
}

proptest! {
    /// The clairvoyant is the least of those that keep, and no share asked for is missed.
    #[test]
    fn nobody_beats_the_clairvoyant(
        times in prop::collection::vec((0.0f64..1e6, 0usize..4, 0.0f64..100.0), 5..120),
        cold_pct in 20.0f64..100.0,
    ) {
        let mut calls: Vec<Call> = times.into_iter().map(|(at_s, endpoint, runs_s)| Call { at_s, endpoint, runs_s }).collect();
        calls.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        let replay = Replay::new(&calls, 0.0);
        prop_assume!(cold_pct >= replay.cold_pct_least());
        let learned = replay.outcome(Policy::Learned { worth_s: replay.worth_for(cold_pct) });
        let fixed = replay.outcome(Policy::Fixed { keep_s: replay.keep_for(cold_pct) });
        let clairvoyant = replay.outcome(Policy::Clairvoyant { cold_pct });
        for outcome in [&learned, &fixed, &clairvoyant] {
            prop_assert!(outcome.cold_pct <= cold_pct + 1e-9);
            prop_assert!(outcome.clairvoyant_warm_hours <= outcome.fixed_warm_hours + 1e-9);
            prop_assert!(outcome.warm_hours.is_finite());
        }
        // The learned one may wake a replica just in time, which is no keeping.
        prop_assert!(fixed.warm_hours >= fixed.clairvoyant_warm_hours - 1e-9);
        prop_assert!((clairvoyant.warm_hours - clairvoyant.clairvoyant_warm_hours).abs() < 1e-9);
    }
}
