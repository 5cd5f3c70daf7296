//! The disk when it fails, and when the lights go out.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use muonic_ports::conformance::blob_store::{collect, noise, pieces};
use muonic_ports::{BlobStore, Error};
use muonic_types::Digest;
use nix::errno::Errno;

use super::DiskStore;
use super::files::{Files, RealFiles};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Create,
    Write,
    SyncFile,
    Rename,
    SyncFolder,
}

/// Fails the nth of one kind of step, once.
struct Faulty {
    step: Step,
    errno: Errno,
    left: Mutex<u32>,
}

impl Faulty {
    fn pass(&self, step: Step) -> io::Result<()> {
        if step == self.step {
            let mut left = self.left.lock().unwrap();
            if *left > 0 {
                *left -= 1;
                if *left == 0 {
                    return Err(self.errno.into());
                }
            }
        }
        Ok(())
    }
}

impl Files for Faulty {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.pass(Step::Create)?;
        RealFiles.create(path)
    }

    fn write(&self, file: &mut File, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if let Err(e) = self.pass(Step::Write) {
            RealFiles.write(file, path, &bytes[..bytes.len() / 2])?;
            return Err(e);
        }
        RealFiles.write(file, path, bytes)
    }

    fn sync_file(&self, file: &File, path: &Path) -> io::Result<()> {
        self.pass(Step::SyncFile)?;
        RealFiles.sync_file(file, path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.pass(Step::Rename)?;
        RealFiles.rename(from, to)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.pass(Step::SyncFolder)?;
        RealFiles.sync_folder(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealFiles.remove(path)
    }
}

fn faulty(root: &Path, step: Step, nth: u32, errno: Errno) -> DiskStore {
    DiskStore::open_on(root, Box::new(Faulty { step, errno, left: Mutex::new(nth) })).expect("open")
}

/// A temporary file may go a moment after the answer.
async fn tmp_becomes_empty(root: &Path) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while fs::read_dir(root.join("tmp")).unwrap().count() > 0 {
        assert!(Instant::now() < deadline, "a temporary file was left behind");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_stays_well() {
    for (step, len) in [
        (Step::Create, 10),
        (Step::Write, 10),
        (Step::SyncFile, 10),
        (Step::Rename, 10),
        (Step::Create, 3 << 20),
        (Step::Write, 3 << 20),
        (Step::SyncFile, 3 << 20),
    ] {
        let root = tempfile::tempdir().unwrap();
        let store = faulty(root.path(), step, 1, Errno::ENOSPC);
        let bytes = noise(1, len);
        let refused = store.put(pieces(&bytes, 1 << 18), None).await;
        assert!(matches!(refused, Err(Error::DiskFull)), "{step:?}: {refused:?}");
        tmp_becomes_empty(root.path()).await;
        assert_eq!(store.size(&Digest::of(&bytes)).await.unwrap(), None);
        assert!(store.health().await.writable);
        store.put(pieces(&bytes, 1 << 18), None).await.expect("there is room again");
    }
}

#[tokio::test]
async fn a_failed_sync_turns_writing_off_until_restart() {
    for (step, len) in [(Step::SyncFile, 10), (Step::SyncFile, 3 << 20), (Step::SyncFolder, 10)] {
        let root = tempfile::tempdir().unwrap();
        let store = faulty(root.path(), step, 2, Errno::EIO);
        let kept = store.put(pieces(&noise(1, len), 1 << 18), None).await.expect("the first put").digest;
        let bytes = noise(2, len);
        for attempt in 1..=3 {
            let refused = store.put(pieces(&bytes, 1 << 18), None).await;
            assert!(matches!(refused, Err(Error::ReadOnly(_))), "{step:?} {attempt}: {refused:?}");
        }
        let refused = store.put_batch(vec![(Digest::of(b"x"), Bytes::from_static(b"x"))]).await;
        assert!(matches!(refused, Err(Error::ReadOnly(_))), "{refused:?}");
        let health = store.health().await;
        assert!(!health.writable);
        assert!(health.reason.unwrap().contains("restart"));
        // Reading goes on.
        collect(store.get(&kept, None).await.unwrap().1).await.expect("read");
        tmp_becomes_empty(root.path()).await;

        let store = DiskStore::open(root.path()).expect("restart");
        store.put(pieces(&bytes, 1 << 18), None).await.expect("put after the restart");
    }
}

#[tokio::test]
async fn a_batch_that_fails_says_so() {
    for (step, errno) in [(Step::Write, Errno::ENOSPC), (Step::SyncFile, Errno::EIO), (Step::SyncFolder, Errno::EIO)] {
        let root = tempfile::tempdir().unwrap();
        let store = faulty(root.path(), step, 20, errno);
        let batch: Vec<_> = (0..50).map(|n| noise(n, 300)).map(|b| (Digest::of(&b), b)).collect();
        let refused = store.put_batch(batch.clone()).await;
        match errno {
            Errno::ENOSPC => assert!(matches!(refused, Err(Error::DiskFull)), "{refused:?}"),
            _ => assert!(matches!(refused, Err(Error::ReadOnly(_))), "{refused:?}"),
        }
        assert_eq!(store.health().await.writable, errno == Errno::ENOSPC);
        tmp_becomes_empty(root.path()).await;
        DiskStore::open(root.path()).unwrap().put_batch(batch).await.expect("the same after a restart");
    }
}

#[tokio::test]
async fn damage_is_never_read_as_content() {
    let root = tempfile::tempdir().unwrap();
    let store = DiskStore::open(root.path()).unwrap();
    for len in [1000usize, 5 << 20] {
        for at in [0, len / 2, len - 1] {
            let bytes = noise(len as u64 + at as u64, len);
            let digest = store.put(pieces(&bytes, 1 << 18), None).await.unwrap().digest;
            let path = store.disk.layout.blob(&digest);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();

            match store.get(&digest, None).await {
                Err(e) => assert!(matches!(e, Error::Checksum(_)), "{e:?}"),
                Ok((_, mut body)) => {
                    let mut got = 0;
                    let error = loop {
                        match futures_util::StreamExt::next(&mut body).await.expect("an error before the end") {
                            Ok(piece) => got += piece.len(),
                            Err(e) => break e,
                        }
                    };
                    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                    assert!(got < len, "the last bytes are held back");
                }
            }

            // One that became shorter is replaced by the next put.
            file.set_len(len as u64 - 1).unwrap();
            store.put(pieces(&bytes, 1 << 18), None).await.unwrap();
            assert!(collect(store.get(&digest, None).await.unwrap().1).await.unwrap() == bytes);
        }
    }
}

#[test]
fn folders_and_files_are_private() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().join("store");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = DiskStore::open(&root).unwrap();
    let digest = runtime.block_on(store.put(pieces(&noise(1, 10), 10), None)).unwrap().digest;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&root), 0o700);
    assert_eq!(mode(&store.disk.layout.folder(&digest)), 0o700);
    assert_eq!(mode(&store.disk.layout.blob(&digest)), 0o400);
}

