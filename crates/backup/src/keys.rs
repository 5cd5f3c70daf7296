//! The keys in a snapshot, sealed with a passphrase: PBKDF2 makes a key of it,
//! AES-256-GCM seals with that.

use std::num::NonZeroU32;

use data_encoding::BASE64;
use muonic_ports::{Error, Result};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::pbkdf2;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::copying::blocking;

const VERSION: u32 = 1;
const KDF: &str = "pbkdf2-hmac-sha256";
const ITERATIONS: u32 = 600_000;
/// A file that asks for more is not ours: it would only cost time.
const ITERATIONS_MAX: u32 = 20_000_000;
const PASSPHRASE_MIN: usize = 8;
const SALT_BYTES: usize = 32;

/// The files `master.key` and `store.keys`.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyFiles {
    pub master: Vec<u8>,
    pub store: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    version: u32,
    kdf: String,
    iterations: u32,
    salt: String,
    nonce: String,
    sealed: String,
}

#[derive(Serialize, Deserialize)]
struct Inside {
    master: String,
    store: String,
}

#[cfg(fuzzing)]
impl Sealed {
    pub fn is_quick(&self) -> bool {
        self.iterations < 1000
    }
}

/// `Conflict` where a passphrase is too short to protect anything.
pub fn check(passphrase: &str) -> Result<()> {
    if passphrase.chars().count() < PASSPHRASE_MIN {
        return Err(Error::Conflict(format!("a passphrase has at least {PASSPHRASE_MIN} characters")));
    }
    Ok(())
}

pub async fn seal(files: KeyFiles, passphrase: String) -> Result<Sealed> {
    blocking(move || {
        let random = SystemRandom::new();
        let (mut salt, mut nonce) = ([0; SALT_BYTES], [0; NONCE_LEN]);
        let filled = random.fill(&mut salt).and_then(|()| random.fill(&mut nonce));
        filled.map_err(|_| Error::bug("the system gives no random numbers"))?;
        let inside = Inside { master: BASE64.encode(&files.master), store: BASE64.encode(&files.store) };
        let mut bytes = serde_json::to_vec(&inside).map_err(|e| Error::internal("keys are no JSON", e))?;
        let sealing = key(&passphrase, &salt, ITERATIONS)?;
        let nonce_used = Nonce::assume_unique_for_key(nonce);
        let done = sealing.seal_in_place_append_tag(nonce_used, aad(ITERATIONS), &mut bytes);
        done.map_err(|_| Error::bug("the keys could not be sealed"))?;
        Ok(Sealed {
            version: VERSION,
            kdf: KDF.to_owned(),
            iterations: ITERATIONS,
            salt: BASE64.encode(&salt),
            nonce: BASE64.encode(&nonce),
            sealed: BASE64.encode(&bytes),
        })
    })
    .await
}

/// `Conflict` where the passphrase is another one, or the file is damaged.
pub async fn open(sealed: Sealed, passphrase: String) -> Result<KeyFiles> {
    blocking(move || {
        if sealed.version != VERSION || sealed.kdf != KDF || sealed.iterations > ITERATIONS_MAX {
            return Err(Error::Conflict("the sealed keys have a form that this muonic does not know".to_owned()));
        }
        let wrong = || {
            Error::Conflict("the sealed keys do not open: it is another passphrase, or the file is damaged".to_owned())
        };
        let bytes = |text: &str| BASE64.decode(text.as_bytes()).map_err(|_| wrong());
        let nonce: [u8; NONCE_LEN] = bytes(&sealed.nonce)?.try_into().map_err(|_| wrong())?;
        let opening = key(&passphrase, &bytes(&sealed.salt)?, sealed.iterations)?;
        let mut inside = bytes(&sealed.sealed)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = opening.open_in_place(nonce, aad(sealed.iterations), &mut inside).map_err(|_| wrong())?;
        let inside: Inside = serde_json::from_slice(opened).map_err(|_| wrong())?;
        Ok(KeyFiles { master: bytes(&inside.master)?, store: bytes(&inside.store)? })
    })
    .await
}

fn aad(iterations: u32) -> Aad<Vec<u8>> {
    Aad::from(format!("muonic backup keys {VERSION} {KDF} {iterations}").into_bytes())
}

fn key(passphrase: &str, salt: &[u8], iterations: u32) -> Result<LessSafeKey> {
    let iterations = NonZeroU32::new(iterations)
        .ok_or_else(|| Error::Conflict("the sealed keys have a form that this muonic does not know".to_owned()))?;
    let mut bytes = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, passphrase.as_bytes(), &mut bytes);
    let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| Error::bug("no key can be made"))?;
    Ok(LessSafeKey::new(key))
}

/// Whether every version of a key that `before` has is in `after` too: one
/// that was retired in between may be what the snapshot needs.
pub fn none_retired(before: &[u8], after: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct File {
        keys: Vec<Key>,
    }
    #[derive(Deserialize, PartialEq)]
    struct Key {
        name: Option<String>,
        version: u32,
    }
    let parse = |bytes| serde_json::from_slice::<File>(bytes).ok();
    match (parse(before), parse(after)) {
        (Some(before), Some(after)) => before.keys.iter().all(|key| after.keys.contains(key)),
        _ => before == after,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sealed_keys_open_with_their_passphrase_only() {
        let files = KeyFiles { master: vec![7; 32], store: b"{\"version\":1}".to_vec() };
        let sealed = seal(files.clone(), "correct horse".to_owned()).await.unwrap();
        let text = serde_json::to_string(&sealed).unwrap();
        let again = || serde_json::from_str::<Sealed>(&text).unwrap();
        assert!(open(again(), "correct horse".to_owned()).await.unwrap() == files);
        assert!(matches!(open(again(), "battery".to_owned()).await, Err(Error::Conflict(_))));
        let mut bent = again();
        bent.iterations -= 1;
        assert!(matches!(open(bent, "correct horse".to_owned()).await, Err(Error::Conflict(_))));
        assert!(check("short").is_err() && check("long enough").is_ok());
    }

    #[test]
    fn a_key_that_went_is_noticed() {
        let file = |versions: &[u32]| {
            let keys: Vec<_> = versions.iter().map(|v| serde_json::json!({"name": null, "version": v})).collect();
            serde_json::to_vec(&serde_json::json!({"keys": keys})).unwrap()
        };
        assert!(none_retired(&file(&[1]), &file(&[1, 2])));
        assert!(!none_retired(&file(&[1, 2]), &file(&[2])));
    }
}
