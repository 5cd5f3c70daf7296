use proptest::prelude::*;

use super::*;

const TICK_S: f64 = 5.0;

fn targets(min_replicas: u32, max_replicas: u32, aim: Aim) -> Targets {
    Targets { min_replicas, max_replicas, aim, cold_start_s: 30.0 }
}

const QUEUE: Aim = Aim::QueueTime { wait_s: 5.0, slots: 8 };

/// An endpoint whose replicas are there as soon as they are wanted, with
/// `rate` requests per second of `service_s` each; what was wanted at each tick.
fn steady(targets: &Targets, ticks: u32, rate: impl Fn(u32) -> f64, service_s: f64) -> Vec<u32> {
    let mut autoscaler = Autoscaler::default();
    let (mut ready, mut arrived) = (1, 0.0);
    (0..ticks)
        .map(|tick| {
            arrived += if tick == 0 { 0.0 } else { rate(tick) * TICK_S };
            let running = (rate(tick) * service_s * (1.0 - (-f64::from(tick) * TICK_S / service_s).exp())) as u32;
            let at_s = f64::from(tick) * TICK_S;
            let seen = Seen { at_s, ready, running, arrived: arrived as u64, ..Seen::default() };
            ready = autoscaler.decide(targets, &seen);
            ready
        })
        .collect()
}

#[test]
fn a_steady_load_gets_what_it_needs_and_keeps_it() {
    // 4 requests a second of 10 s each: 40 at once, in 8 slots: 5 replicas, a little more for safety.
    let wanted = steady(&targets(1, 100, QUEUE), 200, |_| 4.0, 10.0);
    assert!((5..=6).contains(wanted.last().unwrap()), "{wanted:?}");
    let changes = wanted[100..].windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert_eq!(changes, 0, "{wanted:?}");
    let by_rate = steady(&targets(1, 100, Aim::Rate { per_replica: 1.0 }), 200, |_| 4.0, 10.0);
    assert!((4..=5).contains(by_rate.last().unwrap()), "{by_rate:?}");
    let at_once = steady(&targets(1, 100, Aim::Concurrency { per_replica: 4.0 }), 200, |_| 4.0, 10.0);
    assert!((9..=11).contains(at_once.last().unwrap()), "{at_once:?}");
}

#[test]
fn a_rising_load_is_met_ahead() {
    let rising = |tick: u32| 1.0 + f64::from(tick) * TICK_S / 150.0;
    let wanted = steady(&targets(1, 100, QUEUE), 120, rising, 8.0);
    let needed_then = rising(119 + 6) * 8.0 / 8.0;
    assert!(f64::from(*wanted.last().unwrap()) >= needed_then.floor(), "{wanted:?}");
}

#[test]
fn the_last_replica_goes_only_after_silence_and_only_if_it_may() {
    let quiet = |tick: u32| if tick < 20 { 1.0 } else { 0.0 };
    let asleep = steady(&targets(0, 10, QUEUE), 200, quiet, 1.0);
    let until = asleep.iter().position(|n| *n == 0).unwrap();
    assert!(f64::from(until as u32) * TICK_S >= 20.0 * TICK_S + SILENT_S, "{asleep:?}");
    assert!(asleep[until..].iter().all(|n| *n == 0), "nothing wakes it: {asleep:?}");
    assert!(steady(&targets(2, 10, QUEUE), 200, quiet, 1.0)[10..].iter().all(|n| *n == 2));
}

#[test]
fn one_request_wakes_it() {
    let mut autoscaler = Autoscaler::default();
    assert_eq!(autoscaler.decide(&targets(0, 10, QUEUE), &Seen::default()), 0);
    let waiting = Seen { at_s: 1.0, queued: 1, oldest_wait_s: 0.1, arrived: 1, ..Seen::default() };
    assert_eq!(autoscaler.decide(&targets(0, 10, QUEUE), &waiting), 1);
}

proptest! {
    /// Whatever is seen, in whatever order: never below the least, above the most, or none where it may not.
    #[test]
    fn bounds_are_kept(
        seen in prop::collection::vec((0.0f64..1e5, 0u32..50, 0u32..50, 0u32..1000, 0u32..10_000, 0.0f64..1e3, 0u64..100_000), 1..40),
        min in 0u32..5,
        extra in 0u32..50,
        kind in 0usize..3,
        target in 0.0f64..100.0,
    ) {
        let aim = [Aim::Concurrency { per_replica: target }, Aim::Rate { per_replica: target }, Aim::QueueTime { wait_s: target, slots: 4 }][kind];
        let targets = targets(min, min + extra, aim);
        let mut autoscaler = Autoscaler::default();
        for (at_s, ready, starting, running, queued, oldest_wait_s, arrived) in seen {
            let wanted = autoscaler.decide(&targets, &Seen { at_s, ready, starting, running, queued, oldest_wait_s, arrived });
            prop_assert!((min..=min + extra).contains(&wanted));
            prop_assert!(running + queued == 0 || wanted > 0 || min + extra == 0, "what is asked for is awake");
        }
    }

    /// It never goes down twice within the hold, whatever the load does.
    #[test]
    fn it_does_not_flap(rates in prop::collection::vec(0.0f64..20.0, 10..80), service_s in 0.5f64..30.0) {
        let wanted = steady(&targets(1, 1000, QUEUE), rates.len() as u32, |tick| rates[tick as usize], service_s);
        let downs: Vec<usize> = (1..wanted.len()).filter(|at| wanted[*at] < wanted[at - 1]).collect();
        for pair in downs.windows(2) {
            prop_assert!((pair[1] - pair[0]) as f64 * TICK_S >= HOLD_S, "{:?}", wanted);
        }
    }

    #[test]
    fn more_load_or_less_patience_never_needs_fewer(load in 0.0f64..500.0, more in 0.0f64..100.0, slots in 1u32..32, wait in 0.0f64..5.0, patience in 0.0f64..5.0) {
        let few = within_wait(load, slots, wait + patience, 1000);
        prop_assert!(within_wait(load + more, slots, wait + patience, 1000) >= few);
        prop_assert!(within_wait(load, slots, wait, 1000) >= few);
        prop_assert!(f64::from(few) * f64::from(slots) > load);
    }
}
