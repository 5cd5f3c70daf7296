//! Keys in a file on this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use muonic_ports::object_store::{Error, Result};
use muonic_types::Timestamp;
use muonic_types::store::{EncryptionKey, EncryptionKeyVersion};

use super::file::{self, StoredKey};
use super::{DEFAULT_KEY, DataKey, KeyProvider, envelope};

/// A [`KeyProvider`] whose keys lie in a file that only its owner can read.
/// Whoever loses the file loses all that is encrypted: it belongs in a backup,
/// apart from the data.
pub struct LocalKeys {
    path: PathBuf,
    keys: RwLock<Vec<StoredKey>>,
    /// What is being read may have been looked up before its key was wrapped
    /// anew: these open it until the process ends.
    retired: RwLock<Vec<StoredKey>>,
}

impl LocalKeys {
    /// Reads the file. Where there is none, it is made with new keys if
    /// `may_create`, which must be false as soon as anything is encrypted.
    pub fn open(path: &Path, may_create: bool) -> Result<Self> {
        let keys = match file::read(path)? {
            Some(keys) => keys,
            None if may_create => {
                let keys = vec![new_key(None, 1)?, new_key(Some(DEFAULT_KEY), 1)?];
                file::write(path, &keys)?;
                keys
            }
            None => {
                return Err(conflict(format!(
                    "the key file {} is missing, and the store holds what only its keys can open; restore the file from a backup",
                    path.display()
                )));
            }
        };
        Ok(Self { path: path.to_owned(), keys: RwLock::new(keys), retired: RwLock::default() })
    }

    /// Changes the file first, then what is in memory.
    fn replace(&self, keys: &mut Vec<StoredKey>, change: impl FnOnce(&mut Vec<StoredKey>)) -> Result<()> {
        let mut new = keys.clone();
        change(&mut new);
        file::write(&self.path, &new)?;
        *keys = new;
        Ok(())
    }

    // A panic leaves the list as it was: it is replaced in one assignment.
    fn read_lock(&self) -> RwLockReadGuard<'_, Vec<StoredKey>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_lock(&self) -> RwLockWriteGuard<'_, Vec<StoredKey>> {
        self.keys.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyProvider for LocalKeys {
    fn wrap(&self, name: Option<&str>, data_key: &DataKey, context: &[u8]) -> Result<(u32, Vec<u8>)> {
        let keys = self.read_lock();
        let key = newest(&keys, name)?;
        Ok((key.version, envelope::seal(&key.key, data_key, context)?))
    }

    fn unwrap(&self, name: Option<&str>, version: u32, wrapped: &[u8], context: &[u8]) -> Result<DataKey> {
        let keys = self.read_lock();
        newest(&keys, name)?;
        let retired = self.retired.read().unwrap_or_else(PoisonError::into_inner);
        let mut known = keys.iter().chain(retired.iter());
        let key = known.find(|key| key.name.as_deref() == name && key.version == version).ok_or_else(|| {
            muonic_ports::Error::bug(format!(
                "version {version} of {} is not in {}; restore the file from a backup",
                called(name),
                self.path.display()
            ))
        })?;
        envelope::open(&key.key, wrapped, context)?.ok_or_else(|| {
            muonic_ports::Error::bug(format!(
                "a data key does not open with version {version} of {}: it is damaged, or {} is another store's",
                called(name),
                self.path.display()
            ))
            .into()
        })
    }

    fn current(&self, name: Option<&str>) -> Result<u32> {
        Ok(newest(&self.read_lock(), name)?.version)
    }

    fn list(&self) -> Result<Vec<EncryptionKey>> {
        let mut all: BTreeMap<Option<String>, Vec<EncryptionKeyVersion>> = BTreeMap::new();
        for key in self.read_lock().iter() {
            let version = EncryptionKeyVersion { version: key.version, created_at: key.created_at };
            all.entry(key.name.clone()).or_default().push(version);
        }
        let keys = all.into_iter().map(|(name, mut versions)| {
            versions.sort_by_key(|version| version.version);
            EncryptionKey { name, versions }
        });
        Ok(keys.collect())
    }

    fn create(&self, name: &str) -> Result<EncryptionKey> {
        if name.is_empty() || name.len() > 256 || name.chars().any(char::is_control) {
            return Err(conflict("the name of a key has 1 to 256 characters, none of them control characters".into()));
        }
        let mut keys = self.write_lock();
        if keys.iter().any(|key| key.name.as_deref() == Some(name)) {
            return Err(conflict(format!("there is a key '{name}' already")));
        }
        let key = new_key(Some(name), 1)?;
        let versions = vec![EncryptionKeyVersion { version: 1, created_at: key.created_at }];
        self.replace(&mut keys, |keys| keys.push(key))?;
        Ok(EncryptionKey { name: Some(name.to_owned()), versions })
    }

    fn rotate(&self, name: Option<&str>) -> Result<u32> {
        let mut keys = self.write_lock();
        let version = newest(&keys, name)?.version.checked_add(1).ok_or_else(|| {
            conflict("the key has had as many versions as there are numbers; make another one".into())
        })?;
        let key = new_key(name, version)?;
        self.replace(&mut keys, |keys| keys.push(key))?;
        Ok(version)
    }

    fn retire(&self, name: Option<&str>, version: u32) -> Result<()> {
        let mut keys = self.write_lock();
        if newest(&keys, name)?.version == version {
            return Err(conflict(format!("version {version} of {} is in use; rotate the key first", called(name))));
        }
        let is_it = |key: &StoredKey| key.name.as_deref() == name && key.version == version;
        let gone: Vec<StoredKey> = keys.iter().filter(|key| is_it(key)).cloned().collect();
        self.replace(&mut keys, |keys| keys.retain(|key| !is_it(key)))?;
        self.retired.write().unwrap_or_else(PoisonError::into_inner).extend(gone);
        Ok(())
    }

    fn is_local(&self) -> bool {
        true
    }
}

fn new_key(name: Option<&str>, version: u32) -> Result<StoredKey> {
    let key = envelope::random()?;
    Ok(StoredKey { name: name.map(str::to_owned), version, created_at: Timestamp::now(), key })
}

fn newest<'a>(keys: &'a [StoredKey], name: Option<&str>) -> Result<&'a StoredKey> {
    keys.iter()
        .filter(|key| key.name.as_deref() == name)
        .max_by_key(|key| key.version)
        .ok_or_else(|| Error::NoSuchEncryptionKey(name.unwrap_or_default().to_owned()))
}

fn called(name: Option<&str>) -> String {
    name.map_or_else(|| "the store's key".to_owned(), |name| format!("the key '{name}'"))
}

fn conflict(what: String) -> Error {
    muonic_ports::Error::Conflict(what).into()
}
