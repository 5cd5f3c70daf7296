//! One key wrapped by another: AES-256-GCM, `nonce (12) | key (32) | tag (16)`.
//!
//! The wrapping key proper is derived from the key and the context, so that
//! random nonces cannot meet however many data keys one key wraps.

use muonic_ports::{Error, Result};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use super::DataKey;

const PURPOSE: &[u8] = b"muonic data key 1\0";
const WRAPPED_BYTES: usize = NONCE_LEN + 32 + 16;

/// Random bytes from the kernel.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Error::bug("the system gives no random bytes"))?;
    Ok(bytes)
}

pub(crate) fn seal(key: &[u8; 32], data_key: &DataKey, context: &[u8]) -> Result<Vec<u8>> {
    let nonce = random::<NONCE_LEN>()?;
    let mut body = data_key.0.to_vec();
    derive(key, context)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut body)
        .map_err(|_| Error::bug("a data key could not be wrapped"))?;
    Ok([&nonce[..], &body].concat())
}

/// `None` where the key, the context or the bytes are not those it was sealed with.
pub(crate) fn open(key: &[u8; 32], wrapped: &[u8], context: &[u8]) -> Result<Option<DataKey>> {
    if wrapped.len() != WRAPPED_BYTES {
        return Ok(None);
    }
    let (nonce, body) = wrapped.split_at(NONCE_LEN);
    let mut body = body.to_vec();
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Error::bug("a nonce has another length"))?;
    let opened = derive(key, context)?.open_in_place(nonce, Aad::from(context), &mut body);
    Ok(opened.ok().and_then(|bytes| <[u8; 32]>::try_from(&*bytes).ok()).map(DataKey))
}

fn derive(key: &[u8; 32], context: &[u8]) -> Result<LessSafeKey> {
    let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    mac.update(PURPOSE);
    mac.update(context);
    UnboundKey::new(&AES_256_GCM, mac.sign().as_ref())
        .map(LessSafeKey::new)
        .map_err(|_| Error::bug("a wrapping key has another length"))
}
