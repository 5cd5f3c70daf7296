//! Logs: append-only byte streams, one per unit.
//!
//! Contract: an append at an offset that is already filled is skipped over
//! (the same bytes sent again change nothing); one beyond the end is a
//! `Conflict` that names the end. `sync` makes a stream durable.

use async_trait::async_trait;
use bytes::Bytes;
use muonic_types::UnitId;

use crate::Result;

#[async_trait]
pub trait Logs: Send + Sync {
    /// Appends and answers the stream's new length.
    async fn append(&self, unit: &UnitId, offset: u64, bytes: Bytes) -> Result<u64>;
    /// Up to `max` bytes from `offset`; empty at the end or where there is no stream.
    async fn read(&self, unit: &UnitId, offset: u64, max: usize) -> Result<Bytes>;
    async fn len(&self, unit: &UnitId) -> Result<u64>;
    async fn sync(&self, unit: &UnitId) -> Result<()>;
    async fn remove(&self, unit: &UnitId) -> Result<()>;
}
