//! Carries operations out, and thinks of the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::stream;
use muonic_ports::object_store::*;
use muonic_ports::{BlobStore, ObjectStore};
use muonic_types::ProjectId;

use super::dice::Dice;
use super::ledger::{Body, Keeps, Ledger, Only, Op, Outcome, Sealed, Version, time};
use crate::embedded::EmbeddedStore;
use crate::keys::LocalKeys;

pub(super) const CUSTOMER: CustomerKey = CustomerKey { key: [42; 32] };
/// The least that a part has, unless it is the last.
const PART_BYTES_MIN: usize = 5 << 20;
const VERSIONS_MAX: usize = 4;

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

/// What a worker does next; it has buckets and blobs of its own.
pub(super) fn next(dice: &mut Dice, worker: usize, known: &Ledger) -> Op {
    let at = known.clock;
    let name = |kind: &str| format!("w{worker}-{kind}");
    for (kind, lock) in [("off", false), ("all", true), ("suspended", false)] {
        let bucket = name(kind);
        if !known.buckets.contains_key(&bucket) {
            return Op::BucketCreate { bucket, lock };
        }
    }
    let suspended = &known.buckets[&name("suspended")];
    if suspended.keeps == Keeps::Nothing {
        return Op::Versioning { bucket: name("suspended"), on: dice.one_in(2) };
    }
    let seed = ((worker as u64) << 48) + at as u64 * 16;
    let body = |dice: &mut Dice, n: u64| Body { seed: seed + n, len: length(dice) };
    // No other worker has one of the same content.
    let blob = |dice: &mut Dice, n: u64| Body { seed: seed + n, len: 16 + length(dice) };
    let bucket = name(dice.of(&["off", "all", "suspended"]).unwrap());
    let there = &known.buckets[&bucket];
    let key = (*dice.of(&["a", "b/c", "b/d ü", "z"]).unwrap()).to_owned();
    let versions = there.keys.get(&key).map_or(&[][..], Vec::as_slice);
    let sealed = *dice.of(&[Sealed::Store, Sealed::Store, Sealed::Named, Sealed::Customer]).unwrap();
    let header = dice.next() % 1000;
    let mut some_version = |bucket: &str, which: fn(&Version) -> bool| {
        let of = &known.buckets[bucket];
        let all: Vec<_> = of.keys.iter().flat_map(|(key, all)| all.iter().map(move |v| (key, v))).collect();
        let all: Vec<_> = all.into_iter().filter(|(_, v)| which(v)).collect();
        dice.of(&all).map(|(key, version)| ((*key).clone(), version.id.clone()))
    };
    let any_version = some_version(&bucket, |_| true);
    let an_object = some_version(&bucket, |version| version.content.is_some());
    let to_copy = some_version(&bucket, |version| {
        version.content.as_ref().is_some_and(|content| content.size() < PART_BYTES_MIN as u64)
    });
    let full = there.keys.values().any(|versions| versions.len() > VERSIONS_MAX);
    match dice.below(100) {
        _ if full => {
            let many = there.keys.iter().find(|(_, versions)| versions.len() > VERSIONS_MAX).unwrap();
            let removals = many.1.iter().skip(dice.below(4)).map(|v| (many.0.clone(), Some(v.id.clone())));
            Op::Delete { bucket, at, removals: removals.collect(), bypass: true }
        }
        0..25 => {
            let only = match (dice.below(4), versions.first().and_then(|latest| latest.content.as_ref())) {
                (0, _) => Only::Absent,
                (1, Some(content)) => Only::Is(content.etag()),
                (1, None) => Only::Is("0".repeat(32)),
                _ => Only::Always,
            };
            Op::Put { bucket, key, at, body: body(dice, 0), sealed, header, only }
        }
        25..28 => Op::Race { bucket, key, at, bodies: [body(dice, 0), body(dice, 1)] },
        28..36 => match to_copy {
            Some((from, id)) => Op::Copy { from: (bucket.clone(), from, id), bucket, key, at, sealed, header },
            None => Op::Put { bucket, key, at, body: body(dice, 0), sealed, header, only: Only::Always },
        },
        36..44 => {
            let mut removals = vec![(key, None)];
            removals.extend(any_version.map(|(key, id)| (key, Some(id))));
            Op::Delete { bucket, at, removals, bypass: dice.one_in(2) }
        }
        44..54 => match an_object {
            Some((key, id)) if there.lock && dice.one_in(2) => match dice.one_in(2) {
                true => Op::Retain { bucket, key, id, retained: dice.one_in(2), at },
                false => Op::Hold { bucket, key, id, hold: dice.one_in(4) },
            },
            Some((key, id)) => Op::Tags { bucket, key, id, tags: header },
            None => Op::Document { bucket, name: "tags".into(), text: Some(header.to_string()) },
        },
        54..76 => upload(dice, bucket, key, known, seed),
        76..82 => Op::BlobPut { body: blob(dice, 0), twice: dice.one_in(3) },
        82..86 => {
            let count = 1 + dice.below(5) as u64;
            let mut bodies: Vec<Body> = (0..count).map(|n| blob(dice, n)).collect();
            bodies.extend(known.blobs.first());
            Op::BlobBatch { bodies }
        }
        86..90 => match known.blobs.iter().nth(dice.below(known.blobs.len())) {
            Some(body) => Op::BlobRemove { body: *body },
            None => Op::BlobPut { body: blob(dice, 0), twice: false },
        },
        90..94 => Op::Document {
            bucket,
            name: (*dice.of(&["policy", "cors"]).unwrap()).to_owned(),
            text: (!dice.one_in(3)).then(|| "{\"Statement\": []}".repeat(1 + header as usize % 20)),
        },
        94..96 => Op::Versioning { bucket: name("suspended"), on: suspended.keeps != Keeps::All },
        96..99 => match known.buckets.contains_key(&name("short")) {
            false => Op::BucketCreate { bucket: name("short"), lock: false },
            true if dice.one_in(2) => Op::BucketDelete { bucket: name("short") },
            true => upload(dice, name("short"), key, known, seed),
        },
        _ if dice.one_in(4) => Op::Rotate { named: dice.one_in(2) },
        _ => Op::BlobPut { body: blob(dice, 0), twice: false },
    }
}

