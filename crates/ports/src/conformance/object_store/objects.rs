//! Putting, getting, reading, copying and deleting.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::BUCKET;
use super::world::*;
use crate::ObjectStore;
use crate::conformance::blob_store::{collect, noise, pieces};
use crate::object_store::*;

pub(super) async fn all(store: &dyn ObjectStore) {
    keeps_what_is_put(store).await;
    reads_ranges(store).await;
    replaces_and_deletes(store).await;
    refused_bodies_leave_nothing(store).await;
    copies(store).await;
    names_what_is_missing(store).await;
}

/// Lengths around what backends may treat differently.
const LENGTHS: [usize; 9] = [0, 1, 4096, 4097, 65_536, 65_537, 1 << 20, (1 << 20) + 1, 9_000_001];

async fn keeps_what_is_put(store: &dyn ObjectStore) {
    for len in LENGTHS {
        let bytes = noise(len as u64, len);
        let key = format!("kept/{len} ü+%/&?");
        let put = put(store, &key, &bytes).await;
        let found = latest(store, &key).await.expect("it is there");
        assert_eq!((found.size, found.latest, found.is_delete_marker), (len as u64, true, false));
        assert_eq!((&found.etag, &found.key), (&put.etag, &key));
        assert!(!found.etag.is_empty() && !found.etag.contains('"'));
        assert!(whole(store, &found).await == bytes, "{len} bytes come back as they were");
    }
}

async fn reads_ranges(store: &dyn ObjectStore) {
    for len in [5000usize, 70_000, 2_500_000] {
        let bytes = noise(7, len);
        let object = put(store, "ranges", &bytes).await;
        let n = len as u64;
        for range in [0..1, 0..n, n - 1..n, 1..n - 1, n / 3..n / 2, n / 2..n / 2 + 1] {
            let body = store.read(&object, Some(range.clone()), None).await.expect("read");
            let got = collect(body).await.expect("the stream ends well");
            assert!(got == bytes[range.start as usize..range.end as usize], "{range:?} of {len}");
        }
    }
}

async fn replaces_and_deletes(store: &dyn ObjectStore) {
    let old = put(store, "replaced", &noise(1, 10_000)).await;
    let new = put(store, "replaced", &noise(2, 20_000)).await;
    assert_ne!(old.etag, new.etag);
    assert!(whole(store, &latest(store, "replaced").await.expect("there")).await == noise(2, 20_000));
    assert!(delete(store, "replaced").await.found);
    assert!(latest(store, "replaced").await.is_none());
    let answers = store.delete(BUCKET, vec![removal("replaced", None), removal("never", None)], at(2)).await;
    for answer in answers.expect("delete") {
        answer.expect("deleting what is not there is a success");
    }
}

async fn refused_bodies_leave_nothing(store: &dyn ObjectStore) {
    put(store, "firm", &noise(1, 100)).await;
    for len in [10usize, 50_000, 9_000_000] {
        let bytes = noise(3, len);
        let size = len as u64;
        let refuse: Verify = Box::new(move |sums| {
            assert_eq!(sums.size, size);
            Err(Error::Checksum("not what was said".to_owned()))
        });
        let refused = store.put(target("firm"), owned(), pieces(&bytes, 30_000), refuse).await;
        assert!(matches!(refused, Err(Error::Checksum(_))), "{refused:?}");

        let broken = pieces(&bytes, 30_000).chain(stream::iter([Err(std::io::Error::other("gone"))]));
        let refused = store.put(target("firm"), owned(), Box::pin(broken), no_check()).await;
        assert!(matches!(refused, Err(Error::Store(crate::Error::Body(_)))), "{refused:?}");
        assert!(whole(store, &latest(store, "firm").await.expect("there")).await == noise(1, 100));
    }
    // The sums that are asked for are found, whatever way the body takes.
    for len in [0usize, 100, 70_000, 3_000_000] {
        let mut new = owned();
        new.algorithms = BTreeSet::from(Algorithm::ALL);
        let verify: Verify = Box::new(move |sums| {
            assert_eq!(sums.size, len as u64);
            for algorithm in Algorithm::ALL {
                assert_eq!(sums.found[&algorithm].len(), algorithm.len());
            }
            if len == 0 {
                assert_eq!(sums.found[&Algorithm::Crc32], [0; 4]);
                assert_eq!(sums.found[&Algorithm::Sha256][..4], [0xe3, 0xb0, 0xc4, 0x42]);
                assert_eq!(sums.md5[..4], [0xd4, 0x1d, 0x8c, 0xd9]);
            }
            Ok(())
        });
        store.put(target("summed"), new, pieces(&noise(5, len), 10_000), verify).await.expect("put");
    }
}

