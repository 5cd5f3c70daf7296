//! Finding, adding and removing rows of versions. Everything that makes or
//! removes a version goes through here.

use muonic_ports::object_store::{
    Encryption, Error, Happened, LockGuard, NewObject, ObjectVersion, Precondition, Removal, Retention, VersionId,
    Versioning,
};
use muonic_types::Timestamp;
use rusqlite::types::Null;
use rusqlite::{Connection, OptionalExtension, Params, params};

use super::buckets::state;
use super::failure::Failure;
use super::guard;
use super::journal::{self, Subject};
use super::rows::{self, More, VersionRow, version_columns};
use super::tx::{BucketKey, Tx};

type Sql<T> = rusqlite::Result<T>;

/// Put while versioning was off, so it is the oldest of its key; put while suspended.
pub(super) const NULL_PLAIN: i64 = 1;
pub(super) const NULL_SUSPENDED: i64 = 2;

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT ", version_columns!(), ", more FROM versions ", $rest)
    };
}

fn one(conn: &Connection, sql: &str, bucket: &str, by: impl Params) -> Sql<Option<VersionRow>> {
    conn.prepare_cached(sql)?.query_row(by, |row| rows::read_version(bucket, row, true)).optional()
}

pub(super) fn latest(conn: &Connection, bucket: (i64, &str), key: &str) -> Sql<Option<VersionRow>> {
    let sql = select!("WHERE bucket = ?1 AND key = ?2 ORDER BY age LIMIT 1");
    let mut found = one(conn, sql, bucket.1, params![bucket.0, key.as_bytes()])?;
    if let Some(found) = &mut found {
        found.object.latest = true;
    }
    Ok(found)
}

/// The null version of a key, whether it is the latest or not.
pub(super) fn null(conn: &Connection, bucket: (i64, &str), key: &str) -> Sql<Option<VersionRow>> {
    let by = params![bucket.0, key.as_bytes()];
    let oldest = one(conn, select!("WHERE bucket = ?1 AND key = ?2 ORDER BY age DESC LIMIT 1"), bucket.1, by)?;
    match oldest {
        Some(row) if row.nullness == 0 => {
            one(conn, select!("WHERE bucket = ?1 AND key = ?2 AND nullness = 2"), bucket.1, by)
        }
        oldest => Ok(oldest),
    }
}

pub(super) fn named(conn: &Connection, bucket: (i64, &str), key: &str, id: &VersionId) -> Sql<Option<VersionRow>> {
    let found = if id.is_null() {
        null(conn, bucket, key)?
    } else {
        let Some(age) = rows::version_age(id) else { return Ok(None) };
        by_age(conn, bucket, key, age)?.filter(|row| row.nullness == 0)
    };
    let Some(mut found) = found else { return Ok(None) };
    let newer = conn
        .prepare_cached("SELECT 1 FROM versions WHERE bucket = ?1 AND key = ?2 AND age < ?3 LIMIT 1")?
        .exists(params![bucket.0, key.as_bytes(), found.age])?;
    found.object.latest = !newer;
    Ok(Some(found))
}

pub(super) fn by_age(conn: &Connection, bucket: (i64, &str), key: &str, age: i64) -> Sql<Option<VersionRow>> {
    one(conn, select!("WHERE bucket = ?1 AND key = ?2 AND age = ?3"), bucket.1, params![bucket.0, key.as_bytes(), age])
}

/// Decides a condition about what is there. Delete markers are nothing.
pub(super) fn hold(condition: &Precondition, there: Option<&ObjectVersion>) -> Result<(), Error> {
    let there = there.filter(|object| !object.is_delete_marker);
    if let Some(wanted) = &condition.if_none_match
        && there.is_some_and(|object| wanted.matches(&object.etag))
    {
        return Err(Error::PreconditionFailed("If-None-Match"));
    }
    let asks = condition.if_match.is_some() || condition.if_modified_at.is_some() || condition.if_size.is_some();
    let Some(there) = there else {
        return if asks { Err(Error::NoSuchKey) } else { Ok(()) };
    };
    if condition.if_match.as_ref().is_some_and(|wanted| !wanted.matches(&there.etag)) {
        return Err(Error::PreconditionFailed("If-Match"));
    }
    if condition.if_modified_at.is_some_and(|at| at.as_second() != there.modified_at.as_second()) {
        return Err(Error::PreconditionFailed("x-amz-if-match-last-modified-time"));
    }
    if condition.if_size.is_some_and(|size| size != there.size) {
        return Err(Error::PreconditionFailed("x-amz-if-match-size"));
    }
    Ok(())
}

/// Refuses locks where the bucket has none.
pub(super) fn may_lock(bucket: &BucketKey, retention: Option<Retention>, legal_hold: bool) -> Result<(), Error> {
    if !bucket.lock && (retention.is_some() || legal_hold) {
        return Err(state("the bucket has no object lock"));
    }
    Ok(())
}

/// What a new version is, beside what its sender says of it.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) content: i64,
    pub(super) size: u64,
    pub(super) md5: Vec<u8>,
    pub(super) parts: u16,
    pub(super) sum: Option<Vec<u8>>,
    pub(super) encryption: Encryption,
}

