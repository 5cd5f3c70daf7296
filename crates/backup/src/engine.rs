//! Making a snapshot.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use data_encoding::HEXLOWER;
use muonic_metastore::Sqlite;
use muonic_ports::backup::{BackupEngine, Made, OnProgress};
use muonic_ports::{Error, Result};
use muonic_store::{EmbeddedStore, StoreCopy};
use muonic_types::Timestamp;
use muonic_types::backup::{BackupProgress, BackupStage, NewBackup, SnapshotKeys};
use ring::hmac;
use tokio::sync::Mutex;

use crate::copying::{blocking, failed};
use crate::destination::Destination;
use crate::keys::{self, KeyFiles};
use crate::list;
use crate::manifest::{
    self, FILES, FORMAT, Hashed, INDEX, MANIFEST, MASTER_KEY, METASTORE, Manifest, SEALED, STORE_KEYS, in_snapshot,
};
use crate::prune::prune;
use crate::sending::{self, Job};

/// Makes backups of one data folder, which its server has open.
pub struct Backups {
    data: PathBuf,
    store: EmbeddedStore,
    meta: Arc<Sqlite>,
    version: String,
    /// What tells this cloud from others: derived from the master key.
    cloud: String,
    one: Mutex<()>,
}

impl Backups {
    /// `data` is the data folder of `store` and `meta`; `master` its key.
    pub fn new(data: &Path, store: EmbeddedStore, meta: Arc<Sqlite>, master: &[u8; 32], version: &str) -> Self {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, master), b"muonic backup 1");
        let cloud = HEXLOWER.encode(&tag.as_ref()[..16]);
        let (data, version) = (data.to_owned(), version.to_owned());
        Self { data, store, meta, version, cloud, one: Mutex::default() }
    }

    fn destination(&self, new: &NewBackup) -> Result<Destination> {
        let to = Destination::parse(&new.destination, &new.options)?;
        let data = self.data.canonicalize().unwrap_or_else(|_| self.data.clone());
        match to.folder() {
            Some(folder) if real(folder).starts_with(&data) => {
                Err(Error::Conflict("a backup inside of the data folder would be lost with it: choose another one".into()))
            }
            None if new.passphrase.is_none() && !new.without_keys => Err(Error::Conflict(
                "the keys are not sent to another machine as they are: give a passphrase, which seals them, or leave them out and keep them elsewhere"
                    .to_owned(),
            )),
            _ => Ok(to),
        }
    }

    fn key_files(&self) -> Result<KeyFiles> {
        let read = |name: &str| {
            let path = self.data.join(name);
            fs::read(&path).map_err(|e| failed("read", &path, e))
        };
        Ok(KeyFiles { master: read("master.key")?, store: read("store.keys")? })
    }

    /// An empty folder for what is made on the way.
    fn stage(&self) -> Result<PathBuf> {
        let path = self.data.join("local/backup");
        match fs::remove_dir_all(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &path, e)),
            _ => {}
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(|e| failed("make the folder", &path, e))?;
        Ok(path)
    }

    async fn make(
        &self,
        new: &NewBackup,
        to: &Arc<Destination>,
        stage: &Path,
        progress: OnProgress,
    ) -> Result<Manifest> {
        let say = |stage| progress(BackupProgress { stage, ..BackupProgress::default() });
        say(BackupStage::Looking);
        manifest::claim(to, &self.cloud).await?;
        let newest = manifest::all(to).await?.pop();
        let earlier = match &newest {
            Some(newest) => Some((list::fetch(to, newest, &stage.join("earlier.jsonl")).await?, newest.at)),
            None => None,
        };

        say(BackupStage::Copying);
        let keys = self.key_files()?;
        let mut guard = self.store.begin_backup().await;
        // The snapshot has all that was acknowledged before this.
        let at = after(Timestamp::now(), newest.as_ref().map(|newest| newest.at));
        let name = manifest::name_of(at);
        self.meta.copy_to(&stage.join(METASTORE)).await?;
        let copy: Arc<StoreCopy> = Arc::new(guard.copy_index(&stage.join(INDEX)).await?);
        if !keys::none_retired(&keys.store, &self.key_files()?.store) {
            return Err(Error::Unavailable("a key was retired while the index was copied".to_owned()));
        }
        let keys = self.key_files()?;

        let job = Job {
            copy,
            data: self.data.clone(),
            to: to.clone(),
            progress: progress.clone(),
            earlier,
            list: stage.join(FILES),
        };
        let sent = sending::all(job).await?;
        drop(guard);

        let put = async |file: &str| -> Result<Hashed> {
            let path = stage.join(file);
            let size = fs::metadata(&path).map_err(|e| failed("read", &path, e))?.len();
            Ok(Hashed { size, sha256: sending::send(to, &in_snapshot(&name, file), &path, size).await? })
        };
        let (index, metastore, list) = (put(INDEX).await?, put(METASTORE).await?, put(FILES).await?);
        if list != sent.list {
            return Err(Error::bug("the list of a backup is not what was written to it"));
        }
        let keys = self.put_keys(new, to, &name, keys).await?;
        let BackupProgress { files, bytes, files_sent, bytes_sent, .. } = sent.progress;
        let manifest = Manifest {
            format: FORMAT,
            version: self.version.clone(),
            name: name.clone(),
            at,
            keys,
            index,
            metastore,
            list,
            files,
            bytes,
            files_sent,
            bytes_sent,
        };
        to.settle().await?;
        to.put_json(&in_snapshot(&name, MANIFEST), &manifest).await?;
        to.settle().await?;
        if new.keep.is_some() {
            progress(BackupProgress { stage: BackupStage::Pruning, ..sent.progress });
        }
        Ok(manifest)
    }

    async fn put_keys(&self, new: &NewBackup, to: &Destination, name: &str, keys: KeyFiles) -> Result<SnapshotKeys> {
        if let Some(passphrase) = &new.passphrase {
            let sealed = keys::seal(keys, passphrase.clone()).await?;
            to.put_json(&in_snapshot(name, SEALED), &sealed).await?;
            return Ok(SnapshotKeys::Sealed);
        }
        if new.without_keys {
            return Ok(SnapshotKeys::None);
        }
        to.put_bytes(&in_snapshot(name, MASTER_KEY), keys.master).await?;
        to.put_bytes(&in_snapshot(name, STORE_KEYS), keys.store).await?;
        Ok(SnapshotKeys::Plain)
    }
}

