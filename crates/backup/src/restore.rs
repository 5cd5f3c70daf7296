//! Restoring a snapshot into a data folder that no server uses.
//!
//! Invariants: every file is compared with its hash while it is written; the
//! mark [`UNFINISHED`] lies in the folder until all of it is there, synced and
//! checked, and no server starts on a folder with the mark. What is there
//! already with the right hash is kept, so a restore that was cut off goes on.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt, TryStreamExt, stream};
use muonic_ports::backup::OnProgress;
use muonic_ports::{Error, Result};
use muonic_store::StoreCopy;
use muonic_types::backup::{BackupProgress, BackupStage, Snapshot, SnapshotKeys};

use crate::copying::{self, Sum, blocking, failed};
use crate::destination::Destination;
use crate::keys::{self, KeyFiles, Sealed};
use crate::list;
use crate::manifest::{self, Hashed, INDEX, MASTER_KEY, METASTORE, Manifest, SEALED, STORE_KEYS, in_snapshot};

/// A file of this name lies in a data folder that is not restored to its end.
pub const UNFINISHED: &str = "restore.unfinished";

const AT_ONCE: usize = 8;
const WRONG_SHOWN: usize = 3;

#[derive(Debug, Clone)]
pub struct Restored {
    pub snapshot: Snapshot,
    /// Whether the keys are there; else they are to be put there by hand.
    pub has_keys: bool,
}

/// All snapshots of a destination, the oldest first.
pub async fn snapshots(at: &Destination) -> Result<Vec<Snapshot>> {
    Ok(manifest::all(at).await?.iter().map(Manifest::snapshot).collect())
}

/// Restores the snapshot of this name, or the newest, into the folder `data`,
/// which the caller has for itself: it is empty, or has the mark of an earlier
/// try. `NotFound` where there is no such snapshot; `Checksum` naming the file
/// where one is damaged.
pub async fn restore(
    from: &Destination,
    snapshot: Option<&str>,
    data: &Path,
    passphrase: Option<String>,
    progress: OnProgress,
) -> Result<Restored> {
    let mut all = manifest::all(from).await?;
    let manifest = match snapshot {
        None => all.pop(),
        Some(name) => all.into_iter().find(|manifest| manifest.name == name),
    };
    let manifest = manifest.ok_or_else(|| match snapshot {
        Some(name) => Error::NotFound(format!("there is no snapshot {name} in {}", from.shown())),
        None => Error::NotFound(format!("there is no snapshot in {}", from.shown())),
    })?;
    let keys = read_keys(from, &manifest, passphrase).await?;
    let target = Target { data: data.to_owned(), touched: Arc::default() };
    target.write(UNFINISHED, format!("{}\n", manifest.name).into_bytes(), 0o600).await?;
    target.settle().await?;

    let lists = data.join(".restore.jsonl");
    let mut entries = list::fetch(from, &manifest, &lists).await?;
    let mut now = BackupProgress {
        stage: BackupStage::Sending,
        files: manifest.files,
        bytes: manifest.bytes,
        ..BackupProgress::default()
    };
    let all = stream::iter(std::iter::from_fn(|| entries.take().transpose()));
    let target_of = &target;
    let mut done = std::pin::pin!(
        all.map_ok(|entry| async move {
            let to = entry.restored();
            let mode = if to.starts_with("store/files/") { 0o400 } else { 0o600 };
            let wanted = Hashed { size: entry.size, sha256: entry.sha256.clone() };
            let copied = target_of.copy(from, &entry.stored(), &to, &wanted, mode).await?;
            Ok((entry.size, copied))
        })
        .try_buffered(AT_ONCE)
    );
    while let Some((size, copied)) = done.try_next().await? {
        now.files_done += 1;
        now.bytes_done += size;
        if copied {
            now.files_sent += 1;
            now.bytes_sent += size;
        }
        progress(now);
    }
    for (file, to, wanted) in
        [(INDEX, "store/index.sqlite", &manifest.index), (METASTORE, "metastore.sqlite", &manifest.metastore)]
    {
        for side in ["-wal", "-shm"] {
            remove(&data.join(format!("{to}{side}")))?;
        }
        target.copy(from, &in_snapshot(&manifest.name, file), to, wanted, 0o600).await?;
    }
    target.write("store/format", muonic_store::FORMAT_FILE.as_bytes().to_vec(), 0o600).await?;
    let has_keys = keys.is_some();
    if let Some(keys) = keys {
        target.write("master.key", keys.master, 0o600).await?;
        target.write("store.keys", keys.store, 0o600).await?;
    }
    remove(&lists)?;
    target.settle().await?;
    check(data).await?;
    remove(&data.join(UNFINISHED))?;
    target.settle().await?;
    Ok(Restored { snapshot: manifest.snapshot(), has_keys })
}

