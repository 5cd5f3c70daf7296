//! Who may do what with a bucket and what is in it: decided here and nowhere
//! else, from who calls, what they want to do, and what the bucket's owner has
//! said.
//!
//! - A key does what its role allows in the buckets of its project, unless the
//!   bucket's policy denies it by name.
//! - All others do what the bucket's policy or an access list allows them, and
//!   the block of public access does not take back.

use muonic_ports::object_store::{Bucket, ObjectVersion};
use muonic_types::key::{Principal, Role};
use muonic_types::{Digest, ProjectId};

use super::{Error, Result};
use crate::auth;

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

/// What a request wants to do, as policies name it, and as roles allow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    pub name: &'static str,
    pub(super) needs: auth::Action,
}

macro_rules! actions {
    ($($name:ident = $text:literal $needs:ident;)+) => {
        impl Action {
            $(pub const $name: Self = Self { name: $text, needs: auth::Action::$needs };)+
        }
    };
}

actions! {
    LIST_BUCKETS = "s3:ListAllMyBuckets" Read;
    CREATE_BUCKET = "s3:CreateBucket" WriteData;
    DELETE_BUCKET = "s3:DeleteBucket" WriteData;
    LIST = "s3:ListBucket" Read;
    LIST_VERSIONS = "s3:ListBucketVersions" Read;
    LIST_UPLOADS = "s3:ListBucketMultipartUploads" Read;
    LOCATION = "s3:GetBucketLocation" Read;
    GET_VERSIONING = "s3:GetBucketVersioning" Read;
    PUT_VERSIONING = "s3:PutBucketVersioning" WriteData;
    GET = "s3:GetObject" Read;
    GET_VERSION = "s3:GetObjectVersion" Read;
    GET_ATTRIBUTES = "s3:GetObjectAttributes" Read;
    PUT = "s3:PutObject" WriteData;
    DELETE = "s3:DeleteObject" WriteData;
    DELETE_VERSION = "s3:DeleteObjectVersion" WriteData;
    ABORT = "s3:AbortMultipartUpload" WriteData;
    LIST_PARTS = "s3:ListMultipartUploadParts" Read;
    GET_TAGS = "s3:GetObjectTagging" Read;
    PUT_TAGS = "s3:PutObjectTagging" WriteData;
    DELETE_TAGS = "s3:DeleteObjectTagging" WriteData;
    GET_VERSION_TAGS = "s3:GetObjectVersionTagging" Read;
    PUT_VERSION_TAGS = "s3:PutObjectVersionTagging" WriteData;
    DELETE_VERSION_TAGS = "s3:DeleteObjectVersionTagging" WriteData;
    GET_ACL = "s3:GetObjectAcl" Read;
    PUT_ACL = "s3:PutObjectAcl" WriteData;
    GET_VERSION_ACL = "s3:GetObjectVersionAcl" Read;
    PUT_VERSION_ACL = "s3:PutObjectVersionAcl" WriteData;
    GET_RETENTION = "s3:GetObjectRetention" Read;
    PUT_RETENTION = "s3:PutObjectRetention" WriteData;
    GET_LEGAL_HOLD = "s3:GetObjectLegalHold" Read;
    PUT_LEGAL_HOLD = "s3:PutObjectLegalHold" WriteData;
    BYPASS = "s3:BypassGovernanceRetention" Administer;
    GET_BUCKET_TAGS = "s3:GetBucketTagging" Read;
    PUT_BUCKET_TAGS = "s3:PutBucketTagging" WriteData;
    GET_LOCK = "s3:GetBucketObjectLockConfiguration" Read;
    PUT_LOCK = "s3:PutBucketObjectLockConfiguration" WriteData;
    GET_POLICY = "s3:GetBucketPolicy" Read;
    PUT_POLICY = "s3:PutBucketPolicy" WriteData;
    DELETE_POLICY = "s3:DeleteBucketPolicy" WriteData;
    GET_POLICY_STATUS = "s3:GetBucketPolicyStatus" Read;
    GET_BUCKET_ACL = "s3:GetBucketAcl" Read;
    PUT_BUCKET_ACL = "s3:PutBucketAcl" WriteData;
    GET_CORS = "s3:GetBucketCORS" Read;
    PUT_CORS = "s3:PutBucketCORS" WriteData;
    GET_LIFECYCLE = "s3:GetLifecycleConfiguration" Read;
    PUT_LIFECYCLE = "s3:PutLifecycleConfiguration" WriteData;
    GET_ENCRYPTION = "s3:GetEncryptionConfiguration" Read;
    PUT_ENCRYPTION = "s3:PutEncryptionConfiguration" WriteData;
    GET_NOTIFICATION = "s3:GetBucketNotification" Read;
    PUT_NOTIFICATION = "s3:PutBucketNotification" WriteData;
    GET_PUBLIC_BLOCK = "s3:GetBucketPublicAccessBlock" Read;
    PUT_PUBLIC_BLOCK = "s3:PutBucketPublicAccessBlock" WriteData;
    GET_OWNERSHIP = "s3:GetBucketOwnershipControls" Read;
    PUT_OWNERSHIP = "s3:PutBucketOwnershipControls" WriteData;
    GET_CONFIGURATION = "s3:GetBucketConfiguration" Read;
}

/// An account's id, as S3 shows it.
pub fn canonical_id(project: &str) -> String {
    Digest::of(format!("muonic project {project}").as_bytes()).hex()
}

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

/// As [`authorise`], for where it is no failure. The role's refusal is one.
pub fn is_allowed(
    call: Call<'_>,
    action: Action,
    bucket: &Bucket,
    _key: Option<&str>,
    _object: Option<&ObjectVersion>,
) -> Result<bool> {
    let Caller::Key(principal) = call.caller else { return Ok(false) };
    auth::authorise(principal, action.needs)?;
    Ok(principal.project == bucket.project)
}

/// Whether the caller may bypass governance, having asked to.
pub fn may_bypass(call: Call<'_>, asked: bool, bucket: &Bucket) -> bool {
    asked
        && matches!(call.caller, Caller::Key(Principal { role: Role::Admin, .. }))
        && is_allowed(call, Action::BYPASS, bucket, None, None).unwrap_or(false)
}

pub(super) fn denied(call: Call<'_>, action: Action, bucket: &str) -> Error {
    let who = match call.caller {
        Caller::Anonymous => "a request without a signature".to_owned(),
        Caller::Key(principal) => format!("the key {}", principal.key),
    };
    Error::Denied(format!("{who} may not {} in bucket '{bucket}'", action.name))
}
