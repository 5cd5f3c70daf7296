//! ListObjectVersions: versions and delete markers, the latest first.

use muonic_ports::object_store::{After, ListQuery, Listing, VersionId};
use muonic_services::Buckets;
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::list::{Encoder, after, page_size};
use crate::dates::to_dto;
use crate::errors::answer;
use crate::facts::split;
use crate::render::{Owners, checksum_algorithm, checksum_type};

pub(super) async fn list(
    service: &Buckets,
    req: S3Request<ListObjectVersionsInput>,
) -> S3Result<S3Response<ListObjectVersionsOutput>> {
    let (head, input, _) = split(req);
    let encoder = Encoder::new(input.encoding_type.as_ref())?;
    let max = page_size(input.max_keys)?;
    let key_marker = input.key_marker.clone().filter(|key| !key.is_empty());
    let version_marker = input.version_id_marker.clone().filter(|version| !version.is_empty());
    let after = match (key_marker, version_marker) {
        (Some(key), Some(version)) => After::Version(key, VersionId(version)),
        (None, Some(_)) => {
            return Err(s3_error!(InvalidArgument, "a version-id-marker cannot be given without a key-marker"));
        }
        (key, None) => after(key),
    };
    let query = ListQuery {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone(),
        after,
        max,
        versions: true,
    };
    let Listing { objects, prefixes, next } =
        service.objects(head.call(), &input.bucket, query).await.map_err(answer)?;
    let is_truncated = Some(next.is_some());
    let (next_key, next_version) = match next {
        Some(After::Version(key, version)) => (Some(key), Some(version.0)),
        Some(After::Key(key)) => (Some(key), None),
        Some(After::Start) | None => (None, None),
    };
    let mut owners = Owners::default();
    let (mut versions, mut markers) = (Vec::new(), Vec::new());
    for object in objects {
        let owner = Some(owners.of(&object.owner));
        let (key, is_latest) = (Some(encoder.text(object.key)), Some(object.latest));
        let (last_modified, version_id) = (Some(to_dto(object.modified_at)), Some(object.version.0));
        if object.is_delete_marker {
            markers.push(DeleteMarkerEntry { is_latest, key, last_modified, owner, version_id });
            continue;
        }
        versions.push(ObjectVersion {
            checksum_algorithm: object.sum.as_ref().map(|(algorithm, ..)| vec![checksum_algorithm(*algorithm)]),
            checksum_type: object.sum.as_ref().map(|(_, kind, _)| checksum_type(*kind)),
            e_tag: Some(ETag::Strong(object.etag)),
            is_latest,
            key,
            last_modified,
            owner,
            size: i64::try_from(object.size).ok(),
            storage_class: Some(ObjectVersionStorageClass::from_static(ObjectVersionStorageClass::STANDARD)),
            version_id,
            ..Default::default()
        });
    }
    Ok(S3Response::new(ListObjectVersionsOutput {
        name: Some(input.bucket),
        prefix: Some(encoder.text(input.prefix.unwrap_or_default())),
        key_marker: Some(encoder.text(input.key_marker.unwrap_or_default())),
        version_id_marker: Some(input.version_id_marker.unwrap_or_default()),
        max_keys: Some(max as i32),
        is_truncated,
        next_key_marker: next_key.map(|key| encoder.text(key)),
        next_version_id_marker: next_version,
        versions: Some(versions),
        delete_markers: Some(markers),
        common_prefixes: Some(encoder.prefixes(prefixes)),
        delimiter: input.delimiter.filter(|d| !d.is_empty()).map(|d| encoder.text(d)),
        encoding_type: input.encoding_type,
        ..Default::default()
    }))
}
