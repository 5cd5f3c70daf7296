//! How an extent is sealed, and how its data key is got at again.

use std::sync::Arc;

use data_encoding::BASE64;
use md5::{Digest as _, Md5};
use muonic_ports::object_store::{CustomerKey, Error, Result};

use super::blocking;
use super::frames::FrameKey;
use crate::content::{ExtentId, Seal, SealedBy};
use crate::keys::{DEFAULT_KEY, DataKey, KeyProvider, open_envelope, random, seal_envelope};

/// What is to wrap the data key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SealWith<'a> {
    /// Not encrypted.
    None,
    Store,
    /// A key by name; `None` is the default one.
    Named(Option<&'a str>),
    Customer(&'a CustomerKey),
}

/// As S3 names a customer's key.
pub(crate) fn key_md5(key: &CustomerKey) -> String {
    BASE64.encode(&Md5::digest(key.key))
}

pub(super) type Keys = Arc<dyn KeyProvider>;

/// A new data key for an extent.
pub(super) async fn make(keys: &Keys, id: ExtentId, with: SealWith<'_>) -> Result<Option<(FrameKey, Seal)>> {
    let name = match with {
        SealWith::None => return Ok(None),
        SealWith::Store => None,
        SealWith::Named(name) => Some(name.unwrap_or(DEFAULT_KEY).to_owned()),
        SealWith::Customer(customer) => {
            let data_key = DataKey(random()?);
            let wrapped = seal_envelope(&customer.key, &data_key, &id)?;
            let by = SealedBy::Customer { key_md5: key_md5(customer) };
            return Ok(Some((FrameKey::new(&data_key, id)?, Seal { by, wrapped })));
        }
    };
    let data_key = DataKey(random()?);
    let frames = FrameKey::new(&data_key, id)?;
    let seal = asked(keys, move |keys| wrap(keys, name, &data_key, id)).await?;
    Ok(Some((frames, seal)))
}

/// The data key of an extent that is there. `CustomerKey` where the
/// customer's key is missing, another one, or not asked for.
pub(super) async fn open(
    keys: &Keys,
    id: ExtentId,
    seal: Option<&Seal>,
    customer: Option<&CustomerKey>,
) -> Result<Option<FrameKey>> {
    let data_key = match (seal, customer) {
        (Some(Seal { by: SealedBy::Customer { key_md5: expected }, wrapped }), Some(customer)) => {
            if key_md5(customer) != *expected {
                return Err(Error::CustomerKey("this is not the key that the object was stored with"));
            }
            open_envelope(&customer.key, wrapped, &id)?.ok_or_else(|| {
                muonic_ports::Error::bug(format!("the wrapped data key of extent {} is damaged", hex(&id)))
            })?
        }
        (Some(Seal { by: SealedBy::Customer { .. }, .. }), None) => {
            return Err(Error::CustomerKey("the object is encrypted with a customer's key, which must be sent"));
        }
        (_, Some(_)) => return Err(Error::CustomerKey("the object is not encrypted with a customer's key")),
        (None, None) => return Ok(None),
        (Some(seal), None) => {
            let seal = seal.clone();
            asked(keys, move |keys| unwrap(keys, &seal, id)).await?
        }
    };
    Ok(Some(FrameKey::new(&data_key, id)?))
}

/// The data key wrapped with the newest version of its key; `None` where it is
/// already, or where only the customer could.
pub(super) async fn rewrap(keys: &Keys, id: ExtentId, seal: &Seal) -> Result<Option<Seal>> {
    let Some((name, version)) = key_of(seal) else { return Ok(None) };
    let (name, seal) = (name.map(str::to_owned), seal.clone());
    asked(keys, move |keys| {
        if keys.current(name.as_deref())? == version {
            return Ok(None);
        }
        let data_key = unwrap(keys, &seal, id)?;
        wrap(keys, name, &data_key, id).map(Some)
    })
    .await
}

fn wrap(keys: &dyn KeyProvider, name: Option<String>, data_key: &DataKey, id: ExtentId) -> Result<Seal> {
    let (version, wrapped) = keys.wrap(name.as_deref(), data_key, &id)?;
    let by = match name {
        None => SealedBy::Store { version },
        Some(name) => SealedBy::Named { name, version },
    };
    Ok(Seal { by, wrapped })
}

fn unwrap(keys: &dyn KeyProvider, seal: &Seal, id: ExtentId) -> Result<DataKey> {
    let Some((name, version)) = key_of(seal) else {
        return Err(Error::CustomerKey("the object is encrypted with a customer's key"));
    };
    keys.unwrap(name, version, &seal.wrapped, &id)
}

/// Name and version of the provider's key.
fn key_of(seal: &Seal) -> Option<(Option<&str>, u32)> {
    match &seal.by {
        SealedBy::Store { version } => Some((None, *version)),
        SealedBy::Named { name, version } => Some((Some(name), *version)),
        SealedBy::Customer { .. } => None,
    }
}

/// Asks the provider here if it answers from memory, else where it may block.
async fn asked<T: Send + 'static>(
    keys: &Keys,
    ask: impl FnOnce(&dyn KeyProvider) -> Result<T> + Send + 'static,
) -> Result<T> {
    if keys.is_local() {
        return ask(&**keys);
    }
    let keys = keys.clone();
    blocking(move || ask(&*keys)).await
}

pub(super) fn hex(id: &ExtentId) -> String {
    data_encoding::HEXLOWER.encode(id)
}
