//! A store elsewhere as a plain set of named files, for backups: put whole,
//! read as a stream, listed, removed. No buckets, headers or conditions.
//!
//! Invariants: a file is there whole or not at all; one question waits a
//! minute at most, a body as long as bytes flow.

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use muonic_ports::blob_store::ByteStream;
use muonic_ports::object_store::Error as StoreError;
use muonic_ports::{Error, Result};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};

use crate::backend::Backend;
use crate::options::{InvalidMount, MountSpec};

const ANSWER: Duration = Duration::from_secs(60);
/// One request; longer bodies go in parts.
const PART_BYTES: u64 = 8 << 20;
/// S3 takes no more than 10,000.
const PARTS_MAX: u64 = 9_000;
/// For one part: a slow line still sends so much in this time.
const PART_PATIENCE: Duration = Duration::from_secs(600);

/// See the module.
pub struct Depot {
    backend: Backend,
}

/// A file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// From the URL's path on.
    pub name: String,
    pub size: u64,
}

impl Depot {
    /// Asks nothing of the store.
    pub fn open(spec: &MountSpec) -> Result<Self, InvalidMount> {
        Ok(Self { backend: Backend::open(spec)? })
    }

    pub fn url(&self) -> &str {
        &self.backend.voice.place
    }

    /// Stores a file of `size` bytes, and replaces one of the same name.
    pub async fn put(&self, name: &str, size: u64, body: ByteStream) -> Result<()> {
        let mut body = Pieces { body, left: Bytes::new() };
        let path = self.path(name)?;
        let part = PART_BYTES.max(size.div_ceil(PARTS_MAX));
        if size <= part {
            let bytes = body.take(size).await?;
            body.end().await?;
            self.sent(self.backend.store.put(&path, bytes)).await?;
            return Ok(());
        }
        let mut upload = self.ask(self.backend.store.put_multipart(&path)).await?;
        let sending = async {
            let mut left = size;
            while left > 0 {
                let bytes = body.take(left.min(part)).await?;
                left -= bytes.content_length() as u64;
                self.sent(upload.put_part(bytes)).await?;
            }
            body.end().await
        };
        let sent = match sending.await {
            Ok(()) => self.sent(upload.complete()).await.map(drop),
            Err(error) => Err(error),
        };
        if sent.is_err() {
            // What it answers changes nothing: the upload has failed.
            let _ = tokio::time::timeout(ANSWER, upload.abort()).await;
        }
        sent
    }

    /// The size and the bytes of a file; `None` where there is none.
    pub async fn get(&self, name: &str) -> Result<Option<(u64, ByteStream)>> {
        let path = self.path(name)?;
        let found = tokio::time::timeout(ANSWER, self.backend.store.get(&path)).await.map_err(|_| self.silent())?;
        match found {
            Ok(found) => {
                let voice = self.backend.voice.clone();
                let size = found.meta.size;
                Ok(Some((size, found.into_stream().map_err(move |e| voice.io(e)).boxed())))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.failed(e)),
        }
    }

    /// All files below a folder, which ends in `/`; in no order.
    pub async fn list(&self, folder: &str) -> Result<Vec<Found>> {
        let path = self.path(folder.trim_end_matches('/'))?;
        let mut found = Vec::new();
        let mut all = self.backend.store.list(Some(&path));
        while let Some(object) = tokio::time::timeout(ANSWER, all.next()).await.map_err(|_| self.silent())? {
            let object = object.map_err(|e| self.failed(e))?;
            if let Some(name) = object.location.as_ref().strip_prefix(&self.backend.prefix) {
                found.push(Found { name: name.to_owned(), size: object.size });
            }
        }
        Ok(found)
    }

    /// Removes a file; one that is not there is a success.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let path = self.path(name)?;
        match tokio::time::timeout(ANSWER, self.backend.store.delete(&path)).await.map_err(|_| self.silent())? {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.failed(e)),
        }
    }

    fn path(&self, name: &str) -> Result<Path> {
        let whole = format!("{}{name}", self.backend.prefix);
        Path::parse(&whole).map_err(|e| Error::Conflict(format!("'{name}' cannot be a name in {}: {e}", self.url())))
    }

    async fn ask<T>(&self, asked: impl Future<Output = object_store::Result<T>>) -> Result<T> {
        let answer = tokio::time::timeout(ANSWER, asked).await.map_err(|_| self.silent())?;
        answer.map_err(|e| self.failed(e))
    }

    async fn sent<T>(&self, sending: impl Future<Output = object_store::Result<T>>) -> Result<T> {
        let answer = tokio::time::timeout(PART_PATIENCE, sending).await.map_err(|_| self.silent())?;
        answer.map_err(|e| self.failed(e))
    }

    fn failed(&self, error: object_store::Error) -> Error {
        plain(self.backend.voice.error(error))
    }

    fn silent(&self) -> Error {
        plain(self.backend.voice.unavailable("did not answer in time"))
    }
}

fn plain(error: StoreError) -> Error {
    match error {
        StoreError::Store(error) => error,
        other => Error::Unavailable(other.to_string()),
    }
}

/// A body that is cut where its parts end.
struct Pieces {
    body: ByteStream,
    left: Bytes,
}

impl Pieces {
    /// Exactly `size` bytes.
    async fn take(&mut self, size: u64) -> Result<PutPayload> {
        let (mut pieces, mut missing) = (Vec::<Bytes>::new(), size as usize);
        while missing > 0 {
            if self.left.is_empty() {
                let next = self.body.next().await.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()));
                self.left = next.map_err(Error::Body)?;
            }
            let piece = self.left.split_to(self.left.len().min(missing));
            missing -= piece.len();
            pieces.push(piece);
        }
        Ok(pieces.into_iter().collect())
    }

    async fn end(&mut self) -> Result<()> {
        match self.body.next().await {
            None if self.left.is_empty() => Ok(()),
            Some(Err(e)) => Err(Error::Body(e)),
            _ => Err(Error::bug("a body is longer than was said")),
        }
    }
}
