use proptest::prelude::*;
use serde_json::{Value, json};

use crate::Error;
use crate::iam::{Caller, Context, Decision, Policy, Request};

pub(super) const ANN: Caller<'_> = Caller::Key { account: "red", user: "ann", canonical: "c-red", by_account: true };
const BOB: Caller<'_> = Caller::Key { account: "blue", user: "bob", canonical: "c-blue", by_account: true };

pub(super) fn parse(statement: Value) -> Policy {
    Policy::parse(&json!({"Version": "2012-10-17", "Statement": statement}).to_string(), "b").unwrap()
}

pub(super) fn ask(policy: &Policy, caller: Caller<'_>, action: &str, resource: &str, context: &Context) -> Decision {
    policy.evaluate(&Request { caller, action, resource: &format!("arn:aws:s3:::{resource}"), context })
}

/// A statement that allows reading, with some fields changed; null removes one.
fn changed(changes: Value) -> Value {
    let mut statement = json!({
        "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"
    });
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => statement.as_object_mut().unwrap().remove(name),
            value => statement.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    statement
}

#[test]
fn principals_are_told_apart() {
    let none = Context::new();
    let cases = [
        (json!("*"), true, true, true),
        (json!({"AWS": "*"}), true, true, true),
        (json!({"AWS": "red"}), false, true, false),
        (json!({"AWS": "arn:aws:iam::red:root"}), false, true, false),
        (json!({"AWS": ["arn:aws:iam::red:user/ann", "arn:aws:iam::blue:user/dan"]}), false, true, false),
        (json!({"AWS": "arn:aws:iam::blue:user/ann"}), false, false, false),
        (json!({"AWS": "arn:aws:iam::blue:user/team/x/bob"}), false, false, true),
        (json!({"CanonicalUser": "c-blue"}), false, false, true),
        (json!({"Service": "logging.s3.amazonaws.com"}), false, false, false),
    ];
    for (principal, anonymous, ann, bob) in cases {
        for (field, effect, decided) in [("Principal", "Allow", true), ("NotPrincipal", "Deny", false)] {
            let policy = parse(changed(json!({"Principal": null, field: principal, "Effect": effect})));
            for (caller, expected) in [(Caller::Anonymous, anonymous), (ANN, ann), (BOB, bob)] {
                let decision = ask(&policy, caller, "s3:GetObject", "b/k", &none);
                assert_eq!(decision != Decision::Silent, expected == decided, "{field} {principal} {caller:?}");
            }
        }
    }
}

#[test]
fn a_key_that_takes_no_part_gains_only_by_its_name() {
    let none = Context::new();
    let weak = Caller::Key { account: "red", user: "ann", canonical: "c-red", by_account: false };
    let get = |principal: Value, effect: &str| {
        let policy = parse(changed(json!({"Principal": principal, "Effect": effect})));
        ask(&policy, weak, "s3:GetObject", "b/k", &none)
    };
    assert_eq!(get(json!({"AWS": "arn:aws:iam::red:root"}), "Allow"), Decision::Silent);
    assert_eq!(get(json!({"CanonicalUser": "c-red"}), "Allow"), Decision::Silent);
    assert_eq!(get(json!({"AWS": "arn:aws:iam::red:user/ann"}), "Allow"), Decision::Allow);
    assert_eq!(get(json!({"AWS": "arn:aws:iam::red:root"}), "Deny"), Decision::Deny);
}

#[test]
fn actions_and_resources_are_patterns() {
    let none = Context::new();
    let cases = [
        (json!({"Action": "s3:*"}), "s3:PutObject", "b/k", true),
        (json!({"Action": "S3:getobject"}), "s3:GetObject", "b/k", true),
        (json!({"Action": ["s3:Put*", "s3:Get*"]}), "s3:GetObjectAcl", "b/k", true),
        (json!({"Action": "s3:Get?bject"}), "s3:GetObject", "b/k", true),
        (json!({"Action": "s3:Get*"}), "s3:PutObject", "b/k", false),
        (json!({"Action": null, "NotAction": "s3:Put*"}), "s3:GetObject", "b/k", true),
        (json!({"Action": null, "NotAction": "s3:Get*"}), "s3:GetObject", "b/k", false),
        (json!({"Resource": "arn:aws:s3:::b"}), "s3:GetObject", "b/k", false),
        (json!({"Resource": ["arn:aws:s3:::b", "arn:aws:s3:::b/in/*"]}), "s3:GetObject", "b/in/x/y", true),
        (json!({"Resource": "arn:aws:s3:::b/in/*"}), "s3:GetObject", "b/IN/x", false),
        (json!({"Resource": "arn:aws:s3:::b/?.txt"}), "s3:GetObject", "b/é.txt", true),
        (json!({"Resource": "arn:aws:s3:::*"}), "s3:GetObject", "b/k", true),
        (json!({"Resource": null, "NotResource": "arn:aws:s3:::b/secret/*"}), "s3:GetObject", "b/k", true),
        (json!({"Resource": null, "NotResource": "arn:aws:s3:::b/secret/*"}), "s3:GetObject", "b/secret/k", false),
    ];
    for (changes, action, resource, expected) in cases {
        let policy = parse(changed(changes.clone()));
        let decision = ask(&policy, BOB, action, resource, &none);
        assert_eq!(decision == Decision::Allow, expected, "{changes} on {action} {resource}");
    }
}

