//! A body taken in batches: some bytes at a time, in few pieces.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use muonic_ports::blob_store::ByteStream;
use muonic_ports::{Error, Result};

/// At most about four of them are held by a write: two threads lag by one.
pub(super) const BATCH_BYTES: usize = 512 << 10;
/// Pieces shorter than this are copied together, so that a stream of single
/// bytes does not become a million little allocations.
const PIECE_BYTES_MIN: usize = 16 << 10;

/// Some bytes of a stream, in order.
#[derive(Default)]
pub(super) struct Batch {
    pub pieces: Vec<Bytes>,
    /// Small pieces not yet in `pieces`.
    tail: BytesMut,
    pub len: usize,
}

impl Batch {
    fn push(&mut self, piece: Bytes) {
        self.len += piece.len();
        if piece.len() < PIECE_BYTES_MIN {
            self.tail.extend_from_slice(&piece);
        } else {
            self.flush();
            self.pieces.push(piece);
        }
    }

    fn flush(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(self.tail.split().freeze());
        }
    }
}

/// The next batch, and whether the stream has ended.
pub(super) async fn gather(body: &mut ByteStream) -> Result<(Batch, bool)> {
    let mut batch = Batch::default();
    let mut ended = false;
    while batch.len < BATCH_BYTES {
        match body.next().await {
            Some(Ok(piece)) => batch.push(piece),
            Some(Err(e)) => return Err(Error::Body(e)),
            None => {
                ended = true;
                break;
            }
        }
    }
    batch.flush();
    Ok((batch, ended))
}
