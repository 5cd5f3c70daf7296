//! Bodies that differ in their first bytes and share the rest.
//!
//! A store that keeps equal contents once would otherwise be measured writing
//! one object. Invariant: the bytes of a body depend on size, seed and index only.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Bytes that tell two bodies apart.
const HEAD: usize = 16;

/// What bodies of one size are cut from.
#[derive(Clone)]
pub struct Source {
    seed: u64,
    bytes: Bytes,
}

impl Source {
    pub fn new(size: usize, seed: u64) -> Self {
        // xorshift: not to be compressed, quick to make.
        let mut state = 0x9E37_79B9_7F4A_7C15_u64 ^ seed.wrapping_mul(0xD134_2543_DE82_EF95) | 1;
        let mut bytes = Vec::with_capacity(size + 8);
        while bytes.len() < size {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        bytes.truncate(size);
        Self { seed, bytes: bytes.into() }
    }

    /// The body numbered `index`.
    pub fn body(&self, index: u64) -> Stamped {
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(&self.seed.to_be_bytes());
        head[8..].copy_from_slice(&index.to_be_bytes());
        let cut = HEAD.min(self.bytes.len());
        Stamped { head: Bytes::copy_from_slice(&head[..cut]), tail: self.bytes.slice(cut..) }
    }
}

#[derive(Clone, Default)]
pub struct Stamped {
    head: Bytes,
    tail: Bytes,
}

impl Stamped {
    /// A body of given bytes.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self { head: bytes.into(), tail: Bytes::new() }
    }

    pub fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    pub fn sha256(&self) -> ring::digest::Digest {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        context.update(&self.head);
        context.update(&self.tail);
        context.finish()
    }
}

impl Body for Stamped {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = if self.head.is_empty() { std::mem::take(&mut self.tail) } else { std::mem::take(&mut self.head) };
        Poll::Ready((!next.is_empty()).then(|| Ok(Frame::data(next))))
    }

    fn is_end_stream(&self) -> bool {
        self.len() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_the_size_and_differ() {
        for size in [0, 1, 15, 16, 17, 4096] {
            let source = Source::new(size, 7);
            assert_eq!(source.body(1).len(), size);
            assert_eq!(source.body(1).sha256().as_ref(), source.body(1).sha256().as_ref());
        }
        let source = Source::new(4096, 7);
        assert_ne!(source.body(1).sha256().as_ref(), source.body(2).sha256().as_ref());
        assert_ne!(source.body(1).sha256().as_ref(), Source::new(4096, 8).body(1).sha256().as_ref());
    }
}
