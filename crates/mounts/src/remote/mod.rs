//! One bucket whose objects lie in a mounted store.
//!
//! Invariants: content becomes visible only when all of it is there and
//! `verify` has agreed; an upload that fails, or whose caller goes away, is
//! aborted. What the store cannot do is refused, never imitated: conditions
//! hold where the store itself decides them.

mod copy;
mod delete;
mod object;
mod port;
mod probe;
mod put;
mod read;
mod uploads;

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use muonic_ports::object_store::{After, Bucket, Error, ListQuery, Listing, Result};
use object_store::path::Path;
use object_store::{GetOptions, GetResult};

use crate::backend::{Backend, Kind};
use crate::body::Memory;
use crate::list::Wanted;
use crate::list::pages::Pages;
use crate::list::tree::{Tree, is_staged, is_temporary};
use crate::options::{InvalidMount, MountSpec};
pub(crate) use copy::all_of;
use uploads::Uploads;

/// For one question and its answer, tries included; not for bodies.
const ANSWER: Duration = Duration::from_secs(60);
/// How long it is believed that a store's bucket is there.
const BELIEF: Duration = Duration::from_secs(5);

pub struct Remote {
    bucket: Bucket,
    backend: Backend,
    memory: Memory,
    uploads: Uploads,
    unordered: AtomicBool,
    seen: std::sync::Mutex<Option<Instant>>,
}

impl Remote {
    /// The client of the store that `spec` names, as the bucket `bucket`.
    /// Asks nothing of the store; [`Remote::check`] does.
    pub fn open(bucket: Bucket, spec: &MountSpec) -> Result<Self, InvalidMount> {
        Self::sharing(bucket, spec, Memory::new(crate::MEMORY_MIB))
    }

    pub(crate) fn sharing(bucket: Bucket, spec: &MountSpec, memory: Memory) -> Result<Self, InvalidMount> {
        let backend = Backend::open(spec)?;
        let (uploads, unordered, seen) = (Uploads::default(), AtomicBool::new(!backend.ordered), Default::default());
        Ok(Self { bucket, backend, memory, uploads, unordered, seen })
    }

    /// Whether the store can be reached and what is mounted can be listed.
    pub async fn check(&self) -> Result<()> {
        let query = ListQuery { delimiter: Some("/".to_owned()), max: 1, ..Default::default() };
        self.listed(&query).await.map(drop)
    }

    fn ours(&self, bucket: &str) -> Result<()> {
        if bucket == self.bucket.name { Ok(()) } else { Err(Error::NoSuchBucket) }
    }

    /// Where a key lies in the store. Refuses keys that would not come back
    /// as they are.
    fn path(&self, key: &str) -> Result<Path> {
        let whole = format!("{}{key}", self.backend.prefix);
        let path = Path::parse(&whole).ok().filter(|path| path.as_ref() == whole);
        let name = key.rsplit('/').next().unwrap_or(key);
        let hidden = match self.backend.kind {
            Kind::File => is_staged(name),
            Kind::Hdfs => is_temporary(name),
            _ => false,
        };
        match path {
            Some(path) if !key.is_empty() && !hidden => Ok(path),
            _ => Err(Error::NotSupported(
                "in a mounted bucket, keys with an empty part, '.' or '..' between slashes, a slash at an end, or control characters",
            )),
        }
    }

    /// Waits for an answer, not for ever.
    async fn ask<T>(&self, asked: impl Future<Output = object_store::Result<T>>) -> Result<object_store::Result<T>> {
        match tokio::time::timeout(ANSWER, asked).await {
            Ok(answer) => Ok(answer),
            Err(_) => Err(self.backend.voice.unavailable("did not answer in time")),
        }
    }

    /// What is known of an object, or `None`.
    async fn head(&self, path: &Path) -> Result<Option<GetResult>> {
        self.inside(path).await?;
        match self.ask(self.backend.store.get_opts(path, GetOptions::new().with_head(true))).await? {
            Ok(found) => {
                self.believe();
                Ok(Some(found))
            }
            Err(object_store::Error::NotFound { .. }) => {
                // Stores say no more than that when the bucket itself is gone.
                self.still_there().await?;
                Ok(None)
            }
            Err(e) => Err(self.backend.voice.error(e)),
        }
    }

    fn believe(&self) {
        *self.seen.lock().unwrap_or_else(|e| e.into_inner()) = Some(Instant::now());
    }

    async fn still_there(&self) -> Result<()> {
        let seen = *self.seen.lock().unwrap_or_else(|e| e.into_inner());
        if seen.is_some_and(|at| at.elapsed() < BELIEF) {
            return Ok(());
        }
        self.check().await?;
        self.believe();
        Ok(())
    }

    /// A mounted folder's keys stay in it: no part of one is a symbolic link.
    async fn inside(&self, path: &Path) -> Result<()> {
        let Some(folder) = self.backend.folder.clone() else { return Ok(()) };
        let path = path.clone();
        let looking = tokio::task::spawn_blocking(move || {
            let mut at = folder;
            for part in path.parts() {
                at.push(part.as_ref());
                match at.symlink_metadata() {
                    Ok(found) if found.is_symlink() => return false,
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
            true
        });
        match looking.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::NotSupported("symbolic links in a mounted folder")),
            Err(_) => Err(self.backend.voice.unavailable("is not asked: the server is stopping")),
        }
    }

    /// The keys, if the store gives them in the order of their bytes.
    async fn listed_by_bytes(&self, query: &ListQuery) -> Result<Option<Vec<String>>> {
        let Some(pages) = &self.backend.pages else { return Ok(None) };
        let Backend { prefix: root, voice, .. } = &self.backend;
        let page = Pages { store: &**pages, root, voice }.list(&Wanted::new(query)?).await?;
        Ok(page.map(|page| page.entries.into_keys().collect()))
    }

    async fn listed(&self, query: &ListQuery) -> Result<Listing> {
        let wanted = Wanted::new(query)?;
        if wanted.max == 0 {
            return Ok(Listing::default());
        }
        let Backend { store, folder, prefix: root, voice, .. } = &self.backend;
        let pages = self.backend.pages.as_deref();
        let ordered = pages.filter(|_| !self.unordered.load(Ordering::Relaxed));
        let page = match ordered {
            Some(pages) => Pages { store: pages, root, voice }.list(&wanted).await?,
            None => None,
        };
        let page = match page {
            Some(page) => page,
            None => {
                // Once seen, another order is believed for good.
                self.unordered.store(true, Ordering::Relaxed);
                Tree { store, folder: folder.as_deref(), pages, root, voice }.list(&wanted).await?
            }
        };
        let mut listing = Listing::default();
        if page.more {
            listing.next = page.entries.keys().next_back().map(|key| After::Key(key.clone()));
        }
        for (name, meta) in page.entries {
            match meta {
                Some(meta) => listing.objects.push(self.object(&name, &meta, Default::default())),
                None => listing.prefixes.push(name),
            }
        }
        Ok(listing)
    }
}
