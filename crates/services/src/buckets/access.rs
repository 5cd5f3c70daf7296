//! Who may do what with a bucket and what is in it. The decision itself is
//! `muonic_policy::access`; here it gets its facts, and what most requests are
//! (a key in its own project, a bucket without a policy) is told at once.

use std::sync::Arc;

use muonic_policy::access::{self as layers, Key, Layer, Question, Verdict};
use muonic_policy::iam::{Context, Policy};
use muonic_ports::object_store::{Bucket, ObjectVersion};

use super::acl::{block_of, bucket_acl, object_acl, ownership_of};
use super::action::Action;
use super::call::{Call, Caller, canonical_id, context};
use super::config::Kind;
use super::memo::Memo;
use super::{Error, Result};
use crate::auth;

/// Refuses what the caller may not do. `object` where the object's own access
/// list and tags count.
pub fn authorise(
    call: Call<'_>,
    action: Action,
    bucket: &Bucket,
    key: Option<&str>,
    object: Option<&ObjectVersion>,
) -> Result<()> {
    if is_allowed(call, action, bucket, key, object)? { Ok(()) } else { Err(denied(call, action, &bucket.name)) }
}

/// As [`authorise`], for where it is no failure.
pub fn is_allowed(
    call: Call<'_>,
    action: Action,
    bucket: &Bucket,
    key: Option<&str>,
    object: Option<&ObjectVersion>,
) -> Result<bool> {
    Ok(decide(call, action, bucket, key, object)?.is_allowed())
}

/// Whether the caller may give tags to the object it writes: also one whom an
/// access list lets write, unless the policy denies it.
pub(super) fn may_tag_new(call: Call<'_>, bucket: &Bucket, key: &str) -> Result<bool> {
    let put = || decide(call, Action::PUT, bucket, Some(key), None);
    Ok(match decide(call, Action::PUT_TAGS, bucket, Some(key), None)? {
        Verdict::Allow(_) => true,
        Verdict::Deny(Layer::Policy) => false,
        Verdict::Deny(_) => put()? == Verdict::Allow(Layer::BucketAcl),
    })
}

fn decide(
    call: Call<'_>,
    action: Action,
    bucket: &Bucket,
    key: Option<&str>,
    object: Option<&ObjectVersion>,
) -> Result<Verdict> {
    // A role that does not suffice may still be helped by an access list.
    if is_plain(call, bucket)
        && object.is_none_or(|object| object.owner == bucket.project.as_str())
        && let Caller::Key(principal) = call.caller
        && auth::authorise(principal, action.needs).is_ok()
    {
        return Ok(Verdict::Allow(Layer::Role));
    }
    let owner = canonical_id(bucket.project.as_str());
    let policy = policy_of(bucket)?;
    let context = match &policy {
        Some(policy) => context(call, policy, object),
        None => Context::new(),
    };
    let bucket_acl = bucket_acl(bucket)?;
    let object_acl = object.map(object_acl).transpose()?;
    let resource = match key {
        Some(key) => format!("arn:aws:s3:::{}/{key}", bucket.name),
        None => format!("arn:aws:s3:::{}", bucket.name),
    };
    let (account, user);
    let caller = match call.caller {
        Caller::Anonymous => layers::Caller::Anonymous,
        Caller::Key(principal) => {
            account = canonical_id(principal.project.as_str());
            user = principal.key.to_string();
            let may = |action| auth::authorise(principal, action).is_ok();
            layers::Caller::Key(Key {
                account: principal.project.as_str(),
                user: &user,
                canonical: &account,
                may_read: may(auth::Action::Read),
                may_write: may(auth::Action::WriteData),
                may_administer: may(auth::Action::Administer),
            })
        }
    };
    let question = Question {
        caller,
        action: action.name,
        resource: &resource,
        context: &context,
        bucket_owner: &owner,
        policy: policy.as_deref(),
        bucket_acl: Some(&bucket_acl),
        object_acl: object_acl.as_ref(),
        block: block_of(bucket)?,
        ownership: ownership_of(bucket)?,
    };
    Ok(layers::decide(&question))
}

pub(super) fn policy_of(bucket: &Bucket) -> Result<Option<Arc<Policy>>> {
    static KNOWN: Memo<Policy> = Memo::new();
    let text = bucket.documents.get(Kind::Policy.name());
    let parse = |text: &str| Policy::parse(text, &bucket.name).map_err(unreadable);
    text.map(|text| KNOWN.get(&bucket.name, text, parse)).transpose()
}

