//! Snapshots into a folder, and back.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use muonic_backup::{UNFINISHED, restore, snapshots};
use muonic_ports::backup::{BackupEngine, OnProgress};
use muonic_ports::{BlobStore, Error};
use muonic_types::backup::{BackupStage, NewBackup, SnapshotKeys};
use support::{Cloud, content, destination, restored, silent, to};

/// Of every kind: in the index, in a segment, in a file, in parts.
const SIZES: [usize; 5] = [0, 100, 20_000, 300_000, 3 << 20];

fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() { folders.push(entry) } else { found.push(entry) }
        }
    }
    found
}

async fn filled(data: &Path) -> (Cloud, BTreeMap<String, Vec<u8>>) {
    let cloud = Cloud::open(data).await;
    let mut held = BTreeMap::new();
    for (number, size) in SIZES.into_iter().enumerate() {
        held.insert(format!("first/{number}"), content(number as u64, size));
    }
    for (key, bytes) in &held {
        cloud.put(key, bytes.clone()).await;
    }
    let large = content(99, (5 << 20) + 777);
    cloud.put_in_parts("first/parts", &large).await;
    held.insert("first/parts".to_owned(), large);
    fs::create_dir_all(data.join("logs")).expect("a folder");
    fs::write(data.join("logs/train-1.1.log"), "epoch 1\n").expect("a log");
    (cloud, held)
}

