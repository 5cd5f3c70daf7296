//! What passes of a body, kept up to a size: for a shadow, or to be sent again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Cheap to clone.
#[derive(Clone)]
pub struct Copied {
    most: usize,
    pieces: Arc<Mutex<Pieces>>,
}

#[derive(Default)]
struct Pieces {
    pieces: Vec<Bytes>,
    size: usize,
    ended: bool,
}

impl Copied {
    pub fn up_to(most: usize) -> Self {
        Self { most, pieces: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Pieces> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, bytes: &Bytes) {
        let mut copied = self.lock();
        copied.size += bytes.len();
        if copied.size > self.most {
            copied.pieces.clear();
        } else {
            copied.pieces.push(bytes.clone());
        }
    }

    /// Nothing comes after what has passed.
    pub fn end(&self) {
        self.lock().ended = true;
    }

    /// None where it was too large, or its end has not passed.
    pub fn whole(&self) -> Option<Bytes> {
        let mut copied = self.lock();
        let pieces = std::mem::take(&mut copied.pieces);
        match &pieces[..] {
            _ if !copied.ended || copied.size > self.most => None,
            [one] => Some(one.clone()),
            _ => Some(pieces.concat().into()),
        }
    }
}
