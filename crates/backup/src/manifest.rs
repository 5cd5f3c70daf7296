//! What a snapshot says of itself, and the names of things at a destination.

use muonic_ports::{Error, Result};
use muonic_types::Timestamp;
use muonic_types::backup::{Snapshot, SnapshotKeys};
use serde::{Deserialize, Serialize};

use crate::destination::Destination;

pub const FORMAT: u32 = 1;
const ROOT: &str = "muonic-backup.json";
const SNAPSHOTS: &str = "snapshots/";
pub const MANIFEST: &str = "manifest.json";
pub const FILES: &str = "files.jsonl";
pub const INDEX: &str = "index.sqlite";
pub const METASTORE: &str = "metastore.sqlite";
pub const SEALED: &str = "keys.sealed";
pub const MASTER_KEY: &str = "keys/master.key";
pub const STORE_KEYS: &str = "keys/store.keys";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashed {
    pub size: u64,
    pub sha256: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub version: String,
    pub name: String,
    pub at: Timestamp,
    pub keys: SnapshotKeys,
    pub index: Hashed,
    pub metastore: Hashed,
    /// The list of data files.
    pub list: Hashed,
    pub files: u64,
    pub bytes: u64,
    pub files_sent: u64,
    pub bytes_sent: u64,
}

impl Manifest {
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            name: self.name.clone(),
            at: self.at,
            version: self.version.clone(),
            keys: self.keys,
            files: self.files,
            bytes: self.bytes,
            files_sent: self.files_sent,
            bytes_sent: self.bytes_sent,
        }
    }
}

/// The name of a snapshot of this time; to the millisecond.
pub fn name_of(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%S.%3fZ").to_string()
}

pub fn in_snapshot(name: &str, file: &str) -> String {
    format!("{SNAPSHOTS}{name}/{file}")
}

#[derive(Serialize, Deserialize)]
struct Root {
    format: u32,
    cloud: String,
}

/// Whose backups these are; `None` where there are none.
async fn root(at: &Destination) -> Result<Option<Root>> {
    let Some(root) = at.get_json::<Root>(ROOT).await? else { return Ok(None) };
    if root.format > FORMAT {
        return Err(newer(at, root.format));
    }
    Ok(Some(root))
}

/// Makes the destination that of this cloud, where it is nobody's.
pub async fn claim(at: &Destination, cloud: &str) -> Result<()> {
    match root(at).await? {
        Some(root) if root.cloud == cloud => Ok(()),
        Some(_) => Err(Error::Conflict(format!(
            "{} holds the backups of another cloud: choose another folder or prefix",
            at.shown()
        ))),
        None if at.is_empty().await? => {
            at.put_json(ROOT, &Root { format: FORMAT, cloud: cloud.to_owned() }).await?;
            at.settle().await
        }
        None => Err(Error::Conflict(format!(
            "{} is not empty and holds no backups: choose an empty folder, or one that is not there yet",
            at.shown()
        ))),
    }
}

/// What lies in the folder of snapshots, by snapshot: its files, and whether
/// it exists. The oldest first.
pub async fn folders(at: &Destination) -> Result<Vec<(String, Vec<String>, bool)>> {
    let mut folders: std::collections::BTreeMap<String, Vec<String>> = Default::default();
    for found in at.list(SNAPSHOTS).await? {
        let rest = found.name.strip_prefix(SNAPSHOTS).and_then(|rest| rest.split_once('/'));
        if let Some((snapshot, _)) = rest {
            folders.entry(snapshot.to_owned()).or_default().push(found.name.clone());
        }
    }
    let exists = |name: &str, files: &[String]| files.contains(&in_snapshot(name, MANIFEST));
    Ok(folders
        .into_iter()
        .map(|(name, files)| {
            let whole = exists(&name, &files);
            (name, files, whole)
        })
        .collect())
}

/// All snapshots that exist, the oldest first. `NotFound` where there are no
/// backups at all.
pub async fn all(at: &Destination) -> Result<Vec<Manifest>> {
    if root(at).await?.is_none() {
        return Err(Error::NotFound(format!("there are no backups in {}", at.shown())));
    }
    let mut found = Vec::new();
    for (name, _, exists) in folders(at).await? {
        if exists {
            found.extend(read(at, &name).await?);
        }
    }
    Ok(found)
}

pub async fn read(at: &Destination, name: &str) -> Result<Option<Manifest>> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let file = in_snapshot(name, MANIFEST);
    let Some(Format { format }) = at.get_json(&file).await? else { return Ok(None) };
    if format > FORMAT {
        return Err(newer(at, format));
    }
    let manifest: Option<Manifest> = at.get_json(&file).await?;
    match manifest {
        Some(manifest) if manifest.name != name => {
            Err(Error::Conflict(format!("{file} in {} says that it is {}", at.shown(), manifest.name)))
        }
        manifest => Ok(manifest),
    }
}

fn newer(at: &Destination, format: u32) -> Error {
    Error::Conflict(format!(
        "the backups in {} were made by a newer muonic (format {format}, this one reads {FORMAT}): use that version",
        at.shown()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_time() {
        let name = |at: &str| name_of(at.parse().unwrap());
        assert_eq!(name("2026-11-03T12:00:00Z"), "20261103T120000.000Z");
        assert!(name("2026-11-03T12:00:00.009Z") < name("2026-11-03T12:00:00.010Z"));
    }
}
