//! What a store shows of itself, and whether it is what a ledger says.

use muonic_ports::StoreAdmin;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use data_encoding::HEXLOWER;
use futures_util::StreamExt;
use md5::{Digest as _, Md5};
use muonic_ports::object_store::*;
use muonic_ports::{BlobStore, ObjectStore};
use muonic_types::Digest;

use super::ledger::{self, Keeps, Ledger, Sealed, UNKNOWN, time};
use super::ops::{CUSTOMER, headers, retention, tags};
use crate::content::Place;
use crate::embedded::EmbeddedStore;

pub(super) struct Seen {
    buckets: BTreeMap<String, SeenBucket>,
    blobs: BTreeSet<Digest>,
}

struct SeenBucket {
    bucket: Bucket,
    /// The latest first.
    keys: BTreeMap<String, Vec<ObjectVersion>>,
    uploads: Vec<(Upload, Vec<Part>)>,
}

pub(super) async fn drain(mut body: ByteStream) -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    while let Some(piece) = body.next().await {
        all.extend_from_slice(&piece.map_err(|e| e.to_string())?);
    }
    Ok(all)
}

/// Reads everything. All that is listed is whole: its bytes are there and
/// have the size and the ETag that are told of it.
pub(super) async fn look(store: &EmbeddedStore) -> Result<Seen, String> {
    let text = |error: Error| error.to_string();
    let mut buckets = BTreeMap::new();
    for bucket in store.buckets(None).await.map_err(text)? {
        let name = bucket.name.clone();
        let query = ListQuery { max: 1000, versions: true, ..ListQuery::default() };
        let listing = store.list(&name, &query).await.map_err(text)?;
        assert!(listing.next.is_none());
        let mut keys: BTreeMap<String, Vec<ObjectVersion>> = BTreeMap::new();
        for listed in listing.objects {
            let what = format!("{name}/{} ({})", listed.key, listed.version);
            let object = ObjectStore::get(store, &name, &listed.key, Some(&listed.version)).await.map_err(text)?;
            let object = object.ok_or_else(|| format!("{what} is listed and not there"))?;
            if !object.is_delete_marker {
                whole(store, &object).await.map_err(|why| format!("{what}: {why}"))?;
            }
            keys.entry(listed.key).or_default().push(object);
        }
        let query = UploadQuery { max: 1000, ..UploadQuery::default() };
        let mut uploads = Vec::new();
        for upload in store.uploads(&name, &query).await.map_err(text)?.uploads {
            let parts = store.upload_parts(&upload, 0, 10_000).await.map_err(text)?;
            uploads.push((upload, parts));
        }
        buckets.insert(name, SeenBucket { bucket, keys, uploads });
    }
    let mut blobs = BTreeSet::new();
    for (digest, size) in store.index().blobs(None, 10_000).await.map_err(text)? {
        let body = BlobStore::get(store, &digest, None).await.map_err(|e| e.to_string())?.1;
        let bytes = drain(body).await?;
        if Digest::of(&bytes) != digest || bytes.len() as u64 != size {
            return Err(format!("blob {digest} has other bytes"));
        }
        blobs.insert(digest);
    }
    Ok(Seen { buckets, blobs })
}

async fn whole(store: &EmbeddedStore, object: &ObjectVersion) -> Result<(), String> {
    let key = matches!(object.encryption, Encryption::Customer { .. }).then_some(&CUSTOMER);
    let body = store.read(object, None, key).await.map_err(|e| e.to_string())?;
    let bytes = drain(body).await?;
    if bytes.len() as u64 != object.size {
        return Err(format!("{} bytes of {}", bytes.len(), object.size));
    }
    let etag = if object.parts == 0 {
        HEXLOWER.encode(&Md5::digest(&bytes))
    } else {
        let parts = store.parts(object, 0, 10_000).await.map_err(|e| e.to_string())?;
        let (mut all, mut rest) = (Vec::new(), &bytes[..]);
        for part in &parts {
            let (its, after) = rest.split_at_checked(part.size as usize).ok_or("parts are longer than the object")?;
            let md5 = Md5::digest(its);
            if HEXLOWER.encode(&md5) != part.etag {
                return Err(format!("part {} has other bytes", part.number));
            }
            all.extend_from_slice(&md5);
            rest = after;
        }
        format!("{}-{}", HEXLOWER.encode(&Md5::digest(all)), parts.len())
    };
    if etag != object.etag {
        return Err(format!("the bytes are {etag}, not {}", object.etag));
    }
    Ok(())
}

impl Seen {
    /// Whether all of `prefix`'s buckets, and its blobs, are as the ledger has
    /// them; ids that nobody was told are filled in. `blobs` are all that
    /// might be there.
    pub(super) fn is(
        &self,
        prefix: &str,
        ledger: &mut Ledger,
        blobs: &BTreeSet<super::body::Body>,
    ) -> Result<(), String> {
        let there: Vec<&String> = self.buckets.keys().filter(|name| name.starts_with(prefix)).collect();
        same("buckets", &there, &ledger.buckets.keys().collect())?;
        for (name, known) in &mut ledger.buckets {
            self.buckets[name].is(known).map_err(|why| format!("{name}: {why}"))?;
        }
        for body in blobs {
            let wanted = ledger.blobs.contains(body);
            if self.blobs.contains(&body.digest()) != wanted {
                return Err(format!("blob {body:?} is {}", if wanted { "lost" } else { "there" }));
            }
        }
        Ok(())
    }

