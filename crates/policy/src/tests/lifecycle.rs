use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::at;
use crate::Error;
use crate::lifecycle::{Action, And, Expiration, Facts, Filter, FilterParts, Lifecycle, NoncurrentExpiration};
use crate::lifecycle::{Rule, State, Tag};

const DAY: Duration = Duration::from_secs(86_400);

fn rule(id: &str, filter: Filter) -> Rule {
    Rule {
        id: id.to_owned(),
        enabled: true,
        filter,
        expiration: None,
        noncurrent: None,
        abort_incomplete_days: None,
        transitions: false,
        transition_dates: Vec::new(),
    }
}

fn days(id: &str, filter: Filter, days: i32) -> Rule {
    Rule { expiration: Some(Expiration { days: Some(days), ..Expiration::default() }), ..rule(id, filter) }
}

fn marker(filter: Filter) -> Rule {
    let expiration = Expiration { expired_object_delete_marker: Some(true), ..Expiration::default() };
    Rule { expiration: Some(expiration), ..rule("m", filter) }
}

fn noncurrent(days: i32, newer_versions: Option<i32>) -> Rule {
    Rule { noncurrent: Some(NoncurrentExpiration { days, newer_versions }), ..rule("n", Filter::All) }
}

fn tag(key: &str, value: &str) -> Tag {
    Tag { key: key.to_owned(), value: value.to_owned() }
}

fn prefix(text: &str) -> Filter {
    Filter::Prefix(text.to_owned())
}

static NO_TAGS: BTreeMap<String, String> = BTreeMap::new();

