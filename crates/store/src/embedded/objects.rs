//! The port of objects.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use muonic_ports::ObjectStore;
use muonic_ports::object_store::*;
use muonic_types::{ProjectId, Timestamp};

use super::EmbeddedStore;
use crate::data::key_md5;
use crate::index::{NewContent, NewPart};

#[async_trait]
impl ObjectStore for EmbeddedStore {
    fn abilities(&self, _bucket: &str) -> Abilities {
        Abilities {
            versions: true,
            conditions: true,
            multipart: true,
            attributes: true,
            encryption: true,
            journal: true,
        }
    }

    async fn bucket_create(&self, new: NewBucket) -> Result<Bucket> {
        self.must_be_writable()?;
        self.index().bucket_create(new).await
    }

    async fn bucket(&self, name: &str) -> Result<Option<Arc<Bucket>>> {
        self.index().bucket(name)
    }

    async fn buckets(&self, project: Option<&ProjectId>) -> Result<Vec<Bucket>> {
        self.index().buckets(project).await
    }

    async fn bucket_delete(&self, name: &str) -> Result<()> {
        self.must_be_writable()?;
        self.index().bucket_delete(name).await
    }

    async fn bucket_change(&self, name: &str, change: BucketChange) -> Result<Bucket> {
        self.must_be_writable()?;
        self.index().bucket_change(name, change).await
    }

    async fn put(&self, target: Target, new: NewObject, body: ByteStream, verify: Verify) -> Result<ObjectVersion> {
        self.must_be_writable()?;
        // Before the body: much of it should not travel in vain.
        if self.index().bucket(&target.bucket)?.is_none() {
            return Err(Error::NoSuchBucket);
        }
        let (seal, encryption) = self.sealing(&new.encryption)?;
        let (written, sums) = self.data().write(body, &new.algorithms, seal).await?;
        verify(&sums)?;
        let index = self.index().clone();
        let new = without_secrets(&new);
        self.named(
            written,
            |extent| async move { index.put(target, new, NewContent { extent, encryption, sums }).await },
        )
        .await
    }

    async fn get(&self, bucket: &str, key: &str, version: Option<&VersionId>) -> Result<Option<ObjectVersion>> {
        self.index().get(bucket, key, version)
    }

    async fn read(
        &self,
        object: &ObjectVersion,
        range: Option<Range<u64>>,
        key: Option<&CustomerKey>,
    ) -> Result<ByteStream> {
        self.bytes_of(object, range, key).await
    }

    async fn copy(
        &self,
        source: &ObjectVersion,
        source_key: Option<&CustomerKey>,
        target: Target,
        new: NewObject,
    ) -> Result<ObjectVersion> {
        self.must_be_writable()?;
        if shares(source, &new, &self.sealing(&new.encryption)?.1) {
            return self.index().put_shared(source.clone(), target, new).await;
        }
        let body = self.bytes_of(source, None, source_key).await?;
        self.put(target, new, body, no_check()).await
    }

    async fn delete(&self, bucket: &str, removals: Vec<Removal>, at: Timestamp) -> Result<Vec<Result<Deleted>>> {
        self.must_be_writable()?;
        self.index().delete(bucket, removals, at).await
    }

    async fn change(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&VersionId>,
        change: ObjectChange,
    ) -> Result<ObjectVersion> {
        self.must_be_writable()?;
        self.index().change(bucket, key, version, change, Timestamp::now()).await
    }

    async fn list(&self, bucket: &str, query: &ListQuery) -> Result<Listing> {
        self.index().list(bucket, query).await
    }

    async fn upload_create(&self, target: Target, new: NewObject) -> Result<Upload> {
        self.must_be_writable()?;
        let encryption = self.sealing(&new.encryption)?.1;
        self.index().upload_create(target, without_secrets(&new), encryption).await
    }

    async fn upload(&self, bucket: &str, key: &str, id: &str) -> Result<Upload> {
        self.index().upload(bucket, key, id)
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
        self.must_be_writable()?;
        self.index().upload(&upload.bucket, &upload.key, &upload.id)?;
        let new = part_encryption(upload, key)?;
        let (written, sums) = self.data().write(body, &upload.new.algorithms, self.sealing(&new)?.0).await?;
        verify(&sums)?;
        let (index, upload) = (self.index().clone(), upload.clone());
        self.named(
            written,
            |extent| async move { index.upload_part(&upload, NewPart { number, extent, sums, at }).await },
        )
        .await
    }

    async fn upload_parts(&self, upload: &Upload, after: u16, max: u32) -> Result<Vec<Part>> {
        self.index().upload_parts(upload, after, max).await
    }

    async fn upload_complete(
        &self,
        upload: &Upload,
        parts: Vec<CompletedPart>,
        condition: Precondition,
        sum: Option<String>,
        at: Timestamp,
    ) -> Result<ObjectVersion> {
        self.must_be_writable()?;
        self.index().upload_complete(upload, parts, condition, sum, at).await
    }

    async fn upload_abort(&self, upload: &Upload) -> Result<()> {
        self.must_be_writable()?;
        self.index().upload_abort(upload).await
    }

    async fn uploads(&self, bucket: &str, query: &UploadQuery) -> Result<UploadListing> {
        self.index().uploads(bucket, query).await
    }

    async fn parts(&self, object: &ObjectVersion, after: u16, max: u32) -> Result<Vec<Part>> {
        self.index().parts(object, after, max).await
    }

    async fn changes(&self, bucket: &str, after: u64, max: u32, wait: Duration) -> Result<Changes> {
        self.index().changes(bucket, after, max, wait).await
    }

    async fn health(&self) -> StoreHealth {
        self.health_now().await
    }
}

/// Whether a copy may name the bytes of its source: they would be encrypted
/// alike, and no sum is asked for that is not known. What the customer's key
/// wraps is written anew, so that it has a data key of its own.
fn shares(source: &ObjectVersion, new: &NewObject, encryption: &Encryption) -> bool {
    let alike = source.encryption == *encryption && !matches!(encryption, Encryption::Customer { .. });
    let summed = match new.algorithm {
        None => true,
        Some(wanted) => source
            .sum
            .as_ref()
            .is_some_and(|(algorithm, kind, _)| *algorithm == wanted && *kind == ChecksumType::FullObject),
    };
    alike && summed && source.parts == 0
}

/// Each part is sealed as the upload was begun; a customer sends the key with
/// each of them.
fn part_encryption(upload: &Upload, key: Option<&CustomerKey>) -> Result<NewEncryption> {
    match (&upload.encryption, key) {
        (Encryption::Customer { key_md5: expected }, Some(key)) => {
            if key_md5(key) != *expected {
                return Err(Error::CustomerKey("this is not the key that the upload was begun with"));
            }
            Ok(NewEncryption::Customer(key.clone()))
        }
        (Encryption::Customer { .. }, None) => {
            Err(Error::CustomerKey("the upload was begun with a customer's key, which must be sent with each part"))
        }
        (_, Some(_)) => Err(Error::CustomerKey("the upload was not begun with a customer's key")),
        (Encryption::Named(name), None) => Ok(NewEncryption::Named(Some(name.clone()))),
        (Encryption::Store | Encryption::None, None) => Ok(NewEncryption::Store),
    }
}

/// The index has no use for a customer's key.
fn without_secrets(new: &NewObject) -> NewObject {
    NewObject { encryption: NewEncryption::Store, ..new.clone() }
}
