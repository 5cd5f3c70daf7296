use data_encoding::BASE64;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::at;
use crate::Error;
use crate::form::FormPolicy;

const NOW: &str = "2030-01-01T00:00:00Z";

fn parse(conditions: Value) -> crate::Result<FormPolicy> {
    let text = json!({"expiration": "2030-01-01T12:00:00.000Z", "conditions": conditions}).to_string();
    FormPolicy::parse(&BASE64.encode(text.as_bytes()))
}

/// The example of S3's documentation, shortened.
fn example() -> FormPolicy {
    parse(json!([
        {"bucket": "sigv4examplebucket"},
        ["starts-with", "$key", "user/user1/"],
        {"acl": "public-read"},
        ["starts-with", "$Content-Type", "image/"],
        {"x-amz-meta-uuid": "14365123651274"},
        ["starts-with", "$x-amz-meta-tag", ""],
        ["content-length-range", 10, 1000]
    ]))
    .unwrap()
}

fn form(changes: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut fields = vec![
        ("key", "user/user1/a.jpg"),
        ("ACL", "public-read"),
        ("content-type", "image/jpeg"),
        ("X-Amz-Meta-UUID", "14365123651274"),
        ("policy", "..."),
        ("x-amz-signature", "..."),
        ("x-ignore-me", "1"),
    ];
    for (name, value) in changes {
        fields.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        fields.push((name, value));
    }
    fields.iter().filter(|(_, v)| *v != "(none)").map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

fn check(changes: &[(&str, &str)]) -> crate::Result<()> {
    example().check("sigv4examplebucket", &form(changes), 100, at(NOW))
}

#[test]
fn a_form_that_fits_passes() {
    assert_eq!(check(&[]), Ok(()));
    assert_eq!(check(&[("x-amz-meta-tag", "anything")]), Ok(()));
    assert_eq!(check(&[("bucket", "sigv4examplebucket")]), Ok(()));
    assert_eq!(check(&[("Content-Type", "image/jpeg, image/png")]), Ok(()));
    assert_eq!(check(&[("AWSAccessKeyId", "k"), ("signature", "s"), ("file", "f")]), Ok(()));
}

#[test]
fn a_form_that_does_not_is_denied() {
    for (changes, part) in [
        (&[("key", "user/user2/a.jpg")][..], "key"),
        (&[("key", "(none)")], "key"),
        (&[("acl", "private")], "acl"),
        (&[("acl", "(none)")], "acl"),
        (&[("acl", "Public-Read")], "acl"),
        (&[("content-type", "text/html")], "content-type"),
        (&[("content-type", "image/png,text/html")], "content-type"),
        (&[("x-amz-meta-other", "1")], "extra input fields: x-amz-meta-other"),
        (&[("x-amz-server-side-encryption", "AES256")], "extra input fields"),
        (&[("bucket", "another")], "bucket"),
    ] {
        match check(changes) {
            Err(Error::AccessDenied(sentence)) => assert!(sentence.contains(part), "{changes:?}: {sentence}"),
            other => panic!("{changes:?}: {other:?}"),
        }
    }
    let mut twice = form(&[]);
    twice.push(("Key".to_owned(), "elsewhere".to_owned()));
    assert!(example().check("sigv4examplebucket", &twice, 100, at(NOW)).is_err());
    assert!(example().check("other", &form(&[]), 100, at(NOW)).is_err());
    // A policy that does not speak of the bucket is good for none.
    let open = parse(json!([["starts-with", "$key", ""]])).unwrap();
    let key = [("key".to_owned(), "k".to_owned())];
    assert!(matches!(open.check("b", &key, 0, at(NOW)), Err(Error::AccessDenied(_))));
}

#[test]
fn time_and_size_are_bounds() {
    let ask = |length, now: &str| example().check("sigv4examplebucket", &form(&[]), length, at(now));
    assert_eq!(example().length_range(), (10, 1000));
    assert_eq!(ask(10, NOW), Ok(()));
    assert_eq!(ask(1000, NOW), Ok(()));
    assert!(matches!(ask(9, NOW), Err(Error::EntityTooSmall(_))));
    assert!(matches!(ask(1001, NOW), Err(Error::EntityTooLarge(_))));
    assert_eq!(ask(10, "2030-01-01T11:59:59Z"), Ok(()));
    assert!(matches!(ask(10, "2030-01-01T12:00:00Z"), Err(Error::AccessDenied(_))));
    let two = parse(json!([["content-length-range", 0, 5], ["content-length-range", "3", "9"]])).unwrap();
    assert_eq!(two.length_range(), (3, 5));
}

#[test]
fn names_and_kinds_are_not_case_sensitive() {
    let policy = parse(json!([{"bUcKeT": "b"}, ["StArTs-WiTh", "$KeY", "foo"], ["EQ", "$ACL", "private"]])).unwrap();
    let fields = [("kEy", "foo.txt"), ("acl", "private")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    assert_eq!(policy.check("b", &fields, 0, at(NOW)), Ok(()));
}

#[test]
fn what_is_no_policy_is_refused() {
    let encode = |text: &str| BASE64.encode(text.as_bytes());
    let documents = [
        "not base64!".to_owned(),
        encode(""),
        encode("[]"),
        encode("{}"),
        encode(r#"{"expiration": "2030-01-01T12:00:00Z"}"#),
        encode(r#"{"conditions": []}"#),
        encode(r#"{"expiration": "soon", "conditions": []}"#),
        encode(r#"{"expiration": "2030-01-01 12:00:00.5+00:00", "conditions": []}"#),
        encode(r#"{"expiration": "2030-01-01 12:00:00Z", "conditions": []}"#),
        encode(r#"{"expiration": "2030-01-01T12:00:00Z", "conditions": [], "conditions": []}"#),
        encode(&"[".repeat(1000)),
        encode(&format!(r#"{{"expiration": "2030-01-01T12:00:00Z", "conditions": [], "x": "{}"}}"#, "x".repeat(20480))),
        "A".repeat(1 << 20),
    ];
    for document in documents {
        assert!(matches!(FormPolicy::parse(&document), Err(Error::InvalidPolicyDocument(_))), "{document:.60}");
    }
    for condition in [
        json!("x"),
        json!({}),
        json!({"bucket": 1}),
        json!([]),
        json!(["eq", "$key"]),
        json!(["eq", "key", "x"]),
        json!(["eq", "$key", "x", "y"]),
        json!(["ends-with", "$key", "x"]),
        json!(["content-length-range", -1, 0]),
        json!(["content-length-range", 5, 1]),
        json!(["content-length-range", 5]),
        json!(["content-length-range", 0.5, 1]),
    ] {
        assert!(matches!(parse(json!([condition.clone()])), Err(Error::InvalidPolicyDocument(_))), "{condition}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in ".{0,100}") {
        let _ = FormPolicy::parse(&BASE64.encode(&bytes));
        let _ = FormPolicy::parse(&text);
    }
}
