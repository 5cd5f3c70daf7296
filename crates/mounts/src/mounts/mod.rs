//! The embedded store and what is mounted into it, as one.
//!
//! A mount is a bucket of the embedded store that holds no object there and
//! has the document `mount`. Its owner, policy and other documents are those
//! of any bucket.
//!
//! Invariants: a bucket is looked up once and then known; what changes a
//! bucket passes through here, and forgets it. Unmounting takes the record
//! away and touches nothing in the mounted store.

mod port;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use async_trait::async_trait;
use muonic_ports::object_store::{Bucket, Error, NewBucket, Result};
use muonic_ports::store_admin::MountError;
use muonic_ports::{Mounting, ObjectStore};

use crate::body::Memory;
use crate::options::{InvalidMount, MountSpec, Store};
use crate::record::{self, DOCUMENT};
use crate::remote::Remote;
use crate::seal::Sealer;

/// Buckets that are known at a time.
const KNOWN_MAX: usize = 10_000;

/// Where an object lies.
#[derive(Clone)]
enum Place {
    Embedded,
    Mounted(Arc<Remote>),
}

pub struct Mounts {
    embedded: Arc<dyn ObjectStore>,
    sealer: Arc<dyn Sealer>,
    /// Folders that `file:` mounts may lie in.
    folders: Vec<PathBuf>,
    memory: Memory,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    places: HashMap<String, Place>,
    /// Counts what was forgotten, so that a look-up that began before is not
    /// entered after.
    forgotten: u64,
}

impl Mounts {
    /// `folders`: local folders whose content may be mounted. Without one
    /// there are no `file:` mounts, or who may mount could read every file
    /// that the server can.
    pub fn new(embedded: Arc<dyn ObjectStore>, sealer: Arc<dyn Sealer>, folders: Vec<PathBuf>) -> Self {
        let folders = folders.into_iter().filter_map(|folder| folder.canonicalize().ok()).collect();
        Self { embedded, sealer, folders, memory: Memory::new(crate::MEMORY_MIB), known: Default::default() }
    }

    fn allowed(&self, spec: &MountSpec) -> Result<(), InvalidMount> {
        let Store::File(folder) = &spec.store else { return Ok(()) };
        let real = folder.canonicalize().ok();
        if real.is_some_and(|real| self.folders.iter().any(|allowed| real.starts_with(allowed))) {
            return Ok(());
        }
        Err(InvalidMount(format!(
            "'{}' is not in a folder that this server lets be mounted; its settings name those",
            folder.display()
        )))
    }

    fn cached(&self, bucket: &str) -> (Option<Place>, u64) {
        let known = self.known.read().unwrap_or_else(|e| e.into_inner());
        (known.places.get(bucket).cloned(), known.forgotten)
    }

    fn forget(&self, bucket: &str) {
        let mut known = self.known.write().unwrap_or_else(|e| e.into_inner());
        known.forgotten += 1;
        known.places.remove(bucket);
    }

    /// Where the objects of a bucket lie. A bucket that there is not is the
    /// embedded store's to answer for.
    async fn place(&self, bucket: &str) -> Result<Place> {
        let (known, before) = self.cached(bucket);
        match known {
            Some(place) => Ok(place),
            None => match self.embedded.bucket(bucket).await? {
                Some(found) => self.learn(&found, before),
                None => Ok(Place::Embedded),
            },
        }
    }

    fn learn(&self, bucket: &Bucket, before: u64) -> Result<Place> {
        let place = match bucket.documents.get(DOCUMENT) {
            None => Place::Embedded,
            Some(document) => {
                let spec =
                    record::read(&bucket.name, document, &*self.sealer).map_err(|e| unusable(&bucket.name, e))?;
                self.allowed(&spec).map_err(|e| unusable(&bucket.name, e))?;
                let remote = Remote::sharing(bucket.clone(), &spec, self.memory.clone());
                Place::Mounted(Arc::new(remote.map_err(|e| unusable(&bucket.name, e))?))
            }
        };
        let mut known = self.known.write().unwrap_or_else(|e| e.into_inner());
        if known.forgotten == before {
            // One that another look-up made first has what is under way.
            if let Some(first) = known.places.get(&bucket.name) {
                return Ok(first.clone());
            }
            if known.places.len() >= KNOWN_MAX {
                // Mounts stay: their uploads in parts are kept with them.
                known.places.retain(|_, place| matches!(place, Place::Mounted(_)));
            }
            known.places.insert(bucket.name.clone(), place.clone());
        }
        Ok(place)
    }
}

#[async_trait]
impl Mounting for Mounts {
    /// Makes the bucket `new` a mount of the store at `url`, once the store
    /// has been reached and listed. Of an S3 server that is not Amazon's,
    /// unless the options `conditional_put` and `listing_order` say so, it is
    /// found out whether it holds conditions on writes and in which order it
    /// lists: some small objects are written and removed.
    async fn mount(
        &self,
        mut new: NewBucket,
        url: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<Bucket, MountError> {
        if new.lock {
            return Err(Error::NotSupported("object lock in a mounted bucket").into());
        }
        if self.embedded.bucket(&new.name).await?.is_some() {
            return Err(Error::BucketExists.into());
        }
        let mut spec = MountSpec::parse(url, options)?;
        self.allowed(&spec)?;
        let bucket = Bucket {
            name: new.name.clone(),
            project: new.project.clone(),
            created_at: new.at,
            versioning: Default::default(),
            lock: false,
            documents: BTreeMap::new(),
        };
        Remote::sharing(bucket.clone(), &spec, self.memory.clone())?.check().await?;
        if spec.is_open() {
            let mut probing = spec.clone();
            probing.settle(true, true);
            let found = Remote::sharing(bucket, &probing, self.memory.clone())?.probe().await?;
            spec.settle(found.conditions, found.lists_by_bytes);
        }
        let document = record::write(&new.name, &spec, &*self.sealer)
            .map_err(|e| Error::Store(muonic_ports::Error::internal("a mount could not be recorded", e)))?;
        new.documents.insert(DOCUMENT.to_owned(), document);
        let name = new.name.clone();
        let made = self.embedded.bucket_create(new).await;
        self.forget(&name);
        let made = made?;
        self.learn(&made, self.cached(&name).1)?;
        Ok(made)
    }

    /// Takes the bucket away. `BucketState` where it is no mount.
    async fn unmount(&self, bucket: &str) -> Result<()> {
        let found = self.embedded.bucket(bucket).await?.ok_or(Error::NoSuchBucket)?;
        if !found.documents.contains_key(DOCUMENT) {
            return Err(Error::BucketState(format!("'{bucket}' is not mounted")));
        }
        let removed = self.embedded.bucket_delete(bucket).await;
        self.forget(bucket);
        removed
    }

    /// URL and options of a mount, without its secrets; `None` where the
    /// bucket is none.
    fn described(&self, bucket: &Bucket) -> Result<Option<(String, BTreeMap<String, String>)>> {
        let Some(document) = bucket.documents.get(DOCUMENT) else { return Ok(None) };
        let spec = record::read(&bucket.name, document, &*self.sealer).map_err(|e| unusable(&bucket.name, e))?;
        Ok(Some((spec.url().to_owned(), spec.plain_options().clone())))
    }
}

impl From<InvalidMount> for MountError {
    fn from(why: InvalidMount) -> Self {
        Self::Invalid(why.0)
    }
}

fn unusable(bucket: &str, why: impl std::fmt::Display) -> Error {
    Error::Store(muonic_ports::Error::Unavailable(format!("the mounted bucket '{bucket}' cannot be used: {why}")))
}
