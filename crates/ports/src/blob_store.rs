//! The blob store: immutable bytes by content address.
//!
//! Contract for backends:
//! - `put` and `put_batch` return only when the bytes survive power loss.
//! - A blob is visible whole or not at all; putting one that exists is a
//!   success and writes nothing new.
//! - Bytes are verified when they are read, by their digest or by sums kept
//!   beside them: damage is an error at once or ends the stream in one before
//!   its last bytes, so wrong bytes are never taken for right ones.
//! - The first failed sync makes the store read-only until restart.

use std::ops::Range;
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use muonic_types::Digest;

use crate::Result;

/// Bytes in flight, in pieces of any size.
pub type ByteStream = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    pub digest: Digest,
    pub size: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreHealth {
    pub writable: bool,
    /// Why it is not writable.
    pub reason: Option<String>,
    /// Bytes free on its disk.
    pub free_bytes: u64,
}

#[async_trait]
pub trait BlobStore: Send + Sync {
    /// Stores a stream. With `expect`, bytes of another digest are refused
    /// with `Error::Checksum` and nothing is kept.
    async fn put(&self, body: ByteStream, expect: Option<Digest>) -> Result<Blob>;

    /// Stores many small blobs, made durable together. Digests are verified.
    async fn put_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Result<()>;

    /// The blob's size, or `None` where the store does not hold it.
    async fn size(&self, digest: &Digest) -> Result<Option<u64>>;

    /// Streams a blob, or the given byte range of it (clamped to its size),
    /// and answers the size of the whole blob. A range is not compared with the
    /// digest, which only the whole has; the caller compares the size with the
    /// one it has on record.
    async fn get(&self, digest: &Digest, range: Option<Range<u64>>) -> Result<(u64, ByteStream)>;

    /// At most `max` blobs by digest, those after `after`.
    async fn blobs(&self, after: Option<Digest>, max: u32) -> Result<Vec<Blob>>;

    /// Removes a blob; one that is not there is a success.
    async fn remove(&self, digest: &Digest) -> Result<()>;

    async fn health(&self) -> StoreHealth;
}
