//! PutObject, also as a form sends it.

use muonic_ports::object_store::{ObjectVersion, Precondition};
use muonic_services::Buckets;
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result};

use super::drafted;
use crate::draft::precondition;
use crate::errors::answer;
use crate::facts::split;
use crate::render::{checksum_type, expiration, set_encryption, set_sum, version};
use crate::sums::Declared;

pub(super) async fn put(service: &Buckets, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
    let (mut head, input, trailer) = split(req);
    let (body, length) = head.body(input.body, input.content_length)?;
    let declared = Declared::from_headers(&head.headers)?.trailer(trailer).length(length);
    let of = (input.bucket.as_str(), input.key.as_str());
    let mut draft = drafted(service, &head, of).await?;
    draft.new.algorithm = declared.algorithm();
    draft.new.algorithms.extend(declared.algorithm());
    let condition: Precondition = precondition(input.if_match, input.if_none_match);
    let stored = service.put_object(head.call(), of, draft, condition, body, declared.verify()).await;
    let (object, expiry) = stored.map_err(answer)?;
    let output = PutObjectOutput { expiration: expiration(expiry), ..rendered(object) };
    Ok(S3Response::new(output))
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