/// Whether the caller's role alone decides, but for objects of others.
pub(super) fn is_plain(call: Call<'_>, bucket: &Bucket) -> bool {
    matches!(call.caller, Caller::Key(principal) if principal.project == bucket.project)
        && !bucket.documents.contains_key(Kind::Policy.name())
}

pub(super) fn unreadable(error: muonic_policy::Error) -> Error {
    muonic_ports::Error::internal("a document of a bucket cannot be read", error).into()
}

/// Whether the caller may bypass governance, having asked to.
pub fn may_bypass(call: Call<'_>, asked: bool, bucket: &Bucket) -> bool {
    asked && is_allowed(call, Action::BYPASS, bucket, None, None).unwrap_or(false)
}

pub(super) fn denied(call: Call<'_>, action: Action, bucket: &str) -> Error {
    let who = match call.caller {
        Caller::Anonymous => "a request without a signature".to_owned(),
        Caller::Key(principal) => format!("the key {}, of role {},", principal.key, principal.role),
    };
    Error::Denied(format!("{who} may not {} in bucket '{bucket}'", action.name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use muonic_policy::access::{Needs, Right};
    use muonic_ports::object_store::Versioning;
    use muonic_types::key::{Principal, Role};
    use muonic_types::{KeyId, Timestamp};

    use super::super::call::NoFacts;
    use super::*;

    fn bucket(documents: &[(Kind, &str)]) -> Bucket {
        let documents = documents.iter().map(|(kind, text)| (kind.name().to_owned(), (*text).to_owned()));
        Bucket {
            name: "b".to_owned(),
            project: "main".parse().expect("a name"),
            created_at: Timestamp::UNIX_EPOCH,
            versioning: Versioning::Off,
            lock: false,
            documents: BTreeMap::from_iter(documents),
        }
    }

    fn key(project: &str, role: Role) -> Caller {
        let key: KeyId = "MKAAAAAAAAAAAAAAAAAA".parse().expect("an id");
        let project = project.parse().expect("a name");
        Caller::Key(Principal { key, project, role, attempt: None, replica: None, limits: Default::default() })
    }

    fn may(caller: &Caller, action: Action, bucket: &Bucket) -> bool {
        let call = Call { caller, facts: &NoFacts, expected_owner: None };
        is_allowed(call, action, bucket, Some("k"), None).expect("a decision")
    }

    #[test]
    fn both_tables_of_needs_agree() {
        for action in Action::ALL {
            let role = match Needs::of(action.name).right {
                Right::Read => auth::Action::Read,
                Right::Write => auth::Action::WriteData,
                Right::Administer => auth::Action::Administer,
            };
            assert_eq!(action.needs, role, "{}", action.name);
        }
    }

    #[test]
    fn roles_decide_in_ones_own_project() {
        let plain = bucket(&[]);
        assert!(may(&key("main", Role::Member), Action::PUT, &plain));
        assert!(may(&key("main", Role::Viewer), Action::GET, &plain));
        assert!(!may(&key("main", Role::Viewer), Action::PUT, &plain));
        assert!(!may(&key("main", Role::Invoker), Action::GET, &plain));
        assert!(!may(&key("main", Role::Member), Action::BYPASS, &plain));
        assert!(!may(&key("other", Role::Admin), Action::GET, &plain));
        assert!(!may(&Caller::Anonymous, Action::GET, &plain));
    }

    #[test]
    fn policies_open_and_close() {
        let open = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*",
            "Action":"s3:GetObject","Resource":"arn:aws:s3:::b/*"}]}"#;
        let open = bucket(&[(Kind::Policy, open)]);
        assert!(may(&Caller::Anonymous, Action::GET, &open));
        assert!(may(&key("other", Role::Viewer), Action::GET, &open));
        assert!(!may(&Caller::Anonymous, Action::PUT, &open));
        let closed = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*",
            "Action":"s3:PutObject","Resource":"arn:aws:s3:::b/*"}]}"#;
        let closed = bucket(&[(Kind::Policy, closed)]);
        assert!(!may(&key("main", Role::Admin), Action::PUT, &closed));
        assert!(may(&key("main", Role::Admin), Action::GET, &closed));
    }
}
