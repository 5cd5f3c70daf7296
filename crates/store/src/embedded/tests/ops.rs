//! Carries operations out.

use crate::keys::KeyProvider;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::stream;
use muonic_ports::object_store::*;
use muonic_ports::{BlobStore, ObjectStore};
use muonic_types::ProjectId;

use super::body::Body;
use super::ledger::{Ledger, Sealed, time};
use super::op::{Only, Op, Outcome};
use crate::embedded::EmbeddedStore;
use crate::keys::LocalKeys;

pub(super) const CUSTOMER: CustomerKey = CustomerKey { key: [42; 32] };

pub(super) fn stream_of(body: Body) -> ByteStream {
    let bytes = body.bytes();
    let pieces: Vec<_> =
        (0..bytes.len()).step_by(30_000).map(|at| Ok(bytes.slice(at..bytes.len().min(at + 30_000)))).collect();
    Box::pin(stream::iter(pieces))
}

pub(super) fn customer(sealed: Sealed) -> Option<&'static CustomerKey> {
    (sealed == Sealed::Customer).then_some(&CUSTOMER)
}

pub(super) fn tags(seed: u64) -> BTreeMap<String, String> {
    BTreeMap::from([("seed".to_owned(), seed.to_string())])
}

pub(super) fn headers(seed: u64) -> BTreeMap<String, String> {
    let long = "x".repeat(seed as usize % 300);
    BTreeMap::from([("x-amz-meta-seed".to_owned(), seed.to_string()), ("content-type".to_owned(), long)])
}

fn new(header: u64, sealed: Sealed) -> NewObject {
    let algorithms = BTreeSet::from([Algorithm::Crc32c]);
    NewObject {
        headers: headers(header),
        tags: tags(header),
        owner: "worker".into(),
        encryption: match sealed {
            Sealed::Store => NewEncryption::Store,
            Sealed::Named => NewEncryption::Named(None),
            Sealed::Customer => NewEncryption::Customer(CUSTOMER),
        },
        algorithm: Some(Algorithm::Crc32c).filter(|_| header.is_multiple_of(2)),
        algorithms: if header.is_multiple_of(2) { algorithms } else { BTreeSet::new() },
        ..NewObject::default()
    }
}

fn target(bucket: &str, key: &str, at: i64, only: &Only) -> Target {
    let condition = match only {
        Only::Always => Precondition::default(),
        Only::Absent => Precondition { if_none_match: Some(EtagMatch::Any), ..Precondition::default() },
        Only::Is(etag) => {
            Precondition { if_match: Some(EtagMatch::Tags(vec![etag.clone()])), ..Precondition::default() }
        }
    };
    Target { bucket: bucket.into(), key: key.into(), condition, at: time(at) }
}

/// Refusals are answers; faults of the store are errors.
pub(super) async fn execute(store: &EmbeddedStore, keys: &Arc<LocalKeys>, known: &Ledger, op: &Op) -> Result<Outcome> {
    let ids = match work(store, keys, known, op).await {
        Ok(ids) => ids,
        Err(Error::Store(error)) => return Err(error.into()),
        Err(error) => return Ok(Outcome::Refused(error.to_string())),
    };
    Ok(Outcome::Done(ids))
}

