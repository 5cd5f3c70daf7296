//! What there is of uploads and parts: ListMultipartUploads, ListParts,
//! GetObjectAttributes.

use muonic_ports::object_store::{UploadListing, UploadQuery};
use muonic_services::Buckets;
use muonic_services::buckets::{Action, Conditions, PAGE_MAX, check_customer_key};
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::list::{Encoder, page_size};
use super::uploads::shown_part;
use crate::dates::to_dto;
use crate::errors::answer;
use crate::facts::split;
use crate::render::{Owners, checksum_algorithm, checksum_type, owner, set_sum, version, version_of};
use crate::sse::{SSE, customer_key};

fn initiator(owner: Owner) -> Initiator {
    Initiator { id: owner.id, display_name: owner.display_name }
}

fn class() -> StorageClass {
    StorageClass::from_static(StorageClass::STANDARD)
}

pub(super) async fn uploads(
    service: &Buckets,
    req: S3Request<ListMultipartUploadsInput>,
) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
    let (head, input, _) = split(req);
    let encoder = Encoder::new(input.encoding_type.as_ref())?;
    let max = page_size(input.max_uploads)?;
    let key = input.key_marker.clone().filter(|key| !key.is_empty());
    // Without a key it counts for nothing, as in S3.
    let id = input.upload_id_marker.clone().filter(|id| !id.is_empty());
    let query = UploadQuery {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone(),
        after: key.map(|key| (key, id)),
        max,
    };
    let UploadListing { uploads, prefixes, next } =
        service.uploads(head.call(), &input.bucket, query).await.map_err(answer)?;
    let is_truncated = Some(next.is_some());
    let (next_key, next_id) = next.map_or((None, None), |(key, id)| (Some(key), id));
    let mut owners = Owners::default();
    let uploads = uploads.into_iter().map(|upload| {
        let owner = owners.of(&upload.new.owner);
        MultipartUpload {
            checksum_algorithm: upload.new.algorithm.map(checksum_algorithm),
            checksum_type: upload.new.checksum_type.map(checksum_type),
            initiated: Some(to_dto(upload.started_at)),
            initiator: Some(initiator(owner.clone())),
            key: Some(encoder.text(upload.key)),
            owner: Some(owner),
            storage_class: Some(class()),
            upload_id: Some(upload.id),
        }
    });
    let uploads = Some(uploads.collect());
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        prefix: Some(encoder.text(input.prefix.unwrap_or_default())),
        key_marker: Some(encoder.text(input.key_marker.unwrap_or_default())),
        upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
        max_uploads: Some(max as i32),
        is_truncated,
        next_key_marker: next_key.map(|key| encoder.text(key)),
        next_upload_id_marker: next_id,
        uploads,
        common_prefixes: Some(encoder.prefixes(prefixes)),
        delimiter: input.delimiter.filter(|d| !d.is_empty()).map(|d| encoder.text(d)),
        encoding_type: input.encoding_type,
        ..Default::default()
    }))
}

/// Where a page of parts begins, and how many it has at most.
fn page(marker: Option<i32>, max: Option<i32>) -> S3Result<(u16, u32)> {
    let marker = u16::try_from(marker.unwrap_or_default())
        .map_err(|_| s3_error!(InvalidArgument, "part-number-marker must be from 0 to 10,000"))?;
    Ok((marker, page_size(max)?))
}

pub(super) async fn parts(service: &Buckets, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
    let (head, input, _) = split(req);
    let (after, max) = page(input.part_number_marker, input.max_parts)?;
    let of = (input.bucket.as_str(), input.key.as_str());
    let (upload, parts, is_cut) =
        service.upload_parts(head.call(), of, &input.upload_id, after, max).await.map_err(answer)?;
    let owner = owner(&upload.new.owner);
    Ok(S3Response::new(ListPartsOutput {
        next_part_number_marker: Some(parts.last().map_or(i32::from(after), |part| part.number.into())),
        parts: Some(parts.into_iter().map(shown_part).collect()),
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        checksum_algorithm: upload.new.algorithm.map(checksum_algorithm),
        checksum_type: upload.new.checksum_type.map(checksum_type),
        initiator: Some(initiator(owner.clone())),
        owner: Some(owner),
        is_truncated: Some(is_cut),
        max_parts: Some(max as i32),
        part_number_marker: Some(after.into()),
        storage_class: Some(class()),
        ..Default::default()
    }))
}

pub(super) async fn attributes(
    service: &Buckets,
    req: S3Request<GetObjectAttributesInput>,
) -> S3Result<S3Response<GetObjectAttributesOutput>> {
    let (head, input, _) = split(req);
    let key = customer_key(&head.headers, SSE)?;
    // Lists in a header may be one value or many.
    let asked: Vec<&str> =
        input.object_attributes.iter().flat_map(|names| names.as_str().split(',')).map(str::trim).collect();
    let known = ["Checksum", "ETag", "ObjectParts", "ObjectSize", "StorageClass"];
    if asked.is_empty() || asked.iter().any(|name| !known.contains(name)) {
        return Err(s3_error!(InvalidArgument, "x-amz-object-attributes is a list of {known:?}"));
    }
    let wants = |name: &str| asked.contains(&name);
    let of = (input.bucket.as_str(), input.key.as_str());
    let id = version_of(input.version_id);
    service.check(head.call(), Action::GET_ATTRIBUTES, &input.bucket).await.map_err(answer)?;
    let (object, _) = service.object(head.call(), of, id.as_ref(), &Conditions::default()).await.map_err(answer)?;
    check_customer_key(&object.encryption, key.as_ref().map(|sent| sent.md5.as_str())).map_err(answer)?;
    let mut output = GetObjectAttributesOutput {
        last_modified: Some(to_dto(object.modified_at)),
        version_id: version(object.version.clone()),
        ..Default::default()
    };
    if wants("ObjectParts") && object.parts > 0 {
        let (after, max) = page(input.part_number_marker, input.max_parts)?;
        let mut parts = service.parts(&object, after, max.min(PAGE_MAX) + 1).await.map_err(answer)?;
        let is_cut = parts.len() > max as usize;
        parts.truncate(max as usize);
        output.object_parts = Some(GetObjectAttributesParts {
            is_truncated: Some(is_cut),
            max_parts: Some(max as i32),
            next_part_number_marker: Some(parts.last().map_or(i32::from(after), |part| part.number.into())),
            part_number_marker: Some(after.into()),
            total_parts_count: Some(object.parts.into()),
            parts: Some(parts.into_iter().map(object_part).collect()),
        });
    }
    output.storage_class = wants("StorageClass").then(class);
    output.object_size = i64::try_from(object.size).ok().filter(|_| wants("ObjectSize"));
    output.e_tag = wants("ETag").then_some(ETag::Strong(object.etag));
    if let Some((algorithm, kind, value)) = object.sum.filter(|_| wants("Checksum")) {
        let mut sum = Checksum { checksum_type: Some(checksum_type(kind)), ..Default::default() };
        set_sum!(sum, Some((algorithm, value)));
        output.checksum = Some(sum);
    }
    Ok(S3Response::new(output))
}

fn object_part(part: muonic_ports::object_store::Part) -> ObjectPart {
    let mut shown =
        ObjectPart { part_number: Some(part.number.into()), size: i64::try_from(part.size).ok(), ..Default::default() };
    set_sum!(shown, part.sum);
    shown
}
