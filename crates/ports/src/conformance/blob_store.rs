//! What every object store must do. Run it on an empty store.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use muonic_types::Digest;

use crate::blob_store::{Blob, ByteStream};
use crate::{BlobStore, Error};

/// Bytes that do not repeat, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

/// A stream of `bytes` in pieces of `piece` bytes.
pub fn pieces(bytes: &Bytes, piece: usize) -> ByteStream {
    let bytes = bytes.clone();
    let starts = (0..bytes.len()).step_by(piece.max(1));
    Box::pin(stream::iter(starts.map(move |at| Ok(bytes.slice(at..bytes.len().min(at + piece))))))
}

/// All bytes of a stream.
pub async fn collect(mut body: ByteStream) -> std::io::Result<Bytes> {
    let mut all = Vec::new();
    while let Some(piece) = body.next().await {
        all.extend_from_slice(&piece?);
    }
    Ok(all.into())
}

async fn read(store: &dyn BlobStore, digest: &Digest, range: Option<std::ops::Range<u64>>) -> Bytes {
    let (_, body) = store.get(digest, range).await.expect("get");
    collect(body).await.expect("the stream ends well")
}

pub async fn suite(store: Arc<dyn BlobStore>) {
    keeps_what_is_put(&*store).await;
    refuses_other_bytes(&*store).await;
    keeps_nothing_of_a_broken_body(&*store).await;
    reads_ranges(&*store).await;
    keeps_batches(&*store).await;
    removes(&*store).await;
    lists_all(&*store).await;
    takes_the_same_blob_from_many(&store).await;
    let health = store.health().await;
    assert!(health.writable, "{health:?}");
    assert_eq!(health.reason, None);
    assert!(health.free_bytes > 0);
}

async fn keeps_what_is_put(store: &dyn BlobStore) {
    for (seed, len) in
        [0, 1, 15, 16 << 10, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (5 << 20) + 77].into_iter().enumerate()
    {
        let bytes = noise(seed as u64, len);
        let digest = Digest::of(&bytes);
        assert_eq!(store.size(&digest).await.expect("size"), None);
        for piece in [977, 64 << 10, 4 << 20] {
            let blob = store.put(pieces(&bytes, piece), None).await.expect("put");
            assert_eq!(blob, Blob { digest, size: len as u64 });
        }
        let blob = store.put(pieces(&bytes, 100_000), Some(digest)).await.expect("put of what is announced");
        assert_eq!(blob.digest, digest);
        assert_eq!(store.size(&digest).await.expect("size"), Some(len as u64));
        let (size, body) = store.get(&digest, None).await.expect("get");
        assert_eq!(size, len as u64);
        assert!(collect(body).await.expect("read") == bytes, "the {len} bytes read are not those put");
    }
}

async fn refuses_other_bytes(store: &dyn BlobStore) {
    for len in [10, 3 << 20] {
        let bytes = noise(100, len);
        let other = Digest::of(b"other bytes");
        let refused = store.put(pieces(&bytes, 70_000), Some(other)).await;
        assert!(matches!(refused, Err(Error::Checksum(_))), "{refused:?}");
        assert_eq!(store.size(&Digest::of(&bytes)).await.expect("size"), None);
        assert_eq!(store.size(&other).await.expect("size"), None);
    }
    let refused = store.get(&Digest::of(b"nobody put this"), None).await;
    assert!(matches!(refused, Err(Error::NotFound(_))));
}

async fn keeps_nothing_of_a_broken_body(store: &dyn BlobStore) {
    for len in [10, 3 << 20] {
        let bytes = noise(101, len);
        let broken = pieces(&bytes, 70_000).chain(stream::iter([Err(std::io::Error::other("the client went away"))]));
        let refused = store.put(Box::pin(broken), None).await;
        assert!(matches!(refused, Err(Error::Body(_))), "{refused:?}");
        assert_eq!(store.size(&Digest::of(&bytes)).await.expect("size"), None);
    }
}

