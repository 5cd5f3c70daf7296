//! DeleteObject and DeleteObjects.

use muonic_ports::object_store::{Deleted, Precondition};
use muonic_services::Buckets;
use muonic_services::buckets::Removing;
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::refuse;
use crate::dates::from_dto;
use crate::draft::etag_match;
use crate::errors::answer;
use crate::facts::split;
use crate::render::version_of;

const KEYS_MAX: usize = 1000;

pub(super) async fn one(
    service: &Buckets,
    req: S3Request<DeleteObjectInput>,
) -> S3Result<S3Response<DeleteObjectOutput>> {
    let (head, input, _) = split(req);
    refuse(&[(input.mfa.is_some(), "x-amz-mfa")])?;
    let removing = Removing {
        key: input.key,
        version: version_of(input.version_id),
        condition: Precondition {
            if_match: input.if_match.map(etag_match),
            if_none_match: None,
            if_modified_at: input.if_match_last_modified_time.as_ref().map(from_dto).transpose()?,
            if_size: input.if_match_size.map(size).transpose()?,
        },
    };
    let bypass = input.bypass_governance_retention.unwrap_or_default();
    let answers = service.delete_objects(head.call(), &input.bucket, vec![removing], bypass).await;
    match answers.map_err(answer)?.pop() {
        Some(Ok(Deleted { version, delete_marker, found })) => Ok(S3Response::new(DeleteObjectOutput {
            delete_marker: delete_marker.then_some(true),
            version_id: version.filter(|id| found || delete_marker || !id.is_null()).map(|id| id.0),
            ..Default::default()
        })),
        Some(Err(e)) => Err(answer(e)),
        None => Err(s3_error!(InternalError, "the removal was left without an answer")),
    }
}

fn size(size: i64) -> S3Result<u64> {
    u64::try_from(size).map_err(|_| s3_error!(InvalidArgument, "x-amz-if-match-size must not be negative"))
}

pub(super) async fn many(
    service: &Buckets,
    req: S3Request<DeleteObjectsInput>,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    let (head, input, _) = split(req);
    refuse(&[(input.mfa.is_some(), "x-amz-mfa")])?;
    let Delete { objects, quiet } = input.delete;
    if objects.is_empty() || objects.len() > KEYS_MAX {
        return Err(s3_error!(MalformedXML, "name 1 to {KEYS_MAX} objects to delete"));
    }
    let named: Vec<_> = objects.iter().map(|object| (object.key.clone(), object.version_id.clone())).collect();
    let removals: S3Result<Vec<_>> = objects.into_iter().map(removing).collect();
    let bypass = input.bypass_governance_retention.unwrap_or_default();
    let answers = service.delete_objects(head.call(), &input.bucket, removals?, bypass).await.map_err(answer)?;
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for ((key, version), result) in named.into_iter().zip(answers) {
        match result.map_err(answer) {
            Ok(Deleted { version: of, delete_marker, .. }) => deleted.push(DeletedObject {
                key: Some(key),
                delete_marker: delete_marker.then_some(true),
                delete_marker_version_id: of.filter(|_| delete_marker).map(|id| id.0),
                version_id: version,
            }),
            Err(e) => errors.push(Error {
                code: Some(e.code().as_str().to_owned()),
                key: Some(key),
                message: e.message().map(str::to_owned),
                version_id: version,
            }),
        }
    }
    let deleted = Some(deleted).filter(|_| quiet != Some(true));
    Ok(S3Response::new(DeleteObjectsOutput { deleted, errors: Some(errors), ..Default::default() }))
}

fn removing(object: ObjectIdentifier) -> S3Result<Removing> {
    Ok(Removing {
        key: object.key,
        version: version_of(object.version_id),
        condition: Precondition {
            if_match: object.e_tag.map(|etag| etag_match(ETagCondition::ETag(etag))),
            if_none_match: None,
            if_modified_at: object.last_modified_time.as_ref().map(from_dto).transpose()?,
            if_size: object.size.map(size).transpose()?,
        },
    })
}
