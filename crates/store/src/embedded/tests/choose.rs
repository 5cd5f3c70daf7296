//! What a worker does next.

use super::body::Body;
use super::dice::Dice;
use super::ledger::{Keeps, Ledger, Sealed, Version};
use super::op::{Only, Op};

/// The least that a part has, unless it is the last.
const PART_BYTES_MIN: usize = 5 << 20;
const VERSIONS_MAX: usize = 4;

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
