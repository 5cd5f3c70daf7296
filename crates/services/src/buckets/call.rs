//! Who calls, and what of a request a bucket's policy may ask about.

use muonic_policy::iam::{Context, Policy};
use muonic_ports::object_store::{Bucket, ObjectVersion};
use muonic_types::key::Principal;
use muonic_types::{Digest, ProjectId};

use super::{Error, Result};

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Nobody we know: the request has no signature.
    Anonymous,
    Key(Principal),
}

impl Caller {
    pub fn project(&self) -> Option<&ProjectId> {
        match self {
            Self::Anonymous => None,
            Self::Key(principal) => Some(&principal.project),
        }
    }

    /// As objects keep their owner; empty for nobody.
    pub fn owner(&self) -> String {
        self.project().map(ToString::to_string).unwrap_or_default()
    }
}

/// What a policy may ask about a request, by the names of condition keys in
/// lower case: `aws:sourceip`, `s3:prefix`, `s3:x-amz-acl`.
pub trait Facts: Sync {
    fn values(&self, key: &str) -> Vec<String>;
}

/// A request about which nothing is known.
pub struct NoFacts;

impl Facts for NoFacts {
    fn values(&self, _: &str) -> Vec<String> {
        Vec::new()
    }
}

/// As if a listing of the key were asked for: whoever may not have it must not
/// learn whether the key is there.
pub(super) struct AboutKey<'a> {
    pub facts: &'a dyn Facts,
    pub key: &'a str,
}

impl Facts for AboutKey<'_> {
    fn values(&self, key: &str) -> Vec<String> {
        if key == "s3:prefix" { vec![self.key.to_owned()] } else { self.facts.values(key) }
    }
}

/// A caller, and what a policy may ask about the request.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    pub caller: &'a Caller,
    pub facts: &'a dyn Facts,
    /// The project, or its canonical id, that the bucket must belong to.
    pub expected_owner: Option<&'a str>,
}

impl Call<'_> {
    pub(super) fn check_owner(&self, bucket: &Bucket) -> Result<()> {
        match self.expected_owner {
            Some(owner) if owner != bucket.project.as_str() && owner != canonical_id(bucket.project.as_str()) => {
                Err(Error::Denied(format!("bucket '{}' does not belong to the owner that is expected", bucket.name)))
            }
            _ => Ok(()),
        }
    }
}

/// An account's id, as S3 shows it.
pub fn canonical_id(project: &str) -> String {
    Digest::of(format!("muonic project {project}").as_bytes()).hex()
}

/// What the policy asks about, and no more.
pub(super) fn context(call: Call<'_>, policy: &Policy, object: Option<&ObjectVersion>) -> Context {
    let mut context = Context::new();
    for key in policy.condition_keys() {
        if let Some(tag) = key.strip_prefix("s3:existingobjecttag/") {
            let value = object.and_then(|object| object.tags.get(tag));
            value.into_iter().for_each(|value| context.add(&key, value));
            continue;
        }
        match (key.as_str(), call.caller) {
            ("aws:username" | "aws:userid", Caller::Key(principal)) => context.add(&key, principal.key.to_string()),
            ("aws:principalaccount", Caller::Key(principal)) => context.add(&key, principal.project.to_string()),
            ("aws:principaltype", caller) => {
                context.add(&key, if *caller == Caller::Anonymous { "Anonymous" } else { "User" });
            }
            _ => call.facts.values(&key).into_iter().for_each(|value| context.add(&key, value)),
        }
    }
    context
}

/// Condition keys that some request may carry.
pub(super) fn is_known_key(key: &str) -> bool {
    const KNOWN: [&str; 18] = [
        "aws:currenttime",
        "aws:epochtime",
        "aws:principalaccount",
        "aws:principaltype",
        "aws:referer",
        "aws:securetransport",
        "aws:sourceip",
        "aws:useragent",
        "aws:userid",
        "aws:username",
        "s3:authtype",
        "s3:delimiter",
        "s3:max-keys",
        "s3:prefix",
        "s3:requestobjecttagkeys",
        "s3:signatureversion",
        "s3:versionid",
        "s3:x-amz-content-sha256",
    ];
    let starts = ["s3:x-amz-", "s3:existingobjecttag/", "s3:requestobjecttag/"];
    KNOWN.contains(&key) || starts.iter().any(|start| key.starts_with(start))
}
