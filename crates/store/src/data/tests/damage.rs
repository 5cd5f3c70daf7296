use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;

use super::*;
use crate::content::Place;
use crate::data::{CheckOutcome, source};

/// Where an extent's stored bytes are, in a file that can be changed.
fn place(data: &Data, extent: &Extent) -> (PathBuf, File, u64) {
    let (path, offset) = match extent.place {
        Place::Segment { segment, offset, .. } => (data.disk().layout.segment(segment), offset),
        Place::File { .. } => (data.disk().layout.file(&extent.id), 0),
        Place::Legacy { ref digest, .. } => (data.disk().layout.legacy(digest), 0),
        Place::Inline(_) => unreachable!(),
    };
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    (path, file, offset)
}

fn flip(file: &File, at: u64, bit: u8) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ (1 << bit)], at).unwrap();
}

/// Reads all, and some ranges: each is right or ends in an error after right
/// bytes. The whole ends in an error.
async fn must_notice(data: &Data, extent: &Extent, bytes: &Bytes, with: SealWith<'_>) {
    let size = bytes.len();
    for (from, to) in [(0, size), (0, size / 2), (size / 2, size), (size / 3, size / 3 + 1), (size - 1, size)] {
        let noticed = match data.read(extent, Some(from as u64..to as u64), key_for(with)).await {
            Err(e) => e.to_string().contains("damaged"),
            Ok(body) => {
                let (found, error) = drain(body).await;
                assert!(found == bytes[from..from + found.len()], "wrong bytes came out");
                if let Some(e) = &error {
                    assert_eq!(e.kind(), std::io::ErrorKind::InvalidData, "{e}");
                } else {
                    assert_eq!(found.len(), to - from);
                }
                error.is_some()
            }
        };
        assert!(noticed || (from, to) != (0, size), "a flipped bit was not noticed");
    }
}

#[tokio::test]
async fn a_flipped_bit_is_an_error_and_never_wrong_bytes() {
    let root = folder();
    let data = open(root.path());
    for with in seals() {
        for size in [5000, 65_536, 65_537, (1 << 20) + 77_777] {
            let bytes = noise(size as u64, size);
            let extent = put(&data, &bytes, with).await.unwrap().keep();
            let (_, file, offset) = place(&data, &extent);
            let length = source::length(&extent);
            let step = length / 11;
            let spots = (0..11).map(|n| n * step + n).chain([65_535, 65_536, 1 << 20, (1 << 20) - 1, length - 1]);
            for at in spots.filter(|at| *at < length) {
                flip(&file, offset + at, (at % 8) as u8);
                must_notice(&data, &extent, &bytes, with).await;
                match data.check(&extent, &mut |_| Box::pin(async {})).await.unwrap() {
                    CheckOutcome::Damaged { blocks, what } => {
                        assert_eq!(blocks, [at >> 20]);
                        assert!(what.contains("is damaged"), "{what}");
                    }
                    other => panic!("{other:?}"),
                }
                flip(&file, offset + at, (at % 8) as u8);
            }
            assert_eq!(whole(&data, &extent, with).await, bytes, "all flips are undone");
        }
    }
}

#[tokio::test]
async fn damage_in_the_index_is_noticed() {
    let root = folder();
    let data = open(root.path());
    for with in seals() {
        let bytes = noise(9, 100);
        let extent = put(&data, &bytes, with).await.unwrap().keep();
        let Place::Inline(stored) = &extent.place else { unreachable!() };
        for bit in 0..stored.len() * 8 {
            let mut bad = stored.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            let bad = Extent { place: Place::Inline(bad.into()), ..extent.clone() };
            assert!(data.read(&bad, None, key_for(with)).await.is_err());
        }
        let large = put(&data, &noise(9, 200_000), with).await.unwrap().keep();
        let Place::File { length } = large.place else { unreachable!() };
        // Sizes that lie, sums that are missing, another extent's id.
        let lies = [
            Extent { size: 0, ..large.clone() },
            Extent { size: u64::MAX, ..large.clone() },
            Extent { size: 1 << 62, place: Place::File { length: 1 << 62 }, ..large.clone() },
            Extent { size: large.size - 65_536, place: Place::File { length: length - 65_536 - 16 }, ..large.clone() },
            Extent { blocks: Vec::new(), ..large.clone() },
            Extent { blocks: vec![0; 5], ..large.clone() },
            Extent { id: [0; 16], ..large.clone() },
            Extent { place: Place::Segment { segment: 7, offset: u64::MAX, length }, ..large.clone() },
        ];
        for lie in lies {
            match data.read(&lie, None, key_for(with)).await {
                Err(_) => {}
                Ok(body) => assert!(drain(body).await.1.is_some(), "{lie:?}"),
            }
            let found = data.check(&lie, &mut |_| Box::pin(async {})).await.unwrap();
            assert!(!matches!(found, CheckOutcome::Good | CheckOutcome::Summed(_)) || lie.id != large.id, "{found:?}");
        }
    }
}

#[tokio::test]
async fn a_file_that_became_shorter_or_is_missing_says_so() {
    let root = folder();
    let data = open(root.path());
    for with in seals() {
        let bytes = noise(4, 3 << 20);
        let extent = put(&data, &bytes, with).await.unwrap().keep();
        let (path, file, _) = place(&data, &extent);
        file.set_len(source::length(&extent) - 1).unwrap();
        let (found, error) = drain(data.read(&extent, None, key_for(with)).await.unwrap()).await;
        assert!(found == bytes[..found.len()] && error.is_some());
        fs::remove_file(path).unwrap();
        assert!(data.read(&extent, None, key_for(with)).await.is_err());
        let found = data.check(&extent, &mut |_| Box::pin(async {})).await.unwrap();
        assert!(matches!(found, CheckOutcome::Missing { .. }), "{found:?}");
    }
}

#[tokio::test]
async fn a_blob_of_format_1_is_verified_by_its_digest_and_gets_sums() {
    let root = folder();
    let data = open(root.path());
    for size in [0, 1000, (2 << 20) + 1] {
        let bytes = noise(5, size);
        let digest = *muonic_types::Digest::of(&bytes).as_bytes();
        let path = data.disk().layout.legacy(&digest);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &bytes).unwrap();
        let length = size as u64;
        let mut extent = Extent {
            id: [1; 16],
            size: length,
            place: Place::Legacy { digest, length },
            seal: None,
            blocks: Vec::new(),
        };
        assert_eq!(whole(&data, &extent, SealWith::None).await, bytes);
        let CheckOutcome::Summed(sums) = data.check(&extent, &mut |_| Box::pin(async {})).await.unwrap() else {
            panic!("it is good")
        };
        let unsummed = extent.clone();
        extent.blocks = sums;
        assert_eq!(whole(&data, &extent, SealWith::None).await, bytes);
        if size == 0 {
            continue;
        }
        let (_, file, _) = place(&data, &extent);
        flip(&file, length - 1, 0);
        must_notice(&data, &extent, &bytes, SealWith::None).await;
        match data.read(&unsummed, None, None).await {
            Err(_) => {}
            Ok(body) => {
                let (found, error) = drain(body).await;
                assert!(error.is_some() && found.len() < size);
            }
        }
        for extent in [unsummed, extent] {
            let found = data.check(&extent, &mut |_| Box::pin(async {})).await.unwrap();
            assert!(matches!(found, CheckOutcome::Damaged { .. }), "{found:?}");
        }
    }
}
