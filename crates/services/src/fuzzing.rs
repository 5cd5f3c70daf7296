//! Doors for fuzz targets; see `fuzz/`.

use bytes::Bytes;
use futures_util::stream;
use muonic_types::Digest;

use crate::blobs::PackReader;

/// All records of a pack that arrives in pieces; `None` where it is refused.
pub fn pack(pack: &[u8], piece: usize) -> Option<Vec<(Digest, Vec<u8>)>> {
    let pieces: Vec<_> = pack.chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let mut reader = PackReader::new(Box::pin(stream::iter(pieces)));
    let read = async {
        let mut records = Vec::new();
        while let Some((digest, size)) = reader.head().await.ok()? {
            let mut bytes = Vec::new();
            while bytes.len() as u64 != size {
                bytes.extend_from_slice(&reader.some(size - bytes.len() as u64).await.ok()?);
            }
            records.push((digest, bytes));
        }
        Some(records)
    };
    tokio::runtime::Builder::new_current_thread().build().ok()?.block_on(read)
}