/// The null version that a new one, or a delete marker, takes the place of;
/// refused where it is locked.
pub(super) fn displaced(
    tx: &Tx<'_>,
    bucket: &BucketKey,
    name: &str,
    key: &str,
    guard: LockGuard,
) -> Result<Option<VersionRow>, Failure> {
    let old = match bucket.versioning {
        Versioning::On => None,
        Versioning::Off => latest(tx.conn(), (bucket.id, name), key)?,
        Versioning::Suspended => null(tx.conn(), (bucket.id, name), key)?,
    };
    if let Some(old) = &old {
        guard.may_remove(old.object.retention, old.object.legal_hold)?;
    }
    Ok(old)
}

/// Whose key is made, where and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot<'a> {
    pub(super) bucket: BucketKey,
    pub(super) name: &'a str,
    pub(super) key: &'a str,
    pub(super) at: Timestamp,
}

/// Makes the latest version of a key. `old` is what [`displaced`] has found;
/// all that can be refused has been decided.
pub(super) fn place(
    tx: &mut Tx<'_>,
    spot: Spot<'_>,
    new: &NewObject,
    facts: Facts,
    old: Option<&VersionRow>,
) -> Result<ObjectVersion, Failure> {
    if let Some(old) = old {
        remove(tx, spot.bucket.id, spot.key, old)?;
    }
    let more = More { headers: new.headers.clone(), tags: new.tags.clone(), acl: new.acl.clone() };
    let (mode, until) = rows::retention_columns(new.retention);
    let age = -tx.number();
    let nullness = nullness(spot.bucket.versioning);
    let row = [
        spot.key.as_bytes().to_vec().into(),
        age.into(),
        nullness.into(),
        false.into(),
        i64::try_from(facts.size).map_err(|_| rows::odd("size"))?.into(),
        facts.content.into(),
        rows::micros(spot.at).into(),
        facts.md5.clone().into(),
        i64::from(facts.parts).into(),
        facts.sum.clone().into(),
        new.owner.clone().into(),
        rows::encryption_text(&facts.encryption).into(),
        mode.into(),
        until.into(),
        new.legal_hold.into(),
        spot.bucket.id.into(),
    ];
    guard::insert(tx, row, more.text())?;
    let sum = match &facts.sum {
        None => None,
        Some(blob) => {
            let (algorithm, kind, bytes) = rows::sum(blob)?;
            Some((algorithm, kind, rows::sum_text(bytes, kind, facts.parts)))
        }
    };
    let version = if nullness == 0 { rows::version_id(age) } else { VersionId::null() };
    let etag = rows::etag(&facts.md5, facts.parts);
    let subject = Subject { key: spot.key, version: &version, size: facts.size, etag: &etag };
    journal::record(tx, &spot.bucket, Happened::Created(new.origin), subject, spot.at)?;
    Ok(ObjectVersion {
        bucket: spot.name.to_owned(),
        key: spot.key.to_owned(),
        version,
        latest: true,
        is_delete_marker: false,
        size: facts.size,
        etag,
        modified_at: rows::timestamp(rows::micros(spot.at))?,
        headers: more.headers,
        tags: more.tags,
        owner: new.owner.clone(),
        acl: more.acl,
        encryption: facts.encryption,
        retention: rows::retention(mode, until)?,
        legal_hold: new.legal_hold,
        sum,
        parts: facts.parts,
        content: facts.content.unsigned_abs(),
    })
}

/// Sets a delete marker, which takes the place of `old`.
pub(super) fn mark(tx: &mut Tx<'_>, spot: Spot<'_>, removal: &Removal, old: Option<&VersionRow>) -> Sql<VersionId> {
    if let Some(old) = old {
        remove(tx, spot.bucket.id, spot.key, old)?;
    }
    let age = -tx.number();
    let nullness = nullness(spot.bucket.versioning);
    let row = [
        spot.key.as_bytes().to_vec().into(),
        age.into(),
        nullness.into(),
        true.into(),
        0.into(),
        0.into(),
        rows::micros(spot.at).into(),
        Vec::new().into(),
        0.into(),
        Null.into(),
        removal.owner.clone().into(),
        Null.into(),
        Null.into(),
        Null.into(),
        false.into(),
        spot.bucket.id.into(),
    ];
    guard::insert(tx, row, None)?;
    let version = if nullness == 0 { rows::version_id(age) } else { VersionId::null() };
    let subject = Subject { key: spot.key, version: &version, size: 0, etag: "" };
    journal::record(tx, &spot.bucket, Happened::Marked { expired: removal.expired }, subject, spot.at)?;
    Ok(version)
}

/// Removes a version for good; its content goes with its last name.
pub(super) fn remove(tx: &mut Tx<'_>, bucket: i64, key: &str, row: &VersionRow) -> Sql<()> {
    tx.sql("DELETE FROM versions WHERE bucket = ?1 AND key = ?2 AND age = ?3")?.execute(params![
        bucket,
        key.as_bytes(),
        row.age
    ])?;
    if !row.object.is_delete_marker {
        tx.release(row.content)?;
    }
    Ok(())
}

fn nullness(versioning: Versioning) -> i64 {
    match versioning {
        Versioning::On => 0,
        Versioning::Off => NULL_PLAIN,
        Versioning::Suspended => NULL_SUSPENDED,
    }
}