async fn holds(cloud: &Cloud, held: &BTreeMap<String, Vec<u8>>) {
    for (key, bytes) in held {
        assert!(cloud.get(key).await.as_ref() == Some(bytes), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_snapshot_sends_what_is_new_and_each_gives_back_its_state() {
    let temp = tempfile::tempdir().expect("a folder");
    let (dest, data) = (temp.path().join("backups"), temp.path().join("data"));
    let (cloud, mut held) = filled(&data).await;
    let digest = BlobStore::put(&cloud.store, support::body(content(5, 90_000)), None).await.expect("a blob").digest;
    let first = cloud.backup(to(&dest)).await.expect("made").snapshot;
    let early = held.clone();
    assert_eq!(first.keys, SnapshotKeys::Plain);
    assert!(first.bytes_sent > 8 << 20 && first.files_sent == first.files, "{first:?}");

    let unchanged = cloud.backup(to(&dest)).await.expect("made").snapshot;
    assert_eq!((unchanged.files_sent, unchanged.bytes_sent, unchanged.files), (0, 0, first.files), "{unchanged:?}");

    cloud.put("second/file", content(7, 200_000)).await;
    held.insert("second/file".to_owned(), content(7, 200_000));
    cloud.put("first/3", content(8, 70_000)).await;
    held.insert("first/3".to_owned(), content(8, 70_000));
    cloud.delete("first/4").await;
    held.remove("first/4");
    fs::write(data.join("logs/train-1.1.log"), "epoch 1\nepoch 2\n").expect("a log");
    cloud.store.reclaim_now().await.expect("reclaimed");
    let third = cloud.backup(to(&dest)).await.expect("made").snapshot;
    assert_eq!(third.files_sent, 3, "two new files and a log: {third:?}");
    assert!(third.bytes_sent < 280_000 && first.name < third.name, "{third:?}");
    let names: Vec<_> = snapshots(&destination(&dest)).await.expect("listed").into_iter().map(|s| s.name).collect();
    assert_eq!(names, [first.name.clone(), unchanged.name, third.name]);
    cloud.close().await;

    let (old, new) = (temp.path().join("old"), temp.path().join("new"));
    restored(&dest, Some(&first.name), &old).await.expect("restored");
    assert_eq!(fs::read_to_string(old.join("logs/train-1.1.log")).expect("a log"), "epoch 1\n");
    let cloud = Cloud::open(&old).await;
    holds(&cloud, &early).await;
    assert!(cloud.get("second/file").await.is_none());
    assert_eq!(cloud.store.size(&digest).await.expect("asked"), Some(90_000));
    cloud.close().await;

    let done = restored(&dest, None, &new).await.expect("restored");
    assert!(done.has_keys && !new.join(UNFINISHED).exists());
    assert_eq!(fs::metadata(new.join("store.keys")).expect("keys").permissions().mode() & 0o777, 0o600);
    let cloud = Cloud::open(&new).await;
    holds(&cloud, &held).await;
    assert!(cloud.get("first/4").await.is_none());
    // What was restored goes on into the same backups, and is lean.
    cloud.store.reclaim_now().await.expect("reclaimed");
    let fourth = cloud.backup(to(&dest)).await.expect("made").snapshot;
    assert_eq!(fourth.files_sent, 0, "{fourth:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_was_acknowledged_before_is_in_a_backup_made_under_load() {
    let temp = tempfile::tempdir().expect("a folder");
    let (dest, data) = (temp.path().join("backups"), temp.path().join("data"));
    let (cloud, held) = filled(&data).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut busy = tokio::task::JoinSet::new();
    for worker in 0..4u64 {
        let (cloud, stop) = (cloud.clone(), stop.clone());
        busy.spawn(async move {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                let size = SIZES[(number % 4) as usize + 1].min(400_000);
                let key = format!("busy/{worker}/{}", number % 7);
                cloud.put(&key, content(number, size)).await;
                if number % 3 == 0 {
                    cloud.delete(&key).await;
                }
                if worker == 0 && number % 5 == 0 {
                    cloud.put_in_parts("busy/parts", &content(number, (5 << 20) + 10)).await;
                }
                if worker == 1 {
                    match cloud.store.reclaim_now().await {
                        Ok(_) | Err(muonic_ports::object_store::Error::Store(Error::Conflict(_))) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                if worker == 2 {
                    let blob = BlobStore::put(&cloud.store, support::body(content(number, 80_000)), None).await;
                    cloud.store.remove(&blob.expect("a blob").digest).await.expect("removed");
                }
            }
        });
    }
    // Nobody touches these; each round changes one, which must be in the next snapshot.
    let mut held = held;
    let mut states = Vec::new();
    for round in 0..4u64 {
        let key = format!("kept/{round}");
        cloud.put(&key, content(round, 100_000 + round as usize)).await;
        held.insert(key, content(round, 100_000 + round as usize));
        if round == 2 {
            cloud.delete("kept/0").await;
            held.remove("kept/0");
        }
        let made = cloud.backup(NewBackup { keep: Some(3), ..to(&dest) }).await.expect("made");
        assert_eq!(made.warning, None);
        states.push((made.snapshot.name, held.clone()));
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(done) = busy.join_next().await {
        done.expect("busy to the end");
    }
    cloud.close().await;
    let left = snapshots(&destination(&dest)).await.expect("listed");
    assert_eq!(left.iter().map(|s| &s.name).collect::<Vec<_>>(), states[1..].iter().map(|s| &s.0).collect::<Vec<_>>());
    for (name, held) in &states[1..] {
        let data = temp.path().join(name);
        restored(&dest, Some(name), &data).await.expect("restored");
        let cloud = Cloud::open(&data).await;
        holds(&cloud, held).await;
        cloud.close().await;
        fs::remove_dir_all(&data).expect("removed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_refused_by_name_and_a_restore_goes_on_where_it_was_cut_off() {
    let temp = tempfile::tempdir().expect("a folder");
    let (dest, data) = (temp.path().join("backups"), temp.path().join("data"));
    let (cloud, held) = filled(&data).await;
    cloud.backup(to(&dest)).await.expect("made");
    cloud.close().await;
    let victim = below(&dest.join("data/files")).into_iter().max_by_key(|p| fs::metadata(p).expect("it").len());
    let victim = victim.expect("a file");
    let good = fs::read(&victim).expect("read");
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    let new = temp.path().join("new");
    for damaged in [bad, good[1..].to_vec()] {
        fs::write(&victim, damaged).expect("written");
        let error = restored(&dest, None, &new).await.expect_err("damaged");
        let name = victim.file_name().expect("a name").to_str().expect("UTF-8");
        assert!(matches!(&error, Error::Checksum(what) if what.contains(name)), "{error}");
        assert!(new.join(UNFINISHED).exists());
    }
    fs::remove_file(&victim).expect("removed");
    assert!(matches!(restored(&dest, None, &new).await, Err(Error::Checksum(what)) if what.contains("missing")));
    fs::write(&victim, &good).expect("written");
    restored(&dest, None, &new).await.expect("restored");
    let cloud = Cloud::open(&new).await;
    holds(&cloud, &held).await;
    cloud.close().await;

    // The databases are minded as well.
    let index = below(&dest.join("snapshots")).into_iter().find(|p| p.ends_with("index.sqlite")).expect("an index");
    let mut bytes = fs::read(&index).expect("read");
    *bytes.last_mut().expect("bytes") ^= 1;
    fs::write(&index, bytes).expect("written");
    let error = restored(&dest, None, &temp.path().join("other")).await.expect_err("damaged");
    assert!(matches!(&error, Error::Checksum(what) if what.contains("index.sqlite")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_backup_does_not_exist_and_the_next_one_uses_what_it_sent() {
    let temp = tempfile::tempdir().expect("a folder");
    let (dest, data) = (temp.path().join("backups"), temp.path().join("data"));
    let (cloud, held) = filled(&data).await;
    // Cut off at the first file that was sent, and later ones.
    let mut sent = 0;
    for cut in 1..=3u64 {
        let (tell, told) = tokio::sync::oneshot::channel();
        let tell = Mutex::new(Some(tell));
        let watch: OnProgress = Arc::new(move |now| {
            if now.stage == BackupStage::Sending
                && now.files_done >= cut
                && let Some(tell) = tell.lock().expect("a lock").take()
            {
                let _ = tell.send(());
            }
        });
        let backups = cloud.backups();
        tokio::select! {
            biased;
            _ = told => {}
            made = backups.run(to(&dest), watch) => { made.expect("made"); }
        }
        let found = snapshots(&destination(&dest)).await.expect("listed");
        sent = below(&dest.join("data")).len();
        if found.is_empty() {
            assert!(sent > 0);
        }
    }
    let made = cloud.backup(NewBackup { keep: Some(1), ..to(&dest) }).await.expect("made").snapshot;
    assert!(made.files_sent as usize <= made.files as usize - sent.min(made.files as usize), "{made:?} {sent}");
    assert_eq!(snapshots(&destination(&dest)).await.expect("listed"), std::slice::from_ref(&made));
    assert_eq!(below(&dest.join("data")).len() as u64, made.files, "nothing else is left");
    cloud.close().await;
    let new = temp.path().join("new");
    restored(&dest, None, &new).await.expect("restored");
    holds(&Cloud::open(&new).await, &held).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_sealed_left_out_or_for_their_owner_alone() {
    let temp = tempfile::tempdir().expect("a folder");
    let data = temp.path().join("data");
    let (cloud, held) = filled(&data).await;
    let key = fs::read_to_string(data.join("store.keys")).expect("keys");
    let passphrase = Some("correct horse".to_owned());

    let plain = temp.path().join("plain");
    cloud.backup(to(&plain)).await.expect("made");
    for path in below(&plain) {
        assert_eq!(fs::metadata(&path).expect("it").permissions().mode() & 0o777, 0o600, "{}", path.display());
        let parent = path.parent().expect("a folder");
        assert_eq!(fs::metadata(parent).expect("it").permissions().mode() & 0o777, 0o700, "{}", parent.display());
    }
    let sealed = temp.path().join("sealed");
    cloud.backup(NewBackup { passphrase: passphrase.clone(), ..to(&sealed) }).await.expect("made");
    let without = temp.path().join("without");
    cloud.backup(NewBackup { without_keys: true, ..to(&without) }).await.expect("made");
    cloud.close().await;
    let key = key.split("\"key\": \"").nth(1).and_then(|rest| rest.split('"').next()).expect("a key").to_owned();
    for folder in [&sealed, &without] {
        for path in below(folder) {
            let bytes = fs::read(&path).expect("read");
            assert!(!bytes.windows(key.len()).any(|piece| piece == key.as_bytes()), "{}", path.display());
        }
    }

    let from = destination(&sealed);
    let new = temp.path().join("new");
    for wrong in [None, Some("another one".to_owned())] {
        assert!(matches!(restore(&from, None, &new, wrong, silent()).await, Err(Error::Conflict(_))));
        assert!(!new.exists(), "nothing is written without the keys");
    }
    assert!(restore(&from, None, &new, passphrase, silent()).await.expect("restored").has_keys);
    holds(&Cloud::open(&new).await, &held).await;
    let bare = temp.path().join("bare");
    assert!(!restored(&without, None, &bare).await.expect("restored").has_keys);
    assert!(!bare.join("store.keys").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_destination_is_refused_with_a_reason() {
    let temp = tempfile::tempdir().expect("a folder");
    let data = temp.path().join("data");
    let (cloud, _) = filled(&data).await;
    let refused = async |new: NewBackup, word: &str| match cloud.backup(new).await {
        Err(Error::Conflict(what)) => assert!(what.contains(word), "{what}"),
        other => panic!("{word}: {other:?}"),
    };
    refused(to(Path::new("relative")), "absolute").await;
    refused(to(&data.join("inside")), "inside").await;
    refused(to(&data.join("../data/x")), "absolute").await;
    refused(NewBackup { keep: Some(0), ..to(&temp.path().join("a")) }, "one snapshot").await;
    refused(NewBackup { passphrase: Some("short".into()), ..to(&temp.path().join("a")) }, "characters").await;
    let full = temp.path().join("full");
    fs::create_dir(&full).expect("a folder");
    fs::write(full.join("letter.txt"), "dear").expect("a file");
    refused(to(&full), "not empty").await;
    let link = temp.path().join("link");
    std::os::unix::fs::symlink(&data, &link).expect("a link");
    refused(to(&link.join("x")), "inside").await;
    let keys = [("access_key_id", "AK"), ("secret_access_key", "hush-hush")];
    let options: BTreeMap<_, _> = keys.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let s3 = NewBackup { destination: "s3://bucket/x".to_owned(), options, ..to(Path::new("/")) };
    refused(s3, "passphrase").await;

    // Another cloud does not write into these backups.
    let dest = temp.path().join("backups");
    cloud.backup(to(&dest)).await.expect("made");
    let other = muonic_backup::Backups::new(&cloud.data, cloud.store.clone(), cloud.meta.clone(), &[8; 32], "0.0.0");
    let error = other.run(to(&dest), silent()).await.expect_err("another cloud");
    assert!(error.to_string().contains("another cloud"), "{error}");
    assert!(matches!(snapshots(&destination(&full)).await, Err(Error::NotFound(_))));
}
