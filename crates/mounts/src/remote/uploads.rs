//! Uploads whose parts the client sends, on the store's own.
//!
//! What is open is kept in memory: after a restart an upload is unknown, and
//! the client begins anew.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use data_encoding::{BASE64, HEXLOWER};
use muonic_ports::object_store::{
    Algorithm, ByteStream, ChecksumType, CompletedPart, CustomerKey, Encryption, Error, NewObject, ObjectVersion, Part,
    Precondition, Result, Target, Upload, UploadListing, UploadQuery, Verify,
};
use muonic_types::Timestamp;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartId, PutMultipartOptions};
use ring::rand::{SecureRandom, SystemRandom};

use super::Remote;
use crate::body::Incoming;
use crate::headers::{attributes, refuse_what_is_not_kept};
use crate::sums::{composite, full_object};

/// All but the last part have as many bytes at least.
const PART_MIN: u64 = 5 << 20;
/// A part is sent from memory.
const PART_MAX: usize = 64 << 20;
/// Reserved for a part that is larger than a MiB.
const PART_USUAL: usize = 16 << 20;
/// Open uploads of one mount.
const OPEN_MAX: usize = 1000;

/// By key, time and id.
type Order = (String, Timestamp, String);

#[derive(Default)]
pub(super) struct Uploads {
    open: Mutex<BTreeMap<Order, Arc<Open>>>,
}

struct Open {
    upload: Upload,
    path: Path,
    id: MultipartId,
    parts: Mutex<BTreeMap<u16, (Part, PartId)>>,
}

impl Open {
    fn parts(&self) -> MutexGuard<'_, BTreeMap<u16, (Part, PartId)>> {
        self.parts.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn order(&self) -> Order {
        (self.upload.key.clone(), self.upload.started_at, self.upload.id.clone())
    }
}

impl Uploads {
    fn all(&self) -> MutexGuard<'_, BTreeMap<Order, Arc<Open>>> {
        self.open.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn find(&self, key: &str, id: &str) -> Result<Arc<Open>> {
        let from = (key.to_owned(), Timestamp::MIN, String::new());
        let all = self.all();
        let mut of_key = all.range(from..).take_while(|((k, ..), _)| k == key);
        of_key.find(|((_, _, i), _)| i == id).map(|(_, open)| open.clone()).ok_or(Error::NoSuchUpload)
    }
}

/// 128 random bits in hexadecimal.
pub(super) fn random_id() -> Result<String> {
    let mut id = [0; 16];
    let filled = SystemRandom::new().fill(&mut id);
    filled.map_err(|_| Error::Store(muonic_ports::Error::bug("the system gives no random bytes")))?;
    Ok(HEXLOWER.encode(&id))
}

impl Remote {
    fn multipart(&self) -> Result<&Arc<dyn MultipartStore>> {
        self.backend.multipart.as_ref().ok_or(Error::NotSupported("uploads in parts to this mounted bucket"))
    }

    pub(super) async fn begin_upload(&self, target: Target, new: NewObject) -> Result<Upload> {
        self.ours(&target.bucket)?;
        let multipart = self.multipart()?;
        let path = self.path(&target.key)?;
        refuse_what_is_not_kept(self.backend.kind, &new)?;
        let attributes = attributes(self.backend.kind, &new.headers)?;
        if self.uploads.all().len() >= OPEN_MAX {
            return Err(self.backend.voice.unavailable("has as many uploads open as a mount may have: end some"));
        }
        let options = PutMultipartOptions { attributes, ..Default::default() };
        let begun = self.ask(multipart.create_multipart_opts(&path, options)).await?;
        let id = begun.map_err(|e| self.backend.voice.error(e))?;
        let upload = Upload {
            bucket: target.bucket,
            key: target.key,
            id: random_id()?,
            started_at: target.at,
            new,
            encryption: Encryption::None,
        };
        let open = Arc::new(Open { upload: upload.clone(), path, id, parts: Default::default() });
        self.uploads.all().insert(open.order(), open);
        Ok(upload)
    }

    pub(super) fn find_upload(&self, bucket: &str, key: &str, id: &str) -> Result<Upload> {
        self.ours(bucket)?;
        Ok(self.uploads.find(key, id)?.upload.clone())
    }

