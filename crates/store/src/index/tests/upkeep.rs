//! Blobs, garbage, compaction, snapshots and what a fault does.

use muonic_ports::Error as Port;
use muonic_ports::object_store::{Error, ListQuery};
use muonic_types::Digest;

use super::*;
use crate::content::{Seal, SealedBy};
use crate::index::failure::Fault;
use crate::index::{Moved, Segment};

fn in_segment(segment: u64, offset: u64) -> NewContent {
    let mut content = content(&[7; 100]);
    content.extent.place = Place::Segment { segment, offset, length: 100 };
    content
}

#[tokio::test]
async fn blobs_are_kept_once() {
    let index = memory().await;
    let digests: Vec<Digest> = (0..5u8).map(|n| Digest::of(&[n])).collect();
    let blob = |n: usize| (digests[n], extent(Place::Inline(Bytes::from(vec![n as u8])), 1));
    assert_eq!(index.blob_put_many(vec![blob(0), blob(1), blob(0)]).await.unwrap(), [true, true, false]);
    assert_eq!(index.blob_put_many(vec![blob(1), blob(2)]).await.unwrap(), [false, true]);
    assert_eq!(index.blob(&digests[2]).unwrap().unwrap().place, Place::Inline(Bytes::from(vec![2])));
    let mut listed = index.blobs(None, 2).await.unwrap();
    listed.extend(index.blobs(Some(listed[1].0), 2).await.unwrap());
    let mut expected: Vec<_> = digests[..3].iter().map(|d| (*d, 1)).collect();
    expected.sort_by_key(|(digest, _)| *digest.as_bytes());
    assert_eq!(listed, expected);
    assert!(index.blob_remove(&digests[0]).await.unwrap());
    assert!(!index.blob_remove(&digests[0]).await.unwrap());
    assert!(index.blob(&digests[0]).unwrap().is_none());
    sweep(&index).await;
    assert_eq!(index.all_extents(0, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_blob_becomes_a_version_once_and_is_kept_by_both_names() {
    let index = memory().await;
    let digest = Digest::of(b"x");
    let adopt = |digest| index.adopt(digest, vec![7; 16], None, target("k"), NewObject::default());
    assert!(matches!(adopt(digest).await, Err(Error::NoSuchVersion)));
    index.blob_put_many(vec![(digest, extent(Place::Inline(Bytes::from_static(b"x")), 1))]).await.unwrap();
    let object = adopt(digest).await.unwrap();
    assert_eq!((object.size, body(&index, &object)), (1, b"x".to_vec()));
    assert!(matches!(adopt(digest).await, Err(Error::PreconditionFailed(_))));
    index.blob_remove(&digest).await.unwrap();
    sweep(&index).await;
    assert_eq!(body(&index, &object), b"x");
    index.delete("b", vec![removal("k", None)], at(3)).await.unwrap();
    sweep(&index).await;
    assert!(index.all_extents(0, 1).await.unwrap().is_empty());
}

#[tokio::test]
async fn garbage_is_shown_only_before_the_mark() {
    let index = memory().await;
    put(&index, "k", "1").await.unwrap();
    put(&index, "k", "2").await.unwrap();
    let mark = index.mark().await.unwrap();
    put(&index, "k", "3").await.unwrap();
    let garbage = index.garbage(mark, 10).await.unwrap();
    assert_eq!(garbage.len(), 1);
    index.garbage_done(garbage.clone()).await.unwrap();
    index.garbage_done(garbage).await.unwrap();
    assert!(index.garbage(mark, 10).await.unwrap().is_empty());
    assert_eq!(index.stats().await.unwrap().garbage, 1);
}

#[tokio::test]
async fn segments_know_what_lives_in_them() {
    let index = memory().await;
    for n in 0..4 {
        index.put(target(&format!("k{n}")), NewObject::default(), in_segment(1, n * 128)).await.unwrap();
    }
    assert_eq!(index.segments().await.unwrap(), [Segment { id: 1, live: 400, used: 484 }]);
    index.delete("b", vec![removal("k0", None)], at(3)).await.unwrap();
    sweep(&index).await;
    assert_eq!(index.segments().await.unwrap(), [Segment { id: 1, live: 300, used: 484 }]);
    assert!(!index.segment_forget(1).await.unwrap());

    let found = index.extents_of_segment(1, 129, 10).await.unwrap();
    assert_eq!(found.len(), 2);
    let all = index.extents_of_segment(1, 0, 10).await.unwrap();
    let moves: Vec<Moved> = all
        .iter()
        .enumerate()
        .map(|(n, at)| Moved {
            row: at.row,
            id: at.extent.id,
            old: at.extent.place.clone(),
            new: Place::Segment { segment: 2, offset: n as u64 * 100, length: 100 },
        })
        .collect();
    assert_eq!(index.moved(moves.clone()).await.unwrap(), [true; 3]);
    assert_eq!(index.moved(moves).await.unwrap(), [false; 3], "it is done once");
    let empty = Segment { id: 1, live: 0, used: 484 };
    assert_eq!(index.segments().await.unwrap(), [empty, Segment { id: 2, live: 300, used: 300 }]);
    assert!(index.segment_forget(1).await.unwrap());
    sweep(&index).await;
}

#[tokio::test]
async fn seals_and_blocks_are_set_where_they_are_as_read() {
    let index = memory().await;
    let seal = |version| Seal { by: SealedBy::Store { version }, wrapped: vec![version as u8] };
    let mut content = content(b"x");
    content.extent.seal = Some(seal(1));
    content.extent.blocks = Vec::new();
    index.put(target("k"), NewObject::default(), content).await.unwrap();
    let at = index.all_extents(0, 1).await.unwrap().remove(0);
    assert_eq!(index.set_seals(vec![(at.row, seal(1), seal(2))]).await.unwrap(), [true]);
    assert_eq!(index.set_seals(vec![(at.row, seal(1), seal(3))]).await.unwrap(), [false]);
    assert!(index.set_blocks(at.row, at.extent.id, vec![5]).await.unwrap());
    assert!(!index.set_blocks(at.row, at.extent.id, vec![6]).await.unwrap());
    let now = index.extent_at(at.row).unwrap().unwrap();
    assert_eq!((now.seal, now.blocks, now.place), (Some(seal(2)), vec![5], Place::Inline(Bytes::from_static(b"x"))));

    let mut file = content_of_file();
    file.extent.id = [3; 16];
    index.put(target("f"), NewObject::default(), file).await.unwrap();
    assert_eq!(index.files_named(vec![[3; 16], [4; 16]]).await.unwrap(), [true, false]);
}

fn content_of_file() -> NewContent {
    let mut content = content(b"x");
    content.extent.place = Place::File { length: 1 };
    content
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_is_whole_while_writing_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(&dir.path().join("index.sqlite"), true).unwrap();
    index.bucket_create(new_bucket("b", false)).await.unwrap();
    let text = "x".repeat(3000);
    for n in 0..500 {
        put(&index, &format!("before{n:04}"), &text).await.unwrap();
    }
    let writing = {
        let (index, text) = (index.clone(), text.clone());
        tokio::spawn(async move {
            for n in 0..200 {
                put(&index, &format!("during{n:04}"), &text).await.unwrap();
            }
        })
    };
    let copy = dir.path().join("copy.sqlite");
    index.snapshot(&copy).await.unwrap();
    writing.await.unwrap();
    let copy = Index::open(&copy, true).unwrap();
    sweep(&copy).await;
    let query = ListQuery { prefix: "before".into(), max: 1000, ..ListQuery::default() };
    let objects = copy.list("b", &query).await.unwrap().objects;
    assert_eq!(objects.len(), 500);
    assert_eq!(body(&copy, &objects[499]), text.as_bytes());
    assert!(index.snapshot(&dir.path().join("no/such/folder")).await.is_err());
    put(&index, "after", "x").await.unwrap();
}

#[tokio::test]
async fn a_step_that_fails_harms_no_other_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(&dir.path().join("index.sqlite"), true).unwrap();
    index.bucket_create(new_bucket("b", false)).await.unwrap();
    let bad = index.step(|tx| {
        tx.sql("INSERT INTO finished VALUES (1, 'x', 1, x'00', 1, 1)")?.execute([])?;
        Err::<(), _>(Error::NoSuchKey.into())
    });
    let worse = index.step(|tx| {
        tx.sql("INSERT INTO finished VALUES (2, 'x', 1, x'00', 1, 1)")?.execute([])?;
        tx.sql("INSERT INTO finished VALUES (2, 'x', 1, x'00', 1, 1)")?.execute([])?;
        Ok(())
    });
    let (good, bad, worse, other) = tokio::join!(put(&index, "k", "1"), bad, worse, put(&index, "l", "1"));
    assert!(good.is_ok() && other.is_ok());
    assert!(matches!(bad, Err(Error::NoSuchKey)));
    assert!(matches!(worse, Err(Error::Store(Port::Internal { .. }))));
    let left = index.step(|tx| Ok(tx.sql("SELECT 1 FROM finished")?.exists([])?)).await.unwrap();
    assert!(!left);
    assert!(index.read_only().is_none());
}

#[tokio::test]
async fn after_a_failed_sync_only_reading_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.sqlite");
    let index = Index::open(&path, true).unwrap();
    index.bucket_create(new_bucket("b", false)).await.unwrap();
    put(&index, "k", "1").await.unwrap();
    let failure = |code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
    let full = index.step::<(), _>(move |_| Err(failure(rusqlite::ffi::SQLITE_FULL).into())).await;
    assert!(matches!(full, Err(Error::Store(Port::DiskFull))));
    put(&index, "l", "1").await.unwrap();
    let failed = index.step::<(), _>(move |_| Err(failure(rusqlite::ffi::SQLITE_IOERR_FSYNC).into())).await;
    assert!(matches!(failed, Err(Error::Store(Port::ReadOnly(_)))));
    assert!(matches!(put(&index, "m", "1").await, Err(Error::Store(Port::ReadOnly(_)))));
    assert!(index.read_only().is_some());
    assert!(index.get("b", "l", None).unwrap().is_some());
    drop(index);
    let index = Index::open(&path, true).unwrap();
    assert!(index.get("b", "l", None).unwrap().is_some());
    put(&index, "m", "1").await.unwrap();
    assert!(matches!(Fault::of(&failure(rusqlite::ffi::SQLITE_CORRUPT)), Fault::Dead(_)));
}

#[tokio::test]
async fn locks_are_kept_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.sqlite");
    let index = Index::open(&path, true).unwrap();
    index.bucket_create(new_bucket("b", false)).await.unwrap();
    assert!(index.get("b", "k", None).unwrap().is_none());
    assert!(dir.path().join("index.sqlite-wal").exists());
    assert!(!dir.path().join("index.sqlite-shm").exists());
}

#[tokio::test]
async fn closed_it_is_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.sqlite");
    let index = Index::open(&path, true).unwrap();
    index.bucket_create(new_bucket("b", false)).await.unwrap();
    put(&index, "k", "1").await.unwrap();
    assert!(index.get("b", "k", None).unwrap().is_some());
    drop(index);
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["index.sqlite"]);
    assert!(Index::open(&path, true).unwrap().get("b", "k", None).unwrap().is_some());
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.sqlite");
    drop(Index::open(&path, true).unwrap());
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(Index::open(&path, true).err().unwrap().to_string().contains("newer"));
}
