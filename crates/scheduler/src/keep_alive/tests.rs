use proptest::prelude::*;

use super::*;

const HOUR_S: f64 = 3600.0;

fn endpoint(gaps: impl IntoIterator<Item = f64>) -> (History, Fleet, f64) {
    let (mut history, mut fleet, mut at_s) = (History::default(), Fleet::default(), 0.0);
    history.request(at_s);
    history.ended(at_s);
    for gap_s in gaps {
        at_s += gap_s;
        fleet.request(at_s);
        history.request(at_s);
        history.ended(at_s);
    }
    (history, fleet, at_s)
}

fn worth(worth_s: f64) -> Targets {
    Targets { min_replicas: 0, worth_s }
}

/// Every look at an idle endpoint until it sleeps for good.
fn looks(history: &History, fleet: &Fleet, targets: &Targets, from_s: f64) -> Vec<(f64, bool)> {
    let mut looks = Vec::new();
    let mut now_s = from_s;
    loop {
        let decision = decide(history, fleet, targets, now_s);
        looks.push((now_s, decision.warm));
        match decision.again_at_s {
            Some(again_s) => {
                assert!(again_s > now_s, "a look must come after the one before: {again_s} after {now_s}");
                now_s = again_s;
            }
            None => return looks,
        }
        assert!(looks.len() < 200, "the looks must end");
    }
}

#[test]
fn a_busy_endpoint_is_kept_and_a_quiet_one_is_not() {
    let (busy, fleet, end_s) = endpoint(vec![20.0; 100]);
    assert!(decide(&busy, &fleet, &worth(600.0), end_s + 30.0).warm);
    let (quiet, fleet, end_s) = endpoint(vec![2.0 * 86_400.0; 10]);
    assert!(!decide(&quiet, &fleet, &worth(600.0), end_s + 600.0).warm);
}

#[test]
fn an_endpoint_that_was_never_asked_sleeps_and_one_that_runs_does_not() {
    let mut history = History::default();
    let fleet = Fleet::default();
    assert_eq!(
        decide(&history, &fleet, &worth(1e9), 5.0),
        Decision { warm: false, again_at_s: None },
        "nothing wakes it but its first request"
    );
    history.request(5.0);
    assert_eq!(decide(&history, &fleet, &worth(0.0), 1e9), Decision { warm: true, again_at_s: None });
}

#[test]
fn requests_at_once_are_gaps_of_no_time() {
    let mut history = History::default();
    history.request(0.0);
    history.request(50.0);
    assert_eq!(history.last_gap_s, Some(0.0), "the first still runs");
    history.ended(60.0);
    assert_eq!(history.idle_since_s(), None);
    history.ended(70.0);
    history.request(100.0);
    assert_eq!(history.last_gap_s, Some(30.0));
}

#[test]
fn what_is_remembered_is_small() {
    assert!(size_of::<History>() <= 640, "{}", size_of::<History>());
}

#[test]
fn looks_meet_without_a_hole() {
    let mut idle_s = 0.0;
    for _ in 0..LOOKS - 1 {
        let (from_s, to_s) = look(idle_s);
        assert!((from_s - idle_s).abs() < 1e-6 * (1.0 + idle_s), "{from_s} is not {idle_s}");
        idle_s = to_s;
    }
    assert!((idle_s / IDLE_S_MAX - 1.0).abs() < 0.35, "{idle_s}");
}

#[test]
fn working_hours_are_learned() {
    let mut fleet = Fleet::default();
    for day in 0..10 {
        for request in 0..200 {
            fleet.request(f64::from(day) * 86_400.0 + 9.0 * HOUR_S + f64::from(request) * 36.0);
        }
    }
    fleet.advance(10.0 * 86_400.0);
    assert!(fleet.hour_share(10.0 * 86_400.0 + 9.5 * HOUR_S) > 3.0);
    assert!(fleet.hour_share(10.0 * 86_400.0 + 3.0 * HOUR_S) < 0.5);
}

proptest! {
    #[test]
    fn worth_more_is_kept_longer(
        gaps in prop::collection::vec(0.0f64..200_000.0, 0..30),
        worth_s in 1.0f64..1e6,
        factor in 1.0f64..10.0,
    ) {
        let (history, fleet, end_s) = endpoint(gaps);
        let (less, more) = (looks(&history, &fleet, &worth(worth_s), end_s), looks(&history, &fleet, &worth(worth_s * factor), end_s));
        prop_assert_eq!(less.len(), more.len());
        for ((at_s, less), (_, more)) in less.iter().zip(&more) {
            prop_assert!(*more || !*less, "at {}", at_s);
        }
    }

    /// Between two requests an endpoint changes its mind no oftener than the hours of a day allow.
    #[test]
    fn an_idle_endpoint_does_not_flap(gaps in prop::collection::vec(0.0f64..200_000.0, 0..30), worth_s in 0.0f64..1e6) {
        let (history, fleet, end_s) = endpoint(gaps);
        let looks = looks(&history, &fleet, &worth(worth_s), end_s);
        prop_assert!(looks.len() <= LOOKS as usize + 2);
        prop_assert!(!looks.last().unwrap().1, "at last it sleeps");
    }

    #[test]
    fn it_sleeps_only_where_that_is_allowed(gaps in prop::collection::vec(0.0f64..1e6, 0..20), idle_s in 0.0f64..1e7, min in 1u32..5) {
        let (history, fleet, end_s) = endpoint(gaps);
        let targets = Targets { min_replicas: min, worth_s: 0.0 };
        prop_assert!(decide(&history, &fleet, &targets, end_s + idle_s).warm);
    }

    /// Whatever is told, in whatever order, the numbers stay numbers.
    #[test]
    fn no_history_makes_nonsense(times in prop::collection::vec((0.0f64..1e9, prop::bool::ANY), 0..50), now_s in 0.0f64..1e9) {
        let (mut history, mut fleet) = (History::default(), Fleet::default());
        for (at_s, begins) in times {
            fleet.request(at_s);
            if begins { history.request(at_s) } else { history.ended(at_s) }
        }
        history.running = 0;
        let chance = chance_at(&history, &fleet, now_s);
        prop_assert!(chance.is_finite() && chance >= 0.0);
        prop_assert!((history.present[0].iter().sum::<f64>() - 1.0).abs() < 1e-6);
    }
}
