use muonic_ports::object_store::Error;
use nix::errno::Errno;

use super::disk::{Step, TestDisk};
use super::*;
use crate::content::Place;

/// A bit of everything; what was acknowledged, and the errors.
pub(super) async fn work(data: &Data, seed: u64) -> (Vec<(Extent, Bytes)>, Vec<Error>) {
    let (mut kept, mut errors) = (Vec::new(), Vec::new());
    for (n, len) in [5000, 100, 60_000, 70_000, 60_000, 60_000, 60_000, 60_000, 600_000].into_iter().enumerate() {
        let bytes = noise(seed + n as u64, len);
        match put(data, &bytes, SealWith::Store).await {
            Ok(written) => kept.push((written.keep(), bytes)),
            Err(e) => errors.push(e),
        }
    }
    let blobs: Vec<Bytes> = [9000, 10, 100_000, 9001, 9002].map(|len| noise(seed + len as u64, len)).into();
    match data.write_many(blobs.clone(), SealWith::None).await {
        Ok(all) => kept.extend(all.into_iter().map(Written::keep).zip(blobs)),
        Err(e) => errors.push(e),
    }
    (kept, errors)
}

/// What is acknowledged is there, whole; besides, there is no file.
pub(super) async fn all_there(data: &Data, kept: &[(Extent, Bytes)], no_more: bool) {
    for (extent, bytes) in kept {
        assert!(whole(data, extent, SealWith::Store).await == *bytes);
    }
    if no_more {
        let named = kept.iter().filter(|(extent, _)| matches!(extent.place, Place::File { .. })).count();
        assert_eq!(data.files().unwrap().count(), named);
    }
}

#[tokio::test]
async fn a_full_disk_is_said_and_costs_nothing_else() {
    for n in 0.. {
        let root = folder();
        let disk = TestDisk::failing(n, Errno::ENOSPC, false);
        let data = open_on(root.path(), Box::new(disk.clone()));
        let (mut kept, errors) = work(&data, 0).await;
        settle(&data).await;
        let Some(step) = disk.failed() else {
            assert!(n > 40 && errors.is_empty());
            return;
        };
        match step {
            Step::Create | Step::Write | Step::SyncFile => {
                // A zero ahead of what is needed may fail unseen.
                assert!(errors.len() <= 1, "{n} {step:?} {errors:?}");
                assert!(errors.iter().all(|e| matches!(e, Error::Store(muonic_ports::Error::DiskFull))), "{errors:?}");
                assert!(errors.len() == 1 || step == Step::Write);
                // There is room again.
                let (more, errors) = work(&data, 1000).await;
                assert!(errors.is_empty(), "{n} {step:?} {errors:?}");
                kept.extend(more);
                settle(&data).await;
                all_there(&data, &kept, true).await;
            }
            Step::SyncFolder => {
                assert!(data.gate().reason().is_some());
                all_there(&data, &kept, false).await;
            }
            Step::Truncate | Step::Unlink => {
                assert!(errors.is_empty());
                all_there(&data, &kept, false).await;
            }
        }
        drop(data);
        all_there(&open(root.path()), &kept, false).await;
    }
}

#[tokio::test]
async fn a_disk_that_stays_full_keeps_nothing_of_what_did_not_fit() {
    for n in 0.. {
        let root = folder();
        // Removing works on a full disk, and so do syncs; this one is worse.
        let disk = TestDisk::failing(n, Errno::EDQUOT, true);
        let data = open_on(root.path(), Box::new(disk.clone()));
        let (kept, errors) = work(&data, 0).await;
        settle(&data).await;
        if disk.failed().is_none() {
            return;
        }
        let said =
            |e: &Error| matches!(e, Error::Store(muonic_ports::Error::DiskFull | muonic_ports::Error::ReadOnly(_)));
        assert!(errors.iter().all(said), "{errors:?}");
        all_there(&data, &kept, false).await;
    }
}

#[tokio::test]
async fn a_failed_sync_ends_all_writing() {
    for n in 0.. {
        let root = folder();
        let disk = TestDisk::failing(n, Errno::EIO, false);
        let data = open_on(root.path(), Box::new(disk.clone()));
        let (mut kept, errors) = work(&data, 0).await;
        settle(&data).await;
        let Some(step) = disk.failed() else { return };
        let syncs = disk.count(Step::SyncFile) + disk.count(Step::SyncFolder);
        let (more, later) = work(&data, 1000).await;
        kept.extend(more);
        if matches!(step, Step::SyncFile | Step::SyncFolder) {
            assert!(!errors.is_empty() && later.len() == 10);
            for e in errors.iter().chain(&later) {
                assert!(matches!(e, Error::Store(muonic_ports::Error::ReadOnly(_))), "{e:?}");
            }
            assert_eq!(syncs, disk.count(Step::SyncFile) + disk.count(Step::SyncFolder), "a sync was tried again");
            assert!(!data.health().await.writable);
        } else {
            assert!(later.is_empty(), "{step:?} {later:?}");
        }
        all_there(&data, &kept, false).await;
        drop(data);
        all_there(&open(root.path()), &kept, false).await;
    }
}
