//! A flipped bit anywhere below the store's folder: what is read is right, or
//! it is an error; never other bytes. The scrub names what is damaged, and
//! what is not is read as before.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use muonic_ports::object_store::{Encryption, ObjectVersion, VersionId};
use muonic_ports::{BlobStore, ObjectStore};
use muonic_types::Digest;

use super::body::Body;
use super::dice::Dice;
use super::ledger::{Ledger, Sealed};
use super::op::Op;
use super::ops::{self, CUSTOMER};
use super::seen::drain;
use super::{copy, folder, samples};
use crate::embedded::EmbeddedStore;

/// A name as the scrub writes it, and the bytes.
type Known = BTreeMap<String, (Thing, Vec<u8>)>;

#[derive(Debug, Clone)]
enum Thing {
    Object { bucket: String, key: String, id: String },
    Blob(Digest),
}

fn known(ledger: &Ledger) -> Known {
    let mut known = Known::new();
    for (name, bucket) in &ledger.buckets {
        for (key, versions) in &bucket.keys {
            for version in versions {
                let Some(content) = &version.content else { continue };
                let bytes = content.bodies.iter().flat_map(|(_, body)| body.bytes()).collect();
                let thing = Thing::Object { bucket: name.clone(), key: key.clone(), id: version.id.clone() };
                known.insert(format!("{name}/{key} (version {})", version.id), (thing, bytes));
            }
        }
    }
    for body in &ledger.blobs {
        known.insert(body.digest().to_string(), (Thing::Blob(body.digest()), body.bytes().to_vec()));
    }
    known
}

/// What the store says of an object, but for whether it is the latest.
async fn facts(store: &EmbeddedStore, thing: &Thing) -> Result<Option<ObjectVersion>, String> {
    let Thing::Object { bucket, key, id } = thing else { return Ok(None) };
    let found = ObjectStore::get(store, bucket, key, Some(&VersionId(id.clone()))).await;
    Ok(found.map_err(|e| e.to_string())?.map(|object| ObjectVersion { latest: false, ..object }))
}

async fn read(store: &EmbeddedStore, thing: &Thing) -> Result<Vec<u8>, String> {
    let body = match thing {
        Thing::Object { bucket, key, id } => {
            let found = ObjectStore::get(store, bucket, key, Some(&VersionId(id.clone()))).await;
            let found = found.map_err(|e| e.to_string())?.ok_or("it is not there")?;
            let customer = matches!(found.encryption, Encryption::Customer { .. }).then_some(&CUSTOMER);
            store.read(&found, None, customer).await.map_err(|e| e.to_string())?
        }
        Thing::Blob(digest) => BlobStore::get(store, digest, None).await.map_err(|e| e.to_string())?.1,
    };
    drain(body).await
}

fn flip(path: &Path, at: u64, bit: usize) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ (1 << bit)], at).unwrap();
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => all.extend(files_below(&entry.path())),
            false => all.push(entry.path()),
        }
    }
    all.sort();
    all
}

/// The names of those that cannot be read; those that can have the right bytes.
async fn unreadable(store: &EmbeddedStore, known: &Known, what: &str) -> Vec<String> {
    let mut unreadable = Vec::new();
    for (name, (thing, bytes)) in known {
        match read(store, thing).await {
            Ok(found) => assert!(found == *bytes, "{what}: {name} has other bytes"),
            Err(_) => unreadable.push(name.clone()),
        }
    }
    unreadable
}

#[tokio::test]
async fn a_flipped_bit_in_segments_and_files_is_noticed_and_named() {
    let root = folder();
    let known = known(&samples::write(root.path()).await);
    let mut dice = Dice::seeded();
    let (mut noticed, mut harmless) = (0, 0);
    for path in ["segments", "files"].iter().flat_map(|name| files_below(&root.path().join("store").join(name))) {
        let len = fs::metadata(&path).unwrap().len();
        for _ in 0..12 {
            let (at, bit) = (dice.next() % len, dice.below(8));
            let what = format!("byte {at}, bit {bit} of {}", path.display());
            flip(&path, at, bit);
            let (store, _) = super::open(root.path()).await;
            let bad = unreadable(&store, &known, &what).await;
            let report = store.scrub(0).await.unwrap();
            if bad.is_empty() {
                // Between extents, or in the part of an upload.
                let upload = |damage: &muonic_types::store::Damage| damage.names[0].contains("an open upload");
                assert!(report.damaged.iter().all(upload), "{what}: {report:?}");
                harmless += 1;
            } else {
                assert_eq!(report.damaged.len(), 1, "{what}: {report:?}");
                // Copies share the bytes, and the name of each is told.
                let names = &report.damaged[0].names;
                assert_eq!(names.len(), bad.len(), "{what}: {names:?} and {bad:?}");
                for name in &bad {
                    assert!(names.iter().any(|named| named.contains(name)), "{what}: {names:?} without {name}");
                }
                noticed += 1;
            }
            drop(store);
            flip(&path, at, bit);
        }
    }
    let (store, _) = super::open(root.path()).await;
    assert!(unreadable(&store, &known, "all is mended").await.is_empty());
    assert!(store.scrub(0).await.unwrap().damaged.is_empty());
    println!("{noticed} noticed, {harmless} beside all that is named");
    assert!(noticed > 30);
}

