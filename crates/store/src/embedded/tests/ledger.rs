//! What a worker has been told: its buckets, objects, uploads and blobs as they
//! must be, and how each operation changes them.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::HEXLOWER;
use md5::{Digest as _, Md5};
use muonic_types::Timestamp;
use serde::{Deserialize, Serialize};

use super::body::Body;
use super::op::{Op, Outcome};

/// An id that nobody has been told.
pub(super) const UNKNOWN: &str = "?";

pub(super) fn time(at: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + at).unwrap()
}

/// Who holds the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Sealed {
    Store,
    Named,
    Customer,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Content {
    /// By part number; 0 where it has no parts.
    pub bodies: Vec<(u16, Body)>,
    pub sealed: Sealed,
}

impl Content {
    pub(super) fn size(&self) -> u64 {
        self.bodies.iter().map(|(_, body)| body.len as u64).sum()
    }

    pub(super) fn parts(&self) -> u16 {
        self.bodies.iter().filter(|(number, _)| *number > 0).count() as u16
    }

    pub(super) fn etag(&self) -> String {
        match &self.bodies[..] {
            [(0, body)] => body.etag(),
            [(0, _), ..] => {
                let mut md5 = Md5::new();
                self.bodies.iter().for_each(|(_, body)| md5.update(body.bytes()));
                HEXLOWER.encode(&md5.finalize())
            }
            parts => {
                let all: Vec<u8> = parts.iter().flat_map(|(_, body)| body.sums().0).collect();
                format!("{}-{}", HEXLOWER.encode(&Md5::digest(all)), parts.len())
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    pub id: String,
    pub at: i64,
    /// `None` for a delete marker.
    pub content: Option<Content>,
    /// Told as a header, and as tags.
    pub header: u64,
    pub tags: u64,
    pub retained: bool,
    pub hold: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    pub id: String,
    pub key: String,
    pub header: u64,
    pub sealed: Sealed,
    pub parts: BTreeMap<u16, Body>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Keeps {
    Nothing,
    All,
    Suspended,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bucket {
    pub keeps: Keeps,
    pub lock: bool,
    pub documents: BTreeMap<String, String>,
    /// The latest first; no key without a version.
    pub keys: BTreeMap<String, Vec<Version>>,
    pub uploads: Vec<Pending>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ledger {
    pub buckets: BTreeMap<String, Bucket>,
    pub blobs: BTreeSet<Body>,
    /// Counts operations, and makes bodies different.
    pub clock: i64,
}

impl Ledger {
    /// After an operation whose answer was heard.
    pub(super) fn apply(&mut self, op: &Op, outcome: &Outcome) {
        self.clock += 1;
        let Outcome::Done(ids) = outcome else { return };
        match op {
            Op::Race { bucket, key, at, bodies } => {
                let winner = bodies[usize::from(ids[0] == "1")];
                self.put(bucket, key, &ids[1], *at, single(winner, Sealed::Store), 0);
            }
            op => self.change(op, &mut ids.iter().cloned()),
        }
    }

    /// All that may be true where no answer was heard.
    pub(super) fn may_be(&self, op: Option<&Op>) -> Vec<Self> {
        let mut all = vec![self.clone()];
        let unknown = || std::iter::repeat(UNKNOWN.to_owned());
        match op {
            None => {}
            Some(Op::Race { bucket, key, at, bodies }) => {
                for body in bodies {
                    let mut after = self.clone();
                    after.put(bucket, key, UNKNOWN, *at, single(*body, Sealed::Store), 0);
                    all.push(after);
                }
            }
            Some(op) => {
                let mut after = self.clone();
                after.change(op, &mut unknown());
                all.push(after);
            }
        }
        all.iter_mut().for_each(|ledger| ledger.clock += 1);
        all
    }

    pub(super) fn version(&mut self, bucket: &str, key: &str, id: &str) -> Option<&mut Version> {
        self.buckets.get_mut(bucket)?.keys.get_mut(key)?.iter_mut().find(|version| version.id == id)
    }

    pub(super) fn upload(&self, bucket: &str, id: &str) -> Option<&Pending> {
        self.buckets.get(bucket)?.uploads.iter().find(|upload| upload.id == id)
    }

    fn put(&mut self, bucket: &str, key: &str, id: &str, at: i64, content: Content, header: u64) {
        let content = Some(content);
        let new = Version { id: id.into(), at, content, header, tags: header, retained: false, hold: false };
        self.place(bucket, key, new);
    }

    /// As S3 says: a new version, or one in the place of the null version.
    fn place(&mut self, bucket: &str, key: &str, new: Version) {
        let Some(bucket) = self.buckets.get_mut(bucket) else { return };
        let versions = bucket.keys.entry(key.to_owned()).or_default();
        match bucket.keeps {
            Keeps::Nothing => versions.clear(),
            Keeps::All => {}
            Keeps::Suspended => versions.retain(|version| version.id != "null"),
        }
        let id = if bucket.keeps == Keeps::All { new.id.clone() } else { "null".to_owned() };
        versions.insert(0, Version { id, ..new });
    }

    fn change(&mut self, op: &Op, ids: &mut dyn Iterator<Item = String>) {
        let mut id = || ids.next().unwrap_or_default();
        match op {
            Op::BucketCreate { bucket, lock } => {
                let keeps = if *lock { Keeps::All } else { Keeps::Nothing };
                let (documents, keys, uploads) = Default::default();
                self.buckets.insert(bucket.clone(), Bucket { keeps, lock: *lock, documents, keys, uploads });
            }
            Op::BucketDelete { bucket } => drop(self.buckets.remove(bucket)),
            Op::Versioning { bucket, on } => {
                self.bucket(bucket).keeps = if *on { Keeps::All } else { Keeps::Suspended };
            }
            Op::Document { bucket, name, text } => {
                let documents = &mut self.bucket(bucket).documents;
                match text {
                    Some(text) => documents.insert(name.clone(), text.clone()),
                    None => documents.remove(name),
                };
            }
            Op::Put { bucket, key, at, body, sealed, header, only: _ } => {
                self.put(bucket, key, &id(), *at, single(*body, *sealed), *header);
            }
            Op::Race { .. } => {}
            Op::Copy { from: (from, from_key, version), bucket, key, at, sealed, header } => {
                let source = self.version(from, from_key, version).and_then(|version| version.content.clone());
                let Some(source) = source else { return };
                // The bytes of parts become those of one object.
                let bodies = source.bodies.into_iter().map(|(_, body)| (0, body)).collect();
                let content = Content { bodies, sealed: *sealed };
                self.put(bucket, key, &id(), *at, content, *header);
            }
            Op::Delete { bucket, at, removals, bypass } => {
                for (key, version) in removals {
                    let id = id();
                    if id != "!" {
                        self.remove(bucket, key, version.as_deref(), *at, *bypass, id);
                    }
                }
            }
            Op::Tags { bucket, key, id, tags } => {
                self.version(bucket, key, id).into_iter().for_each(|version| version.tags = *tags);
            }
            Op::Retain { bucket, key, id, retained, .. } => {
                self.version(bucket, key, id).into_iter().for_each(|version| version.retained = *retained);
            }
            Op::Hold { bucket, key, id, hold } => {
                self.version(bucket, key, id).into_iter().for_each(|version| version.hold = *hold);
            }
            Op::UploadCreate { bucket, key, header, sealed, .. } => {
                let parts = BTreeMap::new();
                let new = Pending { id: id(), key: key.clone(), header: *header, sealed: *sealed, parts };
                self.bucket(bucket).uploads.push(new);
            }
            Op::Part { bucket, id, number, body, .. } => {
                let upload = self.bucket(bucket).uploads.iter_mut().find(|upload| upload.id == *id);
                if let Some(upload) = upload {
                    upload.parts.insert(*number, *body);
                }
            }
            Op::Complete { bucket, id: upload, numbers, at } => {
                let Some(upload) = self.take_upload(bucket, upload) else { return };
                let bodies = numbers.iter().map(|number| (*number, upload.parts[number])).collect();
                let content = Content { bodies, sealed: upload.sealed };
                self.put(bucket, &upload.key, &id(), *at, content, upload.header);
            }
            Op::Abort { bucket, id } => drop(self.take_upload(bucket, id)),
            Op::BlobPut { body, .. } => drop(self.blobs.insert(*body)),
            Op::BlobBatch { bodies } => self.blobs.extend(bodies),
            Op::BlobRemove { body } => drop(self.blobs.remove(body)),
            Op::Rotate { .. } => {}
        }
    }

    fn bucket(&mut self, name: &str) -> &mut Bucket {
        self.buckets.get_mut(name).expect("the bucket is known")
    }

    fn take_upload(&mut self, bucket: &str, id: &str) -> Option<Pending> {
        let uploads = &mut self.bucket(bucket).uploads;
        let at = uploads.iter().position(|upload| upload.id == id)?;
        Some(uploads.remove(at))
    }

    fn remove(&mut self, bucket: &str, key: &str, version: Option<&str>, at: i64, bypass: bool, id: String) {
        let keeps = self.bucket(bucket).keeps;
        if let Some(version) = version {
            if let Some(found) = self.version(bucket, key, version)
                && (found.hold || found.retained && !bypass)
            {
                return;
            }
            if let Some(versions) = self.bucket(bucket).keys.get_mut(key) {
                versions.retain(|found| found.id != version);
            }
        } else if keeps == Keeps::Nothing {
            self.bucket(bucket).keys.remove(key);
        } else {
            let marker = Version { id, at, content: None, header: 0, tags: 0, retained: false, hold: false };
            self.place(bucket, key, marker);
        }
        self.bucket(bucket).keys.retain(|_, versions| !versions.is_empty());
    }
}

fn single(body: Body, sealed: Sealed) -> Content {
    Content { bodies: vec![(0, body)], sealed }
}