async fn copies(store: &dyn ObjectStore) {
    for len in [100usize, 80_000, 2_000_000] {
        let source = put(store, "source", &noise(9, len)).await;
        let copy = store.copy(&source, None, target("copy"), owned()).await.expect("copy");
        assert_eq!(copy.size, len as u64);
        assert!(delete(store, "source").await.found);
        assert!(whole(store, &latest(store, "copy").await.expect("there")).await == noise(9, len));
    }
    // Onto itself.
    let source = latest(store, "copy").await.expect("there");
    store.copy(&source, None, target("copy"), owned()).await.expect("copy");
    assert!(whole(store, &latest(store, "copy").await.expect("there")).await == noise(9, 2_000_000));
}

async fn names_what_is_missing(store: &dyn ObjectStore) {
    assert!(latest(store, "nowhere").await.is_none());
    let no_bucket = "no-such-bucket-anywhere";
    assert!(matches!(store.get(no_bucket, "k", None).await, Err(Error::NoSuchBucket)));
    let body = pieces(&Bytes::from_static(b"x"), 1);
    let refused = store.put(target_in(no_bucket, "k"), owned(), body, no_check()).await;
    assert!(matches!(refused, Err(Error::NoSuchBucket)), "{refused:?}");
    assert!(matches!(store.delete(no_bucket, vec![removal("k", None)], at(0)).await, Err(Error::NoSuchBucket)));
    let query = ListQuery { max: 10, ..Default::default() };
    assert!(matches!(store.list(no_bucket, &query).await, Err(Error::NoSuchBucket)));
    assert!(store.bucket(no_bucket).await.expect("asked").is_none());
}

/// Headers, tags and access lists are given back, and can be changed.
pub(super) async fn attributes(store: &dyn ObjectStore) {
    let pairs = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    let new = NewObject {
        headers: pairs(&[("content-type", "text/plain"), ("x-amz-meta-größe", "fünf")]),
        tags: pairs(&[("team", "vision")]),
        acl: Some("{}".to_owned()),
        ..owned()
    };
    let put = store.put(target("attributes"), new.clone(), pieces(&noise(1, 10), 10), no_check()).await.expect("put");
    for found in [put, latest(store, "attributes").await.expect("there")] {
        assert_eq!((&found.headers, &found.tags), (&new.headers, &new.tags));
        assert_eq!((&found.acl, &found.owner), (&new.acl, &new.owner));
    }
    let change = ObjectChange::Tags(pairs(&[("a", "b"), ("c", "")]));
    store.change(BUCKET, "attributes", None, change).await.expect("change");
    store.change(BUCKET, "attributes", None, ObjectChange::Acl(None)).await.expect("change");
    let found = latest(store, "attributes").await.expect("there");
    assert_eq!((found.tags, found.acl), (pairs(&[("a", "b"), ("c", "")]), None));
    assert!(whole(store, &latest(store, "attributes").await.expect("there")).await == noise(1, 10));
    let refused = store.change(BUCKET, "nothing", None, ObjectChange::Acl(None)).await;
    assert!(matches!(refused, Err(Error::NoSuchKey)), "{refused:?}");
}
