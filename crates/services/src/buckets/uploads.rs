//! Uploads in parts.

use muonic_ports::object_store::{
    Algorithm, ByteStream, ChecksumType, CompletedPart, CustomerKey, Error as StoreError, ObjectVersion, Part,
    Precondition, Upload, Verify,
};

use super::action::Action;
use super::call::Call;
use super::objects::{Draft, check_customer_key};
use super::{Buckets, Error, PAGE_MAX, Result};

pub const PARTS_MAX: u16 = 10_000;

/// A part that travels.
pub struct PartUpload {
    pub upload: String,
    pub number: u16,
    /// The sum that its sender declares.
    pub algorithm: Option<Algorithm>,
    pub verify: Verify,
    pub body: ByteStream,
    pub customer_key: Option<CustomerKey>,
}

/// The end of an upload, as its owner wants it.
#[derive(Debug, Clone, Default)]
pub struct Completion {
    pub upload: String,
    pub parts: Vec<CompletedPart>,
    pub condition: Precondition,
    /// Of the whole object.
    pub sum: Option<(Algorithm, String)>,
    pub checksum_type: Option<ChecksumType>,
    /// Bytes the object must have.
    pub size: Option<u64>,
    /// The MD5 of the customer's key, in Base64.
    pub customer_key_md5: Option<String>,
}

type Of<'a> = (&'a str, &'a str);

impl Buckets {
    pub async fn create_upload(&self, call: Call<'_>, (bucket, key): Of<'_>, mut draft: Draft) -> Result<Upload> {
        let bucket = self.open(call, Action::PUT, bucket, Some(key)).await?;
        match (draft.new.algorithm, draft.new.checksum_type) {
            (None, Some(_)) => {
                return Err(Error::InvalidRequest(
                    "x-amz-checksum-type is given without x-amz-checksum-algorithm".to_owned(),
                ));
            }
            (Some(Algorithm::Sha1 | Algorithm::Sha256), Some(ChecksumType::FullObject))
            | (Some(Algorithm::Crc64Nvme), Some(ChecksumType::Composite)) => {
                return Err(Error::InvalidRequest(
                    "this checksum type is not possible with this checksum algorithm".to_owned(),
                ));
            }
            (Some(algorithm), None) => draft.new.checksum_type = Some(algorithm.usual_type()),
            _ => {}
        }
        draft.new.algorithms.extend(draft.new.algorithm);
        let new = self.complete(call, &bucket, key, draft)?;
        let target = self.target(&bucket, key, Precondition::default());
        Ok(self.store.upload_create(target, new).await?)
    }

    /// Answers the upload too, which says how the part is encrypted.
    pub async fn upload_part(&self, call: Call<'_>, (bucket, key): Of<'_>, part: PartUpload) -> Result<(Upload, Part)> {
        let bucket = self.open(call, Action::PUT, bucket, Some(key)).await?;
        let mut upload = self.store.upload(&bucket.name, key, &part.upload).await?;
        if let Some(declared) = part.algorithm {
            if let Some(wanted) = upload.new.algorithm.filter(|wanted| *wanted != declared) {
                return Err(Error::InvalidRequest(format!(
                    "the upload was begun with checksums of type {}, not {}",
                    wanted.name(),
                    declared.name()
                )));
            }
            upload.new.algorithms.insert(declared);
        }
        let PartUpload { number, verify, body, customer_key, .. } = part;
        let at = self.clock.now();
        let part = self.store.upload_part(&upload, number, body, verify, customer_key.as_ref(), at).await?;
        Ok((upload, part))
    }

    pub async fn complete_upload(
        &self,
        call: Call<'_>,
        (bucket, key): Of<'_>,
        completion: Completion,
    ) -> Result<ObjectVersion> {
        let bucket = self.open(call, Action::PUT, bucket, Some(key)).await?;
        let Completion { upload, mut parts, condition, sum, checksum_type, size, customer_key_md5 } = completion;
        // A part that was sent twice may be listed twice; the last one counts.
        parts.reverse();
        parts.dedup_by_key(|part| part.number);
        parts.reverse();
        let upload = match self.store.upload(&bucket.name, key, &upload).await {
            // Whoever missed the answer completes it again.
            Err(StoreError::NoSuchUpload) => {
                let upload = Upload::named(&bucket.name, key, &upload);
                return Ok(self.store.upload_complete(&upload, parts, condition, None, self.clock.now()).await?);
            }
            found => found?,
        };
        // Completing reads no bytes, so nobody else compares it.
        check_customer_key(&upload.encryption, customer_key_md5.as_deref())?;
        if checksum_type.is_some() && checksum_type != upload.new.checksum_type {
            return Err(Error::InvalidRequest("the upload was begun with another x-amz-checksum-type".to_owned()));
        }
        let sum = match (sum, upload.new.algorithm) {
            (Some((given, sum)), Some(begun)) if given == begun => Some(sum),
            (Some(_), _) => {
                return Err(Error::InvalidRequest("the upload was begun with another checksum algorithm".to_owned()));
            }
            (None, _) => None,
        };
        if let Some(size) = size {
            self.check_size(&upload, &parts, size).await?;
        }
        Ok(self.store.upload_complete(&upload, parts, condition, sum, self.clock.now()).await?)
    }

    async fn check_size(&self, upload: &Upload, parts: &[CompletedPart], size: u64) -> Result<()> {
        let stored = self.store.upload_parts(upload, 0, PARTS_MAX.into()).await?;
        let listed = |number| parts.iter().any(|part| part.number == number);
        let found: u64 = stored.iter().filter(|part| listed(part.number)).map(|part| part.size).sum();
        if found == size {
            return Ok(());
        }
        Err(Error::InvalidRequest(format!("x-amz-mp-object-size says {size} bytes, the parts have {found}")))
    }

    pub async fn abort_upload(&self, call: Call<'_>, (bucket, key): Of<'_>, id: &str) -> Result<()> {
        let bucket = self.open(call, Action::ABORT, bucket, Some(key)).await?;
        let upload = self.store.upload(&bucket.name, key, id).await?;
        Ok(self.store.upload_abort(&upload).await?)
    }

    /// One part more than `max` is read, to see whether there is one.
    pub async fn upload_parts(
        &self,
        call: Call<'_>,
        (bucket, key): Of<'_>,
        id: &str,
        after: u16,
        max: u32,
    ) -> Result<(Upload, Vec<Part>, bool)> {
        let bucket = self.open(call, Action::LIST_PARTS, bucket, Some(key)).await?;
        let upload = self.store.upload(&bucket.name, key, id).await?;
        let max = max.min(PAGE_MAX);
        let mut parts = self.store.upload_parts(&upload, after, max + 1).await?;
        let is_cut = parts.len() > max as usize;
        parts.truncate(max as usize);
        Ok((upload, parts, is_cut))
    }
}
