use proptest::prelude::*;

use crate::Error;
use crate::cors::{Cors, Rule, VARY, requested_headers};

fn list(values: &[&str]) -> Vec<String> {
    values.iter().map(|v| (*v).to_owned()).collect()
}

fn rule(origins: &[&str], methods: &[&str], headers: &[&str]) -> Rule {
    Rule {
        allowed_origins: list(origins),
        allowed_methods: list(methods),
        allowed_headers: list(headers),
        ..Rule::default()
    }
}

/// The example of S3's documentation.
fn example() -> Cors {
    let mut first = rule(&["http://www.example1.com"], &["PUT", "POST", "DELETE"], &["*"]);
    first.expose_headers = list(&["x-amz-server-side-encryption", "x-amz-request-id"]);
    first.max_age_seconds = Some(3000);
    let second = rule(&["http://www.example2.com"], &["PUT", "POST", "DELETE"], &["x-amz-*", "Content-Type"]);
    Cors::new(vec![first, second, rule(&["*"], &["GET"], &[])])
}

#[test]
fn the_first_rule_that_fits_answers() {
    let cors = example();
    assert_eq!(cors.check(), Ok(()));
    let answer = cors.match_simple("http://www.example1.com", "PUT").unwrap();
    assert_eq!(
        answer.headers(),
        vec![
            ("access-control-allow-origin", "http://www.example1.com".to_owned()),
            ("access-control-allow-credentials", "true".to_owned()),
            ("access-control-allow-methods", "PUT, POST, DELETE".to_owned()),
            ("access-control-expose-headers", "x-amz-server-side-encryption, x-amz-request-id".to_owned()),
            ("access-control-max-age", "3000".to_owned()),
            ("vary", VARY.to_owned()),
        ]
    );
    let any = cors.match_simple("http://elsewhere", "GET").unwrap();
    assert_eq!((any.allow_origin.as_str(), any.allow_credentials), ("*", false));
    assert_eq!(cors.match_simple("http://elsewhere", "PUT"), None);
    assert_eq!(cors.match_simple("http://www.example1.com", "HEAD"), None);
}

#[test]
fn preflights_ask_about_headers() {
    let cors = example();
    let ask = |origin: &str, headers: &str| cors.match_preflight(origin, "PUT", &requested_headers(headers));
    let answer = ask("http://www.example1.com", "X-Amz-Date, content-type").unwrap();
    assert_eq!(answer.allow_headers.as_deref(), Some("x-amz-date, content-type"));
    assert!(ask("http://www.example2.com", "x-amz-meta-a,CONTENT-TYPE").is_some());
    assert!(ask("http://www.example2.com", "x-amz-meta-a,authorization").is_none());
    assert_eq!(ask("http://www.example2.com", "").unwrap().allow_headers, None);
}

#[test]
fn a_star_stands_for_any_part_of_an_origin() {
    // As in ceph's tests.
    let cors = Cors::new(vec![
        rule(&["*suffix"], &["GET"], &[]),
        rule(&["start*end"], &["GET"], &[]),
        rule(&["prefix*"], &["GET"], &[]),
    ]);
    for (origin, expected) in [
        ("foo.suffix", true),
        ("foo.bar", false),
        ("foo.suffix.get", false),
        ("startend", true),
        ("start1end", true),
        ("start12end", true),
        ("0start12end", false),
        ("starend", false),
        ("prefix", true),
        ("prefix.suffix", true),
        ("bla.prefix", false),
    ] {
        assert_eq!(cors.match_simple(origin, "GET").is_some(), expected, "{origin}");
        if let Some(answer) = cors.match_simple(origin, "GET") {
            assert_eq!(answer.allow_origin, origin);
        }
    }
}

#[test]
fn wrong_rules_are_refused() {
    let long = Rule { id: Some("x".repeat(256)), ..rule(&["*"], &["GET"], &[]) };
    let named = Rule { id: Some("x".to_owned()), ..rule(&["*"], &["GET"], &[]) };
    let exposed = Rule { expose_headers: list(&["x-*"]), ..rule(&["*"], &["GET"], &[]) };
    for (rules, code) in [
        (vec![], "MalformedXML"),
        (vec![rule(&["*"], &["GET"], &[]); 101], "MalformedXML"),
        (vec![rule(&[], &["GET"], &[])], "MalformedXML"),
        (vec![rule(&["*"], &[], &[])], "MalformedXML"),
        (vec![rule(&["*"], &["PATCH"], &[])], "InvalidRequest"),
        (vec![rule(&["*"], &["get"], &[])], "InvalidRequest"),
        (vec![rule(&["http://*.*"], &["GET"], &[])], "InvalidRequest"),
        (vec![rule(&["*"], &["GET"], &["*-*"])], "InvalidRequest"),
        (vec![rule(&["a\r\nb"], &["GET"], &[])], "InvalidRequest"),
        (vec![exposed], "InvalidRequest"),
        (vec![long], "InvalidRequest"),
        (vec![named.clone(), named], "InvalidRequest"),
    ] {
        assert_eq!(Cors::new(rules.clone()).check().map_err(|e| e.code()), Err(code), "{rules:?}");
    }
    let big = vec![rule(&["x".repeat(1000).as_str()], &["GET"], &[]); 66];
    assert!(matches!(Cors::new(big).check(), Err(Error::TooBig(_))));
    assert_eq!(Cors::new(vec![rule(&["*"], &["GET"], &[]); 100]).check(), Ok(()));
}

#[test]
fn stored_rules_are_read_back() {
    let cors = example();
    let text = serde_json::to_string(&cors).unwrap();
    assert_eq!(serde_json::from_str::<Cors>(&text).unwrap(), cors);
    let later = r#"{"rules":[{"allowed_origins":["*"],"allowed_methods":["GET"],"new":{}}],"more":1}"#;
    assert!(serde_json::from_str::<Cors>(later).unwrap().match_simple("x", "GET").is_some());
}

proptest! {
    #[test]
    fn answers_can_stand_in_headers(
        pattern in ".{0,12}", origin in ".{0,20}", headers in ".{0,40}",
    ) {
        let cors = Cors::new(vec![rule(&[pattern.as_str(), "*"], &["GET"], &["*"])]);
        if let Some(answer) = cors.match_preflight(&origin, "GET", &requested_headers(&headers)) {
            for (_, value) in answer.headers() {
                prop_assert!(value.bytes().all(|b| (0x20..0x7f).contains(&b)), "{value:?}");
            }
        }
    }
}
