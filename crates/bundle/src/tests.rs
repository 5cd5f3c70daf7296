use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use muonic_types::blob::TreeSummary;
use muonic_types::model::{ModelSource, ModelVersion};
use muonic_types::{Digest, Entry, Tree};
use proptest::prelude::*;

use super::*;

type Files = Vec<(String, Vec<u8>, bool)>;

fn files() -> Files {
    vec![
        ("a/empty".into(), vec![], false),
        (format!("a/{}/weights ☃.bin", "long".repeat(40)), vec![7; 700], false),
        ("model.onnx".into(), vec![1; 512], false),
        ("run".into(), b"#!/bin/sh\n".to_vec(), true),
    ]
}

fn manifest(files: &Files) -> Manifest {
    let entry = |(path, bytes, executable): &(String, Vec<u8>, bool)| Entry {
        path: path.parse().unwrap(),
        size: bytes.len() as u64,
        digest: Digest::of(bytes),
        executable: *executable,
    };
    let tree = Tree::new(files.iter().map(entry).collect()).unwrap();
    let version = ModelVersion {
        name: "digits".parse().unwrap(),
        version: 3,
        tree: TreeSummary { digest: tree.digest(), files: files.len() as u64, bytes: tree.bytes() },
        source: ModelSource::Upload,
        metrics: BTreeMap::from([("loss".into(), 0.5)]),
        created_at: "2026-11-03T12:00:00Z".parse().unwrap(),
    };
    Manifest::new(version, tree).unwrap()
}

fn bundle(files: &Files) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), manifest(files)).unwrap();
    while let Some(wanted) = writer.wanted().cloned() {
        let (_, bytes, _) = files.iter().find(|(path, ..)| path == wanted.path.as_str()).unwrap();
        writer.file(&bytes[..], |_| {}).unwrap();
    }
    writer.finish().unwrap()
}

fn read(bytes: &[u8]) -> Result<Files, Error> {
    let mut files = Files::new();
    Reader::new(bytes)?.files(|entry, piece| {
        match piece {
            read::Piece::Begin => files.push((entry.path.to_string(), vec![], entry.executable)),
            read::Piece::Bytes(bytes) => files.last_mut().unwrap().1.extend_from_slice(bytes),
            read::Piece::End => {}
        }
        Ok::<_, Error>(())
    })?;
    Ok(files)
}

#[test]
fn what_was_put_in_comes_out() {
    let bytes = bundle(&files());
    assert_eq!(read(&bytes).unwrap(), files());
    let reader = Reader::new(&bytes[..]).unwrap();
    assert_eq!(reader.manifest(), &manifest(&files()));
    let dir = tempfile::tempdir().unwrap();
    reader.unpack(dir.path()).unwrap();
    for (path, bytes, _) in files() {
        assert_eq!(fs::read(dir.path().join(path)).unwrap(), bytes);
    }
    let file = dir.path().join("digits.muonic");
    fs::write(&file, &bytes).unwrap();
    assert!(is_bundle(&file).unwrap());
    fs::write(&file, &bytes[..50]).unwrap();
    assert!(!is_bundle(&file).unwrap());
}

#[test]
fn tar_unpacks_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("b.tar"), bundle(&files())).unwrap();
    let ran = Command::new("tar").arg("-xf").arg("b.tar").current_dir(dir.path()).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(ran.stderr.is_empty(), "{}", String::from_utf8_lossy(&ran.stderr));
    for (path, bytes, executable) in files() {
        let path = dir.path().join("model").join(path);
        assert_eq!(fs::read(&path).unwrap(), bytes);
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o100 != 0, executable);
    }
    assert!(dir.path().join("muonic-bundle.json").exists());
}

/// Made once by this program; what reads it today must read it for good.
#[test]
fn an_old_one_is_still_read() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/samples/format-1.muonic");
    let bytes = fs::read(sample).unwrap();
    assert_eq!(read(&bytes).unwrap(), files());
    assert_eq!(bytes, bundle(&files()), "the format has changed: give it another number");
}

#[test]
fn what_is_none_is_refused_in_a_sentence() {
    let good = bundle(&files());
    let say = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
    let foreign = "it is no bundle: 'muonic bundle MODEL@VERSION' makes one";
    assert_eq!(say(b""), foreign);
    assert_eq!(say(&[b'x'; 4096]), foreign);
    assert_eq!(say(&good[..100]), foreign);
    assert_eq!(say(&good[..good.len() - 1]), "it is damaged: it ends early; copy it again, or make it anew");
    assert!(say(&[&good[..], b"x"].concat()).starts_with("it is damaged: something follows its end"));
    // With the digest that the manifest then has.
    let changed = |from: &str, to: &str| {
        let size = usize::try_from(header::size(good[..512].try_into().unwrap()).unwrap()).unwrap();
        let manifest = String::from_utf8(good[512..512 + size].to_vec()).unwrap();
        let other = manifest.replace(from, to);
        assert!(other != manifest && other.len() == manifest.len());
        let (sum, new) = (manifest::sum(manifest.as_bytes()), manifest::sum(other.as_bytes()));
        let mut bytes = good.clone();
        bytes[512..512 + size].copy_from_slice(other.as_bytes());
        let at = bytes.windows(sum.len()).position(|window| window == sum.as_bytes()).unwrap();
        bytes[at..at + sum.len()].copy_from_slice(new.as_bytes());
        say(&bytes)
    };
    assert_eq!(
        changed("muonic-bundle 1", "muonic-bundle 9"),
        "it is a bundle of the format 'muonic-bundle 9', and this program reads 'muonic-bundle 1': use a newer muonic"
    );
    let said = changed("\"size\": 700", "\"size\": 701");
    assert!(said.starts_with("it is damaged: its manifest cannot be understood: the tree sha256:"), "{said}");
    let said = changed("\"model.onnx\"", "\"../el.onnx\"");
    assert!(said.contains("'../el.onnx' is not a file path"), "{said}");
}

#[test]
fn a_writer_takes_only_what_the_manifest_says() {
    let mut writer = Writer::new(Vec::new(), manifest(&files())).unwrap();
    writer.file(&b""[..], |_| {}).unwrap();
    assert!(writer.file(&[7; 699][..], |_| {}).is_err());
    let mut writer = Writer::new(Vec::new(), manifest(&files())).unwrap();
    writer.file(&b""[..], |_| {}).unwrap();
    assert!(writer.file(&[8; 700][..], |_| {}).is_err());
    let writer = Writer::new(Vec::new(), manifest(&files())).unwrap();
    assert!(writer.finish().is_err());
}

#[test]
fn sizes_beyond_octal_have_room() {
    let header = header::header("model/big", 9 << 30, false);
    assert_eq!((header.len(), header[124]), (512, 0x80));
    assert_eq!(header[128..136], (9_u64 << 30).to_be_bytes());
}

proptest! {
    /// Not one bit may be another, and no end may be missing.
    #[test]
    fn any_damage_is_noticed(at in 0_usize..10_000, bit in 0_u8..8) {
        let mut bytes = bundle(&files());
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        prop_assert!(read(&bytes).is_err(), "byte {at}");
        prop_assert!(read(&bytes[..at]).is_err());
    }
}
