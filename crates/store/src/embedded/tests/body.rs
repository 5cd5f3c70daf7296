//! Bytes that are known by what makes them.

use std::cell::RefCell;
use std::collections::HashMap;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use md5::{Digest as _, Md5};
use muonic_types::Digest;
use serde::{Deserialize, Serialize};

/// Bytes by what makes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Body {
    pub seed: u64,
    pub len: usize,
}

impl Body {
    pub(super) fn bytes(self) -> Bytes {
        let mut state = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut bytes = Vec::with_capacity(self.len + 8);
        while bytes.len() < self.len {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        bytes.truncate(self.len);
        bytes.into()
    }

    /// MD5 and SHA-256, computed once.
    pub(super) fn sums(self) -> ([u8; 16], Digest) {
        thread_local! {
            static KNOWN: RefCell<HashMap<Body, ([u8; 16], Digest)>> = RefCell::default();
        }
        KNOWN.with_borrow_mut(|known| {
            *known.entry(self).or_insert_with(|| {
                let bytes = self.bytes();
                (Md5::digest(&bytes).into(), Digest::of(&bytes))
            })
        })
    }

    pub(super) fn etag(self) -> String {
        HEXLOWER.encode(&self.sums().0)
    }

    pub(super) fn digest(self) -> Digest {
        self.sums().1
    }
}