#[test]
fn formats_of_others_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let open = || DiskStore::open(root.path()).map(|_| ());
    open().expect("new");
    assert_eq!(fs::read_to_string(root.path().join("format")).unwrap(), "muonic-store 1\n");
    fs::write(root.path().join("tmp/left-over"), "x").unwrap();
    open().expect("again");
    assert!(!root.path().join("tmp/left-over").exists());

    fs::write(root.path().join("format"), "muonic-store 2\n").unwrap();
    assert!(open().unwrap_err().to_string().contains("newer muonic"));
    for text in ["", "muonic-store", "muonic-store 0", "something else 1", "muonic-store x"] {
        fs::write(root.path().join("format"), text).unwrap();
        assert!(open().unwrap_err().to_string().contains("does not name a store format"), "{text}");
    }
    fs::write(root.path().join("blobs/ab/some-blob"), "x").unwrap();
    fs::remove_file(root.path().join("format")).unwrap();
    assert!(open().unwrap_err().to_string().contains("no file 'format'"));
}

/// A disk that keeps only what was synced: what was written and not synced is
/// cut short, names given and not synced are taken back.
#[derive(Default)]
struct PowerCut {
    state: Mutex<Power>,
}

#[derive(Default)]
struct Power {
    /// Steps until the lights go out.
    left: usize,
    /// Files whose content is not durable.
    dirty: Vec<PathBuf>,
    /// New name -> old name, of renames whose folder has not been synced.
    renamed: HashMap<PathBuf, PathBuf>,
}

