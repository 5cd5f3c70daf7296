//! The encrypted form: frames of 64 KiB of content, each followed by a tag of
//! 16 bytes (AES-256-GCM). The key belongs to one extent, so the frame's
//! number is a nonce that never repeats. The extent's id, the number and the
//! last mark are authenticated too: a frame cannot be moved, and the end
//! cannot be cut off. No content is no frame.

use muonic_ports::{Error, Result};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::content::ExtentId;
use crate::keys::DataKey;

pub(super) const FRAME_BYTES: usize = 64 << 10;
pub(super) const TAG_BYTES: usize = 16;
pub(super) const STORED_FRAME_BYTES: usize = FRAME_BYTES + TAG_BYTES;

/// What so much content takes on the disk.
pub(super) fn stored_len(size: u64, sealed: bool) -> Option<u64> {
    let tags = if sealed { size.div_ceil(FRAME_BYTES as u64) * TAG_BYTES as u64 } else { 0 };
    size.checked_add(tags)
}

pub(super) struct FrameKey {
    key: LessSafeKey,
    id: ExtentId,
}

impl FrameKey {
    pub(super) fn new(key: &DataKey, id: ExtentId) -> Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, &key.0).map_err(|_| Error::bug("a data key has another length"))?;
        Ok(Self { key: LessSafeKey::new(key), id })
    }

    /// Encrypts a frame where it lies and puts the tag behind it.
    pub(super) fn seal(&self, number: u64, last: bool, frame: &mut Vec<u8>) -> Result<()> {
        self.key
            .seal_in_place_append_tag(nonce(number), self.aad(number, last), frame)
            .map_err(|_| Error::bug("a frame could not be encrypted"))
    }

    /// Decrypts the frame that begins at `from` and ends with `bytes`, to
    /// where `bytes` begin. `None` where it is not what was written.
    pub(super) fn open(&self, number: u64, last: bool, bytes: &mut [u8], from: usize) -> Option<usize> {
        self.key.open_within(nonce(number), self.aad(number, last), bytes, from..).ok().map(|content| content.len())
    }

    fn aad(&self, number: u64, last: bool) -> Aad<[u8; 25]> {
        let mut aad = [0; 25];
        aad[..16].copy_from_slice(&self.id);
        aad[16..24].copy_from_slice(&number.to_be_bytes());
        aad[24] = u8::from(last);
        Aad::from(aad)
    }
}

fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[NONCE_LEN - 8..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// Brings content into its stored form, as it passes.
pub(super) struct Sealer {
    key: Option<FrameKey>,
    frame: Vec<u8>,
    number: u64,
}

impl Sealer {
    pub(super) fn new(key: Option<FrameKey>) -> Self {
        let frame = if key.is_some() { Vec::with_capacity(STORED_FRAME_BYTES) } else { Vec::new() };
        Self { key, frame, number: 0 }
    }

    pub(super) fn push(&mut self, mut bytes: &[u8], out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let Some(key) = &self.key else { return out(bytes) };
        while !bytes.is_empty() {
            // A full frame is not the last one, since there are more bytes.
            if self.frame.len() == FRAME_BYTES {
                key.seal(self.number, false, &mut self.frame)?;
                out(&self.frame)?;
                self.number += 1;
                self.frame.clear();
            }
            let (now, rest) = bytes.split_at(bytes.len().min(FRAME_BYTES - self.frame.len()));
            self.frame.extend_from_slice(now);
            bytes = rest;
        }
        Ok(())
    }

    pub(super) fn finish(mut self, out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        match &self.key {
            Some(key) if !self.frame.is_empty() => {
                key.seal(self.number, true, &mut self.frame)?;
                out(&self.frame)
            }
            _ => Ok(()),
        }
    }
}
