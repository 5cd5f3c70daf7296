use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use muonic_types::Timestamp;

use super::{Algorithm, ChecksumType, Encryption, LockGuard, NewEncryption, Origin, Retention};

/// The id of a version; opaque but for `null`, the version of a bucket that
/// keeps none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId(pub String);

impl VersionId {
    pub const NULL: &'static str = "null";

    pub fn null() -> Self {
        Self(Self::NULL.to_owned())
    }

    pub fn is_null(&self) -> bool {
        self.0 == Self::NULL
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where an object goes, and under which condition.
#[derive(Debug, Clone)]
pub struct Target {
    pub bucket: String,
    pub key: String,
    pub condition: Precondition,
    pub at: Timestamp,
}

/// What is known of an object before its bytes.
#[derive(Debug, Clone, Default)]
pub struct NewObject {
    /// Content headers and `x-amz-meta-` values to give back, by lower-case
    /// name.
    pub headers: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
    /// Documents of the services, kept as they are: the owner, and the access
    /// list.
    pub owner: String,
    pub acl: Option<String>,
    pub encryption: NewEncryption,
    pub retention: Option<Retention>,
    pub legal_hold: bool,
    /// Sums to compute for `verify`, beside MD5.
    pub algorithms: BTreeSet<Algorithm>,
    /// The sum that is kept with the object, one of `algorithms`.
    pub algorithm: Option<Algorithm>,
    /// For uploads in parts.
    pub checksum_type: Option<ChecksumType>,
    /// For the bucket's journal; a completed upload has its own.
    pub origin: Origin,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ObjectVersion {
    pub bucket: String,
    pub key: String,
    pub version: VersionId,
    pub latest: bool,
    /// Then only `key`, `version`, `latest`, `owner` and `modified_at` mean anything.
    pub is_delete_marker: bool,
    pub size: u64,
    /// Without quotes.
    pub etag: String,
    pub modified_at: Timestamp,
    pub headers: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
    pub owner: String,
    pub acl: Option<String>,
    pub encryption: Encryption,
    pub retention: Option<Retention>,
    pub legal_hold: bool,
    /// The sum kept, in Base64 (with `-N` after it where it is composite).
    pub sum: Option<(Algorithm, ChecksumType, String)>,
    /// How many parts it was uploaded in; 0 where it was not.
    pub parts: u16,
    /// Where the store finds its bytes; means nothing to others.
    pub content: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EtagMatch {
    Any,
    /// Any one of these, without quotes.
    Tags(Vec<String>),
}

impl EtagMatch {
    pub fn matches(&self, etag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Tags(tags) => tags.iter().any(|tag| tag == etag),
        }
    }
}

/// What must hold of the latest version (or of the one named, for removals)
/// when the change is made. A delete marker counts as nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Precondition {
    /// `NoSuchKey` where there is nothing; `PreconditionFailed` where it is another.
    pub if_match: Option<EtagMatch>,
    pub if_none_match: Option<EtagMatch>,
    /// To the second; removals only.
    pub if_modified_at: Option<Timestamp>,
    /// Removals only.
    pub if_size: Option<u64>,
}

/// The removal of a version, or with `version: None` of a key: then a bucket
/// with versions gets a delete marker.
#[derive(Debug, Clone)]
pub struct Removal {
    pub key: String,
    pub version: Option<VersionId>,
    pub condition: Precondition,
    pub guard: LockGuard,
    /// Owner of the delete marker, if one is set.
    pub owner: String,
    /// Whether a lifecycle asks for it.
    pub expired: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deleted {
    /// The version that was removed, or the delete marker that was set.
    pub version: Option<VersionId>,
    /// Whether that is a delete marker.
    pub delete_marker: bool,
    /// Whether anything was there.
    pub found: bool,
}

#[derive(Debug, Clone)]
pub enum ObjectChange {
    Tags(BTreeMap<String, String>),
    Acl(Option<String>),
    /// Refused where it would weaken what the guard may not.
    Retention(Option<Retention>, LockGuard),
    LegalHold(bool),
}
