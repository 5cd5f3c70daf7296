//! The object store: buckets, and in them objects by key, in S3's meaning.
//!
//! Contract for backends:
//! - A success means that bytes and metadata survive power loss.
//! - Every change is one step: a reader sees an object as it was before, or as
//!   it is after, never half of it. A change that is refused leaves nothing.
//! - Conditions are decided in the same step as the change they guard, so of
//!   many that race for one key exactly as many win as the condition allows.
//! - Bytes are verified when they are read: damage is an error at once or ends
//!   the stream in one, and is never answered as content.
//! - What a backend cannot do it refuses with [`Error::NotSupported`] before
//!   anything is changed; [`ObjectStore::abilities`] tells beforehand.
//! - Who may do what is not decided here.

mod buckets;
mod changes;
mod encryption;
mod error;
mod list;
mod lock;
mod objects;
mod sums;
mod uploads;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use muonic_types::{ProjectId, Timestamp};

pub use crate::blob_store::{ByteStream, StoreHealth};
pub use buckets::{Bucket, BucketChange, NewBucket, Versioning};
pub use changes::{Change, Changes, Happened, JOURNALED, Origin};
pub use encryption::{CustomerKey, Encryption, NewEncryption};
pub use error::{Error, Result};
pub use list::{After, ListQuery, Listing, UploadListing, UploadQuery};
pub use lock::{LockGuard, Retention, RetentionMode};
pub use objects::{
    Deleted, EtagMatch, NewObject, ObjectChange, ObjectVersion, Precondition, Removal, Target, VersionId,
};
pub use sums::{Algorithm, ChecksumType, Sums, Verify, no_check};
pub use uploads::{CompletedPart, Part, Upload};

/// What a backend can do beyond keeping and giving back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    pub versions: bool,
    /// Conditions on writes.
    pub conditions: bool,
    pub multipart: bool,
    /// Tags, access lists, retention and legal holds of objects.
    pub attributes: bool,
    /// Keys of the customer, and keys by name.
    pub encryption: bool,
    /// Journals of buckets.
    pub journal: bool,
}

#[async_trait]
pub trait ObjectStore: Send + Sync {
    fn abilities(&self, bucket: &str) -> Abilities;

    /// Names are unique over all projects. `BucketExists` where it is taken.
    async fn bucket_create(&self, new: NewBucket) -> Result<Bucket>;
    async fn bucket(&self, name: &str) -> Result<Option<Arc<Bucket>>>;
    /// Those of a project, by name; of all, where none is given.
    async fn buckets(&self, project: Option<&ProjectId>) -> Result<Vec<Bucket>>;
    /// `BucketNotEmpty` while it holds a version or a delete marker. Its open
    /// uploads end with it.
    async fn bucket_delete(&self, name: &str) -> Result<()>;
    async fn bucket_change(&self, name: &str, change: BucketChange) -> Result<Bucket>;

    /// Stores `body` under a key. `verify` is asked once, after the body's
    /// last byte and before anything is visible; its error is the answer.
    /// What the bucket's versioning says happens to what was there before; an
    /// object version under lock is never replaced.
    async fn put(&self, target: Target, new: NewObject, body: ByteStream, verify: Verify) -> Result<ObjectVersion>;

    /// The version named, or the latest, which may be a delete marker. `None`
    /// where there is none; `NoSuchBucket`.
    async fn get(&self, bucket: &str, key: &str, version: Option<&VersionId>) -> Result<Option<ObjectVersion>>;

    /// The bytes of a version that was answered by this store, or a range of
    /// them, which lies within its size. `key` where its encryption is the
    /// customer's.
    async fn read(
        &self,
        object: &ObjectVersion,
        range: Option<Range<u64>>,
        key: Option<&CustomerKey>,
    ) -> Result<ByteStream>;

    /// Stores the bytes of `source`, a version answered by this store, under
    /// another key (or the same). `source_key` where its encryption is the
    /// customer's. With `new.algorithm`, a sum is computed where the source
    /// does not have it.
    async fn copy(
        &self,
        source: &ObjectVersion,
        source_key: Option<&CustomerKey>,
        target: Target,
        new: NewObject,
    ) -> Result<ObjectVersion>;

    /// Removes versions or sets delete markers, in one step; each removal has
    /// an answer of its own. `NoSuchBucket` is about all.
    async fn delete(&self, bucket: &str, removals: Vec<Removal>, at: Timestamp) -> Result<Vec<Result<Deleted>>>;

    /// Changes what is known about a version, not its bytes. `NoSuchKey` also
    /// for a delete marker.
    async fn change(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&VersionId>,
        change: ObjectChange,
    ) -> Result<ObjectVersion>;

    async fn list(&self, bucket: &str, query: &ListQuery) -> Result<Listing>;

    /// Begins an upload in parts. `target.condition` is not looked at.
    async fn upload_create(&self, target: Target, new: NewObject) -> Result<Upload>;
    /// `NoSuchUpload` unless it is open under this bucket and key.
    async fn upload(&self, bucket: &str, key: &str, id: &str) -> Result<Upload>;
    /// Stores a part (1 to 10,000) in the place of one of that number.
    async fn upload_part(
        &self,
        upload: &Upload,
        number: u16,
        body: ByteStream,
        verify: Verify,
        key: Option<&CustomerKey>,
        at: Timestamp,
    ) -> Result<Part>;
    /// By number, those after `after`, at most `max`.
    async fn upload_parts(&self, upload: &Upload, after: u16, max: u32) -> Result<Vec<Part>>;
    /// Makes the parts listed, in this order, the object; other parts go. The
    /// time it takes does not grow with their bytes. `InvalidPartOrder`,
    /// `InvalidPart`, `PartTooSmall` (all but the last have 5 MiB at least).
    /// `sum` is the sum of the whole object that the caller expects. Where the
    /// upload was completed with these parts before, it may answer the same
    /// again, or `NoSuchUpload`.
    async fn upload_complete(
        &self,
        upload: &Upload,
        parts: Vec<CompletedPart>,
        condition: Precondition,
        sum: Option<String>,
        at: Timestamp,
    ) -> Result<ObjectVersion>;
    async fn upload_abort(&self, upload: &Upload) -> Result<()>;
    async fn uploads(&self, bucket: &str, query: &UploadQuery) -> Result<UploadListing>;
    /// The parts of a version that was uploaded in parts, by number.
    async fn parts(&self, object: &ObjectVersion, after: u16, max: u32) -> Result<Vec<Part>>;

    /// What happened in a journaled bucket after the change of this number, at
    /// most `max`; where nothing has, what happens first within `wait`. Changes
    /// are kept for a week, and 1,000,000 of all buckets together.
    async fn changes(&self, bucket: &str, after: u64, max: u32, wait: Duration) -> Result<Changes>;

    async fn health(&self) -> StoreHealth;
}
