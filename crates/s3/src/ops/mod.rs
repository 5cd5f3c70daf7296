//! The operations that are built. All others answer NotImplemented by name,
//! which is what the trait of s3s does.

mod buckets;
mod delete;
mod list;
mod put;
mod read;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use muonic_services::Buckets;
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result};

use crate::errors::not_implemented;

pub(crate) struct Ops {
    buckets: Arc<Buckets>,
}

impl Ops {
    pub(crate) fn new(buckets: Arc<Buckets>) -> Self {
        Self { buckets }
    }
}

/// Refuses what was asked for and would otherwise be dropped.
fn refuse(asked: &[(bool, &str)]) -> S3Result<()> {
    match asked.iter().find(|(is_asked, _)| *is_asked) {
        Some((_, what)) => Err(not_implemented(what)),
        None => Ok(()),
    }
}

/// There are no versions, so only the one called null exists.
fn other_version(version: Option<&String>) -> (bool, &'static str) {
    (version.is_some_and(|v| v != "null"), "versionId (versions of objects)")
}

fn owner(account: Option<&String>) -> (bool, &'static str) {
    (account.is_some(), "x-amz-expected-bucket-owner (there are no account numbers)")
}

fn time(at: muonic_types::Timestamp) -> Timestamp {
    // Nothing of ours is older than 1970.
    let micros = u64::try_from(at.as_microsecond()).unwrap_or_default();
    Timestamp::from(UNIX_EPOCH + Duration::from_micros(micros))
}

#[async_trait::async_trait]
impl S3 for Ops {
    async fn list_buckets(&self, req: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        buckets::list(&self.buckets, req).await
    }

    async fn create_bucket(&self, req: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        buckets::create(&self.buckets, req).await
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        buckets::head(&self.buckets, req).await
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        buckets::location(&self.buckets, req).await
    }

    async fn delete_bucket(&self, req: S3Request<DeleteBucketInput>) -> S3Result<S3Response<DeleteBucketOutput>> {
        buckets::delete(&self.buckets, req).await
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        put::put(&self.buckets, req).await
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        read::get(&self.buckets, req).await
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        read::head(&self.buckets, req).await
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        delete::one(&self.buckets, req).await
    }

    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> S3Result<S3Response<DeleteObjectsOutput>> {
        delete::many(&self.buckets, req).await
    }

    async fn list_objects(&self, req: S3Request<ListObjectsInput>) -> S3Result<S3Response<ListObjectsOutput>> {
        list::v1(&self.buckets, req).await
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        list::v2(&self.buckets, req).await
    }
}
