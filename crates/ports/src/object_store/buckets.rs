use std::collections::BTreeMap;

use muonic_types::{ProjectId, Timestamp};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Versioning {
    /// Never switched on: a put replaces.
    #[default]
    Off,
    On,
    /// Switched off again: what has a version keeps it, puts make the version `null`.
    Suspended,
}

#[derive(Debug, Clone)]
pub struct NewBucket {
    pub name: String,
    pub project: ProjectId,
    pub at: Timestamp,
    /// Object lock: switches versioning on for good.
    pub lock: bool,
    pub documents: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    pub name: String,
    pub project: ProjectId,
    pub created_at: Timestamp,
    pub versioning: Versioning,
    /// Whether versions may be locked.
    pub lock: bool,
    /// What services keep about it, by a name of theirs: policy, cors, tags,
    /// lifecycle and the like. The store does not look into them.
    pub documents: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum BucketChange {
    /// `BucketState` for `Off`, and for `Suspended` under object lock.
    Versioning(Versioning),
    /// Allows locks; `BucketState` unless versioning is on.
    Lock,
    /// Sets or removes a document.
    Document(String, Option<String>),
}
