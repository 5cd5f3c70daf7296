//! The port, as far as one mounted bucket fills it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use muonic_ports::ObjectStore;
use muonic_ports::object_store::{
    Abilities, Bucket, BucketChange, ByteStream, Changes, CompletedPart, CustomerKey, Deleted, Error, ListQuery,
    Listing, NewBucket, NewObject, ObjectChange, ObjectVersion, Part, Precondition, Removal, Result, StoreHealth,
    Target, Upload, UploadListing, UploadQuery, Verify, VersionId,
};
use muonic_types::{ProjectId, Timestamp};

use super::Remote;

#[async_trait]
impl ObjectStore for Remote {
    fn abilities(&self, _: &str) -> Abilities {
        Abilities {
            versions: false,
            conditions: self.backend.conditions,
            multipart: self.backend.multipart.is_some(),
            attributes: false,
            encryption: false,
            journal: false,
        }
    }

    async fn bucket_create(&self, _: NewBucket) -> Result<Bucket> {
        Err(Error::NotSupported("creating buckets in a mounted store"))
    }

    async fn bucket(&self, name: &str) -> Result<Option<Arc<Bucket>>> {
        Ok((name == self.bucket.name).then(|| Arc::new(self.bucket.clone())))
    }

    async fn buckets(&self, project: Option<&ProjectId>) -> Result<Vec<Bucket>> {
        let is_ours = project.is_none_or(|project| *project == self.bucket.project);
        Ok(if is_ours { vec![self.bucket.clone()] } else { Vec::new() })
    }

    async fn bucket_delete(&self, name: &str) -> Result<()> {
        self.ours(name)?;
        Err(Error::NotSupported("deleting a mounted bucket: unmount it"))
    }

    async fn bucket_change(&self, name: &str, _: BucketChange) -> Result<Bucket> {
        self.ours(name)?;
        Err(Error::NotSupported("changing a bucket of a mounted store"))
    }

    async fn put(&self, target: Target, new: NewObject, body: ByteStream, verify: Verify) -> Result<ObjectVersion> {
        self.put_object(target, new, body, verify).await
    }

    async fn get(&self, bucket: &str, key: &str, version: Option<&VersionId>) -> Result<Option<ObjectVersion>> {
        self.get_object(bucket, key, version).await
    }

    async fn read(
        &self,
        object: &ObjectVersion,
        range: Option<Range<u64>>,
        key: Option<&CustomerKey>,
    ) -> Result<ByteStream> {
        self.read_object(object, range, key).await
    }

    async fn copy(
        &self,
        source: &ObjectVersion,
        source_key: Option<&CustomerKey>,
        target: Target,
        new: NewObject,
    ) -> Result<ObjectVersion> {
        self.copy_object(source, source_key, target, new).await
    }

    async fn delete(&self, bucket: &str, removals: Vec<Removal>, _: Timestamp) -> Result<Vec<Result<Deleted>>> {
        self.delete_objects(bucket, removals).await
    }

    async fn change(
        &self,
        bucket: &str,
        _: &str,
        _: Option<&VersionId>,
        change: ObjectChange,
    ) -> Result<ObjectVersion> {
        self.ours(bucket)?;
        Err(Error::NotSupported(match change {
            ObjectChange::Tags(_) => "tags in a mounted bucket",
            ObjectChange::Acl(_) => "access lists of objects in a mounted bucket",
            ObjectChange::Retention(..) | ObjectChange::LegalHold(_) => "object lock in a mounted bucket",
        }))
    }

    async fn list(&self, bucket: &str, query: &ListQuery) -> Result<Listing> {
        self.ours(bucket)?;
        self.listed(query).await
    }

    async fn upload_create(&self, target: Target, new: NewObject) -> Result<Upload> {
        self.begin_upload(target, new).await
    }

    async fn upload(&self, bucket: &str, key: &str, id: &str) -> Result<Upload> {
        self.find_upload(bucket, key, id)
    }

    async fn upload_part(
        &self,
        upload: &Upload,
        number: u16,
        body: ByteStream,
        verify: Verify,
        key: Option<&CustomerKey>,
        at: Timestamp,
    ) -> Result<Part> {
        self.add_part(upload, number, body, verify, key, at).await
    }

    async fn upload_parts(&self, upload: &Upload, after: u16, max: u32) -> Result<Vec<Part>> {
        self.list_parts(upload, after, max)
    }

    async fn upload_complete(
        &self,
        upload: &Upload,
        parts: Vec<CompletedPart>,
        condition: Precondition,
        sum: Option<String>,
        _: Timestamp,
    ) -> Result<ObjectVersion> {
        self.end_upload(upload, parts, condition, sum).await
    }

    async fn upload_abort(&self, upload: &Upload) -> Result<()> {
        self.abort_upload(upload).await
    }

    async fn uploads(&self, bucket: &str, query: &UploadQuery) -> Result<UploadListing> {
        self.list_uploads(bucket, query)
    }

    async fn parts(&self, object: &ObjectVersion, _: u16, _: u32) -> Result<Vec<Part>> {
        self.ours(&object.bucket)?;
        Err(Error::NotSupported("the parts of an object in a mounted bucket"))
    }

    async fn changes(&self, bucket: &str, _: u64, _: u32, _: Duration) -> Result<Changes> {
        self.ours(bucket)?;
        Err(Error::NotSupported("events of a mounted bucket"))
    }

    /// The store's disk is not ours to measure.
    async fn health(&self) -> StoreHealth {
        StoreHealth { writable: true, reason: None, free_bytes: u64::MAX }
    }
}