#[test]
fn everyone_has_a_home() {
    let statement = changed(json!({"Resource": "arn:aws:s3:::b/home/${aws:username}/*"}));
    let policy = parse(statement.clone());
    let ann = Context::new().with("aws:username", "ann");
    assert_eq!(ask(&policy, ANN, "s3:GetObject", "b/home/ann/x", &ann), Decision::Allow);
    assert_eq!(ask(&policy, ANN, "s3:GetObject", "b/home/bob/x", &ann), Decision::Silent);
    assert_eq!(ask(&policy, Caller::Anonymous, "s3:GetObject", "b/home//x", &Context::new()), Decision::Silent);
    assert!(policy.condition_keys().contains("aws:username"));
    // The old version knows no variables.
    let old = Policy::parse(&json!({"Version": "2008-10-17", "Statement": [statement]}).to_string(), "b").unwrap();
    assert_eq!(ask(&old, ANN, "s3:GetObject", "b/home/ann/x", &ann), Decision::Silent);
    assert_eq!(ask(&old, ANN, "s3:GetObject", "b/home/${aws:username}/x", &ann), Decision::Allow);
}

#[test]
fn deny_wins_whatever_the_order() {
    let allow = changed(json!({"Action": "s3:*", "Sid": "a"}));
    let deny = changed(json!({"Action": "s3:DeleteObject", "Effect": "Deny", "Sid": "d"}));
    for statements in [json!([allow, deny]), json!([deny, allow])] {
        let policy = parse(statements);
        assert_eq!(ask(&policy, ANN, "s3:DeleteObject", "b/k", &Context::new()), Decision::Deny);
        assert_eq!(ask(&policy, ANN, "s3:GetObject", "b/k", &Context::new()), Decision::Allow);
        assert_eq!(ask(&policy, ANN, "s3:ListBucket", "b", &Context::new()), Decision::Silent);
    }
}

#[test]
fn what_is_no_policy_is_refused_with_a_reason() {
    let with = |changes: Value| json!({"Version": "2012-10-17", "Statement": [changed(changes)]}).to_string();
    let cases = [
        ("".to_owned(), "not JSON"),
        ("[]".to_owned(), "object"),
        ("{}".to_owned(), "Statement"),
        (json!({"Version": "2012-10-17", "Statement": []}).to_string(), "Statement"),
        (json!({"Version": "2020-01-01", "Statement": changed(json!({}))}).to_string(), "Version"),
        (json!({"Statement": changed(json!({})), "Extra": 1}).to_string(), "unknown field"),
        (json!({"Statement": [7]}).to_string(), "Statement 1"),
        (json!({"Statement": [changed(json!({"Sid": "x"})), changed(json!({"Sid": "x"}))]}).to_string(), "twice"),
        ("{\"Statement\": {}, \"Statement\": {}}".to_owned(), "twice"),
        (with(json!({"Effect": "allow"})), "effect"),
        (with(json!({"Effect": null})), "Effect"),
        (with(json!({"Principal": null})), "Principal"),
        (with(json!({"NotPrincipal": "*"})), "exclude"),
        (with(json!({"Principal": null, "NotPrincipal": {"AWS": "red"}})), "NotPrincipal is for"),
        (with(json!({"Principal": "ann"})), "principal"),
        (with(json!({"Principal": {}})), "principal"),
        (with(json!({"Principal": {"AWS": []}})), "list"),
        (with(json!({"Principal": {"AWS": "arn:aws:iam::*:root"}})), "principal"),
        (with(json!({"Principal": {"AWS": "arn:aws:iam::red:user/*"}})), "principal"),
        (with(json!({"Principal": {"AWS": "arn:aws:sts::red:x"}})), "principal"),
        (with(json!({"Principal": {"Group": "x"}})), "kind"),
        (with(json!({"Action": "GetObject"})), "action"),
        (with(json!({"Action": "ec2:*"})), "action"),
        (with(json!({"Action": "s3:"})), "action"),
        (with(json!({"Action": []})), "list"),
        (with(json!({"Action": null})), "Action"),
        (with(json!({"NotAction": "s3:*"})), "exclude"),
        (with(json!({"Resource": "arn:aws:s3:::other/*"})), "resource"),
        (with(json!({"Resource": "arn:aws:s3:::bb"})), "resource"),
        (with(json!({"Resource": "b/*"})), "resource"),
        (with(json!({"Resource": null})), "Resource"),
        (with(json!({"Condition": {"StringSame": {"s3:prefix": "x"}}})), "condition type"),
        (with(json!({"Condition": {"NullIfExists": {"s3:prefix": "true"}}})), "Null"),
        (with(json!({"Condition": {"StringEquals": {"prefix": "x"}}})), "condition key"),
        (with(json!({"Condition": {"StringEquals": {"s3:prefix": []}}})), "empty"),
        (with(json!({"Condition": {"StringEquals": {"s3:prefix": {}}}})), "text"),
        (with(json!({"Condition": {"NumericEquals": {"s3:max-keys": "ten"}}})), "value"),
        (with(json!({"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/33"}}})), "value"),
        (with(json!({"Condition": {"DateLessThan": {"aws:CurrentTime": "soon"}}})), "value"),
        (with(json!({"Condition": {"Bool": {"aws:SecureTransport": "yes"}}})), "value"),
        (with(json!({"Condition": []})), "object"),
        (with(json!({"Sid": "x".repeat(20 * 1024)})), "bytes"),
    ];
    for (text, part) in cases {
        match Policy::parse(&text, "b") {
            Err(Error::MalformedPolicy(sentence)) => assert!(sentence.contains(part), "{text:.80}: {sentence}"),
            other => panic!("{text:.80}: {other:?}"),
        }
    }
    let binary = with(json!({"Condition": {"BinaryEquals": {"aws:x": "eA=="}}}));
    assert!(matches!(Policy::parse(&binary, "b"), Err(Error::NotImplemented(_))));
}