    pub(super) async fn add_part(
        &self,
        upload: &Upload,
        number: u16,
        body: ByteStream,
        verify: Verify,
        key: Option<&CustomerKey>,
        at: Timestamp,
    ) -> Result<Part> {
        self.ours(&upload.bucket)?;
        let open = self.uploads.find(&upload.key, &upload.id)?;
        let multipart = self.multipart()?;
        if key.is_some() {
            return Err(Error::CustomerKey("the upload is not encrypted with a key of the customer"));
        }
        let mut algorithms = upload.new.algorithms.clone();
        algorithms.extend(upload.new.algorithm);
        let mut incoming = Incoming::new(body, &algorithms, self.memory.clone(), PART_USUAL);
        let bytes = incoming.take(PART_MAX).await?;
        if !incoming.at_end().await? {
            return Err(Error::NotSupported("parts of more than 64 MiB in a mounted bucket"));
        }
        let sums = incoming.sums();
        verify(&sums)?;
        let index = usize::from(number).checked_sub(1).ok_or(Error::InvalidPart(number))?;
        // Bounded by the client: a slow line may take long for a part.
        let sent = multipart.put_part(&open.path, &open.id, index, bytes).await;
        let id = match sent {
            Ok(id) => id,
            Err(object_store::Error::NotFound { .. }) => return Err(Error::NoSuchUpload),
            Err(e) => return Err(self.backend.voice.error(e)),
        };
        let sum = upload.new.algorithm.and_then(|a| Some((a, BASE64.encode(sums.found.get(&a)?))));
        let part = Part { number, size: sums.size, etag: HEXLOWER.encode(&sums.md5), sum, modified_at: at };
        // It may have ended meanwhile.
        self.uploads.find(&upload.key, &upload.id)?;
        open.parts().insert(number, (part.clone(), id));
        Ok(part)
    }

    pub(super) fn list_parts(&self, upload: &Upload, after: u16, max: u32) -> Result<Vec<Part>> {
        self.ours(&upload.bucket)?;
        let open = self.uploads.find(&upload.key, &upload.id)?;
        let parts = open.parts();
        Ok(parts.range(after.saturating_add(1)..).take(max as usize).map(|(_, (part, _))| part.clone()).collect())
    }

    pub(super) async fn end_upload(
        &self,
        upload: &Upload,
        parts: Vec<CompletedPart>,
        condition: Precondition,
        sum: Option<String>,
    ) -> Result<ObjectVersion> {
        self.ours(&upload.bucket)?;
        let open = self.uploads.find(&upload.key, &upload.id)?;
        if condition != Precondition::default() {
            return Err(Error::NotSupported("conditions on uploads in parts to a mounted bucket"));
        }
        let chosen = chosen(&open.parts(), &parts)?;
        let whole = whole_sum(&upload.new, &chosen);
        if let (Some(expected), Some((_, _, found))) = (&sum, &whole)
            && expected.split('-').next() != found.split('-').next()
        {
            return Err(Error::Checksum(format!("the sum of the parts is {found}, not {expected}")));
        }
        if sum.is_some() && whole.is_none() {
            return Err(Error::NotSupported(
                "a sum of the whole of this kind for an upload in parts to a mounted bucket",
            ));
        }
        let count = chosen.len() as u16;
        let ids = chosen.into_iter().map(|(_, id)| id).collect();
        let completing = self.multipart()?.complete_multipart(&open.path, &open.id, ids);
        match completing.await {
            Ok(_) => {}
            Err(object_store::Error::NotFound { .. }) => {
                self.uploads.all().remove(&open.order());
                return Err(Error::NoSuchUpload);
            }
            Err(e) => return Err(self.backend.voice.error(e)),
        }
        self.uploads.all().remove(&open.order());
        // Some servers answer another ETag than they give later.
        let found = self.head(&open.path).await?.ok_or(Error::NoSuchKey)?;
        let mut object = self.object(&upload.key, &found.meta, upload.new.headers.clone());
        object.sum = whole;
        object.parts = count;
        Ok(object)
    }