fn upload(dice: &mut Dice, bucket: String, key: String, known: &Ledger, seed: u64) -> Op {
    let at = known.clock;
    let uploads = &known.buckets[&bucket].uploads;
    let begin = uploads.is_empty() || uploads.len() < 3 && dice.one_in(4);
    let Some(upload) = dice.of(uploads).filter(|_| !begin) else {
        let sealed = *dice.of(&[Sealed::Store, Sealed::Named, Sealed::Customer]).unwrap();
        return Op::UploadCreate { bucket, key, at, header: dice.next() % 1000, sealed };
    };
    let id = upload.id.clone();
    let there: Vec<u16> = upload.parts.keys().copied().collect();
    match dice.below(8) {
        0 => Op::Abort { bucket, id },
        1..4 if !there.is_empty() => {
            // Those that may come before another, and the last.
            let mut numbers: Vec<u16> =
                there.iter().copied().filter(|n| upload.parts[n].len >= PART_BYTES_MIN).collect();
            let last = *dice.of(&there).unwrap();
            numbers.retain(|number| *number < last);
            numbers.push(last);
            Op::Complete { bucket, id, numbers, at }
        }
        _ => {
            let number = *dice.of(&[1, 2, 7, 10_000]).unwrap();
            let len = if dice.one_in(150) { PART_BYTES_MIN + 1000 } else { length(dice) };
            Op::Part { bucket, id, number, body: Body { seed, len }, at }
        }
    }
}

fn length(dice: &mut Dice) -> usize {
    match dice.below(40) {
        0 => 0,
        1..14 => 1 + dice.below(1024),
        14..30 => 1025 + dice.below(15 << 10),
        30..39 => (16 << 10) + dice.below(40_000),
        _ => 200_000,
    }
}
