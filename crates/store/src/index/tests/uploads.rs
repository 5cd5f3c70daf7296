//! Uploads in parts.

use data_encoding::BASE64;
use muonic_ports::object_store::{Algorithm, ChecksumType, CompletedPart, Error, EtagMatch, Part, Upload};

use super::*;
use crate::index::NewPart;

const MIB: u64 = 1 << 20;

fn part(number: u16, size: u64, seed: u8) -> NewPart {
    let sums = Sums { size, ..sums(&[seed, number.to_be_bytes()[0], number.to_be_bytes()[1]]) };
    NewPart { number, extent: extent(Place::File { length: size }, size), sums, at: at(2) }
}

fn completed(part: &Part) -> CompletedPart {
    CompletedPart { number: part.number, etag: part.etag.clone(), sum: part.sum.clone() }
}

async fn begin(index: &Index) -> Upload {
    index.upload_create(target("k"), NewObject::default(), Encryption::Store).await.unwrap()
}

async fn complete(index: &Index, upload: &Upload, parts: &[Part]) -> Result<ObjectVersion> {
    let parts = parts.iter().map(completed).collect();
    index.upload_complete(upload, parts, Precondition::default(), None, at(3)).await
}

#[tokio::test]
async fn a_list_that_is_not_that_of_the_parts_is_refused() {
    let index = memory().await;
    let upload = begin(&index).await;
    let mut parts = Vec::new();
    for (number, size) in [(1, 5 * MIB), (2, 6 * MIB), (3, 7 * MIB)] {
        parts.push(index.upload_part(&upload, part(number, size, 1)).await.unwrap());
    }
    let object = complete(&index, &upload, &parts).await.unwrap();
    let bend = async |ends: [(u16, u64); 3], uniform: Option<u64>| {
        let blob: Vec<u8> =
            ends.iter().flat_map(|(n, end)| [&n.to_be_bytes()[..], &end.to_be_bytes()].concat()).collect();
        let id = object.content.cast_signed();
        let update = index.step(move |tx| {
            let mut update = tx.sql("UPDATE contents SET ends = ?1, uniform = ?2 WHERE id = ?3")?;
            Ok(update.execute(rusqlite::params![blob, uniform, id])?)
        });
        assert_eq!(update.await.unwrap(), 1);
    };
    let middle = 6 * MIB..6 * MIB + 1;
    let whole = 0..object.size;
    bend([(1, 5 * MIB), (2, 11 * MIB), (3, 18 * MIB)], None).await;
    assert!(
        index.extents(object.content, middle.clone()).is_ok() && index.extents(object.content, whole.clone()).is_ok()
    );
    for (ends, uniform) in [
        ([(1, 5 * MIB), (2, 3 * MIB), (3, 18 * MIB)], None),
        ([(1, 5 * MIB), (2, 10 * MIB), (3, 18 * MIB)], None),
        ([(1, 7 * MIB), (2, 11 * MIB), (3, 18 * MIB)], None),
        ([(1, 5 * MIB), (3, 11 * MIB), (2, 18 * MIB)], None),
        ([(1, 5 * MIB), (2, 11 * MIB), (3, 18 * MIB)], Some(5 * MIB)),
    ] {
        bend(ends, uniform).await;
        for range in [middle.clone(), whole.clone()] {
            assert!(index.extents(object.content, range.clone()).is_err(), "{ends:?} {uniform:?} {range:?}");
        }
    }
}