    pub(super) async fn abort_upload(&self, upload: &Upload) -> Result<()> {
        self.ours(&upload.bucket)?;
        let open = self.uploads.find(&upload.key, &upload.id)?;
        match self.ask(self.multipart()?.abort_multipart(&open.path, &open.id)).await? {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {
                self.uploads.all().remove(&open.order());
                Ok(())
            }
            Err(e) => Err(self.backend.voice.error(e)),
        }
    }

    pub(super) fn list_uploads(&self, bucket: &str, query: &UploadQuery) -> Result<UploadListing> {
        self.ours(bucket)?;
        let mut listing = UploadListing::default();
        let mut count = 0;
        let mut last = None;
        // After a key come the keys after it; with an id, the uploads of the
        // same key after that one too.
        let mut waiting = query.after.as_ref().and_then(|(key, id)| id.as_ref().map(|id| (key.clone(), id.clone())));
        for ((key, _, id), open) in self.uploads.all().iter() {
            if let Some((after, after_id)) = &query.after {
                let same = key == after && after_id.is_some();
                if waiting.as_ref().is_some_and(|(k, i)| k == key && i == id) {
                    waiting = None;
                    continue;
                }
                if key < after || (key == after && (!same || waiting.is_some())) {
                    continue;
                }
            }
            let Some(rest) = key.strip_prefix(query.prefix.as_str()) else { continue };
            let delimiter = query.delimiter.as_deref().filter(|d| !d.is_empty());
            let rolled = delimiter.and_then(|d| rest.find(d).map(|at| &key[..query.prefix.len() + at + d.len()]));
            if let Some(prefix) = rolled {
                let passed = query.after.as_ref().is_some_and(|(after, _)| after == prefix);
                if passed || listing.prefixes.last().is_some_and(|p| p == prefix) {
                    continue;
                }
            }
            if count == query.max {
                listing.next = last.filter(|_| count > 0);
                break;
            }
            count += 1;
            match rolled {
                Some(prefix) => {
                    last = Some((prefix.to_owned(), None));
                    listing.prefixes.push(prefix.to_owned());
                }
                None => {
                    last = Some((key.clone(), Some(id.clone())));
                    listing.uploads.push(open.upload.clone());
                }
            }
        }
        Ok(listing)
    }
}

/// The parts that are listed, in their order, if they can be completed.
fn chosen(known: &BTreeMap<u16, (Part, PartId)>, listed: &[CompletedPart]) -> Result<Vec<(Part, PartId)>> {
    if !listed.is_sorted_by(|a, b| a.number < b.number) {
        return Err(Error::InvalidPartOrder);
    }
    let mut chosen = Vec::with_capacity(listed.len());
    for part in listed {
        let wrong = || Error::InvalidPart(part.number);
        let found = known.get(&part.number).ok_or_else(wrong)?;
        let sum_differs = part.sum.as_ref().is_some_and(|sum| found.0.sum.as_ref().is_some_and(|known| known != sum));
        if found.0.etag != part.etag.trim_matches('"') || sum_differs {
            return Err(wrong());
        }
        chosen.push(found.clone());
    }
    let Some(((last, _), others)) = chosen.split_last() else { return Err(Error::InvalidPart(1)) };
    if let Some((small, _)) = others.iter().find(|(part, _)| part.size < PART_MIN) {
        return Err(Error::PartTooSmall { number: small.number, size: small.size, min: PART_MIN });
    }
    // The store numbers them as they come.
    if usize::from(last.number) != chosen.len() {
        return Err(Error::NotSupported("uploads to a mounted bucket whose parts are not numbered 1, 2, 3 and on"));
    }
    Ok(chosen)
}

fn whole_sum(new: &NewObject, parts: &[(Part, PartId)]) -> Option<(Algorithm, ChecksumType, String)> {
    let algorithm = new.algorithm?;
    let kind = new.checksum_type.unwrap_or_else(|| algorithm.usual_type());
    let sums: Option<Vec<(&str, u64)>> =
        parts.iter().map(|(part, _)| part.sum.as_ref().map(|(_, sum)| (sum.as_str(), part.size))).collect();
    let sums = sums?.into_iter();
    let sum = match kind {
        ChecksumType::FullObject => full_object(algorithm, sums),
        ChecksumType::Composite => composite(algorithm, sums.map(|(sum, _)| sum)),
    };
    Some((algorithm, kind, sum?))
}
