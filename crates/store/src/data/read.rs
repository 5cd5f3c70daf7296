//! Reading: verified bytes, one piece ahead of the consumer. What is not
//! encrypted is read by whole blocks of a MiB, each checked by its CRC; what
//! is, by frames, each authenticated by its tag.
//!
//! The first piece is read before the answer: damage of a small extent is an
//! error at once, before a door has begun its answer.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use muonic_ports::blob_store::ByteStream;
use muonic_ports::object_store::{CustomerKey, Result};
use muonic_types::{Digest, Hasher};
use tokio::task::{JoinHandle, spawn_blocking};

use super::blocks::BLOCK_BYTES;
use super::frames::{FRAME_BYTES, FrameKey, STORED_FRAME_BYTES, TAG_BYTES};
use super::source::{self, Source, check_block, check_form, damaged};
use super::{Disk, blocking, seal};
use crate::content::{Extent, Place};

/// So many frames are read in one piece.
const PIECE_FRAMES: u64 = 16;

pub(super) async fn read(
    disk: &Arc<Disk>,
    extent: &Extent,
    range: Option<Range<u64>>,
    key: Option<&CustomerKey>,
) -> Result<ByteStream> {
    let key = seal::open(&disk.keys, extent.id, extent.seal.as_ref(), key).await?;
    check_form(extent).map_err(first_error)?;
    let (at, end) = match range {
        None => (0, extent.size),
        Some(range) => (range.start.min(extent.size), range.end.min(extent.size)),
    };
    let mut reader = Box::new(Reader { disk: disk.clone(), extent: extent.clone(), key, at, end, whole: None });
    if at >= end && extent.size > 0 {
        return Ok(Box::pin(stream::empty()));
    }
    if let Some(piece) = reader.cached() {
        return Ok(match piece.map_err(first_error)? {
            piece if piece.is_empty() => Box::pin(stream::empty()),
            piece => Box::pin(stream::iter([Ok(piece)])),
        });
    }
    let first = blocking(move || {
        let source = Source::open(&reader.disk, &reader.extent).map_err(first_error)?;
        if let Place::Legacy { digest, .. } = &reader.extent.place
            && reader.extent.blocks.is_empty()
            && (reader.at, reader.end) == (0, reader.extent.size)
        {
            reader.whole = Some((Digest::from_bytes(*digest), Hasher::new()));
        }
        reader.next(source).map_err(first_error)
    })
    .await?;
    Ok(match first {
        None => Box::pin(stream::empty()),
        Some((piece, reader, _)) if reader.at >= reader.end => Box::pin(stream::iter([Ok(piece)])),
        first => Box::pin(stream::unfold(State::Ready(Ok(first)), State::step)),
    })
}

/// An error before the first byte.
fn first_error(e: io::Error) -> muonic_ports::Error {
    tracing::error!(error = %e, "an extent could not be read");
    muonic_ports::Error::internal(e.to_string(), e)
}

/// A piece, and what reads the next one; `None` at the end.
type Next = Option<(Bytes, Box<Reader>, Source)>;

enum State {
    Ready(io::Result<Next>),
    Reading(JoinHandle<io::Result<Next>>),
}

impl State {
    async fn step(self) -> Option<(io::Result<Bytes>, Self)> {
        let next = match self {
            Self::Ready(next) => next,
            Self::Reading(task) => task.await.unwrap_or_else(|e| Err(io::Error::other(e))),
        };
        match next {
            Ok(None) => None,
            Ok(Some((piece, reader, _))) if reader.at >= reader.end => Some((Ok(piece), Self::Ready(Ok(None)))),
            Ok(Some((piece, reader, source))) => {
                Some((Ok(piece), Self::Reading(spawn_blocking(move || reader.next(source)))))
            }
            Err(e) => {
                tracing::error!(error = %e, "an extent could not be read");
                Some((Err(e), Self::Ready(Ok(None))))
            }
        }
    }
}

struct Reader {
    disk: Arc<Disk>,
    extent: Extent,
    key: Option<FrameKey>,
    /// Content from here to there is still to come.
    at: u64,
    end: u64,
    /// What a whole read of a blob without sums must come to.
    whole: Option<(Digest, Hasher)>,
}

