//! The marks, on recorded traces: those lie beside the checkout, and where they
//! do not, the tests say so and end.

use std::io::Write;
use std::path::Path;

use muonic_simulate::keep_alive::{Policy, Replay};
use muonic_simulate::replicas::{self, Model};
use muonic_simulate::trace;

fn recorded(name: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/traces").join(name);
    let text = std::fs::read_to_string(&path).ok();
    if text.is_none() {
        // Past the harness, which hides what passing tests print.
        let _ = writeln!(std::io::stderr(), "skipped: there is no {}", path.display());
    }
    text
}

#[test]
fn keep_alive_comes_near_the_clairvoyant_on_days_it_was_not_fitted_to() {
    let Some(text) = recorded("genai/requests_days0-13.csv") else { return };
    let replay = Replay::new(&trace::genai(&text).expect("a trace"), 7.0 * 86_400.0);
    for (cold_pct, closed_pct) in [(5.0, 45.0), (10.0, 38.0), (15.0, 29.0)] {
        let outcome = replay.outcome(Policy::Learned { worth_s: replay.worth_for(cold_pct) });
        assert!(outcome.cold_pct <= cold_pct, "{outcome:?}");
        assert!(outcome.gap_closed_pct.is_some_and(|closed| closed >= closed_pct), "{outcome:?}");
    }
}

#[test]
fn replicas_are_enough_and_not_many_more_than_the_clairvoyants() {
    let azure = recorded("azure_llm_2023/conv.csv").map(|text| trace::azure_llm(&text).expect("a trace"));
    let mooncake = recorded("mooncake/conversation_part1.jsonl").map(|text| trace::mooncake(&text).expect("a trace"));
    for prompts in [azure, mooncake].into_iter().flatten() {
        let outcome = replicas::outcome(&prompts, &Model::default(), replicas::Policy::Learned);
        assert!(outcome.in_slo_pct >= 99.0 && outcome.ratio.is_some_and(|ratio| ratio <= 1.15), "{outcome:?}");
    }
}
