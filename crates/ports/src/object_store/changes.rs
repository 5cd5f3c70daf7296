use muonic_types::Timestamp;

use super::VersionId;

/// A bucket with a document of this name is journaled: its store keeps what
/// happens to its objects, from the step that sets the document on.
pub const JOURNALED: &str = "notification";

/// How a version came to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Origin {
    #[default]
    Put,
    /// Sent by a form.
    Post,
    Copy,
    Upload,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    Created(Origin),
    /// A version was removed; `expired`: by a lifecycle.
    Removed {
        expired: bool,
    },
    /// A delete marker was set.
    Marked {
        expired: bool,
    },
    Tagged,
    Untagged,
    AclSet,
}

/// What happened to an object, kept in the step in which it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Later changes have greater numbers, in all buckets; there are gaps.
    pub number: u64,
    pub what: Happened,
    pub key: String,
    pub version: VersionId,
    /// Of the version, in bytes; 0 for delete markers.
    pub size: u64,
    /// Without quotes; empty for delete markers.
    pub etag: String,
    pub at: Timestamp,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// By number.
    pub changes: Vec<Change>,
    /// Changes up to this number may have been forgotten.
    pub forgotten: u64,
}
