use std::collections::{BTreeSet, HashSet};
use std::io;

use futures_util::future::join_all;
use muonic_ports::object_store::Error;

use super::disk::{Step, TestDisk};
use super::*;
use crate::content::{ExtentId, Place};

fn files(data: &Data) -> HashSet<ExtentId> {
    data.files().unwrap().collect::<Result<_, _>>().unwrap()
}

fn segment_of(extent: &Extent) -> u64 {
    match extent.place {
        Place::Segment { segment, .. } => segment,
        _ => panic!("{extent:?}"),
    }
}

#[tokio::test]
async fn a_sweep_sees_only_what_nobody_holds() {
    let root = folder();
    let data = open(root.path());
    let bytes = noise(1, 100_000);
    let written = put(&data, &bytes, SealWith::Store).await.unwrap();
    let path = data.disk().layout.file(&written.extent().id);
    assert!(path.exists() && files(&data).is_empty());
    drop(written);
    settle(&data).await;
    assert!(!path.exists(), "what is dropped is freed");

    let (extent, pending) = put(&data, &bytes, SealWith::Store).await.unwrap().hand_over();
    assert!(files(&data).is_empty());
    drop(pending);
    assert_eq!(files(&data), HashSet::from([extent.id]));
    assert_eq!(whole(&data, &extent, SealWith::Store).await, bytes);
    data.free(&extent).unwrap();
    data.free(&extent).unwrap();
    data.free_file(&extent.id).unwrap();
    assert!(files(&data).is_empty());
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_nothing() {
    let root = folder();
    let data = open(root.path());
    for len in [0, 100, 10_000, 600_000, 5 << 20] {
        let cut = stream::iter([Err(io::Error::other("the client has gone"))]);
        let body: ByteStream = Box::pin(body(&noise(2, len), 65_536).chain(cut));
        let failed = data.write(body, &BTreeSet::new(), SealWith::Store).await.err().unwrap();
        assert!(matches!(failed, Error::Store(muonic_ports::Error::Body(_))), "{failed}");
        // And a call that is dropped while it waits for its body.
        let body: ByteStream = Box::pin(super::body(&noise(2, len), 65_536).chain(stream::pending()));
        let none = BTreeSet::new();
        let mut call = Box::pin(data.write(body, &none, SealWith::Store));
        for _ in 0..50 {
            assert!(futures_util::poll!(&mut call).is_pending());
            tokio::task::yield_now().await;
        }
        drop(call);
        settle(&data).await;
        assert!(files(&data).is_empty());
    }
}

#[tokio::test]
async fn those_who_wait_share_a_sync() {
    let root = folder();
    let disk = Arc::new(TestDisk::default());
    let data = open_on(root.path(), Box::new(disk.clone()));
    // All queue up behind one lock: the disk itself is held.
    let held = disk.hold();
    let calls: Vec<_> = (0..40)
        .map(|n| {
            let data = data.clone();
            async move { put(&data, &noise(n, 5000), SealWith::Store).await.unwrap().keep() }
        })
        .collect();
    let mut calls = Box::pin(join_all(calls));
    assert!(futures_util::poll!(&mut calls).is_pending());
    drop(held);
    let extents = calls.await;
    // One for the new segment, one for the first who came, one for the rest.
    assert!(disk.count(Step::SyncFile) <= 3, "{}", disk.count(Step::SyncFile));
    for (n, extent) in extents.iter().enumerate() {
        assert_eq!(whole(&data, extent, SealWith::Store).await, noise(n as u64, 5000));
    }
}

#[tokio::test]
async fn a_segment_in_use_is_not_removed_and_the_live_rest_moves() {
    let root = folder();
    let data = open(root.path());
    let mut first = Vec::new();
    let (one, pending) = put(&data, &noise(0, 50_000), SealWith::Store).await.unwrap().hand_over();
    let segment = segment_of(&one);
    first.push(one);
    while segment_of(first.last().unwrap()) == segment {
        first.push(put(&data, &noise(first.len() as u64, 50_000), SealWith::Store).await.unwrap().keep());
    }
    let open_one = segment_of(&first.pop().unwrap());
    assert!(data.remove_segment(open_one).is_err(), "it is appended to");
    assert!(data.remove_segment(segment).is_err(), "it holds what is not named yet");
    assert!(data.segments().unwrap().iter().all(|info| !info.closed));
    drop(pending);
    let info = *data.segments().unwrap().iter().find(|info| info.segment == segment).unwrap();
    assert!(info.closed && info.bytes < 350_000, "{info:?}");

    let copies = data.copy_many(first.clone()).await.unwrap();
    data.remove_segment(segment).unwrap();
    data.remove_segment(segment).unwrap();
    for (n, (copy, old)) in copies.into_iter().zip(&first).enumerate() {
        let copy = copy.unwrap().keep();
        assert_ne!(segment_of(&copy), segment);
        assert_eq!((copy.id, &copy.seal, &copy.blocks), (old.id, &old.seal, &old.blocks));
        assert_eq!(whole(&data, &copy, SealWith::Store).await, noise(n as u64, 50_000));
        assert!(data.read(old, None, None).await.is_err());
    }
}

#[tokio::test]
async fn the_end_of_a_segment_goes_after_a_crash_and_nobody_appends_to_it() {
    let root = folder();
    let data = open(root.path());
    let extent = put(&data, &noise(0, 10_000), SealWith::None).await.unwrap().keep();
    let Place::Segment { segment, offset, length } = extent.place else { unreachable!() };
    let path = data.disk().layout.segment(segment);
    let crashed = std::fs::read(&path).unwrap();
    assert!(crashed.len() > 64 << 10);
    drop(data);
    std::fs::write(&path, &crashed).unwrap();

    let data = open(root.path());
    data.seal_segment(segment, offset + length).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), offset + length);
    let next = put(&data, &noise(1, 10_000), SealWith::None).await.unwrap().keep();
    assert_ne!(segment_of(&next), segment);
    assert_eq!(whole(&data, &extent, SealWith::None).await, noise(0, 10_000));
    assert!(data.seal_segment(segment_of(&next), 0).is_err());
}

#[tokio::test]
async fn what_was_appended_before_a_roll_lies_in_a_file_that_stays_as_it_is() {
    let root = folder();
    let data = open(root.path());
    // Nothing is open yet.
    data.roll().await.unwrap();
    let mut before = Vec::new();
    for seed in 0..20 {
        let written = data.write_many(vec![noise(seed, 9_000)], SealWith::Store).await.unwrap();
        let segment = segment_of(written[0].extent());
        data.roll().await.unwrap();
        before.push((segment, std::fs::read(root.path().join(format!("segments/{segment:016x}"))).unwrap()));
    }
    for (at, (segment, bytes)) in before.iter().enumerate() {
        assert!(before[..at].iter().all(|(earlier, _)| earlier != segment));
        assert!(bytes.len() < 20_000, "the unused end is given back");
        assert!(*bytes == std::fs::read(root.path().join(format!("segments/{segment:016x}"))).unwrap());
    }
}
