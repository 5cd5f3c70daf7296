//! Keeps the secrets of a mount unreadable where its record lies.
//!
//! Invariant: what is sealed for one record cannot be opened for another, so
//! nobody can make a mount send its secrets to a store of their own by
//! changing the record around them.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

const VERSION: u8 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("the system gives no random bytes")]
    NoRandomness,
    /// Sealed with another key or for another record, or damaged.
    #[error("the secrets were sealed with another key or for another mount, or are damaged")]
    NotOurs,
}

/// Seals and opens bytes. `context` is not kept in what is sealed, and must
/// be the same when it is opened.
pub trait Sealer: Send + Sync {
    fn seal(&self, plain: &[u8], context: &[u8]) -> Result<Vec<u8>, SealError>;
    fn open(&self, sealed: &[u8], context: &[u8]) -> Result<Vec<u8>, SealError>;
}

/// AES-256-GCM with a random nonce for each seal.
pub struct MasterSealer {
    key: LessSafeKey,
    random: SystemRandom,
}

impl MasterSealer {
    /// `key` must be used for nothing else: derive one from the master key.
    pub fn new(key: [u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, &key).expect("AES-256-GCM takes any key of 32 bytes");
        Self { key: LessSafeKey::new(key), random: SystemRandom::new() }
    }
}

impl Sealer for MasterSealer {
    fn seal(&self, plain: &[u8], context: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| SealError::NoRandomness)?;
        let mut body = plain.to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut body)
            .map_err(|_| SealError::NotOurs)?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + body.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.append(&mut body);
        Ok(sealed)
    }

    fn open(&self, sealed: &[u8], context: &[u8]) -> Result<Vec<u8>, SealError> {
        let (version, rest) = sealed.split_first().ok_or(SealError::NotOurs)?;
        let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or(SealError::NotOurs)?;
        if *version != VERSION {
            return Err(SealError::NotOurs);
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::NotOurs)?;
        let mut body = body.to_vec();
        let plain = self.key.open_in_place(nonce, Aad::from(context), &mut body).map_err(|_| SealError::NotOurs)?;
        Ok(plain.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_what_it_sealed_and_nothing_else() {
        let sealer = MasterSealer::new([7; 32]);
        let sealed = sealer.seal(b"secret", b"data").expect("sealed");
        assert_eq!(sealer.open(&sealed, b"data").expect("opened"), b"secret");
        assert_ne!(sealed, sealer.seal(b"secret", b"data").expect("sealed"), "a nonce of its own each time");
        assert_eq!(sealer.open(&sealed, b"other"), Err(SealError::NotOurs));
        assert_eq!(MasterSealer::new([8; 32]).open(&sealed, b"data"), Err(SealError::NotOurs));
        for at in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[at] ^= 1;
            assert_eq!(sealer.open(&bent, b"data"), Err(SealError::NotOurs));
            assert_eq!(sealer.open(&sealed[..at], b"data"), Err(SealError::NotOurs));
        }
    }
}
