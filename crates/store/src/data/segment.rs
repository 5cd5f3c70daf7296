//! What a segment looks like:
//!
//! ```text
//! header   "muonseg\0" | version u32 | number u64 | CRC32C u32        at 0
//! record   "mrec" | id (16) | length u32 | CRC32C of the bytes u32
//!          | CRC32C of what is before u32 | the bytes
//! ```
//!
//! Integers are little-endian. The records that were synced together lie one
//! after another; each such group begins at a multiple of 4096, so that no
//! sector with acknowledged bytes is ever written again. The rest is zeros:
//! a sync of bytes written over zeros costs half of one that also changes the
//! file's map.

use crate::content::ExtentId;

use super::blocks::crc;

pub(super) const MAGIC: &[u8; 8] = b"muonseg\0";
pub(super) const VERSION: u32 = 1;
pub(super) const RECORD_MAGIC: &[u8; 4] = b"mrec";
pub(super) const RECORD_HEADER_BYTES: usize = 32;
/// Groups of records begin at multiples of it; the header takes one.
pub(super) const ALIGN: u64 = 4096;

pub(super) fn header(segment: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&segment.to_le_bytes());
    let sum = crc(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

/// Appends a record.
pub(super) fn put_record(out: &mut Vec<u8>, id: &ExtentId, stored: &[u8]) {
    let begin = out.len();
    out.extend_from_slice(RECORD_MAGIC);
    out.extend_from_slice(id);
    // Only extents of at most one frame come here.
    out.extend_from_slice(&(stored.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc(stored).to_le_bytes());
    let sum = crc(&out[begin..]);
    out.extend_from_slice(&sum.to_le_bytes());
    out.extend_from_slice(stored);
}

pub(super) fn align_up(at: u64) -> u64 {
    at.div_ceil(ALIGN) * ALIGN
}
