use super::*;

/// `rate` requests a second for `minutes`, at even times, of 7 s each.
fn even(rate: f64, minutes: f64) -> Vec<Prompt> {
    let count = (rate * minutes * 60.0) as u32;
    let prompt = |n: u32| Prompt { at_s: f64::from(n) / rate, tokens_in: 8000.0, tokens_out: 200.0 };
    (0..count).map(prompt).collect()
}

/// A busy time between two quiet ones.
fn hill() -> Vec<Prompt> {
    let mut random = crate::Random::new(3);
    let mut at_s = 0.0;
    let mut prompts = Vec::new();
    while at_s < 2400.0 {
        let rate = if (800.0..1600.0).contains(&at_s) { 3.0 } else { 1.0 };
        at_s -= (1.0 - random.unit()).ln() / rate;
        let tokens_out = -200.0 * (1.0 - random.unit()).ln();
        prompts.push(Prompt { at_s, tokens_in: 1000.0, tokens_out });
    }
    prompts
}

#[test]
fn a_fixed_number_pays_for_all_of_the_time() {
    let prompts = even(1.0, 60.0);
    let enough = outcome(&prompts, &Model::default(), Policy::Fixed { replicas: 2 });
    assert!((enough.replica_hours - 2.0).abs() < 0.01, "{enough:?}");
    assert_eq!((enough.in_slo_pct, enough.launches), (100.0, 0), "7 at once fit into 16 slots: {enough:?}");
    let few = outcome(&even(4.0, 60.0), &Model::default(), Policy::Fixed { replicas: 2 });
    assert!(few.in_slo_pct < 10.0 && few.wait_max_s > 600.0, "28 at once do not: {few:?}");
}

#[test]
fn the_clairvoyant_needs_no_more_than_anybody_and_no_less_than_the_floor() {
    let prompts = hill();
    let best = outcome(&prompts, &Model::default(), Policy::Clairvoyant);
    assert_eq!(best.replica_hours, best.clairvoyant_replica_hours);
    assert!(best.in_slo_pct >= IN_SLO_PCT && best.ratio == Some(1.0), "{best:?}");
    assert!(best.replica_hours >= best.floor_replica_hours, "{best:?}");
    let learned = outcome(&prompts, &Model::default(), Policy::Learned);
    assert!(learned.in_slo_pct >= 90.0 && learned.ratio.is_some_and(|ratio| ratio < 1.6), "{learned:?}");
    let fixed = outcome(&prompts, &Model::default(), Policy::Fixed { replicas: 4 });
    assert!(fixed.replica_hours > learned.replica_hours, "{fixed:?} {learned:?}");
}

#[test]
fn the_same_seed_gives_the_same_answer() {
    let prompts = hill();
    let with =
        |seed| outcome(&prompts, &Model { seed, ..Model::default() }, Policy::TargetConcurrency { per_replica: 6.0 });
    assert_eq!(with(1), with(1));
    assert_ne!(with(1).replica_hours, with(2).replica_hours, "cold starts take other times");
}

#[test]
fn one_request_is_a_trace() {
    let one = [Prompt { at_s: 1e9, tokens_in: 0.0, tokens_out: 0.0 }];
    for policy in [Policy::Learned, Policy::Clairvoyant, Policy::Fixed { replicas: 1 }] {
        let outcome = outcome(&one, &Model { min_replicas: 0, ..Model::default() }, policy);
        assert_eq!(outcome.requests, 1);
        assert!(outcome.replica_hours.is_finite(), "{outcome:?}");
    }
}
