//! PutObject, also as a form sends it.

use muonic_ports::object_store::{ObjectVersion, Precondition};
use muonic_services::Buckets;
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use crate::body::for_store;
use crate::draft::{draft, precondition};
use crate::errors::answer;
use crate::facts::split;
use crate::render::{checksum_type, expiration, set_encryption, set_sum, version};
use crate::sums::Declared;

/// S3's limit for one put; larger objects go in parts.
pub(super) const OBJECT_BYTES_MAX: u64 = 5 << 30;

pub(super) async fn put(service: &Buckets, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
    let (head, input, trailer) = split(req);
    let length = length(input.content_length)?;
    let declared = Declared::from_headers(&head.headers)?.trailer(trailer).length(length);
    let mut draft = draft(&head.headers)?;
    draft.new.algorithm = declared.algorithm();
    draft.new.algorithms.extend(declared.algorithm());
    let condition: Precondition = precondition(input.if_match, input.if_none_match);
    let body = for_store(input.body);
    let of = (input.bucket.as_str(), input.key.as_str());
    let stored = service.put_object(head.call(), of, draft, condition, body, declared.verify()).await;
    let (object, expiry) = stored.map_err(answer)?;
    let output = PutObjectOutput { expiration: expiration(expiry), ..rendered(object) };
    Ok(S3Response::new(output))
}

/// The length that a body must have, if its sender says one.
pub(super) fn length(announced: Option<i64>) -> S3Result<Option<u64>> {
    match announced.map(u64::try_from) {
        None => Ok(None),
        Some(Ok(length)) if length <= OBJECT_BYTES_MAX => Ok(Some(length)),
        Some(Ok(_)) => Err(s3_error!(EntityTooLarge, "one body has at most 5 GiB; larger objects go in parts")),
        Some(Err(_)) => Err(s3_error!(InvalidArgument, "Content-Length must not be negative")),
    }
}

fn rendered(object: ObjectVersion) -> PutObjectOutput {
    let mut output = PutObjectOutput::default();
    set_encryption!(output, &object.encryption);
    output.checksum_type = object.sum.as_ref().map(|(_, kind, _)| checksum_type(*kind));
    set_sum!(output, object.sum.map(|(algorithm, _, value)| (algorithm, value)));
    output.e_tag = Some(ETag::Strong(object.etag));
    output.version_id = version(object.version);
    output
}
