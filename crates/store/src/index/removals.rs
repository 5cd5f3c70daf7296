//! Removing versions and setting delete markers.

use muonic_ports::object_store::{
    Deleted, Happened, ObjectVersion, Precondition, Removal, Result, VersionId, Versioning,
};
use muonic_types::Timestamp;

use super::Index;
use super::failure::Failure;
use super::journal::{self, Subject};
use super::rows::VersionRow;
use super::tx::{BucketKey, Tx};
use super::versions::{self, Spot};

impl Index {
    /// Each removal has an answer of its own; all are one transaction.
    pub(crate) async fn delete(
        &self,
        bucket: &str,
        removals: Vec<Removal>,
        at: Timestamp,
    ) -> Result<Vec<Result<Deleted>>> {
        let name = bucket.to_owned();
        self.step(move |tx| {
            let bucket = tx.bucket(&name)?;
            let mut answers = Vec::with_capacity(removals.len());
            for removal in &removals {
                let spot = Spot { bucket, name: &name, key: &removal.key, at };
                let answer = match &removal.version {
                    Some(version) => remove_version(tx, spot, version, removal),
                    None => remove_key(tx, spot, removal),
                };
                answers.push(match answer {
                    Ok(deleted) => Ok(deleted),
                    Err(Failure::Refused(error)) => Err(error),
                    Err(fault) => return Err(fault),
                });
            }
            Ok(answers)
        })
        .await
    }
}

fn remove_version(tx: &mut Tx<'_>, spot: Spot<'_>, id: &VersionId, removal: &Removal) -> Result<Deleted, Failure> {
    let found = versions::named(tx.conn(), (spot.bucket.id, spot.name), spot.key, id)?;
    versions::hold(&removal.condition, found.as_ref().map(|row| &row.object))?;
    if let Some(row) = &found {
        removal.guard.may_remove(row.object.retention, row.object.legal_hold)?;
        remove(tx, spot, row, removal)?;
    }
    Ok(Deleted {
        version: Some(id.clone()),
        delete_marker: found.as_ref().is_some_and(|row| row.object.is_delete_marker),
        found: found.is_some(),
    })
}

fn remove(tx: &mut Tx<'_>, spot: Spot<'_>, row: &VersionRow, removal: &Removal) -> rusqlite::Result<()> {
    versions::remove(tx, spot.bucket.id, spot.key, row)?;
    let ObjectVersion { version, size, etag, .. } = &row.object;
    let subject = Subject { key: spot.key, version, size: *size, etag };
    journal::record(tx, &spot.bucket, Happened::Removed { expired: removal.expired }, subject, spot.at)
}

fn remove_key(tx: &mut Tx<'_>, spot: Spot<'_>, removal: &Removal) -> Result<Deleted, Failure> {
    let BucketKey { id, versioning, .. } = spot.bucket;
    let latest = versions::latest(tx.conn(), (id, spot.name), spot.key)?;
    if removal.condition != Precondition::default() {
        versions::hold(&removal.condition, latest.as_ref().map(|row| &row.object))?;
    }
    let found = latest.is_some_and(|row| !row.object.is_delete_marker);
    let old = versions::displaced(tx, &spot.bucket, spot.name, spot.key, removal.guard)?;
    if versioning == Versioning::Off {
        if let Some(old) = &old {
            remove(tx, spot, old, removal)?;
        }
        return Ok(Deleted { version: None, delete_marker: false, found });
    }
    let marker = versions::mark(tx, spot, removal, old.as_ref())?;
    Ok(Deleted { version: Some(marker), delete_marker: true, found })
}
