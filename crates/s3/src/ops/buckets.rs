//! Buckets.

use muonic_ports::object_store::Versioning;
use muonic_services::Buckets;
use muonic_services::buckets::config::{Kind, parse};
use muonic_services::buckets::{Action, NewBucket};
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::refuse;
use crate::REGION;
use crate::dates::to_dto;
use crate::draft::acl_wanted;
use crate::errors::answer;
use crate::facts::split;
use crate::render::owner;

const PAGE_MAX: i32 = 10_000;

pub(super) async fn list(
    service: &Buckets,
    req: S3Request<ListBucketsInput>,
) -> S3Result<S3Response<ListBucketsOutput>> {
    let (head, input, _) = split(req);
    let max = match input.max_buckets {
        None => PAGE_MAX,
        Some(max @ 1..=PAGE_MAX) => max,
        Some(_) => return Err(s3_error!(InvalidArgument, "max-buckets must be from 1 to {PAGE_MAX}")),
    };
    let prefix = input.prefix.as_deref().unwrap_or_default();
    let after = input.continuation_token.as_deref().unwrap_or_default();
    let is_here = |bucket: &muonic_ports::object_store::Bucket| {
        input.bucket_region.as_ref().is_none_or(|wanted| *wanted == region(bucket))
    };
    let mut wanted = service.list(head.call()).await.map_err(answer)?;
    wanted.retain(|bucket| bucket.name.starts_with(prefix) && bucket.name.as_str() > after && is_here(bucket));
    let is_cut = wanted.len() > max as usize;
    wanted.truncate(max as usize);
    let continuation_token = if is_cut { wanted.last().map(|bucket| bucket.name.clone()) } else { None };
    let buckets = wanted.into_iter().map(|bucket| Bucket {
        bucket_region: Some(region(&bucket)),
        creation_date: Some(to_dto(bucket.created_at)),
        name: Some(bucket.name),
    });
    let buckets = Some(buckets.collect());
    let owner = head.caller.project().map(|project| owner(project.as_str()));
    Ok(S3Response::new(ListBucketsOutput { buckets, continuation_token, owner, prefix: input.prefix }))
}

pub(super) async fn create(
    service: &Buckets,
    req: S3Request<CreateBucketInput>,
) -> S3Result<S3Response<CreateBucketOutput>> {
    let (head, input, _) = split(req);
    let configuration = input.create_bucket_configuration.unwrap_or_default();
    refuse(&[(configuration.bucket.is_some() || configuration.location.is_some(), "directory buckets")])?;
    let location = configuration.location_constraint.map(|location| location.as_str().to_owned());
    if location.as_ref().is_some_and(|l| l.len() > 64 || !l.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')) {
        return Err(s3_error!(InvalidLocationConstraint, "LocationConstraint is not the name of a region"));
    }
    let ownership = input.object_ownership.map(|ownership| ownership.as_str().to_owned());
    let new = NewBucket {
        name: input.bucket,
        lock: input.object_lock_enabled_for_bucket == Some(true),
        acl: acl_wanted(&head.headers)?,
        ownership,
        location: location.filter(|location| !location.is_empty() && location != REGION),
    };
    let bucket = service.create(head.call(), new).await.map_err(answer)?;
    Ok(S3Response::new(CreateBucketOutput { location: Some(format!("/{}", bucket.name)) }))
}

pub(super) async fn head(service: &Buckets, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
    let (head, input, _) = split(req);
    let bucket = service.check(head.call(), Action::LIST, &input.bucket).await.map_err(answer)?;
    let bucket_region = Some(region(&bucket));
    Ok(S3Response::new(HeadBucketOutput { bucket_region, ..Default::default() }))
}

pub(super) async fn location(
    service: &Buckets,
    req: S3Request<GetBucketLocationInput>,
) -> S3Result<S3Response<GetBucketLocationOutput>> {
    let (head, input, _) = split(req);
    let bucket = service.check(head.call(), Action::LOCATION, &input.bucket).await.map_err(answer)?;
    // For us-east-1 S3 answers an empty element.
    let location = Some(region(&bucket)).filter(|region| region != REGION);
    let location_constraint = location.map(BucketLocationConstraint::from);
    Ok(S3Response::new(GetBucketLocationOutput { location_constraint }))
}

pub(super) async fn delete(
    service: &Buckets,
    req: S3Request<DeleteBucketInput>,
) -> S3Result<S3Response<DeleteBucketOutput>> {
    let (head, input, _) = split(req);
    service.delete(head.call(), &input.bucket).await.map_err(answer)?;
    Ok(S3Response::new(DeleteBucketOutput::default()))
}

pub(super) async fn versioning(
    service: &Buckets,
    req: S3Request<GetBucketVersioningInput>,
) -> S3Result<S3Response<GetBucketVersioningOutput>> {
    let (head, input, _) = split(req);
    let bucket = service.check(head.call(), Action::GET_VERSIONING, &input.bucket).await.map_err(answer)?;
    let status = match bucket.versioning {
        Versioning::Off => None,
        Versioning::On => Some(BucketVersioningStatus::from_static(BucketVersioningStatus::ENABLED)),
        Versioning::Suspended => Some(BucketVersioningStatus::from_static(BucketVersioningStatus::SUSPENDED)),
    };
    Ok(S3Response::new(GetBucketVersioningOutput { status, ..Default::default() }))
}

pub(super) async fn set_versioning(
    service: &Buckets,
    req: S3Request<PutBucketVersioningInput>,
) -> S3Result<S3Response<PutBucketVersioningOutput>> {
    let (head, input, _) = split(req);
    let VersioningConfiguration { mfa_delete, status, .. } = input.versioning_configuration;
    let mfa = mfa_delete.is_some_and(|mfa| mfa.as_str() == MFADelete::ENABLED) || input.mfa.is_some();
    refuse(&[(mfa, "MFA delete (x-amz-mfa)")])?;
    let versioning = match status.as_ref().map(BucketVersioningStatus::as_str) {
        Some(BucketVersioningStatus::ENABLED) => Versioning::On,
        Some(BucketVersioningStatus::SUSPENDED) => Versioning::Suspended,
        _ => {
            return Err(s3_error!(
                IllegalVersioningConfigurationException,
                "Status of VersioningConfiguration is Enabled or Suspended"
            ));
        }
    };
    service.set_versioning(head.call(), &input.bucket, versioning).await.map_err(answer)?;
    Ok(S3Response::new(PutBucketVersioningOutput::default()))
}

fn region(bucket: &muonic_ports::object_store::Bucket) -> String {
    let kept = bucket.documents.get(Kind::Location.name()).map(|location| parse(location, Kind::Location));
    kept.and_then(Result::ok).unwrap_or_else(|| REGION.to_owned())
}
