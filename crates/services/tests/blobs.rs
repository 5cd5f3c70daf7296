//! Packs and trees: bytes go in once and come back as they were; rubbish is
//! refused with a sentence.

mod support;

use bytes::Bytes;
use futures_util::StreamExt;
use muonic_ports::blob_store::ByteStream;
use muonic_types::blob::{Digests, NewTree, pack_head};
use muonic_types::{Digest, Entry, ErrorCode};
use proptest::prelude::*;
use support::Cloud;

fn pack(blobs: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for blob in blobs {
        out.extend_from_slice(pack_head(&Digest::of(blob), blob.len() as u64).as_bytes());
        out.extend_from_slice(blob);
    }
    out
}

fn stream(bytes: &[u8], piece: usize) -> ByteStream {
    let pieces: Vec<_> = bytes.chunks(piece.max(1)).map(|p| Ok(Bytes::copy_from_slice(p))).collect();
    Box::pin(futures_util::stream::iter(pieces))
}

async fn read(mut body: ByteStream) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(piece) = body.next().await {
        out.extend_from_slice(&piece.expect("a piece"));
    }
    out
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn packs_come_back_as_they_went_in(
        sizes in prop::collection::vec(prop_oneof![0usize..2000, 200_000usize..400_000], 0..5),
        piece in prop_oneof![1usize..64, 1000usize..70_000],
    ) {
        let blobs: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(n, size)| vec![n as u8; *size]).collect();
        block_on(async {
            let cloud = Cloud::new(1000).await;
            let bytes = pack(&blobs);
            let stored = cloud.blobs.put_pack(&cloud.admin, stream(&bytes, piece)).await.expect("stored");
            assert_eq!(stored.blobs as usize, blobs.len());
            let digests: Vec<Digest> = blobs.iter().map(|b| Digest::of(b)).collect();
            let missing = cloud.blobs.missing(&cloud.admin, Digests { digests: digests.clone() }).await.expect("an answer");
            assert!(missing.missing.is_empty());
            let back = cloud.blobs.get_pack(&cloud.admin, Digests { digests }).await.expect("a pack");
            assert_eq!(read(back).await, bytes);
        });
    }

    #[test]
    fn rubbish_is_refused_and_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..300, at in 0usize..300) {
        block_on(async {
            let cloud = Cloud::new(1000).await;
            let _ = cloud.blobs.put_pack(&cloud.admin, stream(&bytes, 7)).await;
            let good = pack(&[b"one".to_vec(), b"two".to_vec()]);
            let cut = cut % good.len();
            let whole = cut == 0 || cut == good.len() / 2;
            let put = cloud.blobs.put_pack(&cloud.admin, stream(&good[..cut], 5)).await;
            assert_eq!(put.is_ok(), whole, "cut at {cut} of {}", good.len());
            bytes = good;
            let at = at % bytes.len();
            bytes[at] ^= 1;
            assert!(cloud.blobs.put_pack(&cloud.admin, stream(&bytes, 11)).await.is_err());
        });
    }
}

#[tokio::test]
async fn a_tree_of_blobs_that_were_not_sent_is_refused() {
    let cloud = Cloud::new(1000).await;
    let entry = |path: &str, bytes: &[u8], size: u64| Entry {
        path: path.parse().expect("a path"),
        size,
        digest: Digest::of(bytes),
        executable: false,
    };
    let missing = NewTree { entries: vec![entry("a", b"a", 1)] };
    assert_eq!(cloud.put_tree(missing.clone()).await.unwrap_err().code, ErrorCode::MissingBlobs);
    cloud.blobs.put_pack(&cloud.admin, stream(&pack(&[b"a".to_vec()]), 9)).await.expect("stored");
    let tree = cloud.put_tree(missing).await.expect("a tree");
    assert_eq!((tree.files, tree.bytes), (1, 1));
    let body = cloud.blobs.get_tree(&cloud.admin, &tree.digest).await.expect("a tree");
    assert_eq!(body.entries.len(), 1);
    let lie = NewTree { entries: vec![entry("a", b"a", 2)] };
    assert_eq!(cloud.put_tree(lie).await.unwrap_err().code, ErrorCode::InvalidRequest);
}