#[tokio::test]
async fn listed_parts_become_the_object_and_others_go() {
    let index = memory().await;
    let upload = begin(&index).await;
    assert_eq!(index.upload("b", "k", &upload.id).unwrap().id, upload.id);
    assert!(matches!(index.upload("b", "other", &upload.id), Err(Error::NoSuchUpload)));
    let mut parts = Vec::new();
    for (number, size) in [(2, 5 * MIB), (3, 9 * MIB), (7, 6 * MIB), (9, 1), (10, 5 * MIB)] {
        parts.push(index.upload_part(&upload, part(number, size, 1)).await.unwrap());
    }
    parts[1] = index.upload_part(&upload, part(3, 8 * MIB, 2)).await.unwrap();
    assert_eq!(index.upload_parts(&upload, 0, 100).await.unwrap(), parts);
    assert_eq!(index.upload_parts(&upload, 3, 2).await.unwrap(), parts[2..4]);

    let object = complete(&index, &upload, &[parts[0].clone(), parts[1].clone(), parts[3].clone()]).await.unwrap();
    assert_eq!((object.size, object.parts), (13 * MIB + 1, 3));
    assert!(object.etag.ends_with("-3"));
    assert_eq!(object.encryption, Encryption::Store);
    assert_eq!(index.get("b", "k", None).unwrap().unwrap(), object);
    let left = index.parts(&object, 0, 100).await.unwrap();
    assert_eq!(left.iter().map(|p| p.number).collect::<Vec<_>>(), [2, 3, 9]);

    let starts = |range| {
        let found = index.extents(object.content, range).unwrap().unwrap();
        found.into_iter().map(|(start, extent)| (start, extent.size)).collect::<Vec<_>>()
    };
    assert_eq!(starts(0..1), [(0, 5 * MIB)]);
    assert_eq!(starts(5 * MIB - 1..5 * MIB + 1), [(0, 5 * MIB), (5 * MIB, 8 * MIB)]);
    assert_eq!(starts(13 * MIB..13 * MIB + 1), [(13 * MIB, 1)]);
    sweep(&index).await;
    assert_eq!(starts(0..object.size).len(), 3);
    assert_eq!(index.all_extents(0, 100).await.unwrap().len(), 3);

    let copy = index.put_shared(object.clone(), target("copy"), NewObject::default()).await.unwrap();
    index.delete("b", vec![removal("k", None)], at(4)).await.unwrap();
    sweep(&index).await;
    assert_eq!((copy.parts, index.parts(&copy, 0, 9).await.unwrap().len()), (3, 3));
    index.delete("b", vec![removal("copy", None)], at(4)).await.unwrap();
    sweep(&index).await;
    assert_eq!(index.all_extents(0, 100).await.unwrap().len(), 0);
    assert!(matches!(complete(&index, &upload, &parts).await, Err(Error::NoSuchUpload)));
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_the_upload_stays() {
    let index = memory().await;
    let upload = begin(&index).await;
    let first = index.upload_part(&upload, part(1, MIB, 1)).await.unwrap();
    let second = index.upload_part(&upload, part(2, 5 * MIB, 1)).await.unwrap();
    let refused = |parts: Vec<Part>| complete(&index, &upload, &parts.leak()[..]);
    assert!(matches!(refused(vec![]).await, Err(Error::InvalidPart(_))));
    let pair = vec![second.clone(), first.clone()];
    assert!(matches!(refused(pair).await, Err(Error::InvalidPartOrder)));
    assert!(matches!(refused(vec![first.clone(), first.clone()]).await, Err(Error::InvalidPartOrder)));
    let pair = vec![first.clone(), second.clone()];
    assert!(matches!(refused(pair).await, Err(Error::PartTooSmall { number: 1, size: MIB, .. })));
    let missing = Part { number: 3, ..second.clone() };
    assert!(matches!(refused(vec![second.clone(), missing]).await, Err(Error::InvalidPart(3))));
    let before = Part { number: 1, ..second.clone() };
    assert!(matches!(refused(vec![before]).await, Err(Error::InvalidPart(1))));
    let summed = Part { sum: Some((Algorithm::Crc32, "AAAAAA==".into())), ..second.clone() };
    assert!(matches!(refused(vec![summed]).await, Err(Error::InvalidPart(2))));
    for number in [0, 10_001] {
        assert!(matches!(index.upload_part(&upload, part(number, 1, 1)).await, Err(Error::InvalidPart(_))));
    }
    let condition = Precondition { if_match: Some(EtagMatch::Any), ..Precondition::default() };
    let parts = vec![completed(&second)];
    let answer = index.upload_complete(&upload, parts.clone(), condition, None, at(3)).await;
    assert!(matches!(answer, Err(Error::NoSuchKey)));
    let answer = index.upload_complete(&upload, parts, Precondition::default(), Some("AAAAAA==".into()), at(3)).await;
    assert!(matches!(answer, Err(Error::Checksum(_))));
    assert_eq!(index.upload_parts(&upload, 0, 10).await.unwrap(), [first, second]);
    index.upload_abort(&upload).await.unwrap();
    assert!(matches!(index.upload_abort(&upload).await, Err(Error::NoSuchUpload)));
    assert!(matches!(index.upload_part(&upload, part(1, 1, 1)).await, Err(Error::NoSuchUpload)));
    sweep(&index).await;
    assert_eq!(index.all_extents(0, 100).await.unwrap().len(), 0);
}

#[tokio::test]
async fn completing_again_answers_the_same() {
    let index = memory().await;
    let upload = begin(&index).await;
    let parts = [index.upload_part(&upload, part(1, MIB, 1)).await.unwrap()];
    let object = complete(&index, &upload, &parts).await.unwrap();
    assert_eq!(complete(&index, &upload, &parts).await.unwrap(), object);
    let other = Part { etag: "00".repeat(16), ..parts[0].clone() };
    assert!(matches!(complete(&index, &upload, &[other]).await, Err(Error::NoSuchUpload)));
    put(&index, "k", "new").await.unwrap();
    assert!(matches!(complete(&index, &upload, &parts).await, Err(Error::NoSuchUpload)));
    sweep(&index).await;
}

#[tokio::test]
async fn sums_of_the_whole_are_made_of_the_parts() {
    let index = memory().await;
    for (algorithm, kind) in [
        (Algorithm::Crc32c, ChecksumType::FullObject),
        (Algorithm::Crc64Nvme, ChecksumType::FullObject),
        (Algorithm::Sha256, ChecksumType::Composite),
        (Algorithm::Crc32, ChecksumType::Composite),
    ] {
        let new = NewObject { algorithm: Some(algorithm), checksum_type: Some(kind), ..NewObject::default() };
        let upload = index.upload_create(target("k"), new, Encryption::None).await.unwrap();
        let mut parts = Vec::new();
        for number in 1..=2 {
            let mut part = part(number, 5 * MIB, 1);
            part.sums.found.insert(algorithm, vec![number as u8; algorithm.len()]);
            parts.push(index.upload_part(&upload, part).await.unwrap());
        }
        assert_eq!(parts[0].sum, Some((algorithm, BASE64.encode(&vec![1; algorithm.len()]))));
        let listed: Vec<_> = parts.iter().map(completed).collect();
        let wrong = Some(BASE64.encode(&vec![9; algorithm.len()]));
        let answer = index.upload_complete(&upload, listed.clone(), Precondition::default(), wrong, at(3)).await;
        assert!(matches!(answer, Err(Error::Checksum(_))));
        let object = complete(&index, &upload, &parts).await.unwrap();
        let (found, found_kind, text) = object.sum.unwrap();
        assert_eq!((found, found_kind, text.ends_with("-2")), (algorithm, kind, kind == ChecksumType::Composite));
    }
    let new = NewObject {
        algorithm: Some(Algorithm::Sha1),
        checksum_type: Some(ChecksumType::FullObject),
        ..NewObject::default()
    };
    let refused = index.upload_create(target("k"), new, Encryption::None).await;
    assert!(matches!(refused, Err(Error::NotSupported(_))));
}
