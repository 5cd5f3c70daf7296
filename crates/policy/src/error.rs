//! What is wrong with a document or a request. Each variant is one code of
//! S3's; the sentence says what, where and what to do.

use std::fmt;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// A bucket policy that is not one.
    MalformedPolicy(String),
    /// A configuration that does not follow its schema.
    Malformed(String),
    /// A value that is not allowed.
    Invalid(String),
    /// Parts of a configuration that do not go together.
    InvalidRequest(String),
    InvalidTag(String),
    /// The policy document of a form is not one.
    InvalidPolicyDocument(String),
    /// A document above its limit.
    TooBig(String),
    /// The body of a form is larger or smaller than its policy allows.
    EntityTooLarge(String),
    EntityTooSmall(String),
    /// ACLs are switched off for the bucket.
    AclNotSupported(String),
    /// The bucket's ACL forbids to switch ACLs off.
    InvalidBucketAcl(String),
    AccessDenied(String),
    NotImplemented(&'static str),
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// S3's code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::MalformedPolicy(_) => "MalformedPolicy",
            Self::Malformed(_) => "MalformedXML",
            Self::Invalid(_) => "InvalidArgument",
            Self::InvalidRequest(_) => "InvalidRequest",
            Self::InvalidTag(_) => "InvalidTag",
            Self::InvalidPolicyDocument(_) => "InvalidPolicyDocument",
            Self::TooBig(_) => "InvalidRequest",
            Self::EntityTooLarge(_) => "EntityTooLarge",
            Self::EntityTooSmall(_) => "EntityTooSmall",
            Self::AclNotSupported(_) => "AccessControlListNotSupported",
            Self::InvalidBucketAcl(_) => "InvalidBucketAclWithObjectOwnership",
            Self::AccessDenied(_) => "AccessDenied",
            Self::NotImplemented(_) => "NotImplemented",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotImplemented(name) => write!(f, "not implemented: {name}"),
            Self::MalformedPolicy(s)
            | Self::Malformed(s)
            | Self::Invalid(s)
            | Self::InvalidRequest(s)
            | Self::InvalidTag(s)
            | Self::InvalidPolicyDocument(s)
            | Self::TooBig(s)
            | Self::EntityTooLarge(s)
            | Self::EntityTooSmall(s)
            | Self::AclNotSupported(s)
            | Self::InvalidBucketAcl(s)
            | Self::AccessDenied(s) => f.write_str(s),
        }
    }
}

impl std::error::Error for Error {}
