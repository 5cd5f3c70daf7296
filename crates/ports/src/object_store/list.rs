use super::{ObjectVersion, Upload, VersionId};

/// Where a page begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum After {
    #[default]
    Start,
    /// After this key, or after all that is rolled up into this prefix.
    Key(String),
    /// After this version of a key; only with `versions`.
    Version(String, VersionId),
}

/// Which part of a bucket is asked for.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    pub prefix: String,
    /// Keys that share a prefix up to it are rolled up.
    pub delimiter: Option<String>,
    pub after: After,
    /// Most objects and prefixes together.
    pub max: u32,
    /// All versions and delete markers, the latest first; else the latest of
    /// each key, without those that are deleted.
    pub versions: bool,
}

/// Keys in byte order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listing {
    /// Of these, `tags`, `acl` and `headers` may be left out.
    pub objects: Vec<ObjectVersion>,
    pub prefixes: Vec<String>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<After>,
}

#[derive(Debug, Clone, Default)]
pub struct UploadQuery {
    pub prefix: String,
    pub delimiter: Option<String>,
    /// After this key; with an id, after that upload of it.
    pub after: Option<(String, Option<String>)>,
    pub max: u32,
}

/// By key, then by the time they began.
#[derive(Debug, Clone, Default)]
pub struct UploadListing {
    pub uploads: Vec<Upload>,
    pub prefixes: Vec<String>,
    /// Key, and id where the page ended at an upload.
    pub next: Option<(String, Option<String>)>,
}