impl Reader {
    /// All of a small extent if that needs no waiting; `None` if it does.
    fn cached(&mut self) -> Option<io::Result<Bytes>> {
        let length = source::length(&self.extent);
        if length > STORED_FRAME_BYTES as u64 {
            return None;
        }
        let mut stored = vec![0; length as usize];
        match &self.extent.place {
            Place::Inline(bytes) => stored.copy_from_slice(bytes),
            Place::Segment { segment, offset, .. } => {
                let file = self.disk.handles.known(*segment)?;
                if !Source::File(file, *offset).read_cached(&mut stored) {
                    return None;
                }
            }
            Place::File { .. } | Place::Legacy { .. } => return None,
        }
        let range = self.at as usize..self.end as usize;
        if stored.is_empty() {
            return Some(Ok(Bytes::new()));
        }
        let opened = match &self.key {
            None => check_block(&self.extent, 0, &stored).map(|()| stored.len()),
            Some(_) => self.open_frame(0, &mut stored, 0),
        };
        Some(opened.map(|len| {
            stored.truncate(len);
            Bytes::from(stored).slice(range)
        }))
    }

    fn next(mut self: Box<Self>, source: Source) -> io::Result<Next> {
        if self.at >= self.end && self.whole.is_none() {
            return Ok(None);
        }
        let (piece, from) = match &self.key {
            None => self.block(&source)?,
            Some(_) => self.frames(&source)?,
        };
        if let Some((_, hasher)) = &mut self.whole {
            hasher.update(&piece);
        }
        let (begin, end) = ((self.at - from) as usize, (self.end - from).min(piece.len() as u64) as usize);
        self.at = from + end as u64;
        // The last piece leaves only after the whole has been verified.
        if self.at >= self.end
            && let Some((digest, hasher)) = self.whole.take()
            && hasher.finish() != digest
        {
            return Err(damaged(&self.extent, format_args!("its content is not {digest}")));
        }
        Ok((begin < end).then(|| (piece.slice(begin..end), self, source)))
    }

    /// The block that the next byte is in, and where its content begins.
    fn block(&self, source: &Source) -> io::Result<(Bytes, u64)> {
        let block = self.at / BLOCK_BYTES as u64;
        let from = block * BLOCK_BYTES as u64;
        let len = (self.extent.size - from).min(BLOCK_BYTES as u64) as usize;
        let mut buffer = self.disk.buffers.take(len);
        source.read(&self.extent, buffer.as_mut(), from)?;
        if !self.extent.blocks.is_empty() {
            check_block(&self.extent, block, buffer.as_ref())?;
        }
        Ok((Bytes::from_owner(buffer), from))
    }

    /// The content of some frames, the first of which has the next byte.
    fn frames(&self, source: &Source) -> io::Result<(Bytes, u64)> {
        let first = self.at / FRAME_BYTES as u64;
        let beyond = self.end.div_ceil(FRAME_BYTES as u64).min(first + PIECE_FRAMES);
        let from = first * STORED_FRAME_BYTES as u64;
        let until = (beyond * STORED_FRAME_BYTES as u64).min(source::length(&self.extent));
        let mut buffer = self.disk.buffers.take((until - from) as usize);
        let stored = buffer.as_mut();
        source.read(&self.extent, stored, from)?;
        let (mut content, mut at, mut number) = (0, 0, first);
        // Each frame is opened to where the one before it ended.
        while at < stored.len() {
            let end = stored.len().min(at + STORED_FRAME_BYTES);
            content += self.open_frame(number, &mut stored[content..end], at - content)?;
            at = end;
            number += 1;
        }
        Ok((Bytes::from_owner(buffer).slice(..content), first * FRAME_BYTES as u64))
    }

    fn open_frame(&self, number: u64, bytes: &mut [u8], from: usize) -> io::Result<usize> {
        let last = number + 1 == self.extent.size.div_ceil(FRAME_BYTES as u64);
        let opened = self.key.as_ref().and_then(|key| key.open(number, last, bytes, from));
        opened.ok_or_else(|| {
            let at = number * STORED_FRAME_BYTES as u64;
            damaged(
                &self.extent,
                format_args!("block {} (frame {number}, from {at}) is not what was written", at >> 20),
            )
        })
    }
}

// A piece of frames fits into a buffer.
const _: () = assert!(PIECE_FRAMES as usize * (FRAME_BYTES + TAG_BYTES) <= super::buffers::BUFFER_BYTES);
