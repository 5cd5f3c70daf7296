//! CRC32C of each MiB of what lies on the disk.

use crc_fast::CrcAlgorithm::Crc32Iscsi;

pub(super) const BLOCK_BYTES: usize = 1 << 20;

pub(super) fn crc(bytes: &[u8]) -> u32 {
    // A CRC of 32 bits fills the lower half.
    crc_fast::checksum(Crc32Iscsi, bytes) as u32
}

/// How many blocks so many bytes are.
pub(super) fn count(stored: u64) -> u64 {
    stored.div_ceil(BLOCK_BYTES as u64)
}

/// Of bytes as they pass.
pub(super) struct BlockSums {
    done: Vec<u32>,
    open: crc_fast::Digest,
    len: usize,
}

impl BlockSums {
    pub(super) fn new() -> Self {
        Self { done: Vec::new(), open: crc_fast::Digest::new(Crc32Iscsi), len: 0 }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.len));
            self.open.update(now);
            self.len += now.len();
            if self.len == BLOCK_BYTES {
                self.close();
            }
            bytes = rest;
        }
    }

    pub(super) fn finish(mut self) -> Vec<u32> {
        if self.len > 0 {
            self.close();
        }
        self.done
    }

    fn close(&mut self) {
        self.done.push(self.open.finalize() as u32);
        self.open.reset();
        self.len = 0;
    }
}
