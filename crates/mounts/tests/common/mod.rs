//! A store with buckets of its own for the tests: each is a folder. The real
//! one is not needed to see where calls go.

// Not every test needs all of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use muonic_mounts::{MasterSealer, MountSpec, Mounts, Remote};
use muonic_ports::ObjectStore;
use muonic_ports::object_store::*;
use muonic_types::{ProjectId, Timestamp};
use tempfile::TempDir;

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).expect("in range")
}

pub fn target(bucket: &str, key: &str) -> Target {
    Target { bucket: bucket.to_owned(), key: key.to_owned(), condition: Precondition::default(), at: at(1) }
}

pub fn body(bytes: &[u8]) -> ByteStream {
    let pieces: Vec<_> = bytes.chunks(100_000).map(|p| Ok(Bytes::copy_from_slice(p))).collect();
    stream::iter(pieces).boxed()
}

pub async fn whole(store: &dyn ObjectStore, object: &ObjectVersion) -> Vec<u8> {
    let pieces: Vec<Bytes> =
        store.read(object, None, None).await.expect("read").try_collect().await.expect("all of it");
    pieces.concat()
}

pub fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

pub fn new_bucket(name: &str) -> NewBucket {
    let project = ProjectId::default_project();
    NewBucket { name: name.to_owned(), project, at: at(0), lock: false, documents: BTreeMap::new() }
}

pub fn remote(url: &str, options: &BTreeMap<String, String>, new: NewBucket) -> Arc<Remote> {
    let spec = MountSpec::parse(url, options).expect("a mount");
    Arc::new(Remote::open(made(new), &spec).expect("opened"))
}

fn made(new: NewBucket) -> Bucket {
    let NewBucket { name, project, at, lock, documents } = new;
    Bucket { name, project, created_at: at, versioning: Versioning::Off, lock, documents }
}

/// With the folder that it lies in.
type Kept = (Bucket, Arc<Remote>, TempDir);

#[derive(Default)]
pub struct Embedded {
    buckets: Mutex<BTreeMap<String, Kept>>,
}

/// Around `embedded`, with the key that is asked for.
pub fn mounts(embedded: Arc<Embedded>, key: u8, folders: &[&Path]) -> Arc<Mounts> {
    let folders = folders.iter().map(|f| f.to_path_buf()).collect();
    Arc::new(Mounts::new(embedded, Arc::new(MasterSealer::new([key; 32])), folders))
}

impl Embedded {
    fn of(&self, bucket: &str) -> Result<Arc<Remote>> {
        self.buckets
            .lock()
            .expect("no panic")
            .get(bucket)
            .map(|(_, remote, _)| remote.clone())
            .ok_or(Error::NoSuchBucket)
    }
}

#[async_trait]
impl ObjectStore for Embedded {
    fn abilities(&self, _: &str) -> Abilities {
        Abilities { versions: true, conditions: true, multipart: true, attributes: true, encryption: true }
    }

    async fn bucket_create(&self, new: NewBucket) -> Result<Bucket> {
        let mut buckets = self.buckets.lock().expect("no panic");
        if buckets.contains_key(&new.name) {
            return Err(Error::BucketExists);
        }
        let folder = tempfile::tempdir().expect("a folder");
        let remote = remote(&format!("file://{}", folder.path().display()), &BTreeMap::new(), new.clone());
        let bucket = made(new);
        buckets.insert(bucket.name.clone(), (bucket.clone(), remote, folder));
        Ok(bucket)
    }

    async fn bucket(&self, name: &str) -> Result<Option<Arc<Bucket>>> {
        Ok(self.buckets.lock().expect("no panic").get(name).map(|(bucket, ..)| Arc::new(bucket.clone())))
    }

    async fn buckets(&self, project: Option<&ProjectId>) -> Result<Vec<Bucket>> {
        let buckets = self.buckets.lock().expect("no panic");
        Ok(buckets
            .values()
            .map(|(bucket, ..)| bucket.clone())
            .filter(|b| project.is_none_or(|p| b.project == *p))
            .collect())
    }

