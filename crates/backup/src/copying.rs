//! Files as streams that are hashed on their way.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use futures_util::{Stream, StreamExt};
use muonic_ports::blob_store::ByteStream;
use muonic_ports::{Error, Result};
use ring::digest::{Context, SHA256};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

const PIECE_BYTES: usize = 1 << 20;

/// The sum of what has passed.
#[derive(Clone)]
pub struct Sum(Arc<Mutex<(Context, u64)>>);

impl Sum {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new((Context::new(&SHA256), 0))))
    }

    pub fn update(&self, bytes: &[u8]) {
        // A panic between two updates is followed by no further ones.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0.update(bytes);
        state.1 += bytes.len() as u64;
    }

    /// SHA-256 in hex, and the length.
    pub fn finish(&self) -> (String, u64) {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (HEXLOWER.encode(state.0.clone().finish().as_ref()), state.1)
    }
}

/// The first `size` bytes of a file; with an error at its end if it has fewer.
pub async fn read(path: &Path, size: u64) -> Result<(impl Stream<Item = std::io::Result<Bytes>> + Send + use<>, Sum)> {
    let file = tokio::fs::File::open(path).await.map_err(|e| failed("open", path, e))?;
    let sum = Sum::new();
    let summing = sum.clone();
    let body = ReaderStream::with_capacity(file.take(size), PIECE_BYTES);
    let body = body.inspect(move |piece| {
        if let Ok(piece) = piece {
            summing.update(piece);
        }
    });
    Ok((body, sum))
}

pub fn body(bytes: Bytes) -> ByteStream {
    Box::pin(futures_util::stream::iter([Ok(bytes)]))
}

/// The hash of the first `size` bytes of a file.
pub async fn hash(path: &Path, size: u64) -> Result<String> {
    let (mut body, sum) = read(path, size).await?;
    while let Some(piece) = body.next().await {
        piece.map_err(|e| failed("read", path, e))?;
    }
    match sum.finish() {
        (hash, length) if length == size => Ok(hash),
        (_, length) => Err(Error::Conflict(format!("{} has {length} bytes, not {size}", path.display()))),
    }
}

pub fn failed(what: &str, path: &Path, error: std::io::Error) -> Error {
    use std::io::ErrorKind as K;
    match error.kind() {
        K::StorageFull | K::QuotaExceeded => Error::DiskFull,
        K::NotFound | K::PermissionDenied | K::ReadOnlyFilesystem | K::NotADirectory | K::AlreadyExists => {
            Error::Conflict(format!("cannot {what} {}: {error}", path.display()))
        }
        _ => Error::internal(format!("cannot {what} {}: {error}", path.display()), error),
    }
}

/// Runs what may block where it may.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Error::internal("a file operation did not finish", e))?
}
