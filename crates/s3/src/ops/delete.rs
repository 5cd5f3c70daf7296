//! DeleteObject and DeleteObjects.

use futures_util::{StreamExt, stream};
use muonic_services::Buckets;
use muonic_types::ErrorCode;
use muonic_types::key::Principal;
use s3s::dto::*;
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

use super::{other_version, owner, refuse};
use crate::access::caller;
use crate::errors::from_service;

const KEYS_MAX: usize = 1000;
/// Deletions under way at once: they meet in one commit of the metastore.
const AT_ONCE: usize = 32;

pub(super) async fn one(
    service: &Buckets,
    req: S3Request<DeleteObjectInput>,
) -> S3Result<S3Response<DeleteObjectOutput>> {
    let caller = caller(&req)?;
    let input = req.input;
    let conditional =
        input.if_match.is_some() || input.if_match_last_modified_time.is_some() || input.if_match_size.is_some();
    refuse(&[
        other_version(input.version_id.as_ref()),
        (conditional, "conditions on DeleteObject"),
        (input.mfa.is_some(), "x-amz-mfa"),
        owner(input.expected_bucket_owner.as_ref()),
    ])?;
    service.delete_object(&caller, &input.bucket, &input.key).await.map_err(from_service)?;
    Ok(S3Response::new(DeleteObjectOutput::default()))
}

pub(super) async fn many(
    service: &Buckets,
    req: S3Request<DeleteObjectsInput>,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    let caller = caller(&req)?;
    let input = req.input;
    refuse(&[(input.mfa.is_some(), "x-amz-mfa"), owner(input.expected_bucket_owner.as_ref())])?;
    let Delete { objects, quiet } = input.delete;
    if objects.is_empty() || objects.len() > KEYS_MAX {
        return Err(s3_error!(MalformedXML, "name 1 to {KEYS_MAX} objects to delete"));
    }
    let (caller, bucket) = (&caller, input.bucket.as_str());
    let deletions = objects.into_iter().map(|object| async move {
        let result = delete(service, caller, bucket, &object).await;
        (object.key, result)
    });
    let results: Vec<_> = stream::iter(deletions).buffered(AT_ONCE).collect().await;
    let mut output = DeleteObjectsOutput::default();
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for (key, result) in results {
        match result {
            Ok(()) => deleted.push(DeletedObject { key: Some(key), ..Default::default() }),
            Err(Refused::All(e)) => return Err(e),
            Err(Refused::One(e)) => errors.push(Error {
                code: Some(e.code().as_str().to_owned()),
                key: Some(key),
                message: e.message().map(str::to_owned),
                version_id: None,
            }),
        }
    }
    if quiet != Some(true) {
        output.deleted = Some(deleted);
    }
    output.errors = Some(errors);
    Ok(S3Response::new(output))
}

enum Refused {
    One(S3Error),
    /// It would be the same for each key.
    All(S3Error),
}

async fn delete(service: &Buckets, caller: &Principal, bucket: &str, object: &ObjectIdentifier) -> Result<(), Refused> {
    let conditional = object.e_tag.is_some() || object.last_modified_time.is_some() || object.size.is_some();
    refuse(&[other_version(object.version_id.as_ref()), (conditional, "conditions on DeleteObjects")])
        .map_err(Refused::One)?;
    match service.delete_object(caller, bucket, &object.key).await {
        Ok(_) => Ok(()),
        Err(e) => match e.code {
            ErrorCode::InvalidRequest | ErrorCode::TooLarge => Err(Refused::One(from_service(e))),
            _ => Err(Refused::All(from_service(e))),
        },
    }
}