#[async_trait]
impl BackupEngine for Backups {
    fn check(&self, new: &NewBackup) -> Result<()> {
        match &new.passphrase {
            Some(_) if new.without_keys => {
                return Err(Error::Conflict("give a passphrase for the keys, or leave them out, not both".to_owned()));
            }
            Some(passphrase) => keys::check(passphrase)?,
            None => {}
        }
        if new.keep == Some(0) {
            return Err(Error::Conflict("at least one snapshot is kept".to_owned()));
        }
        self.destination(new).map(drop)
    }

    async fn run(&self, new: NewBackup, progress: OnProgress) -> Result<Made> {
        self.check(&new)?;
        let Ok(_one) = self.one.try_lock() else {
            return Err(Error::Conflict("a backup is being made already".to_owned()));
        };
        let to = Arc::new(self.destination(&new)?);
        let stage = self.stage()?;
        let made = self.make(&new, &to, &stage, progress).await;
        let mut warning = None;
        if made.is_ok()
            && let Some(keep) = new.keep
            && let Err(error) = prune(&to, keep as usize, &stage).await
        {
            tracing::warn!(%error, "older snapshots were not removed");
            warning = Some(format!("the snapshot was made, and older ones were not all removed: {error}"));
        }
        let removed = blocking(move || fs::remove_dir_all(&stage).map_err(|e| failed("remove", &stage, e))).await;
        if let Err(error) = removed {
            tracing::warn!(%error, "copies that a backup no longer needs stay until the next one");
        }
        Ok(Made { snapshot: made?.snapshot(), warning })
    }
}

/// A clock that was set back must not make the newest snapshot look old.
fn after(now: Timestamp, newest: Option<Timestamp>) -> Timestamp {
    let to_the_millisecond = |at: Timestamp| Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at);
    let now = to_the_millisecond(now);
    match newest {
        Some(newest) if newest >= now => newest.checked_add(Duration::from_millis(1)).unwrap_or(now),
        _ => now,
    }
}

/// The path without links, as far as it is there.
fn real(path: &Path) -> PathBuf {
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Ok(real), ..) => real,
        (Err(_), Some(parent), Some(name)) => real(parent).join(name),
        _ => path.to_owned(),
    }
}