/// Before anything is written: without them nothing could be read.
async fn read_keys(from: &Destination, manifest: &Manifest, passphrase: Option<String>) -> Result<Option<KeyFiles>> {
    let name = |file| in_snapshot(&manifest.name, file);
    let missing =
        |file| Error::Conflict(format!("{} is missing in {}", in_snapshot(&manifest.name, file), from.shown()));
    match (manifest.keys, passphrase) {
        (SnapshotKeys::None, _) => Ok(None),
        (SnapshotKeys::Sealed, None) => {
            Err(Error::Conflict("the keys of this snapshot are sealed: give the passphrase".to_owned()))
        }
        (SnapshotKeys::Sealed, Some(passphrase)) => {
            let sealed: Sealed = from.get_json(&name(SEALED)).await?.ok_or_else(|| missing(SEALED))?;
            keys::open(sealed, passphrase).await.map(Some)
        }
        (SnapshotKeys::Plain, _) => {
            let master = from.get_bytes(&name(MASTER_KEY)).await?.ok_or_else(|| missing(MASTER_KEY))?;
            let store = from.get_bytes(&name(STORE_KEYS)).await?.ok_or_else(|| missing(STORE_KEYS))?;
            Ok(Some(KeyFiles { master, store }))
        }
    }
}

/// Whether index and data agree, and both databases are sound.
async fn check(data: &Path) -> Result<()> {
    let (index, root) = (data.join("store/index.sqlite"), data.join("store"));
    let mut wrong = blocking(move || StoreCopy::open(&index)?.check(&root)).await?;
    let meta = muonic_metastore::check_copy(&data.join("metastore.sqlite")).await?;
    wrong.extend(meta.into_iter().map(|line| format!("the metastore: {line}")));
    if wrong.is_empty() {
        return Ok(());
    }
    let more = wrong.len().saturating_sub(WRONG_SHOWN);
    wrong.truncate(WRONG_SHOWN);
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    Err(Error::Checksum(format!("what was restored does not agree with itself: {}{more}", wrong.join("; "))))
}

/// The data folder that is filled.
struct Target {
    data: PathBuf,
    /// Folders with names that are not durable yet.
    touched: Arc<Mutex<HashSet<PathBuf>>>,
}

impl Target {
    /// True where it was copied, false where it was there already.
    async fn copy(&self, from: &Destination, stored: &str, to: &str, wanted: &Hashed, mode: u32) -> Result<bool> {
        let path = self.data.join(to);
        if tokio::fs::metadata(&path).await.is_ok_and(|found| found.is_file() && found.len() == wanted.size)
            && copying::hash(&path, wanted.size).await.is_ok_and(|hash| hash == wanted.sha256)
        {
            self.touch(&path);
            return Ok(false);
        }
        let missing = || Error::Checksum(format!("{stored} is missing in {}", from.shown()));
        let (_, mut body) = from.get(stored).await?.ok_or_else(missing)?;
        let mut file = self.create(&path, mode).await?;
        let sum = Sum::new();
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|e| Error::Unavailable(format!("{stored} could not be read: {e}")))?;
            let (summing, at) = (sum.clone(), path.clone());
            file = blocking(move || {
                summing.update(&piece);
                file.write_all(&piece).map_err(|e| failed("write", &at, e))?;
                Ok(file)
            })
            .await?;
        }
        let (sha256, size) = sum.finish();
        if size != wanted.size || sha256 != wanted.sha256 {
            return Err(Error::Checksum(format!(
                "{stored} in {} is damaged: it has {size} bytes with SHA-256 {sha256}, and {} with {} were sent; try another snapshot, or another copy of the backup",
                from.shown(),
                wanted.size,
                wanted.sha256
            )));
        }
        blocking(move || file.sync_all().map_err(|e| failed("sync", &path, e))).await?;
        Ok(true)
    }

    async fn write(&self, to: &str, bytes: Vec<u8>, mode: u32) -> Result<()> {
        let path = self.data.join(to);
        let mut file = self.create(&path, mode).await?;
        blocking(move || file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(|e| failed("write", &path, e)))
            .await
    }

    /// A new file in the place of whatever is there.
    async fn create(&self, path: &Path, mode: u32) -> Result<File> {
        self.touch(path);
        let path = path.to_owned();
        blocking(move || {
            if let Some(parent) = path.parent() {
                let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
                made.map_err(|e| failed("make the folder", parent, e))?;
            }
            remove(&path)?;
            let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
            file.map_err(|e| failed("create", &path, e))
        })
        .await
    }

    /// Its folder, and those above, up to the data folder.
    fn touch(&self, path: &Path) {
        let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        let above = path.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.data));
        for folder in above {
            if !touched.insert(folder.to_owned()) {
                break;
            }
        }
    }

    async fn settle(&self) -> Result<()> {
        let folders = self.touched.lock().unwrap_or_else(PoisonError::into_inner).clone();
        blocking(move || {
            folders.iter().try_for_each(|folder| {
                File::open(folder).and_then(|folder| folder.sync_all()).map_err(|e| failed("sync", folder, e))
            })
        })
        .await
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, e)),
        _ => Ok(()),
    }
}
