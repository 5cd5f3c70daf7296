//! Tags of objects and of buckets.

use std::collections::BTreeMap;

use muonic_services::Buckets;
use muonic_services::buckets::config::Kind;
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use crate::errors::answer;
use crate::facts::split;
use crate::render::{version, version_of};

fn read(tagging: Tagging) -> S3Result<BTreeMap<String, String>> {
    let mut tags = BTreeMap::new();
    for Tag { key, value } in tagging.tag_set {
        let key = key.ok_or_else(|| s3_error!(MalformedXML, "a tag has no Key"))?;
        if tags.insert(key, value.unwrap_or_default()).is_some() {
            return Err(s3_error!(InvalidTag, "two tags have the same key"));
        }
    }
    Ok(tags)
}

fn shown(tags: BTreeMap<String, String>) -> Vec<Tag> {
    tags.into_iter().map(|(key, value)| Tag { key: Some(key), value: Some(value) }).collect()
}

pub(super) async fn of_object(
    service: &Buckets,
    req: S3Request<GetObjectTaggingInput>,
) -> S3Result<S3Response<GetObjectTaggingOutput>> {
    let (head, input, _) = split(req);
    let (of, id) = ((input.bucket.as_str(), input.key.as_str()), version_of(input.version_id));
    let object = service.tags(head.call(), of, id.as_ref()).await.map_err(answer)?;
    Ok(S3Response::new(GetObjectTaggingOutput { tag_set: shown(object.tags), version_id: version(object.version) }))
}

pub(super) async fn set_object(
    service: &Buckets,
    req: S3Request<PutObjectTaggingInput>,
) -> S3Result<S3Response<PutObjectTaggingOutput>> {
    let (head, input, _) = split(req);
    let (of, id) = ((input.bucket.as_str(), input.key.as_str()), version_of(input.version_id));
    let object = service.set_tags(head.call(), of, id.as_ref(), read(input.tagging)?).await.map_err(answer)?;
    Ok(S3Response::new(PutObjectTaggingOutput { version_id: version(object.version) }))
}

pub(super) async fn delete_object(
    service: &Buckets,
    req: S3Request<DeleteObjectTaggingInput>,
) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
    let (head, input, _) = split(req);
    let (of, id) = ((input.bucket.as_str(), input.key.as_str()), version_of(input.version_id));
    let object = service.set_tags(head.call(), of, id.as_ref(), BTreeMap::new()).await.map_err(answer)?;
    Ok(S3Response::new(DeleteObjectTaggingOutput { version_id: version(object.version) }))
}

pub(super) async fn of_bucket(
    service: &Buckets,
    req: S3Request<GetBucketTaggingInput>,
) -> S3Result<S3Response<GetBucketTaggingOutput>> {
    let (head, input, _) = split(req);
    let tags = service.document(head.call(), &input.bucket, Kind::Tags).await.map_err(answer)?;
    Ok(S3Response::new(GetBucketTaggingOutput { tag_set: shown(tags) }))
}

pub(super) async fn set_bucket(
    service: &Buckets,
    req: S3Request<PutBucketTaggingInput>,
) -> S3Result<S3Response<PutBucketTaggingOutput>> {
    let (head, input, _) = split(req);
    service.set_bucket_tags(head.call(), &input.bucket, &read(input.tagging)?).await.map_err(answer)?;
    Ok(S3Response::new(PutBucketTaggingOutput::default()))
}

pub(super) async fn delete_bucket(
    service: &Buckets,
    req: S3Request<DeleteBucketTaggingInput>,
) -> S3Result<S3Response<DeleteBucketTaggingOutput>> {
    let (head, input, _) = split(req);
    service.set_bucket_tags(head.call(), &input.bucket, &BTreeMap::new()).await.map_err(answer)?;
    Ok(S3Response::new(DeleteBucketTaggingOutput::default()))
}
