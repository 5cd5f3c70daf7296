//! The documents of buckets, and who they let in.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use muonic_policy::acl::{Acl, CannedAcl, Group, Permission, Who};
use muonic_policy::cors::{self, Cors};
use muonic_policy::form::FormPolicy;
use muonic_policy::iam::{Caller, Context, Decision, Policy, Request};
use muonic_policy::lifecycle::{Facts, Lifecycle, State};
use muonic_policy::notification::Notifications;
use muonic_policy::ownership::{ObjectOwnership, OwnershipControls};
use muonic_policy::public_access::PublicAccessBlock;
use muonic_policy::tags::{self, Of};
use muonic_types::Timestamp;

/// What is between NUL bytes.
fn parts<const N: usize>(data: &[u8]) -> [&str; N] {
    let mut parts = data.splitn(N, |byte| *byte == 0);
    std::array::from_fn(|_| parts.next().and_then(|part| std::str::from_utf8(part).ok()).unwrap_or_default())
}

/// A policy, then the key that is asked for, and a value of the request. A
/// policy without an allow allows nothing.
pub fn bucket_policy(data: &[u8]) {
    let [text, key, value] = parts(data);
    let Ok(policy) = Policy::parse(text, "bucket") else { return };
    let mut context = Context::new().with("aws:SourceIp", "10.1.2.3").with("aws:CurrentTime", "2026-01-02T03:04:05Z");
    for name in policy.condition_keys() {
        context.add(&name, value);
    }
    let resource = format!("arn:aws:s3:::bucket/{key}");
    let known = Caller::Key { account: "default", user: value, canonical: "0123", by_account: true };
    for caller in [Caller::Anonymous, known] {
        for (action, resource) in [("s3:GetObject", &*resource), ("s3:ListBucket", "arn:aws:s3:::bucket")] {
            let decision = policy.evaluate(&Request { caller, action, resource, context: &context });
            assert!(decision != Decision::Allow || text.contains("llow") || text.contains('\\'));
        }
    }
    let _ = policy.is_public();
}

fn sendable(answer: Option<cors::Answer>) {
    for (name, value) in answer.iter().flat_map(cors::Answer::headers) {
        assert!(value.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{name}: {value:?}");
    }
}

/// A document of any kind, then an origin, and a list of headers. What rules
/// that were accepted answer can stand in headers.
pub fn documents(data: &[u8]) {
    let [text, one, two] = parts(data);
    if let Ok(cors) = serde_json::from_str::<Cors>(text)
        && cors.check().is_ok()
    {
        sendable(cors.match_simple(one, "GET"));
        sendable(cors.match_preflight(one, "PUT", &cors::requested_headers(two)));
    }
    if let Ok(found) = serde_json::from_str::<Lifecycle>(text)
        && let Ok(checked) = Lifecycle::new(found.rules)
    {
        due(&checked, one);
    }
    if let Ok(notifications) = serde_json::from_str::<Notifications>(text)
        && notifications.check().is_ok()
    {
        let _ = notifications.tells("s3:ObjectCreated:Put", one);
    }
    if let Ok(acl) = serde_json::from_str::<Acl>(text)
        && acl.check(one).is_ok()
    {
        let _ = (acl.allows(Who::Anonymous, Permission::Read), acl.allows(Who::User(two), Permission::Write));
        let _ = PublicAccessBlock::all(true).check_acl(&acl);
        let _ = ObjectOwnership::BucketOwnerEnforced.check_acl(None, &acl, one);
        assert!(!(acl.is_public() && acl.is_private()));
    }
    let _ = serde_json::from_str::<OwnershipControls>(text);
    let _ = serde_json::from_str::<PublicAccessBlock>(text);
    let _ = (CannedAcl::parse(text), Group::from_uri(text), Permission::parse(text), ObjectOwnership::parse(text));
}

fn due(lifecycle: &Lifecycle, key: &str) {
    let at = |s| Timestamp::from_second(s).expect("a time");
    let tags = BTreeMap::from([("a".to_owned(), key.to_owned())]);
    let noncurrent = State::Noncurrent { since: at(1_500_000_000), newer: 3, is_delete_marker: false };
    for state in [State::Current, State::CurrentMarker { alone: true }, noncurrent, State::Upload] {
        for modified_at in [Timestamp::MIN, at(1_700_000_000), Timestamp::MAX] {
            let facts = Facts { key, size: 7, tags: &tags, modified_at, state };
            let _ = lifecycle.due(&facts, at(1_800_000_000), std::time::Duration::from_secs(86_400));
        }
    }
}

/// A document as JSON, then fields and their values, each a part. A form that
/// passes is as long as its policy says.
pub fn form(data: &[u8]) {
    let mut all = data.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned());
    let document = all.next().unwrap_or_default();
    let _ = FormPolicy::parse(&document);
    let Ok(policy) = FormPolicy::parse(&BASE64.encode(document.as_bytes())) else { return };
    let fields: Vec<_> = std::iter::from_fn(|| Some((all.next()?, all.next().unwrap_or_default()))).collect();
    let (min, max) = policy.length_range();
    for length in [0, 1, min, max, u64::MAX] {
        if policy.check("bucket", &fields, length, Timestamp::UNIX_EPOCH).is_ok() {
            assert!((min..=max).contains(&length) && policy.expiration > Timestamp::UNIX_EPOCH);
        }
    }
}

/// The header of tags is written so that it is read again as the same.
pub fn tags(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(found) = tags::parse_header(text) else { return };
    assert!(found.len() <= tags::OBJECT_TAGS_MAX);
    assert_eq!(tags::parse_header(&tags::header(&found)).as_ref(), Ok(&found));
    assert_eq!(tags::set(Of::Bucket, found.clone()), Ok(found));
}