#[test]
fn public_is_what_lets_everybody_in() {
    let cases = [
        (json!({}), true),
        (json!({"Effect": "Deny"}), false),
        (json!({"Principal": {"AWS": "arn:aws:iam::red:root"}}), false),
        (json!({"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/32"}}}), false),
        (json!({"Condition": {"IpAddress": {"aws:SourceIp": ["54.240.143.0/24", "0.0.0.0/1"]}}}), true),
        (json!({"Condition": {"IpAddress": {"aws:SourceIp": "::/0"}}}), true),
        (json!({"Condition": {"NotIpAddress": {"aws:SourceIp": "54.240.143.188/32"}}}), true),
        (json!({"Condition": {"StringEquals": {"aws:SourceVpc": "vpc-91237329"}}}), false),
        (json!({"Condition": {"StringLike": {"aws:SourceVpc": "vpc-*"}}}), true),
        (json!({"Condition": {"StringEqualsIfExists": {"aws:SourceVpc": "vpc-1"}}}), true),
        (json!({"Condition": {"ForAllValues:StringEquals": {"aws:SourceVpc": "vpc-1"}}}), true),
        (json!({"Condition": {"StringLike": {"aws:Referer": "http://www.example.com/*"}}}), true),
        (json!({"Condition": {"Bool": {"aws:SecureTransport": "true"}}}), true),
        (json!({"Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1"}, "Null": {"s3:prefix": "true"}}}), false),
    ];
    for (changes, expected) in cases {
        assert_eq!(parse(changed(changes.clone())).is_public(), expected, "{changes}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}") {
        let _ = Policy::parse(&text, "b");
    }

    #[test]
    fn no_value_makes_it_panic(
        field in "Effect|Principal|Action|Resource|Condition|Sid",
        value in prop_oneof![
            ".{0,30}".prop_map(Value::from),
            Just(json!({"AWS": ["arn:aws:iam::", "arn:", ":::::"]})),
            "[:*?${}/a-z0-9.]{0,20}".prop_map(|s| json!({"IpAddress": {"aws:SourceIp": s.clone()}, "ArnLike": {"aws:SourceArn": s.clone()}, "StringLike": {"s3:prefix": s}})),
        ],
        have in ".{0,20}",
    ) {
        let text = json!({"Version": "2012-10-17", "Statement": changed(json!({field: value}))}).to_string();
        if let Ok(policy) = Policy::parse(&text, "b") {
            let mut context = Context::new();
            for key in policy.condition_keys() {
                context.add(&key, have.clone());
            }
            ask(&policy, Caller::Anonymous, "s3:GetObject", &have, &context);
        }
    }
}
