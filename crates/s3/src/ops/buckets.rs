//! Buckets.

use muonic_services::Buckets;
use muonic_types::ErrorCode;
use s3s::dto::*;
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::{owner, refuse, time};
use crate::REGION;
use crate::access::caller;
use crate::errors::{from_service, renamed};

const PAGE_MAX: i32 = 10_000;

pub(super) async fn list(
    service: &Buckets,
    req: S3Request<ListBucketsInput>,
) -> S3Result<S3Response<ListBucketsOutput>> {
    let caller = caller(&req)?;
    let input = req.input;
    let max = match input.max_buckets {
        None => PAGE_MAX,
        Some(max @ 1..=PAGE_MAX) => max,
        Some(_) => return Err(s3_error!(InvalidArgument, "max-buckets must be from 1 to {PAGE_MAX}")),
    };
    let prefix = input.prefix.as_deref().unwrap_or_default();
    let after = input.continuation_token.as_deref().unwrap_or_default();
    let is_here = input.bucket_region.as_deref().is_none_or(|region| region == REGION);
    let mut wanted = service.list(&caller).await.map_err(from_service)?;
    wanted.retain(|(name, _)| is_here && name.starts_with(prefix) && name.as_str() > after);
    let is_cut = wanted.len() > max as usize;
    wanted.truncate(max as usize);
    let continuation_token = if is_cut { wanted.last().map(|(name, _)| name.clone()) } else { None };
    let buckets = wanted.into_iter().map(|(name, created_at)| Bucket {
        name: Some(name),
        creation_date: Some(time(created_at)),
        bucket_region: Some(REGION.to_owned()),
    });
    Ok(S3Response::new(ListBucketsOutput {
        buckets: Some(buckets.collect()),
        continuation_token,
        owner: Some(Owner { id: Some(caller.project.to_string()), display_name: Some(caller.project.to_string()) }),
        prefix: input.prefix,
    }))
}

pub(super) async fn create(
    service: &Buckets,
    req: S3Request<CreateBucketInput>,
) -> S3Result<S3Response<CreateBucketOutput>> {
    let caller = caller(&req)?;
    let input = req.input;
    let grants = [
        &input.grant_full_control,
        &input.grant_read,
        &input.grant_read_acp,
        &input.grant_write,
        &input.grant_write_acp,
    ];
    let acl = input.acl.as_ref().is_some_and(|acl| acl.as_str() != BucketCannedACL::PRIVATE);
    let ownership =
        input.object_ownership.as_ref().is_some_and(|o| o.as_str() != ObjectOwnership::BUCKET_OWNER_ENFORCED);
    let configuration = input.create_bucket_configuration.unwrap_or_default();
    refuse(&[
        (acl, "x-amz-acl other than private"),
        (grants.iter().any(|grant| grant.is_some()), "x-amz-grant- headers"),
        (input.object_lock_enabled_for_bucket == Some(true), "x-amz-bucket-object-lock-enabled"),
        (ownership, "x-amz-object-ownership other than BucketOwnerEnforced"),
        (configuration.bucket.is_some() || configuration.location.is_some(), "directory buckets"),
    ])?;
    if let Some(location) = configuration.location_constraint.as_ref().filter(|l| l.as_str() != REGION) {
        let location = location.as_str();
        return Err(s3_error!(
            InvalidLocationConstraint,
            "this server is region {REGION}, not '{location}'; leave LocationConstraint out"
        ));
    }
    service.create(&caller, &input.bucket).await.map_err(|e| match e.code {
        ErrorCode::Conflict => renamed(e, S3ErrorCode::BucketAlreadyOwnedByYou),
        ErrorCode::InvalidRequest => renamed(e, S3ErrorCode::InvalidBucketName),
        _ => from_service(e),
    })?;
    Ok(S3Response::new(CreateBucketOutput { location: Some(format!("/{}", input.bucket)) }))
}

pub(super) async fn head(service: &Buckets, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
    refuse(&[owner(req.input.expected_bucket_owner.as_ref())])?;
    service.check(&caller(&req)?, &req.input.bucket).await.map_err(from_service)?;
    Ok(S3Response::new(HeadBucketOutput { bucket_region: Some(REGION.to_owned()), ..Default::default() }))
}

pub(super) async fn location(
    service: &Buckets,
    req: S3Request<GetBucketLocationInput>,
) -> S3Result<S3Response<GetBucketLocationOutput>> {
    refuse(&[owner(req.input.expected_bucket_owner.as_ref())])?;
    service.check(&caller(&req)?, &req.input.bucket).await.map_err(from_service)?;
    // For us-east-1 S3 answers an empty element.
    Ok(S3Response::new(GetBucketLocationOutput::default()))
}

pub(super) async fn delete(
    service: &Buckets,
    req: S3Request<DeleteBucketInput>,
) -> S3Result<S3Response<DeleteBucketOutput>> {
    refuse(&[owner(req.input.expected_bucket_owner.as_ref())])?;
    service.delete(&caller(&req)?, &req.input.bucket).await.map_err(|e| match e.code {
        ErrorCode::Conflict => renamed(e, S3ErrorCode::BucketNotEmpty),
        _ => from_service(e),
    })?;
    Ok(S3Response::new(DeleteBucketOutput::default()))
}
