//! A data folder in use, without a server around it.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use muonic_backup::{Backups, Destination, Restored, restore};
use muonic_metastore::Sqlite;
use muonic_ports::backup::{BackupEngine, Made, OnProgress};
use muonic_ports::object_store::{
    ByteStream, CompletedPart, LockGuard, NewBucket, NewObject, Precondition, Removal, Target, no_check,
};
use muonic_ports::{Error, Metastore, ObjectStore};
use muonic_store::{EmbeddedStore, Options};
use muonic_types::backup::{BackupProgress, NewBackup};
use muonic_types::{ProjectId, Timestamp};

pub const BUCKET: &str = "data";

pub fn silent() -> OnProgress {
    Arc::new(|_: BackupProgress| {})
}

pub fn body(bytes: Vec<u8>) -> ByteStream {
    Box::pin(futures_util::stream::iter([Ok(Bytes::from(bytes))]))
}

/// Bytes that tell one seed from another.
pub fn content(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..size.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(size);
    bytes
}

#[derive(Clone)]
pub struct Cloud {
    pub data: PathBuf,
    pub store: EmbeddedStore,
    pub meta: Arc<Sqlite>,
}

impl Cloud {
    /// Opens the folder, or makes a new one with a bucket.
    pub async fn open(data: &Path) -> Self {
        std::fs::create_dir_all(data).expect("a folder");
        let master = data.join("master.key");
        let new = !master.exists();
        if new {
            std::fs::write(&master, [7; 32]).expect("a key");
        }
        let meta = Arc::new(muonic_metastore::open(&data.join("metastore.sqlite")).await.expect("a metastore"));
        let (store, _) = muonic_store::open(&data.join("store"), &data.join("store.keys"), &Options::default())
            .await
            .expect("a store");
        if new {
            let bucket = NewBucket {
                name: BUCKET.to_owned(),
                project: ProjectId::default_project(),
                at: Timestamp::now(),
                lock: false,
                documents: Default::default(),
            };
            store.bucket_create(bucket).await.expect("a bucket");
        }
        Self { data: data.to_owned(), store, meta }
    }

    pub async fn close(self) {
        self.meta.close().await;
    }

    pub fn backups(&self) -> Backups {
        Backups::new(&self.data, self.store.clone(), self.meta.clone(), &[7; 32], "0.0.0")
    }

    pub async fn backup(&self, new: NewBackup) -> Result<Made, Error> {
        self.backups().run(new, silent()).await
    }

    pub async fn put(&self, key: &str, bytes: Vec<u8>) {
        let done = self.store.put(target(key), NewObject::default(), body(bytes), no_check()).await;
        done.expect("stored");
    }

    /// Two parts of 5 MiB and a bit.
    pub async fn put_in_parts(&self, key: &str, bytes: &[u8]) {
        let store = &self.store;
        let upload = store.upload_create(target(key), NewObject::default()).await.expect("begun");
        let (first, second) = bytes.split_at(5 << 20);
        let mut parts = Vec::new();
        for (number, part) in [(1, first), (2, second)] {
            let now = Timestamp::now();
            let part = store.upload_part(&upload, number, body(part.to_vec()), no_check(), None, now).await;
            parts.push(CompletedPart { number, etag: part.expect("a part").etag, sum: None });
        }
        let done = store.upload_complete(&upload, parts, Precondition::default(), None, Timestamp::now()).await;
        done.expect("completed");
    }

    pub async fn delete(&self, key: &str) {
        let removal = Removal {
            key: key.to_owned(),
            version: None,
            condition: Precondition::default(),
            guard: LockGuard { now: Timestamp::now(), bypass: false },
            owner: String::new(),
            expired: false,
        };
        for done in self.store.delete(BUCKET, vec![removal], Timestamp::now()).await.expect("deleted") {
            done.expect("deleted");
        }
    }

    pub async fn get(&self, key: &str) -> Option<Vec<u8>> {
        let object = self.store.get(BUCKET, key, None).await.expect("asked")?;
        let body = self.store.read(&object, None, None).await.expect("read");
        let pieces: Vec<Bytes> = body.try_collect().await.expect("read whole");
        Some(pieces.concat())
    }
}

fn target(key: &str) -> Target {
    let condition = Precondition::default();
    Target { bucket: BUCKET.to_owned(), key: key.to_owned(), condition, at: Timestamp::now() }
}

pub fn to(folder: &Path) -> NewBackup {
    NewBackup {
        destination: folder.to_str().expect("UTF-8").to_owned(),
        options: Default::default(),
        keep: None,
        passphrase: None,
        without_keys: false,
    }
}

pub fn destination(folder: &Path) -> Destination {
    Destination::parse(folder.to_str().expect("UTF-8"), &Default::default()).expect("a destination")
}

pub async fn restored(from: &Path, name: Option<&str>, data: &Path) -> Result<Restored, Error> {
    restore(&destination(from), name, data, None, silent()).await
}