async fn work(store: &EmbeddedStore, keys: &Arc<LocalKeys>, known: &Ledger, op: &Op) -> Result<Vec<String>> {
    let id = |object: ObjectVersion| vec![object.version.0];
    let none = Vec::new;
    Ok(match op {
        Op::BucketCreate { bucket, lock } => {
            let (project, documents) = (ProjectId::default_project(), BTreeMap::new());
            let new = NewBucket { name: bucket.clone(), project, at: time(0), lock: *lock, documents };
            store.bucket_create(new).await.map(|_| none())?
        }
        Op::BucketDelete { bucket } => store.bucket_delete(bucket).await.map(|()| none())?,
        Op::Versioning { bucket, on } => {
            let versioning = if *on { Versioning::On } else { Versioning::Suspended };
            store.bucket_change(bucket, BucketChange::Versioning(versioning)).await.map(|_| none())?
        }
        Op::Document { bucket, name, text } => {
            let change = BucketChange::Document(name.clone(), text.clone());
            store.bucket_change(bucket, change).await.map(|_| none())?
        }
        Op::Put { bucket, key, at, body, sealed, header, only } => {
            let target = target(bucket, key, *at, only);
            let (size, etag) = (body.len as u64, body.etag());
            let verify: Verify = Box::new(move |sums| {
                assert_eq!((sums.size, data_encoding::HEXLOWER.encode(&sums.md5)), (size, etag));
                Ok(())
            });
            id(ObjectStore::put(store, target, new(*header, *sealed), stream_of(*body), verify).await?)
        }
        Op::Race { bucket, key, at, bodies } => {
            let put = |body: Body| {
                let target = target(bucket, key, *at, &Only::Absent);
                ObjectStore::put(store, target, new(0, Sealed::Store), stream_of(body), no_check())
            };
            match tokio::join!(put(bodies[0]), put(bodies[1])) {
                (Ok(_), Ok(_)) => panic!("two have won a race that one may win"),
                (Ok(object), Err(Error::PreconditionFailed(_))) => vec!["0".into(), object.version.0],
                (Err(Error::PreconditionFailed(_)), Ok(object)) => vec!["1".into(), object.version.0],
                (Err(error), Err(Error::PreconditionFailed(_))) | (_, Err(error)) | (Err(error), _) => {
                    return Err(error);
                }
            }
        }
        Op::Copy { from: (from, from_key, version), bucket, key, at, sealed, header } => {
            let source = ObjectStore::get(store, from, from_key, Some(&VersionId(version.clone()))).await?;
            let source = source.ok_or(Error::NoSuchVersion)?;
            let source_key = matches!(source.encryption, Encryption::Customer { .. }).then_some(&CUSTOMER);
            let target = target(bucket, key, *at, &Only::Always);
            id(store.copy(&source, source_key, target, new(*header, *sealed)).await?)
        }
        Op::Delete { bucket, at, removals, bypass } => {
            let removal = |(key, version): &(String, Option<String>)| Removal {
                key: key.clone(),
                version: version.clone().map(VersionId),
                condition: Precondition::default(),
                guard: LockGuard { now: time(*at), bypass: *bypass },
                owner: "worker".into(),
                expired: false,
            };
            let answers = store.delete(bucket, removals.iter().map(removal).collect(), time(*at)).await?;
            answers
                .into_iter()
                .map(|answer| match answer {
                    Ok(deleted) => Ok(deleted.version.map_or_else(String::new, |version| version.0)),
                    Err(Error::Store(error)) => Err(Error::Store(error)),
                    Err(_) => Ok("!".to_owned()),
                })
                .collect::<Result<_>>()?
        }
        Op::Tags { bucket, key, id, tags: seed } => {
            let change = ObjectChange::Tags(tags(*seed));
            store.change(bucket, key, Some(&VersionId(id.clone())), change).await.map(|_| none())?
        }
        Op::Retain { bucket, key, id, retained, at } => {
            let retention = retained.then(|| retention(*at));
            let guard = LockGuard { now: time(*at), bypass: true };
            let change = ObjectChange::Retention(retention, guard);
            store.change(bucket, key, Some(&VersionId(id.clone())), change).await.map(|_| none())?
        }
        Op::Hold { bucket, key, id, hold } => {
            let change = ObjectChange::LegalHold(*hold);
            store.change(bucket, key, Some(&VersionId(id.clone())), change).await.map(|_| none())?
        }
        Op::UploadCreate { bucket, key, at, header, sealed } => {
            let target = target(bucket, key, *at, &Only::Always);
            vec![store.upload_create(target, new(*header, *sealed)).await?.id]
        }
        Op::Part { bucket, id, number, body, at } => {
            let pending = known.upload(bucket, id).ok_or(Error::NoSuchUpload)?;
            let upload = store.upload(bucket, &pending.key, id).await?;
            let key = customer(pending.sealed);
            let part = store.upload_part(&upload, *number, stream_of(*body), no_check(), key, time(*at)).await?;
            assert_eq!(part.etag, body.etag());
            none()
        }
        Op::Complete { bucket, id: upload, numbers, at } => {
            let pending = known.upload(bucket, upload).ok_or(Error::NoSuchUpload)?;
            let upload = store.upload(bucket, &pending.key, upload).await?;
            let parts = numbers
                .iter()
                .map(|number| CompletedPart { number: *number, etag: pending.parts[number].etag(), sum: None })
                .collect();
            id(store.upload_complete(&upload, parts, Precondition::default(), None, time(*at)).await?)
        }
        Op::Abort { bucket, id } => {
            let pending = known.upload(bucket, id).ok_or(Error::NoSuchUpload)?;
            let upload = store.upload(bucket, &pending.key, id).await?;
            store.upload_abort(&upload).await.map(|()| none())?
        }
        Op::BlobPut { body, twice } => {
            let first = BlobStore::put(store, stream_of(*body), Some(body.digest()));
            if *twice {
                let (a, b) = tokio::join!(first, BlobStore::put(store, stream_of(*body), None));
                assert_eq!((a?.digest, b?.digest), (body.digest(), body.digest()));
            } else {
                first.await?;
            }
            none()
        }
        Op::BlobBatch { bodies } => {
            let blobs = bodies.iter().map(|body| (body.digest(), body.bytes())).collect();
            store.put_batch(blobs).await.map(|()| none())?
        }
        Op::BlobRemove { body } => store.remove(&body.digest()).await.map(|()| none())?,
        Op::Rotate { named } => vec![keys.rotate(named.then_some(crate::keys::DEFAULT_KEY))?.to_string()],
    })
}

pub(super) fn retention(at: i64) -> Retention {
    Retention { mode: RetentionMode::Governance, until: time(at + 1_000_000_000) }
}
