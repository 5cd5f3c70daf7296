//! Both ports in memory: nothing survives the process, everything else holds.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use muonic_ports::blob_store::{Blob, ByteStream, StoreHealth};
use muonic_ports::{BlobStore, Error, Logs, Result};
use muonic_types::{Digest, UnitId};

use crate::logs::unseen;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Default)]
pub struct MemoryStore {
    blobs: Mutex<HashMap<Digest, Bytes>>,
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::default()
    }
}

fn check(bytes: &[u8], expect: Option<&Digest>) -> Result<Digest> {
    let digest = Digest::of(bytes);
    match expect {
        Some(expect) if *expect != digest => {
            Err(Error::Checksum(format!("the bytes are {digest}, not {expect} as announced")))
        }
        _ => Ok(digest),
    }
}

#[async_trait]
impl BlobStore for MemoryStore {
    async fn put(&self, mut body: ByteStream, expect: Option<Digest>) -> Result<Blob> {
        let mut bytes = BytesMut::new();
        while let Some(piece) = body.next().await {
            bytes.extend_from_slice(&piece.map_err(Error::Body)?);
        }
        let digest = check(&bytes, expect.as_ref())?;
        let size = bytes.len() as u64;
        locked(&self.blobs).insert(digest, bytes.freeze());
        Ok(Blob { digest, size })
    }

    async fn put_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Result<()> {
        for (digest, bytes) in &blobs {
            check(bytes, Some(digest))?;
        }
        locked(&self.blobs).extend(blobs);
        Ok(())
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(locked(&self.blobs).get(digest).map(|bytes| bytes.len() as u64))
    }

    async fn get(&self, digest: &Digest, range: Option<Range<u64>>) -> Result<(u64, ByteStream)> {
        let bytes = locked(&self.blobs)
            .get(digest)
            .cloned()
            .ok_or_else(|| Error::NotFound(format!("there is no blob {digest}")))?;
        let size = bytes.len() as u64;
        let range = range.unwrap_or(0..size);
        let (from, end) = (range.start.min(size), range.end.min(size));
        // Within `bytes.len()`, so it fits.
        let part = bytes.slice(from as usize..end.max(from) as usize);
        let pieces = (!part.is_empty()).then_some(Ok(part));
        Ok((size, Box::pin(stream::iter(pieces))))
    }

    async fn blobs(&self, after: Option<Digest>, max: u32) -> Result<Vec<Blob>> {
        let blobs = locked(&self.blobs);
        let mut found: Vec<Blob> = blobs
            .iter()
            .filter(|(digest, _)| after.is_none_or(|after| **digest > after))
            .map(|(digest, bytes)| Blob { digest: *digest, size: bytes.len() as u64 })
            .collect();
        found.sort_by_key(|blob| blob.digest);
        found.truncate(max as usize);
        Ok(found)
    }

    async fn remove(&self, digest: &Digest) -> Result<()> {
        locked(&self.blobs).remove(digest);
        Ok(())
    }

    async fn health(&self) -> StoreHealth {
        StoreHealth { writable: true, reason: None, free_bytes: u64::MAX }
    }
}

#[derive(Debug, Default)]
pub struct MemoryLogs {
    streams: Mutex<HashMap<UnitId, BytesMut>>,
}

impl MemoryLogs {
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Logs for MemoryLogs {
    async fn append(&self, unit: &UnitId, offset: u64, bytes: Bytes) -> Result<u64> {
        let mut streams = locked(&self.streams);
        let end = streams.get(unit).map_or(0, |stream| stream.len() as u64);
        let new = unseen(unit, end, offset, &bytes)?;
        streams.entry(unit.clone()).or_default().extend_from_slice(new);
        Ok(end + new.len() as u64)
    }

    async fn read(&self, unit: &UnitId, offset: u64, max: usize) -> Result<Bytes> {
        let streams = locked(&self.streams);
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = streams.get(unit).and_then(|stream| stream.get(from..)).unwrap_or_default();
        Ok(Bytes::copy_from_slice(&rest[..rest.len().min(max)]))
    }

    async fn len(&self, unit: &UnitId) -> Result<u64> {
        Ok(locked(&self.streams).get(unit).map_or(0, |stream| stream.len() as u64))
    }

    async fn sync(&self, _unit: &UnitId) -> Result<()> {
        Ok(())
    }

    async fn remove(&self, unit: &UnitId) -> Result<()> {
        locked(&self.streams).remove(unit);
        Ok(())
    }
}
