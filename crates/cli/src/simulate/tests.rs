use clap::Parser;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::global::Global;

#[derive(Debug, Parser)]
struct Words {
    #[command(flatten)]
    args: SimulateArgs,
}

fn parsed(words: &[&str]) -> Result<SimulateArgs, clap::Error> {
    Words::try_parse_from(std::iter::once("simulate").chain(words.iter().copied())).map(|words| words.args)
}

fn failure(text: &str, words: &[&str]) -> Failure {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace");
    std::fs::write(&file, text).unwrap();
    let mut all = vec![file.to_str().unwrap()];
    all.extend(words);
    let global = Global::default();
    parsed(&all).unwrap().run(&Context::new(&global)).unwrap_err()
}

const CALLS: &str = "t_s,model,exec_s\n0,a,1\n10,a,1\n20,b,1\n";
const PROMPTS: &str = "t_s,in_tokens,out_tokens\n0,10,10\n1,10,10\n";

#[test]
fn what_is_no_trace_is_told_with_its_line() {
    let told = failure("t_s,model,exec_s\n0,a,1\nx,a,1\n", &["--format", "genai"]);
    assert_eq!(told.exit, Exit::BadInput);
    assert!(
        told.message.ends_with("is no trace of the format genai: line 3: 'x' is not a number, in the column 't_s'")
    );
    assert!(failure("", &["--format", "mooncake"]).message.ends_with("there is not one request in it"));
    let missing =
        parsed(&["nowhere", "--format", "genai"]).unwrap().run(&Context::new(&Global::default())).unwrap_err();
    assert!(missing.message.starts_with("nowhere cannot be read: "), "{missing:?}");
}

#[test]
fn unknown_words_are_told_with_the_known_ones() {
    let told = parsed(&["f", "--format", "csv"]).unwrap_err().to_string();
    assert!(told.contains("genai") && told.contains("azure-llm") && told.contains("mooncake"), "{told}");
    assert!(parsed(&["f", "--format", "genai", "--policy", "magic"]).unwrap_err().to_string().contains("clairvoyant"));
    assert!(parsed(&["f", "--format", "genai", "--cold-pct", "101"]).is_err());
    assert!(parsed(&["f", "--format", "genai", "--cold-pct", "5", "--worth", "1m"]).is_err());
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    let cases: [(&str, &[&str], &str); 7] = [
        (CALLS, &["--format", "genai", "--policy", "target-concurrency"], "has no policy"),
        (CALLS, &["--format", "genai", "--policy", "clairvoyant"], "needs a share"),
        (
            CALLS,
            &["--format", "genai", "--cold-pct", "1"],
            "cannot be had: the first requests to each endpoint are 66.67 %",
        ),
        (CALLS, &["--format", "genai", "--from-day", "9"], "ends before day 9"),
        (PROMPTS, &["--format", "azure-llm", "--policy", "fixed"], "needs a number of replicas"),
        (PROMPTS, &["--format", "azure-llm", "--cold-pct", "5"], "mean nothing"),
        (PROMPTS, &["--format", "azure-llm", "--min-replicas", "5", "--max-replicas", "2"], "is more than"),
    ];
    for (text, words, says) in cases {
        let told = failure(text, words);
        assert!(told.message.contains(says) && told.hint.is_some(), "{words:?}: {told:?}");
    }
}

#[test]
fn the_answer_has_the_same_five_keys_for_every_format() {
    let calls = trace::genai(CALLS).unwrap();
    let outcome = Replay::new(&calls, 0.0).outcome(keep_alive::Policy::Fixed { keep_s: 5.0 });
    let answer = keep_alive_answer("genai".into(), "fixed".into(), outcome);
    let value = serde_json::to_value(&answer).unwrap();
    for key in ["cold_pct", "warm_hours", "clairvoyant_warm_hours", "in_slo_pct", "replica_hours"] {
        assert!(value[key].is_number(), "{key}: {value}");
    }
    assert!(keep_alive_text(&answer).contains("cold         3 (100.00 %)"), "{}", keep_alive_text(&answer));
    let prompts = trace::azure_llm(PROMPTS).unwrap();
    let outcome = replicas::outcome(&prompts, &Model::default(), replicas::Policy::Learned);
    let answer = replicas_answer("azure-llm".into(), "learned".into(), outcome);
    let value = serde_json::to_value(&answer).unwrap();
    assert!(value["in_slo_pct"].is_number() && value["replica_hours"].is_number(), "{value}");
    assert_eq!((&value["cold_pct"], &value["warm_hours"]), (&Value::Null, &Value::Null));
    assert!(replicas_text(&answer).contains("in target    100.00 %"), "{}", replicas_text(&answer));
}

proptest! {
    #[test]
    fn no_number_panics(text in "\\PC{0,12}") {
        let _ = (percent(&text), positive(&text));
    }
}