impl PowerCut {
    fn step<T>(&self, work: impl FnOnce(&mut Power) -> io::Result<T>) -> io::Result<T> {
        let mut power = self.state.lock().unwrap();
        if power.left == 0 {
            return Err(io::Error::other("the lights are out"));
        }
        power.left -= 1;
        work(&mut power)
    }

    /// What the disk holds after the cut.
    fn forget(&self, root: &Path) {
        let mut power = self.state.lock().unwrap();
        for (new, old) in std::mem::take(&mut power.renamed) {
            fs::rename(&new, root.join("tmp").join(old.file_name().unwrap())).unwrap();
        }
        for path in std::mem::take(&mut power.dirty) {
            if let Ok(found) = fs::metadata(&path) {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
                File::options().write(true).open(&path).unwrap().set_len(found.len() / 2).unwrap();
            }
        }
    }
}

impl Files for Arc<PowerCut> {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.step(|power| {
            power.dirty.push(path.to_owned());
            RealFiles.create(path)
        })
    }

    fn write(&self, file: &mut File, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.step(|_| RealFiles.write(file, path, bytes))
    }

    fn sync_file(&self, _file: &File, path: &Path) -> io::Result<()> {
        self.step(|power| {
            power.dirty.retain(|dirty| dirty != path);
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|power| {
            RealFiles.rename(from, to)?;
            if let Some(at) = power.dirty.iter().position(|dirty| dirty == from) {
                power.dirty[at] = to.to_owned();
            }
            power.renamed.insert(to.to_owned(), from.to_owned());
            Ok(())
        })
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.step(|power| {
            power.renamed.retain(|new, _| new.parent() != Some(path));
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(|_| RealFiles.remove(path))
    }
}

/// The lights go out before the nth file operation, for every n until all of
/// the work gets done: each blob acknowledged is there, none is in part.
#[tokio::test]
async fn nothing_acknowledged_is_lost_when_the_lights_go_out() {
    for steps in 0.. {
        let root = tempfile::tempdir().unwrap();
        let power = Arc::new(PowerCut::default());
        power.state.lock().unwrap().left = steps;
        let store = DiskStore::open_on(root.path(), Box::new(power.clone())).unwrap();
        let mut acknowledged = Vec::new();
        let mut failures = 0;
        for n in 0..3 {
            // The second is the first again: visible, and it must be durable too.
            let bytes = noise(n / 2, 500);
            match store.put(pieces(&bytes, 500), None).await {
                Ok(blob) => acknowledged.push(blob.digest),
                Err(_) => failures += 1,
            }
        }
        match store.put(pieces(&noise(10, (2 << 20) + 9), 1 << 19), None).await {
            Ok(blob) => acknowledged.push(blob.digest),
            Err(_) => failures += 1,
        }
        let batch: Vec<_> = (20..26).map(|n| noise(n, 100)).map(|b| (Digest::of(&b), b)).collect();
        match store.put_batch(batch.clone()).await {
            Ok(()) => acknowledged.extend(batch.iter().map(|(digest, _)| *digest)),
            Err(_) => failures += 1,
        }
        // Threads of a failed put may still be at work.
        while Arc::strong_count(&store.disk) > 1 {
            tokio::task::yield_now().await;
        }
        drop(store);
        power.forget(root.path());

        let store = DiskStore::open(root.path()).expect("the lights are on again");
        for digest in &acknowledged {
            collect(store.get(digest, None).await.expect("it was acknowledged").1).await.expect("it is whole");
        }
        for folder in fs::read_dir(root.path().join("blobs")).unwrap() {
            for file in fs::read_dir(folder.unwrap().path()).unwrap() {
                let path = file.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                assert_eq!(Digest::of(&fs::read(&path).unwrap()).hex(), name, "steps {steps}");
            }
        }
        if failures == 0 {
            assert!(steps > 20, "{steps}");
            return;
        }
    }
}
