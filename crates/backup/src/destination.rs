//! Where backups lie: a folder of this machine, or a store elsewhere.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use futures_util::StreamExt;
use muonic_mounts::{Depot, Found, MountSpec};
use muonic_ports::blob_store::ByteStream;
use muonic_ports::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::copying;
use crate::folder::Folder;

/// The most that a small file, which is read as a whole, may have.
const SMALL_BYTES_MAX: u64 = 16 << 20;

pub struct Destination(Kind);

enum Kind {
    Folder(Folder),
    Depot(Depot),
}

impl Destination {
    /// An absolute path, or a URL with its options. Asks nothing of it.
    /// `Conflict` with a sentence where it can be none.
    pub fn parse(place: &str, options: &BTreeMap<String, String>) -> Result<Self> {
        if place.contains("://") && !place.starts_with("file:") {
            let opened = MountSpec::parse(place, options).and_then(|spec| Depot::open(&spec));
            return Ok(Self(Kind::Depot(opened.map_err(|e| Error::Conflict(e.to_string()))?)));
        }
        let path = Path::new(place.strip_prefix("file://").unwrap_or(place));
        let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        if !path.is_absolute() || !plain || path.parent().is_none() {
            return Err(Error::Conflict(format!(
                "'{place}' is no destination: give the absolute path of a folder, or a URL such as s3://bucket/prefix"
            )));
        }
        if let Some(option) = options.keys().next() {
            return Err(Error::Conflict(format!("a folder has no options, and '{option}' was given")));
        }
        Ok(Self(Kind::Folder(Folder::new(path.to_owned()))))
    }

    /// The folder, where it is one.
    pub fn folder(&self) -> Option<&Path> {
        match &self.0 {
            Kind::Folder(folder) => Some(folder.root()),
            Kind::Depot(_) => None,
        }
    }

    pub(crate) async fn is_empty(&self) -> Result<bool> {
        match &self.0 {
            Kind::Folder(folder) => folder.is_empty().await,
            // Others may share the bucket; names are ours below the prefix.
            Kind::Depot(_) => Ok(true),
        }
    }

    pub(crate) fn shown(&self) -> String {
        match &self.0 {
            Kind::Folder(folder) => folder.root().display().to_string(),
            Kind::Depot(depot) => depot.url().to_owned(),
        }
    }

    pub(crate) async fn put(&self, name: &str, size: u64, body: ByteStream) -> Result<()> {
        match &self.0 {
            Kind::Folder(folder) => folder.put(name, size, body).await,
            Kind::Depot(depot) => depot.put(name, size, body).await,
        }
    }

    pub(crate) async fn put_bytes(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        self.put(name, bytes.len() as u64, copying::body(bytes.into())).await
    }

    pub(crate) async fn put_json<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let mut text =
            serde_json::to_vec_pretty(value).map_err(|e| Error::internal(format!("{name} is no JSON"), e))?;
        text.push(b'\n');
        self.put_bytes(name, text).await
    }

    /// Makes the names of all that was put or removed durable.
    pub(crate) async fn settle(&self) -> Result<()> {
        match &self.0 {
            Kind::Folder(folder) => folder.settle().await,
            Kind::Depot(_) => Ok(()),
        }
    }

    pub(crate) async fn get(&self, name: &str) -> Result<Option<(u64, ByteStream)>> {
        match &self.0 {
            Kind::Folder(folder) => folder.get(name).await,
            Kind::Depot(depot) => depot.get(name).await,
        }
    }

    pub(crate) async fn get_bytes(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some((size, mut body)) = self.get(name).await? else { return Ok(None) };
        let mut bytes = Vec::new();
        while let Some(piece) = body.next().await {
            bytes.extend_from_slice(&piece.map_err(Error::Body)?);
            if size > SMALL_BYTES_MAX || bytes.len() as u64 > SMALL_BYTES_MAX {
                return Err(Error::Conflict(format!(
                    "{name} in {} is too large to be what it should be",
                    self.shown()
                )));
            }
        }
        Ok(Some(bytes))
    }

    pub(crate) async fn get_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some(bytes) = self.get_bytes(name).await? else { return Ok(None) };
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Some).map_err(|e| {
            let line = e.line();
            Error::Conflict(format!("{name} in {} is damaged (line {line} is not what was written)", self.shown()))
        })
    }

    /// All files below a folder, which ends in `/`; in no order.
    pub(crate) async fn list(&self, folder: &str) -> Result<Vec<Found>> {
        match &self.0 {
            Kind::Folder(inner) => inner.list(folder).await,
            Kind::Depot(depot) => depot.list(folder).await,
        }
    }

    pub(crate) async fn remove(&self, name: &str) -> Result<()> {
        match &self.0 {
            Kind::Folder(folder) => folder.remove(name).await,
            Kind::Depot(depot) => depot.remove(name).await,
        }
    }
}
