mod care;
mod damage;
pub(crate) mod disk;
mod faults;
mod power;
mod round;
mod sealing;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use muonic_ports::blob_store::ByteStream;
use muonic_ports::object_store::{CustomerKey, Result};

use super::files::{Files, RealFiles};
use super::{Data, SealWith, Settings, Written};
use crate::content::Extent;
use crate::gate::Gate;
use crate::keys::{KeyProvider, LocalKeys};

const CUSTOMER: CustomerKey = CustomerKey { key: [42; 32] };

/// In memory where that is possible: these tests sync thousands of times, and
/// what a sync means is `disk`'s to say.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn small_segments() -> Settings {
    Settings { segment_bytes: 256 << 10, fill_bytes: 64 << 10, ..Settings::default() }
}

fn open_on(root: &Path, files: Box<dyn Files>) -> Data {
    let keys = LocalKeys::open(&root.join("keys"), true).unwrap();
    Data::open(root, Arc::new(keys), files, Arc::new(Gate::default()), small_segments()).unwrap()
}

fn open(root: &Path) -> Data {
    open_on(root, Box::new(RealFiles))
}

/// All ways to seal.
fn seals() -> [SealWith<'static>; 4] {
    [SealWith::None, SealWith::Store, SealWith::Named(None), SealWith::Customer(&CUSTOMER)]
}

fn key_for(with: SealWith<'_>) -> Option<&CustomerKey> {
    match with {
        SealWith::Customer(key) => Some(key),
        _ => None,
    }
}

/// Bytes that do not repeat.
fn noise(seed: u64, len: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

fn body(bytes: &Bytes, piece: usize) -> ByteStream {
    let pieces: Vec<_> =
        (0..bytes.len()).step_by(piece).map(|at| Ok(bytes.slice(at..bytes.len().min(at + piece)))).collect();
    Box::pin(stream::iter(pieces))
}

async fn put(data: &Data, bytes: &Bytes, with: SealWith<'_>) -> Result<Written> {
    Ok(data.write(body(bytes, 100_000), &BTreeSet::new(), with).await?.0)
}

/// What came before the end or the error, and the error.
async fn drain(mut body: ByteStream) -> (Vec<u8>, Option<std::io::Error>) {
    let mut all = Vec::new();
    while let Some(piece) = body.next().await {
        match piece {
            Ok(piece) => all.extend_from_slice(&piece),
            Err(e) => return (all, Some(e)),
        }
    }
    (all, None)
}

async fn whole(data: &Data, extent: &Extent, with: SealWith<'_>) -> Vec<u8> {
    let (bytes, error) = drain(data.read(extent, None, key_for(with)).await.expect("it opens")).await;
    assert!(error.is_none(), "{error:?}");
    bytes
}

/// Waits until only the handle at hand and the appending thread are there.
async fn settle(data: &Data) {
    while Arc::strong_count(data.disk()) > 2 {
        tokio::task::yield_now().await;
    }
}
