//! Buffers for reading, used again: a fresh mebibyte costs more than reading
//! into it.

use std::sync::{Arc, Mutex, PoisonError};

/// A block, or the frames of one.
pub(super) const BUFFER_BYTES: usize = (1 << 20) + (1 << 10);
/// Kept while nobody needs them.
const IDLE_MAX: usize = 16;

#[derive(Default)]
pub(super) struct Buffers {
    idle: Mutex<Vec<Box<[u8]>>>,
}

impl Buffers {
    /// `len` bytes of any content; at most `BUFFER_BYTES`.
    pub(super) fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = idle.unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice());
        Buffer { bytes, len: len.min(BUFFER_BYTES), buffers: self.clone() }
    }
}

/// Goes back when dropped.
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    len: usize,
    buffers: Arc<Buffers>,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut idle = self.buffers.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(std::mem::take(&mut self.bytes));
        }
    }
}
