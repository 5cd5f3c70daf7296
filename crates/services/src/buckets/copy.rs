//! Copies: of an object, and of bytes of one into a part of an upload.

use std::collections::BTreeMap;
use std::ops::Range;

use muonic_ports::object_store::{
    CustomerKey, Encryption, NewEncryption, ObjectVersion, Origin, Part, Precondition, Upload, VersionId, no_check,
};

use super::action::Action;
use super::call::Call;
use super::objects::Draft;
use super::{Buckets, Conditions, Error, Result};

/// S3's limit for one copy; larger objects go in parts.
pub const COPY_BYTES_MAX: u64 = 5 << 30;

/// Where the bytes come from.
#[derive(Debug, Clone, Default)]
pub struct Source {
    pub bucket: String,
    pub key: String,
    pub version: Option<VersionId>,
    pub conditions: Conditions,
    pub customer_key: Option<CustomerKey>,
    pub expected_owner: Option<String>,
}

/// The copy of an object.
#[derive(Debug, Clone, Default)]
pub struct Copy {
    pub source: Source,
    /// Headers and tags of the draft count where they replace the source's.
    pub draft: Draft,
    pub replaces_headers: bool,
    pub replaces_tags: bool,
    /// Something else than these that makes it a change of the object itself.
    pub changes_more: bool,
    pub condition: Precondition,
}

/// A part whose bytes come from an object.
#[derive(Debug, Clone)]
pub struct PartCopy {
    pub source: Source,
    pub range: Option<Range<u64>>,
    pub upload: String,
    pub number: u16,
    pub customer_key: Option<CustomerKey>,
}

impl Buckets {
    /// Answers the source's version, where it has one, and the copy.
    pub async fn copy_object(
        &self,
        call: Call<'_>,
        (bucket, key): (&str, &str),
        copy: Copy,
    ) -> Result<(VersionId, ObjectVersion)> {
        let Copy { source, mut draft, replaces_headers, replaces_tags, changes_more, condition } = copy;
        let target = self.open(call, Action::PUT, bucket, Some(key)).await?;
        let from = self.source(call, &source).await?;
        if from.size > COPY_BYTES_MAX {
            return Err(Error::InvalidRequest("one copy takes at most 5 GiB; copy larger objects in parts".to_owned()));
        }
        let is_itself = from.bucket == target.name && from.key == key && from.latest;
        if is_itself && !replaces_headers && !changes_more && !changes_encryption(&from, draft.encryption.as_ref()) {
            return Err(Error::InvalidRequest(
                "the object would be copied to itself without a change of metadata, storage class, website redirect \
                 location or encryption"
                    .to_owned(),
            ));
        }
        if !replaces_headers {
            draft.new.headers = from.headers.clone();
        }
        if !replaces_tags {
            // They are the source's, not what the caller sets.
            draft.new.tags = BTreeMap::new();
        }
        if draft.new.algorithm.is_none() {
            draft.new.algorithm = from.sum.as_ref().map(|(algorithm, ..)| *algorithm);
        }
        draft.new.algorithms.extend(draft.new.algorithm);
        let mut new = self.complete(call, &target, key, draft)?;
        new.origin = Origin::Copy;
        if !replaces_tags {
            new.tags = from.tags.clone();
        }
        let target = self.target(&target, key, condition);
        let version = from.version.clone();
        Ok((version, self.store.copy(&from, source.customer_key.as_ref(), target, new).await?))
    }

    /// Answers the source's version, the upload, and the part.
    pub async fn copy_part(
        &self,
        call: Call<'_>,
        (bucket, key): (&str, &str),
        copy: PartCopy,
    ) -> Result<(VersionId, Upload, Part)> {
        let bucket = self.open(call, Action::PUT, bucket, Some(key)).await?;
        let upload = self.store.upload(&bucket.name, key, &copy.upload).await?;
        let from = self.source(call, &copy.source).await?;
        let range = match copy.range {
            Some(range) if range.end > from.size => return Err(Error::Range { size: from.size }),
            other => other,
        };
        if range.as_ref().map_or(from.size, |range| range.end - range.start) > COPY_BYTES_MAX {
            return Err(Error::InvalidRequest("a part has at most 5 GiB".to_owned()));
        }
        let body = self.store.read(&from, range, copy.source.customer_key.as_ref()).await?;
        let key = copy.customer_key.as_ref();
        let at = self.clock.now();
        let part = self.store.upload_part(&upload, copy.number, body, no_check(), key, at).await?;
        Ok((from.version, upload, part))
    }

    async fn source(&self, call: Call<'_>, source: &Source) -> Result<ObjectVersion> {
        let action = if source.version.is_some() { Action::GET_VERSION } else { Action::GET };
        let call = Call { expected_owner: source.expected_owner.as_deref(), ..call };
        let of = (source.bucket.as_str(), source.key.as_str());
        match self.find(call, action, of, source.version.as_ref()).await {
            Ok((_, object)) => {
                source.conditions.check_source(&object)?;
                Ok(object)
            }
            Err(Error::DeleteMarker { is_named: true, .. }) => {
                Err(Error::InvalidRequest("the source of a copy may not be a delete marker".to_owned()))
            }
            Err(e) => Err(e),
        }
    }
}

fn changes_encryption(from: &ObjectVersion, asked: Option<&NewEncryption>) -> bool {
    match (&from.encryption, asked) {
        (_, None) => false,
        (Encryption::Store, Some(NewEncryption::Store)) => false,
        (Encryption::Named(is), Some(NewEncryption::Named(Some(asked)))) => is != asked,
        _ => true,
    }
}
