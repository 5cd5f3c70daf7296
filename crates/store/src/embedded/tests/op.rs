//! What a worker asks of the store, and what it is told.

use serde::{Deserialize, Serialize};

use super::body::Body;
use super::ledger::Sealed;

/// Condition of a put.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Only {
    Always,
    /// If-None-Match: *
    Absent,
    /// If-Match, with an ETag.
    Is(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Op {
    BucketCreate {
        bucket: String,
        lock: bool,
    },
    BucketDelete {
        bucket: String,
    },
    Versioning {
        bucket: String,
        on: bool,
    },
    Document {
        bucket: String,
        name: String,
        text: Option<String>,
    },
    Put {
        bucket: String,
        key: String,
        at: i64,
        body: Body,
        sealed: Sealed,
        header: u64,
        only: Only,
    },
    /// Two at once, of which one may win.
    Race {
        bucket: String,
        key: String,
        at: i64,
        bodies: [Body; 2],
    },
    Copy {
        from: (String, String, String),
        bucket: String,
        key: String,
        at: i64,
        sealed: Sealed,
        header: u64,
    },
    Delete {
        bucket: String,
        at: i64,
        removals: Vec<(String, Option<String>)>,
        bypass: bool,
    },
    Tags {
        bucket: String,
        key: String,
        id: String,
        tags: u64,
    },
    Retain {
        bucket: String,
        key: String,
        id: String,
        retained: bool,
        at: i64,
    },
    Hold {
        bucket: String,
        key: String,
        id: String,
        hold: bool,
    },
    UploadCreate {
        bucket: String,
        key: String,
        at: i64,
        header: u64,
        sealed: Sealed,
    },
    Part {
        bucket: String,
        id: String,
        number: u16,
        body: Body,
        at: i64,
    },
    Complete {
        bucket: String,
        id: String,
        numbers: Vec<u16>,
        at: i64,
    },
    Abort {
        bucket: String,
        id: String,
    },
    BlobPut {
        body: Body,
        twice: bool,
    },
    BlobBatch {
        bodies: Vec<Body>,
    },
    BlobRemove {
        body: Body,
    },
    Rotate {
        named: bool,
    },
}

/// What was acknowledged: ids, or why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Outcome {
    Done(Vec<String>),
    Refused(String),
}