    /// No blob beside those of the ledgers.
    pub(super) fn has_no_other_blobs(&self, ledgers: &[Ledger]) {
        let known: HashSet<Digest> = ledgers.iter().flat_map(|l| &l.blobs).map(|body| body.digest()).collect();
        assert_eq!(self.blobs.iter().copied().collect::<HashSet<_>>(), known);
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, wanted: &T) -> Result<(), String> {
    if found == wanted { Ok(()) } else { Err(format!("{what}: {found:?} instead of {wanted:?}")) }
}

fn id(found: &str, known: &mut String) -> Result<(), String> {
    if known == UNKNOWN {
        found.clone_into(known);
    }
    same("id", &found, &known.as_str())
}

impl SeenBucket {
    fn is(&self, known: &mut ledger::Bucket) -> Result<(), String> {
        let keeps = match self.bucket.versioning {
            Versioning::Off => Keeps::Nothing,
            Versioning::On => Keeps::All,
            Versioning::Suspended => Keeps::Suspended,
        };
        same("versioning", &keeps, &known.keeps)?;
        same("lock", &self.bucket.lock, &known.lock)?;
        same("documents", &self.bucket.documents, &known.documents)?;
        same("keys", &self.keys.keys().collect::<Vec<_>>(), &known.keys.keys().collect())?;
        for (key, known) in &mut known.keys {
            let found = &self.keys[key];
            same(key, &found.len(), &known.len())?;
            for (at, (found, known)) in found.iter().zip(known).enumerate() {
                is_version(found, known, at == 0).map_err(|why| format!("{key}, version {at}: {why}"))?;
            }
        }
        same("number of uploads", &self.uploads.len(), &known.uploads.len())?;
        for known in &mut known.uploads {
            // An id that nobody was told is the last that was made.
            let mut like = self.uploads.iter().filter(|(upload, _)| upload.key == known.key);
            let found = match known.id == UNKNOWN {
                true => like.next_back(),
                false => like.find(|(upload, _)| upload.id == known.id),
            };
            let (found, parts) = found.ok_or_else(|| format!("upload {} is lost", known.id))?;
            id(&found.id, &mut known.id)?;
            same("headers", &found.new.headers, &headers(known.header))?;
            let parts: Vec<_> = parts.iter().map(|part| (part.number, part.size, part.etag.clone())).collect();
            let wanted = known.parts.iter().map(|(number, body)| (*number, body.len as u64, body.etag()));
            same("parts", &parts, &wanted.collect())?;
        }
        Ok(())
    }
}

fn is_version(found: &ObjectVersion, known: &mut ledger::Version, latest: bool) -> Result<(), String> {
    id(&found.version.0, &mut known.id)?;
    same("latest", &found.latest, &latest)?;
    same("time", &found.modified_at, &time(known.at))?;
    same("marker", &found.is_delete_marker, &known.content.is_none())?;
    same("owner", &found.owner.as_str(), &"worker")?;
    let Some(content) = &known.content else { return Ok(()) };
    same("size", &found.size, &content.size())?;
    same("parts", &found.parts, &content.parts())?;
    same("ETag", &found.etag, &content.etag())?;
    same("headers", &found.headers, &headers(known.header))?;
    same("tags", &found.tags, &tags(known.tags))?;
    same("hold", &found.legal_hold, &known.hold)?;
    same("retention", &found.retention.map(|r| r.mode), &known.retained.then(|| retention(0).mode))?;
    let customer = matches!(found.encryption, Encryption::Customer { .. });
    same("whose key", &customer, &(content.sealed == Sealed::Customer))
}

/// Nothing is garbage, no file is there that no row names, and the rows agree.
pub(super) async fn nothing_is_left_over(store: &EmbeddedStore) -> Result<(), String> {
    let text = |error: Error| error.to_string();
    store.reclaim_now().await.map_err(text)?;
    same("garbage", &store.stats().await.map_err(|e| e.to_string())?.garbage, &0)?;
    let all = store.index().all_extents(0, 1_000_000).await.map_err(text)?;
    let named: BTreeSet<_> = all
        .iter()
        .filter(|located| matches!(located.extent.place, Place::File { .. }))
        .map(|located| located.extent.id)
        .collect();
    let files = store.data().files().and_then(Iterator::collect::<muonic_ports::Result<BTreeSet<_>>>);
    same("files", &files.map_err(|e| e.to_string())?, &named)?;
    let segments = store.data().segments().map_err(|e| e.to_string())?;
    let rows: HashSet<u64> = store.index().segments().await.map_err(text)?.iter().map(|s| s.id).collect();
    if let Some(info) = segments.iter().find(|info| info.closed && !rows.contains(&info.segment)) {
        return Err(format!("segment {:016x} belongs to nobody", info.segment));
    }
    let damaged = store.scrub(0).await.map_err(text)?.damaged;
    same("damage", &damaged, &Vec::new())
}
