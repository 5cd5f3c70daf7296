//! Sends each call where its bucket lies.

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

use super::{Mounts, Place};
use crate::record::DOCUMENT;
use crate::remote::all_of;

impl Place {
    fn store<'a>(&'a self, mounts: &'a Mounts) -> &'a dyn ObjectStore {
        match self {
            Self::Embedded => &*mounts.embedded,
            Self::Mounted(remote) => &**remote,
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Embedded, Self::Embedded) => true,
            (Self::Mounted(a), Self::Mounted(b)) => std::sync::Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

fn no_mount_by_hand<T>(bucket: &str) -> Result<T> {
    Err(Error::BucketState(format!("the mount of '{bucket}' cannot be set like this: mount and unmount do")))
}

#[async_trait]
impl ObjectStore for Mounts {
    /// Of a bucket that has not been asked for yet, what the embedded store
    /// can do: look at `bucket` first.
    fn abilities(&self, bucket: &str) -> Abilities {
        match self.cached(bucket).0 {
            Some(place) => place.store(self).abilities(bucket),
            None => self.embedded.abilities(bucket),
        }
    }

    async fn bucket_create(&self, new: NewBucket) -> Result<Bucket> {
        if new.documents.contains_key(DOCUMENT) {
            return no_mount_by_hand(&new.name);
        }
        let name = new.name.clone();
        let made = self.embedded.bucket_create(new).await;
        self.forget(&name);
        made
    }

    async fn bucket(&self, name: &str) -> Result<Option<Arc<Bucket>>> {
        let (known, before) = self.cached(name);
        let found = self.embedded.bucket(name).await?;
        if let (None, Some(bucket)) = (known, &found) {
            // A mount that cannot be used is still a bucket.
            self.learn(bucket, before).ok();
        }
        Ok(found)
    }

    async fn buckets(&self, project: Option<&ProjectId>) -> Result<Vec<Bucket>> {
        self.embedded.buckets(project).await
    }

    async fn bucket_delete(&self, name: &str) -> Result<()> {
        let found = self.embedded.bucket(name).await?.ok_or(Error::NoSuchBucket)?;
        if found.documents.contains_key(DOCUMENT) {
            return Err(Error::NotSupported("deleting a mounted bucket: unmount it"));
        }
        let deleted = self.embedded.bucket_delete(name).await;
        self.forget(name);
        deleted
    }

    async fn bucket_change(&self, name: &str, change: BucketChange) -> Result<Bucket> {
        if matches!(&change, BucketChange::Document(document, _) if document == DOCUMENT) {
            return no_mount_by_hand(name);
        }
        if !matches!(change, BucketChange::Document(..)) {
            let found = self.embedded.bucket(name).await?.ok_or(Error::NoSuchBucket)?;
            if found.documents.contains_key(DOCUMENT) {
                return Err(Error::NotSupported("versions and object lock in a mounted bucket"));
            }
        }
        // Where its objects lie does not change with it.
        self.embedded.bucket_change(name, change).await
    }

    async fn put(&self, target: Target, new: NewObject, body: ByteStream, verify: Verify) -> Result<ObjectVersion> {
        let place = self.place(&target.bucket).await?;
        place.store(self).put(target, new, body, verify).await
    }

    async fn get(&self, bucket: &str, key: &str, version: Option<&VersionId>) -> Result<Option<ObjectVersion>> {
        self.place(bucket).await?.store(self).get(bucket, key, version).await
    }

    async fn read(
        &self,
        object: &ObjectVersion,
        range: Option<Range<u64>>,
        key: Option<&CustomerKey>,
    ) -> Result<ByteStream> {
        self.place(&object.bucket).await?.store(self).read(object, range, key).await
    }

    /// From one store to another the bytes go through this server.
    async fn copy(
        &self,
        source: &ObjectVersion,
        source_key: Option<&CustomerKey>,
        target: Target,
        mut new: NewObject,
    ) -> Result<ObjectVersion> {
        let (from, to) = (self.place(&source.bucket).await?, self.place(&target.bucket).await?);
        if from.is_same(&to) {
            return to.store(self).copy(source, source_key, target, new).await;
        }
        new.algorithms.extend(new.algorithm);
        let body = from.store(self).read(source, None, source_key).await?;
        to.store(self).put(target, new, body, all_of(source)).await
    }

    async fn delete(&self, bucket: &str, removals: Vec<Removal>, at: Timestamp) -> Result<Vec<Result<Deleted>>> {
        self.place(bucket).await?.store(self).delete(bucket, removals, at).await
    }

    async fn change(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&VersionId>,
        change: ObjectChange,
    ) -> Result<ObjectVersion> {
        self.place(bucket).await?.store(self).change(bucket, key, version, change).await
    }

    async fn list(&self, bucket: &str, query: &ListQuery) -> Result<Listing> {
        self.place(bucket).await?.store(self).list(bucket, query).await
    }

    async fn upload_create(&self, target: Target, new: NewObject) -> Result<Upload> {
        let place = self.place(&target.bucket).await?;
        place.store(self).upload_create(target, new).await
    }

    async fn upload(&self, bucket: &str, key: &str, id: &str) -> Result<Upload> {
        self.place(bucket).await?.store(self).upload(bucket, key, id).await
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
        let place = self.place(&upload.bucket).await?;
        place.store(self).upload_part(upload, number, body, verify, key, at).await
    }

    async fn upload_parts(&self, upload: &Upload, after: u16, max: u32) -> Result<Vec<Part>> {
        self.place(&upload.bucket).await?.store(self).upload_parts(upload, after, max).await
    }

    async fn upload_complete(
        &self,
        upload: &Upload,
        parts: Vec<CompletedPart>,
        condition: Precondition,
        sum: Option<String>,
        at: Timestamp,
    ) -> Result<ObjectVersion> {
        let place = self.place(&upload.bucket).await?;
        place.store(self).upload_complete(upload, parts, condition, sum, at).await
    }

    async fn upload_abort(&self, upload: &Upload) -> Result<()> {
        self.place(&upload.bucket).await?.store(self).upload_abort(upload).await
    }

    async fn uploads(&self, bucket: &str, query: &UploadQuery) -> Result<UploadListing> {
        self.place(bucket).await?.store(self).uploads(bucket, query).await
    }

    async fn parts(&self, object: &ObjectVersion, after: u16, max: u32) -> Result<Vec<Part>> {
        self.place(&object.bucket).await?.store(self).parts(object, after, max).await
    }

    async fn changes(&self, bucket: &str, after: u64, max: u32, wait: Duration) -> Result<Changes> {
        self.place(bucket).await?.store(self).changes(bucket, after, max, wait).await
    }

    /// Of the embedded store: a mounted one that is down is no reason to take
    /// this server out of service.
    async fn health(&self) -> StoreHealth {
        self.embedded.health().await
    }
}
