//! The embedded store: both ports over one index and one data layer.
//!
//! A put walks: body → `data` (durable, named by nobody) → the caller's check →
//! `index` (named, in one transaction) → answer. A get walks: `index` (what and
//! where) → `data` (verified bytes).
//!
//! - An extent that could not be named is freed; after a fault of the index it
//!   may be named or not, so it stays, and a sweep decides later.
//! - Index and data end writing together, and sweeping with it.
//! - What is being read is pinned: the reclaimer passes it by.

mod admin;
mod backup;
mod blobs;
mod check;
mod layout;
mod objects;
mod pins;
mod reading;
mod reclaim;
mod rotation;
mod scrub;
mod take_over;
mod task;
#[cfg(test)]
mod tests;
mod upkeep;

use std::path::Path;
use std::sync::Arc;

use muonic_ports::Result as PortResult;
use muonic_ports::object_store::{Encryption, Error, NewEncryption, Result, StoreHealth};
use muonic_types::store::{CheckReport, ReclaimReport, RotationReport, Run};

use crate::content::Extent;
use crate::data::files::{Files, RealFiles, Unsynced};
use crate::data::{Data, SealWith, Settings, Written, key_md5};
use crate::gate::Gate;
use crate::index::Index;
use crate::keys::{DEFAULT_KEY, KeyProvider};
use pins::Pins;
use task::Task;

pub use backup::BackupGuard;
pub use layout::FORMAT_FILE;
pub(crate) use layout::is_encrypted;
pub use reclaim::Reclaimed;
pub use upkeep::Upkeep;

/// How a store is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Encrypt what is stored from now on, with the store's key where nothing
    /// else is asked for.
    pub encrypt: bool,
    /// Without, nothing survives a power loss for certain. For measurements.
    pub sync: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { encrypt: true, sync: true }
    }
}

/// The store on a local disk. Cheap to clone.
#[derive(Clone)]
pub struct EmbeddedStore {
    inner: Arc<Inner>,
}

struct Inner {
    root: std::path::PathBuf,
    index: Index,
    data: Data,
    keys: Arc<dyn KeyProvider>,
    pins: Arc<Pins>,
    encrypt: bool,
    scrub: Task<scrub::Found>,
    check: Task<CheckReport>,
    reclaim: Task<ReclaimReport>,
    rotation: Task<RotationReport>,
    backup: backup::Locks,
}

impl EmbeddedStore {
    pub(crate) async fn open(root: &Path, keys: Arc<dyn KeyProvider>, options: &Options) -> PortResult<Self> {
        let files: Box<dyn Files> = if options.sync { Box::new(RealFiles) } else { Box::new(Unsynced) };
        Self::open_on(root, keys, options, files, Settings::default()).await
    }

    async fn open_on(
        root: &Path,
        keys: Arc<dyn KeyProvider>,
        options: &Options,
        files: Box<dyn Files>,
        settings: Settings,
    ) -> PortResult<Self> {
        let format = layout::prepare(root)?;
        let data = Data::open(root, keys.clone(), files, Arc::new(Gate::default()), settings)?;
        let index = Index::open(&root.join("index.sqlite"), options.sync).map_err(plain)?;
        if format != layout::Format::Current {
            take_over::blobs_of_format_1(root, &index).await?;
            layout::settle(root)?;
        }
        reclaim::trim_segments(&index, &data).await?;
        let inner = Inner {
            index,
            data,
            keys,
            pins: Arc::default(),
            encrypt: options.encrypt,
            scrub: scrub::load(root),
            check: Task::new("a check", Run::default(), CheckReport::default()),
            reclaim: Task::new("reclaiming", Run::default(), ReclaimReport::default()),
            rotation: Task::new("the rotation of a key", Run::default(), RotationReport::default()),
            backup: backup::Locks::default(),
            root: root.to_owned(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub(crate) fn index(&self) -> &Index {
        &self.inner.index
    }

    pub(crate) fn data(&self) -> &Data {
        &self.inner.data
    }

    /// What is to wrap data keys, and what will be known of it. A name is
    /// checked: `NoSuchEncryptionKey`.
    fn sealing<'a>(&self, new: &'a NewEncryption) -> Result<(SealWith<'a>, Encryption)> {
        Ok(match new {
            NewEncryption::Store if self.inner.encrypt => (SealWith::Store, Encryption::Store),
            NewEncryption::Store => (SealWith::None, Encryption::None),
            NewEncryption::Named(name) => {
                let known = name.as_deref().unwrap_or(DEFAULT_KEY);
                self.inner.keys.current(Some(known))?;
                (SealWith::Named(name.as_deref()), Encryption::Named(known.to_owned()))
            }
            NewEncryption::Customer(key) => (SealWith::Customer(key), Encryption::Customer { key_md5: key_md5(key) }),
        })
    }

    /// Lets `name` name an extent, to the end even if the caller leaves: what
    /// protects it from the sweep must last until the answer is known.
    async fn named<T, F>(&self, written: Written, name: impl FnOnce(Extent) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let (extent, pending) = written.hand_over();
        let naming = name(extent.clone());
        let data = self.data().clone();
        let work = async move {
            let answer = naming.await;
            if !matches!(answer, Ok(_) | Err(Error::Store(_))) {
                let freeing = tokio::task::spawn_blocking(move || data.free(&extent));
                if let Ok(Err(error)) = freeing.await {
                    tracing::warn!(%error, "a file that nobody needs stays until it is swept");
                }
            }
            drop(pending);
            answer
        };
        match tokio::spawn(work).await {
            Ok(answer) => answer,
            Err(e) => Err(muonic_ports::Error::internal("an extent could not be named", e).into()),
        }
    }

    /// Refuses a change before any of it is done. Index and data end together:
    /// bytes that cannot be named need not be written, and a disk that fails
    /// under one is the other's too.
    fn must_be_writable(&self) -> PortResult<()> {
        self.data().gate().check()?;
        match self.index().read_only() {
            Some(reason) => Err(muonic_ports::Error::ReadOnly(reason.to_owned())),
            None => Ok(()),
        }
    }

    async fn health_now(&self) -> StoreHealth {
        let mut health = self.data().health().await;
        if let Some(reason) = self.index().read_only() {
            health.writable = false;
            health.reason.get_or_insert_with(|| reason.to_owned());
        }
        health
    }
}

/// An error that has no meaning of its own for blobs.
pub(crate) fn plain(error: Error) -> muonic_ports::Error {
    match error {
        Error::Store(error) => error,
        Error::Checksum(what) => muonic_ports::Error::Checksum(what),
        other => muonic_ports::Error::internal(format!("the store refused a blob: {other}"), other),
    }
}
