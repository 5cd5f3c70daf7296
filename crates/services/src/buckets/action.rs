//! What can be done with buckets and objects, as policies name it, and what of
//! a role it takes. `muonic_policy::access` has the same table of rights; a
//! test holds them together.

use crate::auth;

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
            #[cfg(test)]
            pub(super) const ALL: &[Self] = &[$(Self::$name),+];
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
    PUT_POLICY = "s3:PutBucketPolicy" Administer;
    DELETE_POLICY = "s3:DeleteBucketPolicy" Administer;
    GET_POLICY_STATUS = "s3:GetBucketPolicyStatus" Read;
    GET_BUCKET_ACL = "s3:GetBucketAcl" Read;
    PUT_BUCKET_ACL = "s3:PutBucketAcl" Administer;
    GET_CORS = "s3:GetBucketCORS" Read;
    PUT_CORS = "s3:PutBucketCORS" WriteData;
    GET_LIFECYCLE = "s3:GetLifecycleConfiguration" Read;
    PUT_LIFECYCLE = "s3:PutLifecycleConfiguration" WriteData;
    GET_ENCRYPTION = "s3:GetEncryptionConfiguration" Read;
    PUT_ENCRYPTION = "s3:PutEncryptionConfiguration" WriteData;
    GET_NOTIFICATION = "s3:GetBucketNotification" Read;
    PUT_NOTIFICATION = "s3:PutBucketNotification" WriteData;
    GET_PUBLIC_BLOCK = "s3:GetBucketPublicAccessBlock" Read;
    PUT_PUBLIC_BLOCK = "s3:PutBucketPublicAccessBlock" Administer;
    GET_OWNERSHIP = "s3:GetBucketOwnershipControls" Read;
    PUT_OWNERSHIP = "s3:PutBucketOwnershipControls" Administer;
    GET_CONFIGURATION = "s3:GetBucketWebsite" Read;
}
