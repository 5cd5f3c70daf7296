//! A body on its way in: cut into pieces of one size, summed, and counted
//! against the memory that all uploads share.
//!
//! Invariant: nobody waits for memory while holding some, so uploads cannot
//! block each other for ever.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use muonic_ports::object_store::{Algorithm, ByteStream, Error, Result, Sums};
use object_store::PutPayload;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::sums::Summer;

const MIB: usize = 1 << 20;
/// Bytes of a body that are kept before memory is asked for.
const FREE: usize = MIB;
/// What is summed in one go.
const RUN: usize = MIB;
/// Smaller pieces than this are put together, so that many tiny ones take no
/// more memory than their bytes.
const PIECE_MIN: usize = 16 << 10;
const PATIENCE: Duration = Duration::from_secs(60);

/// Memory for bodies in flight, in MiB.
#[derive(Clone)]
pub(crate) struct Memory(Arc<Semaphore>);

impl Memory {
    pub fn new(mib: usize) -> Self {
        Self(Arc::new(Semaphore::new(mib)))
    }

    async fn wait_for(&self, bytes: usize) -> Result<OwnedSemaphorePermit> {
        let waiting = self.0.clone().acquire_many_owned(bytes.div_ceil(MIB) as u32);
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(busy()),
        }
    }

    fn now(&self, bytes: usize) -> Result<OwnedSemaphorePermit> {
        self.0.clone().try_acquire_many_owned(bytes.div_ceil(MIB) as u32).map_err(|_| busy())
    }
}

fn busy() -> Error {
    let what = "too many uploads to mounted buckets are under way; try again";
    Error::Store(muonic_ports::Error::Unavailable(what.to_owned()))
}

pub(crate) struct Incoming {
    body: ByteStream,
    ended: bool,
    summer: Option<Summer>,
    /// Bytes of a piece that belong to what comes next.
    left: Bytes,
    memory: Memory,
    held: Vec<OwnedSemaphorePermit>,
    /// Reserved at once when a body is larger than what is free.
    first: usize,
}

impl Incoming {
    /// `first`: the bytes that the caller keeps of this body at one time, as
    /// a rule.
    pub fn new(body: ByteStream, algorithms: &BTreeSet<Algorithm>, memory: Memory, first: usize) -> Self {
        let summer = Some(Summer::new(algorithms));
        Self { body, ended: false, summer, left: Bytes::new(), memory, held: Vec::new(), first }
    }

    /// The next bytes, exactly `size` of them unless the body ends.
    pub async fn take(&mut self, size: usize) -> Result<PutPayload> {
        let mut pieces: Vec<Bytes> = Vec::new();
        let (mut have, mut summed) = (0, 0);
        let mut small = BytesMut::new();
        while have < size {
            let piece = if !self.left.is_empty() {
                std::mem::take(&mut self.left)
            } else {
                match self.body.next().await {
                    Some(piece) => piece.map_err(|e| Error::Store(muonic_ports::Error::Body(e)))?,
                    None => {
                        self.ended = true;
                        break;
                    }
                }
            };
            let mut piece = piece;
            if piece.len() > size - have {
                self.left = piece.split_off(size - have);
            }
            have += piece.len();
            self.reserve(have).await?;
            if piece.len() < PIECE_MIN {
                small.extend_from_slice(&piece);
                if small.len() >= PIECE_MIN {
                    pieces.push(small.split().freeze());
                }
            } else {
                if !small.is_empty() {
                    pieces.push(small.split().freeze());
                }
                pieces.push(piece);
            }
            if pieces[summed..].iter().map(Bytes::len).sum::<usize>() >= RUN {
                self.sum(pieces[summed..].to_vec()).await?;
                summed = pieces.len();
            }
        }
        if !small.is_empty() {
            pieces.push(small.freeze());
        }
        self.sum(pieces[summed..].to_vec()).await?;
        Ok(pieces.into_iter().collect())
    }

    /// True when the body has ended and all of it was taken.
    pub async fn at_end(&mut self) -> Result<bool> {
        while self.left.is_empty() && !self.ended {
            match self.body.next().await {
                Some(piece) => self.left = piece.map_err(|e| Error::Store(muonic_ports::Error::Body(e)))?,
                None => self.ended = true,
            }
        }
        Ok(self.left.is_empty())
    }

    pub fn sums(&mut self) -> Sums {
        self.summer.take().map(Summer::finish).unwrap_or_default()
    }

    async fn reserve(&mut self, have: usize) -> Result<()> {
        if have > FREE && self.held.is_empty() {
            self.held.push(self.memory.wait_for(self.first).await?);
        }
        let held: usize = self.held.iter().map(|permit| permit.num_permits() * MIB).sum();
        if have > held.max(FREE) {
            self.held.push(self.memory.now(self.first)?);
        }
        Ok(())
    }

    async fn sum(&mut self, pieces: Vec<Bytes>) -> Result<()> {
        if let Some(summer) = self.summer.take() {
            self.summer = summer.update(pieces).await;
        }
        match self.summer {
            Some(_) => Ok(()),
            None => Err(Error::Store(muonic_ports::Error::Unavailable("the server is stopping".to_owned()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn body(pieces: Vec<Vec<u8>>) -> ByteStream {
        Box::pin(stream::iter(pieces.into_iter().map(|p| Ok(Bytes::from(p)))))
    }

    async fn joined(incoming: &mut Incoming, size: usize) -> Vec<u8> {
        let payload = incoming.take(size).await.expect("taken");
        payload.iter().flat_map(|b| b.to_vec()).collect()
    }

    #[tokio::test]
    async fn pieces_of_any_size_become_those_asked_for() {
        let whole: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        for piece in [1, 999, 20_000, 100_000] {
            let pieces = whole.chunks(piece).map(<[u8]>::to_vec).collect();
            let mut incoming = Incoming::new(body(pieces), &BTreeSet::new(), Memory::new(1), 1 << 20);
            let mut got = Vec::new();
            for size in [30_000, 30_000, 30_000, 10_000] {
                assert!(!incoming.at_end().await.expect("asked"));
                let taken = joined(&mut incoming, size).await;
                assert_eq!(taken.len(), size);
                got.extend(taken);
            }
            assert!(incoming.at_end().await.expect("asked"));
            assert_eq!((got == whole, incoming.sums().size), (true, 100_000), "{piece}");
        }
    }

    #[tokio::test]
    async fn memory_is_bounded_and_given_back() {
        let memory = Memory::new(4);
        let many = || body(vec![vec![0; 1 << 20]; 16]);
        let mut one = Incoming::new(many(), &BTreeSet::new(), memory.clone(), 4 << 20);
        one.take(3 << 20).await.expect("within what is there");
        let mut greedy = Incoming::new(many(), &BTreeSet::new(), memory.clone(), 2 << 20);
        drop(one);
        greedy.take(4 << 20).await.expect("it is given back");
        let refused = greedy.take(5 << 20).await;
        assert!(matches!(refused, Err(Error::Store(muonic_ports::Error::Unavailable(_)))), "{refused:?}");
    }
}