async fn reads_ranges(store: &dyn BlobStore) {
    let bytes = noise(102, (3 << 20) + 5);
    let size = bytes.len() as u64;
    let digest = store.put(pieces(&bytes, 1 << 16), None).await.expect("put").digest;
    let cuts = [0, 1, 4095, (1 << 20) - 1, 1 << 20, (2 << 20) + 3, size - 1, size, size + 1, u64::MAX];
    for from in cuts {
        for end in cuts.into_iter().filter(|end| *end >= from) {
            let want = bytes.slice(from.min(size) as usize..end.min(size) as usize);
            assert!(read(store, &digest, Some(from..end)).await == want, "range {from}..{end}");
        }
    }
    let (whole, _) = store.get(&digest, Some(5..6)).await.expect("get");
    assert_eq!(whole, size, "the size is that of the whole blob");
}

async fn keeps_batches(store: &dyn BlobStore) {
    store.put_batch(Vec::new()).await.expect("an empty batch");
    let old = noise(200, 1000);
    store.put(pieces(&old, 1000), None).await.expect("put");
    let mut batch: Vec<(Digest, Bytes)> =
        (200..500).map(|seed| noise(seed, seed as usize * 5)).map(|b| (Digest::of(&b), b)).collect();
    batch.push((Digest::of(b""), Bytes::new()));
    batch.push(batch[7].clone());
    store.put_batch(batch.clone()).await.expect("put_batch");
    store.put_batch(batch.clone()).await.expect("the same batch again");
    for (digest, bytes) in &batch {
        assert!(read(store, digest, None).await == *bytes);
    }

    let good = noise(501, 50);
    let wrong = vec![(Digest::of(&good), good.clone()), (Digest::of(b"x"), Bytes::from_static(b"not x"))];
    let refused = store.put_batch(wrong).await;
    assert!(matches!(refused, Err(Error::Checksum(_))), "{refused:?}");
    assert_eq!(store.size(&Digest::of(&good)).await.expect("size"), None, "one wrong blob keeps the batch out");
}

async fn removes(store: &dyn BlobStore) {
    let bytes = noise(600, 5000);
    let digest = store.put(pieces(&bytes, 5000), None).await.expect("put").digest;
    store.remove(&digest).await.expect("remove");
    assert_eq!(store.size(&digest).await.expect("size"), None);
    store.remove(&digest).await.expect("remove what is not there");
    store.put(pieces(&bytes, 5000), None).await.expect("put after a removal");
    assert!(read(store, &digest, None).await == bytes);
}

async fn lists_all(store: &dyn BlobStore) {
    let new: Vec<Bytes> = (800..830).map(|seed| noise(seed, seed as usize)).collect();
    store.put_batch(new.iter().map(|b| (Digest::of(b), b.clone())).collect()).await.expect("put_batch");
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.blobs(after, 7).await.expect("a page");
        assert!(page.len() <= 7);
        let Some(last) = page.last() else { break };
        after = Some(last.digest);
        all.extend(page);
    }
    assert!(all.is_sorted_by(|a, b| a.digest < b.digest), "each once, by digest");
    for bytes in &new {
        assert!(all.contains(&Blob { digest: Digest::of(bytes), size: bytes.len() as u64 }));
    }
    store.remove(&all[0].digest).await.expect("remove");
    assert_ne!(store.blobs(None, 1).await.expect("a page"), all[..1]);
}

async fn takes_the_same_blob_from_many(store: &Arc<dyn BlobStore>) {
    let bytes = noise(700, 2 << 20);
    let puts = join_all((0..8).map(|_| store.put(pieces(&bytes, 1 << 16), None))).await;
    for put in puts {
        assert_eq!(put.expect("put").digest, Digest::of(&bytes));
    }
    assert!(read(&**store, &Digest::of(&bytes), None).await == bytes);
}
