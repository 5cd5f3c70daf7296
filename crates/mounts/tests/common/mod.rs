//! What the tests of mounts have in common: the embedded store below them, and
//! short ways to say what is put and read.

// Not every test needs all of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use muonic_mounts::{MasterSealer, MountSpec, Mounts, Remote};
use muonic_ports::ObjectStore;
use muonic_ports::object_store::*;
use muonic_store::{EmbeddedStore, Options};
use muonic_types::{ProjectId, Timestamp};
use tempfile::TempDir;

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).expect("in range")
}

pub fn target(bucket: &str, key: &str) -> Target {
    Target { bucket: bucket.to_owned(), key: key.to_owned(), condition: Precondition::default(), at: at(1) }
}

pub fn body(bytes: &[u8]) -> ByteStream {
    let pieces: Vec<_> = bytes.chunks(100_000).map(|p| Ok(Bytes::copy_from_slice(p))).collect();
    stream::iter(pieces).boxed()
}

pub async fn whole(store: &dyn ObjectStore, object: &ObjectVersion) -> Vec<u8> {
    let pieces: Vec<Bytes> =
        store.read(object, None, None).await.expect("read").try_collect().await.expect("all of it");
    pieces.concat()
}

pub fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

pub fn new_bucket(name: &str) -> NewBucket {
    let project = ProjectId::default_project();
    NewBucket { name: name.to_owned(), project, at: at(0), lock: false, documents: BTreeMap::new() }
}

pub fn remote(url: &str, options: &BTreeMap<String, String>, new: NewBucket) -> Arc<Remote> {
    let spec = MountSpec::parse(url, options).expect("a mount");
    Arc::new(Remote::open(made(new), &spec).expect("opened"))
}

fn made(new: NewBucket) -> Bucket {
    let NewBucket { name, project, at, lock, documents } = new;
    Bucket { name, project, created_at: at, versioning: Versioning::Off, lock, documents }
}

/// A real store, removed with it.
pub struct Embedded {
    pub store: EmbeddedStore,
    _root: TempDir,
}

impl Embedded {
    pub async fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        // What is tested here does not end with the power.
        let options = Options { encrypt: true, sync: false };
        let opened = muonic_store::open(&root.path().join("store"), &root.path().join("store.keys"), &options).await;
        Self { store: opened.expect("opened").0, _root: root }
    }

    /// Around it, with the key that is asked for.
    pub fn mounts(&self, key: u8, folders: &[&Path]) -> Arc<Mounts> {
        let folders = folders.iter().map(|f| f.to_path_buf()).collect();
        Arc::new(Mounts::new(Arc::new(self.store.clone()), Arc::new(MasterSealer::new([key; 32])), folders))
    }
}
