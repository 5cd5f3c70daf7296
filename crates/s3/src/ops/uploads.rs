//! Uploads in parts: begin, send, complete, abort.

use http::{HeaderMap, HeaderValue};
use muonic_ports::object_store::{Algorithm, ChecksumType as SumType, CompletedPart as PortPart};
use muonic_services::Buckets;
use muonic_services::buckets::{Completion, PartUpload};
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::drafted;
use crate::dates::to_dto;
use crate::draft::{algorithm, precondition};
use crate::errors::answer;
use crate::facts::split;
use crate::render::{Sealed, checksum_algorithm, checksum_type, set_encryption, set_sum, version};
use crate::sse::{SSE, customer_key};
use crate::sums::{Declared, sum_header};

const PARTS_MAX: i32 = 10_000;

pub(super) fn part_number(number: i32) -> S3Result<u16> {
    match u16::try_from(number) {
        Ok(number @ 1..=10_000) => Ok(number),
        _ => Err(s3_error!(InvalidArgument, "partNumber must be from 1 to {PARTS_MAX}")),
    }
}

fn sum_type(named: Option<&ChecksumType>) -> S3Result<Option<SumType>> {
    match named.map(ChecksumType::as_str) {
        None => Ok(None),
        Some(ChecksumType::FULL_OBJECT) => Ok(Some(SumType::FullObject)),
        Some(ChecksumType::COMPOSITE) => Ok(Some(SumType::Composite)),
        Some(_) => Err(s3_error!(InvalidRequest, "x-amz-checksum-type is FULL_OBJECT or COMPOSITE")),
    }
}

pub(super) async fn create(
    service: &Buckets,
    req: S3Request<CreateMultipartUploadInput>,
) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
    let (head, input, _) = split(req);
    let of = (input.bucket.as_str(), input.key.as_str());
    let mut draft = drafted(service, &head, of).await?;
    draft.new.algorithm = algorithm(&head.headers, "x-amz-checksum-algorithm")?;
    draft.new.checksum_type = sum_type(input.checksum_type.as_ref())?;
    let upload = service.create_upload(head.call(), of, draft).await.map_err(answer)?;
    let mut output = CreateMultipartUploadOutput {
        checksum_algorithm: upload.new.algorithm.map(checksum_algorithm),
        checksum_type: upload.new.checksum_type.map(checksum_type),
        upload_id: Some(upload.id),
        bucket: Some(input.bucket),
        key: Some(input.key),
        ..Default::default()
    };
    set_encryption!(output, &upload.encryption);
    Ok(S3Response::new(output))
}

pub(super) async fn part(service: &Buckets, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
    let (mut head, input, trailer) = split(req);
    let number = part_number(input.part_number)?;
    let (body, length) = head.body(input.body, input.content_length)?;
    let declared = Declared::from_headers(&head.headers)?.trailer(trailer).length(length);
    let part = PartUpload {
        upload: input.upload_id,
        number,
        algorithm: declared.algorithm(),
        verify: declared.verify(),
        body,
        customer_key: customer_key(&head.headers, SSE)?.map(|sent| sent.key),
    };
    let of = (input.bucket.as_str(), input.key.as_str());
    let (upload, part) = service.upload_part(head.call(), of, part).await.map_err(answer)?;
    let mut output = UploadPartOutput { e_tag: Some(ETag::Strong(part.etag)), ..Default::default() };
    set_sum!(output, part.sum);
    set_encryption!(output, &upload.encryption);
    Ok(S3Response::new(output))
}

pub(super) async fn complete(
    service: &Buckets,
    req: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let (head, input, _) = split(req);
    let parts = input.multipart_upload.and_then(|listed| listed.parts).unwrap_or_default();
    if parts.is_empty() {
        return Err(s3_error!(MalformedXML, "list the parts that the object shall have"));
    }
    let parts: S3Result<Vec<_>> = parts.into_iter().map(completed).collect();
    let size = input.mpu_object_size.map(u64::try_from).transpose();
    let completion = Completion {
        upload: input.upload_id,
        parts: parts?,
        condition: precondition(input.if_match, input.if_none_match),
        sum: sum_header(&head.headers)?,
        checksum_type: sum_type(input.checksum_type.as_ref())?,
        size: size.map_err(|_| s3_error!(InvalidArgument, "x-amz-mp-object-size must not be negative"))?,
        customer_key_md5: customer_key(&head.headers, SSE)?.map(|sent| sent.md5),
    };
    let of = (input.bucket.as_str(), input.key.as_str());
    let object = service.complete_upload(head.call(), of, completion).await.map_err(answer)?;
    let mut output = CompleteMultipartUploadOutput {
        location: Some(format!("/{}/{}", input.bucket, input.key)),
        bucket: Some(input.bucket),
        key: Some(input.key),
        e_tag: Some(ETag::Strong(object.etag)),
        checksum_type: object.sum.as_ref().map(|(_, kind, _)| checksum_type(*kind)),
        version_id: version(object.version),
        ..Default::default()
    };
    set_sum!(output, object.sum.map(|(algorithm, _, value)| (algorithm, value)));
    let sealed = Sealed::from(&object.encryption);
    output.server_side_encryption = sealed.sse;
    output.ssekms_key_id = sealed.kms_key;
    let mut headers = HeaderMap::new();
    // s3s has no fields for these.
    for (name, value) in [
        ("x-amz-server-side-encryption-customer-algorithm", sealed.customer_algorithm),
        ("x-amz-server-side-encryption-customer-key-md5", sealed.customer_key_md5),
    ] {
        if let Some(Ok(value)) = value.map(HeaderValue::try_from) {
            headers.insert(name, value);
        }
    }
    Ok(S3Response::with_headers(output, headers))
}

fn completed(part: CompletedPart) -> S3Result<PortPart> {
    let number = part.part_number.ok_or_else(|| s3_error!(MalformedXML, "a part is listed without PartNumber"))?;
    let etag = part.e_tag.ok_or_else(|| s3_error!(MalformedXML, "part {number} is listed without ETag"))?;
    let sums = [
        (Algorithm::Crc32, part.checksum_crc32),
        (Algorithm::Crc32c, part.checksum_crc32c),
        (Algorithm::Crc64Nvme, part.checksum_crc64nvme),
        (Algorithm::Sha1, part.checksum_sha1),
        (Algorithm::Sha256, part.checksum_sha256),
    ];
    let sum = sums.into_iter().find_map(|(algorithm, sum)| Some((algorithm, sum?)));
    Ok(PortPart { number: part_number(number)?, etag: etag.into_value(), sum })
}

pub(super) async fn abort(
    service: &Buckets,
    req: S3Request<AbortMultipartUploadInput>,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let (head, input, _) = split(req);
    super::refuse(&[(input.if_match_initiated_time.is_some(), "x-amz-if-match-initiated-time")])?;
    let of = (input.bucket.as_str(), input.key.as_str());
    service.abort_upload(head.call(), of, &input.upload_id).await.map_err(answer)?;
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}

pub(super) fn shown_part(part: muonic_ports::object_store::Part) -> Part {
    let mut shown = Part {
        e_tag: Some(ETag::Strong(part.etag)),
        last_modified: Some(to_dto(part.modified_at)),
        part_number: Some(part.number.into()),
        size: i64::try_from(part.size).ok(),
        ..Default::default()
    };
    set_sum!(shown, part.sum);
    shown
}