#[tokio::test]
async fn a_flipped_bit_in_the_index_never_gives_another_object() {
    let root = folder();
    let known = known(&samples::write(root.path()).await);
    let mut said = BTreeMap::new();
    let (store, _) = super::open(root.path()).await;
    for (name, (thing, _)) in &known {
        said.insert(name.clone(), facts(&store, thing).await.unwrap());
    }
    drop(store);
    let flips = if std::env::var_os("MUONIC_TEST_LONG").is_some() { 20_000 } else { 300 };
    let mut dice = Dice::seeded();
    let len = fs::metadata(root.path().join("store/index.sqlite")).unwrap().len();
    let (mut closed, mut some, mut none) = (0, 0, 0);
    let scratch = folder();
    let mut wrong = Vec::new();
    for n in 0..flips {
        let to = scratch.path().join(n.to_string());
        copy(root.path(), &to);
        fs::set_permissions(to.join("keys"), fs::Permissions::from_mode(0o600)).unwrap();
        let (at, bit) = (dice.next() % len, dice.below(8));
        let what = format!("byte {at}, bit {bit}");
        flip(&to.join("store/index.sqlite"), at, bit);
        match super::open_on(&to, true, Box::new(crate::data::files::RealFiles)).await {
            Err(_) => closed += 1,
            Ok((store, _)) => {
                let mut bad = 0;
                for (name, (thing, bytes)) in &known {
                    match read(&store, thing).await {
                        Ok(found) if found == *bytes => {}
                        Ok(_) => wrong.push(format!("{what}: {name}")),
                        Err(_) => bad += 1,
                    }
                    if let Ok(Some(object)) = facts(&store, thing).await
                        && Some(&object) != said[name].as_ref()
                    {
                        wrong.push(format!("{what}: {object:?} where there was {:?}", said[name]));
                    }
                }
                let _ = store.scrub(0).await;
                if bad > 0 { some += 1 } else { none += 1 }
            }
        }
        let _ = fs::remove_dir_all(to);
    }
    println!("{closed} do not open, {some} harm some objects, {none} none");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What the scrub read about has gone, and something else of the same size
/// is in its row.
#[tokio::test]
async fn a_part_that_was_replaced_while_it_was_scrubbed_is_no_damage() {
    let root = folder();
    let (store, keys) = super::open(root.path()).await;
    let mut ledger = Ledger::default();
    let (bucket, key, sealed) = ("w0-b".to_owned(), "k".to_owned(), Sealed::Store);
    let script = [
        Op::BucketCreate { bucket: bucket.clone(), lock: false },
        Op::UploadCreate { bucket: bucket.clone(), key, at: 1, header: 1, sealed },
    ];
    for op in script {
        let done = ops::execute(&store, &keys, &ledger, &op).await.unwrap();
        ledger.apply(&op, &done);
    }
    let id = ledger.buckets[&bucket].uploads[0].id.clone();
    let part =
        |seed| Op::Part { bucket: bucket.clone(), id: id.clone(), number: 1, body: Body { seed, len: 50_000 }, at: 2 };
    ops::execute(&store, &keys, &ledger, &part(1)).await.unwrap();
    let before = store.index().all_extents(0, 10).await.unwrap().remove(0);
    ops::execute(&store, &keys, &ledger, &part(2)).await.unwrap();
    store.reclaim_now().await.unwrap();
    let mut report = crate::embedded::scrub::Found::default();
    store.scrub_one(before, 0, &mut report).await.unwrap();
    assert_eq!(report.damaged, []);
}

/// A size that is not that of the bytes is damage, not the end of the bytes.
#[tokio::test]
async fn a_size_that_lies_is_an_error() {
    let root = folder();
    let known = known(&samples::write(root.path()).await);
    let index = root.path().join("store/index.sqlite");
    for by in [-1, 1, 1000] {
        let conn = rusqlite::Connection::open(&index).unwrap();
        let change = |by: i64| conn.execute("UPDATE versions SET size = size + ?1 WHERE size > 0", [by]).unwrap();
        change(by);
        let (store, _) = super::open(root.path()).await;
        let bad = unreadable(&store, &known, "sizes lie").await;
        let objects =
            known.iter().filter(|(_, (thing, bytes))| matches!(thing, Thing::Object { .. }) && !bytes.is_empty());
        assert_eq!(bad.len(), objects.count(), "{by}: {bad:?}");
        drop(store);
        change(-by);
    }
}
