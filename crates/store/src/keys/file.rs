//! The key file: JSON, mode 0600, replaced as a whole.
//!
//! ```json
//! {"version": 1, "keys": [
//!   {"name": null, "version": 1, "created_at": "2026-01-01T00:00:00Z", "key": "<Base64>"}]}
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use data_encoding::BASE64;
use muonic_ports::{Error, Result};
use muonic_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::gate::failed;

const FILE_VERSION: u32 = 1;

/// One version of a key.
#[derive(Clone)]
pub(super) struct StoredKey {
    pub name: Option<String>,
    pub version: u32,
    pub created_at: Timestamp,
    pub key: [u8; 32],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileForm {
    version: u32,
    keys: Vec<KeyForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyForm {
    name: Option<String>,
    version: u32,
    created_at: Timestamp,
    key: String,
}

/// `None` where there is no file.
pub(super) fn read(path: &Path) -> Result<Option<Vec<StoredKey>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed("open", path, e)),
    };
    let mode = file.metadata().map_err(|e| failed("look at", path, e))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Error::Conflict(format!(
            "the key file {} can be read by others (mode {:03o}); run: chmod 600 {0}",
            path.display(),
            mode & 0o777
        )));
    }
    let text = io::read_to_string(file).map_err(|e| failed("read", path, e))?;
    parse(&text).map(Some).map_err(|what| {
        Error::Conflict(format!("the key file {} cannot be used: {what}; restore it from a backup", path.display()))
    })
}

pub(super) fn parse(text: &str) -> Result<Vec<StoredKey>, String> {
    // What serde says of wrong text may quote a key.
    let form: FileForm =
        serde_json::from_str(text).map_err(|e| format!("line {} is not what was expected", e.line()))?;
    if form.version != FILE_VERSION {
        return Err(format!("its version is {}, this muonic reads {FILE_VERSION}", form.version));
    }
    let mut keys: Vec<StoredKey> = Vec::with_capacity(form.keys.len());
    for KeyForm { name, version, created_at, key } in form.keys {
        let key = BASE64
            .decode(key.as_bytes())
            .ok()
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
            .ok_or_else(|| format!("version {version} of a key is not 32 bytes in Base64"))?;
        if keys.iter().any(|known| known.name == name && known.version == version) {
            return Err(format!("version {version} of a key is there twice"));
        }
        keys.push(StoredKey { name, version, created_at, key });
    }
    if !keys.iter().any(|key| key.name.is_none()) {
        return Err("the store's own key is not in it".to_owned());
    }
    Ok(keys)
}

/// Replaces the file; durable when it returns.
pub(super) fn write(path: &Path, keys: &[StoredKey]) -> Result<()> {
    let keys = keys
        .iter()
        .map(|k| KeyForm {
            name: k.name.clone(),
            version: k.version,
            created_at: k.created_at,
            key: BASE64.encode(&k.key),
        })
        .collect();
    let mut text = serde_json::to_string_pretty(&FileForm { version: FILE_VERSION, keys })
        .map_err(|e| Error::internal("the key file could not be put into words", e))?;
    text.push('\n');
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = Path::new(&temporary);
    let replace = || -> io::Result<()> {
        // One that a crash has left may have other permissions.
        match fs::remove_file(temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(temporary, path)?;
        File::open(folder)?.sync_all()
    };
    replace().map_err(|e| failed("write", path, e))
}