    async fn bucket_delete(&self, name: &str) -> Result<()> {
        self.buckets.lock().expect("no panic").remove(name).map(drop).ok_or(Error::NoSuchBucket)
    }

    async fn bucket_change(&self, name: &str, change: BucketChange) -> Result<Bucket> {
        let mut buckets = self.buckets.lock().expect("no panic");
        let (bucket, ..) = buckets.get_mut(name).ok_or(Error::NoSuchBucket)?;
        match change {
            BucketChange::Document(name, Some(text)) => drop(bucket.documents.insert(name, text)),
            BucketChange::Document(name, None) => drop(bucket.documents.remove(&name)),
            BucketChange::Versioning(versioning) => bucket.versioning = versioning,
            BucketChange::Lock => bucket.lock = true,
        }
        Ok(bucket.clone())
    }

    async fn put(&self, target: Target, new: NewObject, body: ByteStream, verify: Verify) -> Result<ObjectVersion> {
        self.of(&target.bucket)?.put(target, new, body, verify).await
    }

    async fn get(&self, bucket: &str, key: &str, version: Option<&VersionId>) -> Result<Option<ObjectVersion>> {
        self.of(bucket)?.get(bucket, key, version).await
    }

    async fn read(
        &self,
        object: &ObjectVersion,
        range: Option<Range<u64>>,
        key: Option<&CustomerKey>,
    ) -> Result<ByteStream> {
        self.of(&object.bucket)?.read(object, range, key).await
    }

    async fn copy(
        &self,
        source: &ObjectVersion,
        key: Option<&CustomerKey>,
        target: Target,
        new: NewObject,
    ) -> Result<ObjectVersion> {
        self.of(&target.bucket)?.copy(source, key, target, new).await
    }

    async fn delete(&self, bucket: &str, removals: Vec<Removal>, at: Timestamp) -> Result<Vec<Result<Deleted>>> {
        self.of(bucket)?.delete(bucket, removals, at).await
    }

    async fn change(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&VersionId>,
        change: ObjectChange,
    ) -> Result<ObjectVersion> {
        self.of(bucket)?.change(bucket, key, version, change).await
    }

    async fn list(&self, bucket: &str, query: &ListQuery) -> Result<Listing> {
        self.of(bucket)?.list(bucket, query).await
    }

    async fn upload_create(&self, target: Target, new: NewObject) -> Result<Upload> {
        self.of(&target.bucket)?.upload_create(target, new).await
    }

    async fn upload(&self, bucket: &str, key: &str, id: &str) -> Result<Upload> {
        self.of(bucket)?.upload(bucket, key, id).await
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
        self.of(&upload.bucket)?.upload_part(upload, number, body, verify, key, at).await
    }

    async fn upload_parts(&self, upload: &Upload, after: u16, max: u32) -> Result<Vec<Part>> {
        self.of(&upload.bucket)?.upload_parts(upload, after, max).await
    }

    async fn upload_complete(
        &self,
        upload: &Upload,
        parts: Vec<CompletedPart>,
        condition: Precondition,
        sum: Option<String>,
        at: Timestamp,
    ) -> Result<ObjectVersion> {
        self.of(&upload.bucket)?.upload_complete(upload, parts, condition, sum, at).await
    }

    async fn upload_abort(&self, upload: &Upload) -> Result<()> {
        self.of(&upload.bucket)?.upload_abort(upload).await
    }

    async fn uploads(&self, bucket: &str, query: &UploadQuery) -> Result<UploadListing> {
        self.of(bucket)?.uploads(bucket, query).await
    }

    async fn parts(&self, object: &ObjectVersion, after: u16, max: u32) -> Result<Vec<Part>> {
        self.of(&object.bucket)?.parts(object, after, max).await
    }

    async fn health(&self) -> StoreHealth {
        StoreHealth { writable: true, reason: None, free_bytes: 1 }
    }
}