fn facts(key: &'static str, modified_at: &str, state: State) -> Facts<'static> {
    Facts { key, size: 100, tags: &NO_TAGS, modified_at: at(modified_at), state }
}

/// What is due, as `rule:action`.
fn due(rules: &[Rule], facts: &Facts<'_>, now: &str) -> String {
    let lifecycle = Lifecycle::new(rules.to_vec()).unwrap();
    lifecycle.due(facts, at(now), DAY).map(|d| format!("{}:{:?}", d.rule, d.action)).unwrap_or_default()
}

#[test]
fn days_end_at_the_next_midnight() {
    // The example of S3's documentation: written on the 15th at 10:30, 3 days.
    let rules = [days("r", Filter::All, 3)];
    let object = facts("k", "2014-01-15T10:30:00Z", State::Current);
    assert_eq!(due(&rules, &object, "2014-01-18T23:59:59Z"), "");
    assert_eq!(due(&rules, &object, "2014-01-19T00:00:00Z"), "r:Expire");
    let lifecycle = Lifecycle::new(rules.to_vec()).unwrap();
    assert_eq!(lifecycle.expiration_of(&object, DAY), Some(("r", at("2014-01-19T00:00:00Z"))));
    let midnight = facts("k", "2014-01-15T00:00:00Z", State::Current);
    assert_eq!(lifecycle.expiration_of(&midnight, DAY), Some(("r", at("2014-01-18T00:00:00Z"))));
    let marker = facts("k", "2014-01-15T10:30:00Z", State::CurrentMarker { alone: true });
    assert_eq!(lifecycle.expiration_of(&marker, DAY), None);
    // Short days, for tests, are not rounded.
    let short = lifecycle.expiration_of(&object, Duration::from_secs(10));
    assert_eq!(short, Some(("r", at("2014-01-15T10:30:30Z"))));
}

#[test]
fn the_rule_that_is_due_first_decides() {
    let rules = [days("late", Filter::All, 30), days("early", prefix("a/"), 1), days("other", prefix("b/"), 1)];
    let lifecycle = Lifecycle::new(rules.to_vec()).unwrap();
    let object = facts("a/k", "2024-01-01T00:00:00Z", State::Current);
    assert_eq!(lifecycle.expiration_of(&object, DAY), Some(("early", at("2024-01-02T00:00:00Z"))));
    assert_eq!(due(&rules, &object, "2024-03-01T00:00:00Z"), "early:Expire");
    let elsewhere = facts("c", "2024-01-01T00:00:00Z", State::Current);
    assert_eq!(due(&rules, &elsewhere, "2024-01-30T00:00:00Z"), "");
    let disabled = Rule { enabled: false, ..days("off", Filter::All, 1) };
    assert_eq!(due(std::slice::from_ref(&disabled), &object, "2034-01-01T00:00:00Z"), "");
    assert!(!Lifecycle::new(vec![disabled]).unwrap().is_active());
}

#[test]
fn filters_choose_objects() {
    let tags: BTreeMap<String, String> =
        [("class", "tmp"), ("team", "red")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let object = Facts { tags: &tags, ..facts("logs/x", "2024-01-01T00:00:00Z", State::Current) };
    let and = |prefix: Option<&str>, tags: &[Tag], greater, less| {
        Filter::And(And {
            prefix: prefix.map(str::to_owned),
            tags: tags.to_vec(),
            size_greater_than: greater,
            size_less_than: less,
        })
    };
    for (filter, expected) in [
        (Filter::All, true),
        (Filter::Legacy("logs/".to_owned()), true),
        (Filter::Legacy(String::new()), true),
        (prefix("log/"), false),
        (Filter::Tag(tag("class", "tmp")), true),
        (Filter::Tag(tag("class", "TMP")), false),
        (Filter::SizeGreaterThan(99), true),
        (Filter::SizeGreaterThan(100), false),
        (Filter::SizeLessThan(101), true),
        (Filter::SizeLessThan(100), false),
        (and(Some("logs/"), &[tag("class", "tmp"), tag("team", "red")], Some(10), Some(1000)), true),
        (and(Some("logs/"), &[tag("class", "tmp"), tag("team", "blue")], None, None), false),
        (and(None, &[tag("class", "tmp")], Some(100), None), false),
    ] {
        let found = due(&[days("r", filter.clone(), 1)], &object, "2024-02-01T00:00:00Z");
        assert_eq!(!found.is_empty(), expected, "{filter:?}");
    }
}

#[test]
fn dates_are_days_in_the_calendar() {
    let date = |text: &str| Rule {
        expiration: Some(Expiration { date: Some(at(text)), ..Expiration::default() }),
        ..rule("d", Filter::All)
    };
    let object = facts("k", "2024-06-01T00:00:00Z", State::Current);
    assert_eq!(due(&[date("2024-07-01T00:00:00Z")], &object, "2024-06-30T23:59:59Z"), "");
    assert_eq!(due(&[date("2024-07-01T00:00:00Z")], &object, "2024-07-01T00:00:00Z"), "d:Expire");
    // The rule stays, and what comes later goes at once.
    assert_eq!(due(&[date("2024-01-01T00:00:00Z")], &object, "2024-06-01T00:00:00Z"), "d:Expire");
    let odd = Lifecycle::new(vec![date("2024-07-01T00:00:01Z")]);
    assert!(matches!(odd, Err(Error::Invalid(_))));
}

#[test]
fn delete_markers_go_once_they_hide_nothing() {
    let alone = facts("k", "2024-01-01T10:00:00Z", State::CurrentMarker { alone: true });
    let hiding = facts("k", "2024-01-01T10:00:00Z", State::CurrentMarker { alone: false });
    assert_eq!(due(&[marker(Filter::All)], &alone, "2024-01-01T10:00:00Z"), "m:RemoveMarker");
    assert_eq!(due(&[marker(Filter::All)], &hiding, "2034-01-01T10:00:00Z"), "");
    // Days clean up markers too, when these are old enough.
    assert_eq!(due(&[days("r", Filter::All, 1)], &alone, "2024-01-02T23:00:00Z"), "");
    assert_eq!(due(&[days("r", Filter::All, 1)], &alone, "2024-01-03T00:00:00Z"), "r:RemoveMarker");
    assert_eq!(due(&[days("r", Filter::All, 1)], &hiding, "2034-01-01T00:00:00Z"), "");
    assert_eq!(due(&[days("r", Filter::SizeLessThan(1000), 1)], &alone, "2034-01-01T00:00:00Z"), "");
    let object = facts("k", "2024-01-01T10:00:00Z", State::Current);
    assert_eq!(due(&[marker(Filter::All)], &object, "2034-01-01T00:00:00Z"), "");
}

#[test]
fn noncurrent_versions_go_by_age_and_number() {
    let version = |newer| {
        let since = at("2024-01-10T12:00:00Z");
        facts("k", "2020-01-01T00:00:00Z", State::Noncurrent { since, newer, is_delete_marker: false })
    };
    assert_eq!(due(&[noncurrent(5, None)], &version(0), "2024-01-15T23:59:59Z"), "");
    assert_eq!(due(&[noncurrent(5, None)], &version(0), "2024-01-16T00:00:00Z"), "n:RemoveVersion");
    for (newer, expected) in [(0, ""), (1, ""), (2, "n:RemoveVersion"), (9, "n:RemoveVersion")] {
        assert_eq!(due(&[noncurrent(5, Some(2))], &version(newer), "2024-02-01T00:00:00Z"), expected, "{newer}");
    }
    assert_eq!(due(&[days("r", Filter::All, 1)], &version(3), "2034-01-01T00:00:00Z"), "");
}

#[test]
fn uploads_are_given_up() {
    let abort = Rule { abort_incomplete_days: Some(7), ..rule("a", prefix("in/")) };
    let upload = facts("in/x", "2024-01-01T01:00:00Z", State::Upload);
    assert_eq!(due(std::slice::from_ref(&abort), &upload, "2024-01-08T23:00:00Z"), "");
    assert_eq!(due(std::slice::from_ref(&abort), &upload, "2024-01-09T00:00:00Z"), "a:AbortUpload");
    let elsewhere = facts("out/x", "2024-01-01T01:00:00Z", State::Upload);
    assert_eq!(due(&[abort], &elsewhere, "2034-01-01T00:00:00Z"), "");
    assert_eq!(due(&[days("r", Filter::All, 1)], &upload, "2034-01-01T00:00:00Z"), "");
}

#[test]
fn wrong_rules_are_refused_as_s3_does() {
    let all = || Filter::All;
    let both = Expiration { days: Some(1), date: Some(at("2024-01-01T00:00:00Z")), ..Expiration::default() };
    let abort = |days, filter| Rule { abort_incomplete_days: Some(days), ..rule("a", filter) };
    let noon = at("2024-01-01T12:00:00Z");
    let sized = Filter::And(And { size_greater_than: Some(10), size_less_than: Some(10), ..And::default() });
    let twice = Filter::And(And { tags: vec![tag("a", "1"), tag("a", "2")], ..And::default() });
    for (rules, code) in [
        (vec![], "MalformedXML"),
        ((0..1001).map(|n| days(&n.to_string(), all(), 1)).collect(), "MalformedXML"),
        (vec![rule("r", all())], "InvalidRequest"),
        (vec![days(&"x".repeat(256), all(), 1)], "InvalidArgument"),
        (vec![days("r", all(), 1), days("r", all(), 2)], "InvalidArgument"),
        (vec![days("r", all(), 0)], "InvalidArgument"),
        (vec![days("r", all(), -1)], "InvalidArgument"),
        (vec![Rule { expiration: Some(both), ..rule("r", all()) }], "MalformedXML"),
        (vec![Rule { expiration: Some(Expiration::default()), ..rule("r", all()) }], "MalformedXML"),
        (vec![marker(Filter::Tag(tag("a", "b")))], "InvalidRequest"),
        (vec![marker(Filter::SizeLessThan(5))], "InvalidRequest"),
        (vec![noncurrent(0, None)], "InvalidArgument"),
        (vec![noncurrent(1, Some(0))], "InvalidArgument"),
        (vec![noncurrent(1, Some(101))], "InvalidArgument"),
        (vec![abort(0, all())], "InvalidArgument"),
        (vec![abort(1, Filter::Tag(tag("a", "b")))], "InvalidRequest"),
        (vec![days("r", sized, 1)], "InvalidRequest"),
        (vec![days("r", twice, 1)], "InvalidRequest"),
        (vec![days("r", Filter::And(And::default()), 1)], "MalformedXML"),
        (vec![days("r", prefix(&"x".repeat(1025)), 1)], "InvalidRequest"),
        (vec![days("r", Filter::Tag(tag("", "b")), 1)], "InvalidTag"),
        (vec![Rule { transitions: true, ..days("r", all(), 1) }], "NotImplemented"),
        (vec![Rule { transitions: true, ..rule("r", all()) }], "NotImplemented"),
        (vec![Rule { transitions: true, transition_dates: vec![noon], ..rule("r", all()) }], "InvalidArgument"),
    ] {
        assert_eq!(Lifecycle::new(rules.clone()).map_err(|e| e.code()), Err(code), "{:?}", rules.first());
    }
    assert!(Lifecycle::new((0..1000).map(|n| days(&n.to_string(), all(), 1)).collect()).is_ok());
}

#[test]
fn rules_without_an_id_get_one() {
    let rules = vec![days("", Filter::All, 1), days("rule-1", Filter::All, 1), days("", Filter::All, 1)];
    let lifecycle = Lifecycle::new(rules).unwrap();
    let ids: Vec<&str> = lifecycle.rules.iter().map(|r| r.id.as_str()).collect();
    assert_eq!(ids, ["rule-2", "rule-1", "rule-3"]);
}

#[test]
fn filters_come_from_the_elements_of_a_request() {
    let parts = |prefix: Option<&str>, greater| FilterParts {
        prefix: prefix.map(str::to_owned),
        size_greater_than: greater,
        ..FilterParts::default()
    };
    assert_eq!(Filter::from_parts(Some("x".to_owned()), None), Ok(Filter::Legacy("x".to_owned())));
    assert_eq!(Filter::from_parts(None, Some(FilterParts::default())), Ok(Filter::All));
    assert_eq!(Filter::from_parts(None, Some(parts(Some("x"), None))), Ok(prefix("x")));
    assert_eq!(Filter::from_parts(None, Some(parts(None, Some(5)))), Ok(Filter::SizeGreaterThan(5)));
    for (legacy, filter) in
        [(None, None), (Some("x".to_owned()), Some(FilterParts::default())), (None, Some(parts(Some("x"), Some(5))))]
    {
        assert!(matches!(Filter::from_parts(legacy, filter), Err(Error::Malformed(_))));
    }
}

#[test]
fn stored_rules_are_read_back() {
    let and = Filter::And(And { prefix: Some("p".to_owned()), tags: vec![tag("a", "b")], ..And::default() });
    let rules = vec![marker(Filter::All), days("r", and, 3), noncurrent(2, Some(5))];
    let lifecycle = Lifecycle::new(rules).unwrap();
    let text = serde_json::to_string(&lifecycle).unwrap();
    assert_eq!(serde_json::from_str::<Lifecycle>(&text).unwrap(), lifecycle);
    let later =
        r#"{"version":2,"rules":[{"id":"r","enabled":true,"filter":"all","expiration":{"days":1,"x":0},"y":0}]}"#;
    assert_eq!(serde_json::from_str::<Lifecycle>(later).unwrap().rules, [days("r", Filter::All, 1)]);
}

proptest! {
    #[test]
    fn never_due_before_its_days_nor_a_day_late(written in 0i64..4_000_000_000, count in 1i32..20_000) {
        let lifecycle = Lifecycle::new(vec![days("r", Filter::All, count)]).unwrap();
        let modified_at = muonic_types::Timestamp::from_second(written).unwrap();
        let object = Facts { key: "k", size: 0, tags: &NO_TAGS, modified_at, state: State::Current };
        let (_, date) = lifecycle.expiration_of(&object, DAY).unwrap();
        let age = date.as_second() - written - i64::from(count) * 86_400;
        prop_assert!((0..86_400).contains(&age) && date.as_second() % 86_400 == 0);
        prop_assert_eq!(lifecycle.due(&object, date, DAY).map(|d| d.action), Some(Action::Expire));
    }

    #[test]
    fn no_numbers_make_it_panic(written in any::<i64>(), count in any::<i32>(), day in any::<u64>()) {
        let written = written % 253_000_000_000;
        let modified_at = muonic_types::Timestamp::from_second(written.max(-300_000_000_000)).unwrap_or_default();
        let object = Facts { key: "k", size: 0, tags: &NO_TAGS, modified_at, state: State::Current };
        if let Ok(lifecycle) = Lifecycle::new(vec![days("r", Filter::All, count)]) {
            let _ = lifecycle.due(&object, modified_at, Duration::from_secs(day));
        }
    }
}
