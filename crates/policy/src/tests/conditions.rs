use serde_json::{Value, json};

use super::iam::{ANN, ask, parse};
use crate::iam::{Context, Decision};

/// Whether a statement with this condition speaks of a request with these values.
fn holds(condition: &Value, values: &[(&str, &str)]) -> bool {
    let policy = parse(json!({
        "Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": ["arn:aws:s3:::b", "arn:aws:s3:::b/*"],
        "Condition": condition
    }));
    let mut context = Context::new();
    for (key, value) in values {
        context.add(key, *value);
    }
    ask(&policy, ANN, "s3:GetObject", "b/k", &context) == Decision::Allow
}

/// Condition, values of the request, whether it holds.
type Case<'a> = (Value, &'a [(&'a str, &'a str)], bool);

fn table(cases: &[Case<'_>]) {
    for (condition, values, expected) in cases {
        assert_eq!(holds(condition, values), *expected, "{condition} on {values:?}");
    }
}

#[test]
fn strings() {
    table(&[
        (json!({"StringEquals": {"s3:prefix": "a/"}}), &[("s3:prefix", "a/")], true),
        (json!({"StringEquals": {"S3:Prefix": ["x", "a/"]}}), &[("s3:prefix", "a/")], true),
        (json!({"StringEquals": {"s3:prefix": "a/"}}), &[("s3:prefix", "A/")], false),
        (json!({"StringEquals": {"s3:prefix": "a*"}}), &[("s3:prefix", "ab")], false),
        (json!({"StringEquals": {"s3:prefix": ""}}), &[("s3:prefix", "")], true),
        (json!({"StringEquals": {"s3:prefix": "a/"}}), &[], false),
        (json!({"StringEqualsIfExists": {"s3:prefix": "a/"}}), &[], true),
        (json!({"StringEqualsIfExists": {"s3:prefix": "a/"}}), &[("s3:prefix", "b")], false),
        (json!({"StringNotEquals": {"s3:prefix": "a/"}}), &[], true),
        (json!({"StringNotEquals": {"s3:prefix": ["a", "b"]}}), &[("s3:prefix", "b")], false),
        (json!({"StringNotEquals": {"s3:prefix": ["a", "b"]}}), &[("s3:prefix", "c")], true),
        (json!({"StringEqualsIgnoreCase": {"s3:prefix": "ÄB"}}), &[("s3:prefix", "äb")], true),
        (json!({"StringNotEqualsIgnoreCase": {"s3:prefix": "AB"}}), &[("s3:prefix", "ab")], false),
        (
            json!({"StringLike": {"aws:Referer": "http://*.example.com/*"}}),
            &[("aws:Referer", "http://w.example.com/x")],
            true,
        ),
        (json!({"StringNotLike": {"aws:Referer": "http://*.example.com/*"}}), &[("aws:Referer", "http://evil/")], true),
        (json!({"StringNotLike": {"aws:Referer": "http://*"}}), &[("aws:Referer", "http://evil/")], false),
        (
            json!({"StringLike": {"s3:prefix": "${aws:username}/*"}}),
            &[("s3:prefix", "ann/x"), ("aws:username", "ann")],
            true,
        ),
        (json!({"StringLike": {"s3:prefix": "${aws:username}/*"}}), &[("s3:prefix", "ann/x")], false),
        (
            json!({"StringEquals": {"s3:ExistingObjectTag/Level": "top"}}),
            &[("s3:existingobjecttag/Level", "top")],
            true,
        ),
        (
            json!({"StringEquals": {"s3:ExistingObjectTag/Level": "top"}}),
            &[("s3:ExistingObjectTag/level", "top")],
            false,
        ),
    ]);
}

#[test]
fn all_conditions_must_hold() {
    let both =
        json!({"StringEquals": {"s3:prefix": "a", "s3:delimiter": "/"}, "NumericLessThanEquals": {"s3:max-keys": 10}});
    table(&[
        (both.clone(), &[("s3:prefix", "a"), ("s3:delimiter", "/"), ("s3:max-keys", "10")], true),
        (both.clone(), &[("s3:prefix", "a"), ("s3:delimiter", "/"), ("s3:max-keys", "11")], false),
        (both, &[("s3:prefix", "a"), ("s3:max-keys", "10")], false),
    ]);
}

#[test]
fn numbers_dates_and_truth() {
    table(&[
        (json!({"NumericEquals": {"s3:max-keys": "10"}}), &[("s3:max-keys", "10.0")], true),
        (json!({"NumericNotEquals": {"s3:max-keys": 10}}), &[("s3:max-keys", "9")], true),
        (json!({"NumericLessThan": {"s3:max-keys": 10}}), &[("s3:max-keys", "9")], true),
        (json!({"NumericLessThan": {"s3:max-keys": 10}}), &[("s3:max-keys", "10")], false),
        (json!({"NumericLessThan": {"s3:max-keys": 10}}), &[("s3:max-keys", "many")], false),
        (json!({"NumericGreaterThan": {"s3:signatureAge": 600000}}), &[("s3:signatureAge", "600001")], true),
        (json!({"NumericGreaterThanEquals": {"s3:max-keys": 10}}), &[("s3:max-keys", "10")], true),
        (
            json!({"DateLessThan": {"aws:CurrentTime": "2026-01-01T00:00:00Z"}}),
            &[("aws:CurrentTime", "2025-12-31T23:59:59Z")],
            true,
        ),
        (
            json!({"DateGreaterThan": {"aws:CurrentTime": "2026-01-01"}}),
            &[("aws:CurrentTime", "2026-01-01T00:00:01Z")],
            true,
        ),
        (json!({"DateGreaterThanEquals": {"aws:EpochTime": "1767225600"}}), &[("aws:EpochTime", "1767225600")], true),
        (
            json!({"DateEquals": {"aws:CurrentTime": "2026-01-01T01:00:00+01:00"}}),
            &[("aws:CurrentTime", "2026-01-01T00:00:00Z")],
            true,
        ),
        (
            json!({"DateNotEquals": {"aws:CurrentTime": "2026-01-01T00:00:00Z"}}),
            &[("aws:CurrentTime", "2026-01-01T00:00:00Z")],
            false,
        ),
        (json!({"Bool": {"aws:SecureTransport": "false"}}), &[("aws:SecureTransport", "false")], true),
        (json!({"Bool": {"aws:SecureTransport": false}}), &[("aws:SecureTransport", "true")], false),
        (json!({"Bool": {"aws:SecureTransport": true}}), &[], false),
    ]);
}

#[test]
fn addresses() {
    let office = json!({"IpAddress": {"aws:SourceIp": ["192.0.2.0/24", "2001:db8:1234:5678::/64", "203.0.113.7"]}});
    table(&[
        (office.clone(), &[("aws:SourceIp", "192.0.2.255")], true),
        (office.clone(), &[("aws:SourceIp", "192.0.3.0")], false),
        (office.clone(), &[("aws:SourceIp", "203.0.113.7")], true),
        (office.clone(), &[("aws:SourceIp", "203.0.113.8")], false),
        (office.clone(), &[("aws:SourceIp", "2001:db8:1234:5678::9")], true),
        (office.clone(), &[("aws:SourceIp", "2001:db8:1234:5679::9")], false),
        (office.clone(), &[("aws:SourceIp", "::ffff:192.0.2.1")], true),
        (office.clone(), &[("aws:SourceIp", "nowhere")], false),
        (office, &[], false),
        (json!({"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}), &[("aws:SourceIp", "9.9.9.9")], true),
        (json!({"IpAddress": {"aws:SourceIp": "::/0"}}), &[("aws:SourceIp", "::1")], true),
        (json!({"NotIpAddress": {"aws:SourceIp": "192.0.2.0/24"}}), &[("aws:SourceIp", "192.0.2.1")], false),
        (json!({"NotIpAddress": {"aws:SourceIp": "192.0.2.0/24"}}), &[("aws:SourceIp", "198.51.100.1")], true),
    ]);
}

#[test]
fn arns_match_part_by_part() {
    let like = |pattern: &str| json!({"ArnLike": {"aws:SourceArn": pattern}});
    let arn: &[(&str, &str)] = &[("aws:SourceArn", "arn:aws:sns:eu:123:topic/a:b")];
    table(&[
        (like("arn:aws:sns:*:123:topic/*"), arn, true),
        (like("arn:aws:sns:*:topic/*:*"), arn, false),
        (like("arn:*:*:*:*:*"), arn, true),
        (like("*"), arn, true),
        (json!({"ArnNotLike": {"aws:SourceArn": "arn:aws:sns:*:*:*"}}), arn, false),
        (json!({"ArnEquals": {"aws:SourceArn": "arn:aws:sns:eu:123:topic/a:b"}}), arn, true),
        (json!({"ArnNotEquals": {"aws:SourceArn": "arn:aws:sns:eu:123:other"}}), arn, true),
        (like("arn:aws:sns:*:*:*"), &[("aws:SourceArn", "none")], false),
    ]);
}

#[test]
fn whether_a_key_is_there() {
    let absent = json!({"Null": {"s3:x-amz-server-side-encryption": "true"}});
    let present = json!({"Null": {"s3:x-amz-server-side-encryption": false}});
    table(&[
        (absent.clone(), &[], true),
        (absent, &[("s3:x-amz-server-side-encryption", "AES256")], false),
        (present.clone(), &[], false),
        (present, &[("s3:x-amz-server-side-encryption", "AES256")], true),
    ]);
}

#[test]
fn sets_of_values() {
    let all = json!({"ForAllValues:StringEquals": {"s3:RequestObjectTagKeys": ["a", "b"]}});
    let any = json!({"ForAnyValue:StringEquals": {"s3:RequestObjectTagKeys": ["a", "b"]}});
    let all_not = json!({"ForAllValues:StringNotEquals": {"s3:RequestObjectTagKeys": ["a"]}});
    let any_not = json!({"ForAnyValue:StringNotEquals": {"s3:RequestObjectTagKeys": ["a"]}});
    const K: &str = "s3:RequestObjectTagKeys";
    table(&[
        (all.clone(), &[(K, "a"), (K, "b")], true),
        (all.clone(), &[(K, "a"), (K, "c")], false),
        (all, &[], true),
        (any.clone(), &[(K, "c"), (K, "b")], true),
        (any.clone(), &[(K, "c")], false),
        (any, &[], false),
        (all_not.clone(), &[(K, "b"), (K, "c")], true),
        (all_not, &[(K, "b"), (K, "a")], false),
        (any_not.clone(), &[(K, "a"), (K, "b")], true),
        (any_not.clone(), &[(K, "a")], false),
        (any_not, &[], false),
    ]);
}
