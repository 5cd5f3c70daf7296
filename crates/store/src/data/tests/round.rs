use std::collections::BTreeSet;

use muonic_ports::object_store::Algorithm;
use proptest::prelude::*;

use super::*;
use crate::content::Place;
use crate::data::blocks::{BLOCK_BYTES, crc};

const SIZES: [usize; 17] = [
    0,
    1,
    15,
    4095,
    4096,
    4097,
    65_535,
    65_536,
    65_537,
    131_072,
    524_288,
    524_289,
    1_048_575,
    1_048_576,
    1_048_577,
    (3 << 20) + 12_345,
    4 << 20,
];

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[tokio::test]
async fn every_size_comes_back_from_where_it_belongs() {
    let root = folder();
    let mut kept = Vec::new();
    let data = open(root.path());
    for with in seals() {
        for size in SIZES {
            let bytes = noise(size as u64, size);
            let (written, sums) =
                data.write(body(&bytes, 70_001), &Algorithm::ALL.into_iter().collect(), with).await.unwrap();
            let extent = written.keep();
            assert_eq!(sums.size, size as u64);
            assert_eq!(sums.found[&Algorithm::Sha256], muonic_types::Digest::of(&bytes).as_bytes());
            assert_eq!(sums.found[&Algorithm::Crc32c], crc(&bytes).to_be_bytes());
            match extent.place {
                Place::Inline(_) => assert!(size <= 4096),
                Place::Segment { .. } => assert!((4097..=65_536).contains(&size)),
                Place::File { .. } => assert!(size > 65_536),
                Place::Legacy { .. } => unreachable!(),
            }
            assert_eq!(whole(&data, &extent, with).await, bytes, "{size} {with:?}");
            assert_eq!(
                data.check(&extent, &mut |_| Box::pin(async {})).await.unwrap(),
                crate::data::CheckOutcome::Good
            );
            kept.push((with, extent, bytes));
        }
    }
    // And through files opened anew.
    drop(data);
    let data = open(root.path());
    for (with, extent, bytes) in &kept {
        assert_eq!(whole(&data, extent, *with).await, *bytes);
    }
}

#[tokio::test]
async fn sums_are_those_of_the_standards() {
    let root = folder();
    let data = open(root.path());
    let all = Algorithm::ALL.into_iter().collect();
    let (_written, sums) = data.write(body(&Bytes::from_static(b"123456789"), 4), &all, SealWith::None).await.unwrap();
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    assert_eq!(hex(&sums.md5), "25f9e794323b453885f5181f1b624d0b");
    assert_eq!(hex(&sums.found[&Algorithm::Crc32]), "cbf43926");
    assert_eq!(hex(&sums.found[&Algorithm::Crc32c]), "e3069283");
    assert_eq!(hex(&sums.found[&Algorithm::Crc64Nvme]), "ae8b14860a799888");
    assert_eq!(hex(&sums.found[&Algorithm::Sha1]), "f7c3bc1d808e04732adf679965ccc34ca7ae3441");
    assert_eq!(
        hex(&sums.found[&Algorithm::Sha256]),
        "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"
    );
    // A long body goes another way.
    let bytes = noise(1, 1 << 20);
    let (_written, long) = data.write(body(&bytes, 4097), &all, SealWith::Store).await.unwrap();
    let (_written, small) = data.write(body(&bytes.slice(..60_000), 4097), &all, SealWith::Store).await.unwrap();
    for (sums, bytes) in [(long, bytes.clone()), (small, bytes.slice(..60_000))] {
        use md5::Digest as _;
        assert_eq!(sums.md5, <[u8; 16]>::from(md5::Md5::digest(&bytes)));
        assert_eq!(sums.found[&Algorithm::Sha1], sha1::Sha1::digest(&bytes).to_vec());
        assert_eq!(sums.found[&Algorithm::Crc64Nvme], crc_fast::crc64_nvme(&bytes).to_be_bytes());
        assert_eq!(sums.found[&Algorithm::Crc32], crc_fast::crc32_iso_hdlc(&bytes).to_be_bytes());
    }
}

#[tokio::test]
async fn many_blobs_keep_their_order() {
    let root = folder();
    let data = open(root.path());
    for with in seals() {
        let blobs: Vec<Bytes> = [10, 70_000, 5000, 0, 4097, 300_000, 65_536, 80_000, 80_001, 80_002]
            .map(|len| noise(len as u64, len))
            .into();
        let written = data.write_many(blobs.clone(), with).await.unwrap();
        assert_eq!(written.len(), blobs.len());
        for (written, blob) in written.into_iter().zip(&blobs) {
            assert_eq!(whole(&data, &written.keep(), with).await, *blob);
        }
    }
    assert!(data.write_many(Vec::new(), SealWith::Store).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_lies_on_the_disk_is_summed_by_the_mebibyte() {
    let root = folder();
    let data = open(root.path());
    for with in seals() {
        let extent = put(&data, &noise(3, (2 << 20) + 70_000), with).await.unwrap().keep();
        let stored = std::fs::read(data.disk().layout.file(&extent.id)).unwrap();
        assert_eq!(extent.place, Place::File { length: stored.len() as u64 });
        assert_eq!(extent.blocks, stored.chunks(BLOCK_BYTES).map(crc).collect::<Vec<_>>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn any_range_is_the_range(
        base in prop::sample::select(SIZES.to_vec()),
        more in 0usize..3,
        piece in prop::sample::select(vec![1000, 16_384, 65_537, 2_000_000]),
        cuts in prop::collection::vec((0.0f64..=1.0, 0.0f64..=1.0), 4),
        seal in 0usize..4,
    ) {
        let size = base + more;
        let with = seals()[seal];
        let bytes = noise(base as u64, size);
        runtime().block_on(async {
            let root = folder();
            let data = open(root.path());
            let (written, _) = data.write(body(&bytes, piece), &BTreeSet::new(), with).await.unwrap();
            let extent = written.keep();
            let edges = [0, size.min(1), size / 2, size.saturating_sub(1), size, size.min(65_536), size.min(1 << 20)];
            let mut ranges: Vec<_> = cuts.iter().map(|(a, b)| ((a * size as f64) as usize, (b * size as f64) as usize)).collect();
            ranges.extend(edges.iter().flat_map(|a| edges.iter().map(|b| (*a, *b))));
            for (from, to) in ranges {
                let (from, to) = (from.min(to), from.max(to));
                let range = Some(from as u64..to as u64);
                let (found, error) = drain(data.read(&extent, range, key_for(with)).await.unwrap()).await;
                assert!(error.is_none(), "{error:?}");
                assert!(found == bytes[from..to], "{from}..{to} of {size}");
            }
            // Beyond the end there is nothing.
            let beyond = Some(size as u64..u64::MAX);
            assert!(drain(data.read(&extent, beyond, key_for(with)).await.unwrap()).await.0.is_empty());
        });
    }
}
