//! Objects: put, copied, read and changed.

use std::ops::Range;

use muonic_ports::object_store::{
    Algorithm, ChecksumType, Encryption, Error, EtagMatch, Happened, LockGuard, NewObject, ObjectChange, ObjectVersion,
    Precondition, Result, Sums, Target, VersionId,
};
use muonic_types::{Digest, Timestamp};
use rusqlite::{OptionalExtension, params};

use super::Index;
use super::extents;
use super::failure::Failure;
use super::guard;
use super::journal::{self, Subject};
use super::rows::{self, More};
use super::tx::Tx;
use super::versions::{self, Facts, Spot};
use crate::content::Extent;

/// Bytes that are durable, and what was found of them.
#[derive(Debug, Clone)]
pub(crate) struct NewContent {
    pub extent: Extent,
    pub encryption: Encryption,
    pub sums: Sums,
}

impl Index {
    /// Makes `content` the latest version of the target. Of `content.sums` it
    /// keeps MD5, as ETag, and the sum of `new.algorithm`.
    pub(crate) async fn put(&self, target: Target, new: NewObject, content: NewContent) -> Result<ObjectVersion> {
        self.step(move |tx| put(tx, &target, &new, &content)).await
    }

    /// As [`Index::put`], with the content of a version that is there, which
    /// then has two names. ETag, parts, sum and encryption are the source's.
    /// `NoSuchVersion` where the source has gone since it was read.
    pub(crate) async fn put_shared(
        &self,
        source: ObjectVersion,
        target: Target,
        new: NewObject,
    ) -> Result<ObjectVersion> {
        self.step(move |tx| put_shared(tx, &source, &target, &new)).await
    }

    /// Makes a blob the content of a version, beside its digest. `md5` is that
    /// of its bytes. `PreconditionFailed` where the key has a version.
    pub(crate) async fn adopt(
        &self,
        digest: Digest,
        md5: Vec<u8>,
        sum: Option<(Algorithm, Vec<u8>)>,
        target: Target,
        new: NewObject,
    ) -> Result<ObjectVersion> {
        let condition = Precondition { if_none_match: Some(EtagMatch::Any), ..Precondition::default() };
        let target = Target { condition, ..target };
        self.step(move |tx| adopt(tx, &digest, &md5, sum.as_ref(), &target, &new)).await
    }

    /// The version named, or the latest, which may be a delete marker.
    pub(crate) fn get(&self, bucket: &str, key: &str, version: Option<&VersionId>) -> Result<Option<ObjectVersion>> {
        let known = self.known(bucket)?;
        let at = (known.id, bucket);
        let found = self.readers().point(|conn| match version {
            None => versions::latest(conn, at, key),
            Some(id) => versions::named(conn, at, key, id),
        })?;
        Ok(found.map(|row| row.object))
    }

    /// The extents of a content that overlap a range of its bytes, each with
    /// the place in the content where it begins. A content without parts has
    /// one, whatever the range. `None` where it is gone.
    pub(crate) fn extents(&self, content: u64, range: Range<u64>) -> Result<Option<Vec<(u64, Extent)>>> {
        let content = content.cast_signed();
        self.readers().point(|conn| extents::of_content(conn, content, &range))
    }

    pub(crate) async fn change(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&VersionId>,
        change: ObjectChange,
        at: Timestamp,
    ) -> Result<ObjectVersion> {
        let (bucket, key, version) = (bucket.to_owned(), key.to_owned(), version.cloned());
        self.step(move |tx| alter(tx, &bucket, &key, version.as_ref(), &change, at)).await
    }
}

/// Decides all that a new version can be refused for.
pub(super) fn admit<'a>(
    tx: &mut Tx<'_>,
    target: &'a Target,
    new: &NewObject,
) -> Result<(Spot<'a>, Option<rows::VersionRow>), Failure> {
    let bucket = tx.bucket(&target.bucket)?;
    versions::may_lock(&bucket, new.retention, new.legal_hold)?;
    if target.condition != Default::default() {
        let there = versions::latest(tx.conn(), (bucket.id, &target.bucket), &target.key)?;
        versions::hold(&target.condition, there.as_ref().map(|row| &row.object))?;
    }
    let guard = LockGuard { now: target.at, bypass: false };
    let old = versions::displaced(tx, &bucket, &target.bucket, &target.key, guard)?;
    Ok((Spot { bucket, name: &target.bucket, key: &target.key, at: target.at }, old))
}

fn put(tx: &mut Tx<'_>, target: &Target, new: &NewObject, content: &NewContent) -> Result<ObjectVersion, Failure> {
    let (spot, old) = admit(tx, target, new)?;
    let number = tx.number();
    extents::insert(tx, extents::row_of(number, 0), &content.extent, None)?;
    let sum = new.algorithm.and_then(|algorithm| {
        let found = content.sums.found.get(&algorithm)?;
        Some(rows::sum_blob(algorithm, ChecksumType::FullObject, found))
    });
    let facts = Facts {
        content: number,
        size: content.sums.size,
        md5: content.sums.md5.to_vec(),
        parts: 0,
        sum,
        encryption: content.encryption.clone(),
    };
    versions::place(tx, spot, new, facts, old.as_ref())
}

fn put_shared(
    tx: &mut Tx<'_>,
    source: &ObjectVersion,
    target: &Target,
    new: &NewObject,
) -> Result<ObjectVersion, Failure> {
    let (spot, old) = admit(tx, target, new)?;
    let from = tx.bucket(&source.bucket)?;
    let content = source.content.cast_signed();
    let there = versions::named(tx.conn(), (from.id, &source.bucket), &source.key, &source.version)?
        .filter(|row| row.content == content && !row.object.is_delete_marker)
        .ok_or(Error::NoSuchVersion)?;
    let (md5, sum): (Vec<u8>, Option<Vec<u8>>) = tx
        .sql("SELECT etag, sum FROM versions WHERE bucket = ?1 AND key = ?2 AND age = ?3")?
        .query_row(params![from.id, source.key.as_bytes(), there.age], |row| Ok((row.get(0)?, row.get(1)?)))?;
    share(tx, content)?;
    let facts = Facts {
        content,
        size: there.object.size,
        md5,
        parts: there.object.parts,
        sum,
        encryption: there.object.encryption,
    };
    versions::place(tx, spot, new, facts, old.as_ref())
}

fn adopt(
    tx: &mut Tx<'_>,
    digest: &Digest,
    md5: &[u8],
    sum: Option<&(Algorithm, Vec<u8>)>,
    target: &Target,
    new: &NewObject,
) -> Result<ObjectVersion, Failure> {
    let (spot, old) = admit(tx, target, new)?;
    let found: Option<(i64, u64)> = tx
        .sql("SELECT content, size FROM blobs JOIN extents ON row = content << 14 WHERE blobs.digest = ?1")?
        .query_row([digest.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (content, size) = found.ok_or(Error::NoSuchVersion)?;
    share(tx, content)?;
    let sum = sum.map(|(algorithm, bytes)| rows::sum_blob(*algorithm, ChecksumType::FullObject, bytes));
    let facts = Facts { content, size, md5: md5.to_vec(), parts: 0, sum, encryption: Encryption::None };
    versions::place(tx, spot, new, facts, old.as_ref())
}

/// Counts one more name of a content.
fn share(tx: &mut Tx<'_>, content: i64) -> rusqlite::Result<()> {
    tx.sql("INSERT INTO contents (id, refs, parts) VALUES (?1, 2, 0) ON CONFLICT (id) DO UPDATE SET refs = refs + 1")?
        .execute([content])?;
    Ok(())
}

fn alter(
    tx: &mut Tx<'_>,
    name: &str,
    key: &str,
    version: Option<&VersionId>,
    change: &ObjectChange,
    now: Timestamp,
) -> Result<ObjectVersion, Failure> {
    let bucket = tx.bucket(name)?;
    let at = (bucket.id, name);
    let mut row = match version {
        None => versions::latest(tx.conn(), at, key)?.ok_or(Error::NoSuchKey)?,
        Some(id) => versions::named(tx.conn(), at, key, id)?.ok_or(Error::NoSuchVersion)?,
    };
    let object = &mut row.object;
    if object.is_delete_marker {
        return Err(Error::NoSuchKey.into());
    }
    match change {
        ObjectChange::Tags(tags) => object.tags = tags.clone(),
        ObjectChange::Acl(acl) => object.acl = acl.clone(),
        ObjectChange::Retention(retention, guard) => {
            if !bucket.lock {
                return Err(super::buckets::state("the bucket has no object lock").into());
            }
            guard.may_retain(object.retention, *retention)?;
            let (mode, until) = rows::retention_columns(*retention);
            object.retention = rows::retention(mode, until)?;
        }
        ObjectChange::LegalHold(hold) => {
            if !bucket.lock {
                return Err(super::buckets::state("the bucket has no object lock").into());
            }
            object.legal_hold = *hold;
        }
    }
    let more = More { headers: object.headers.clone(), tags: object.tags.clone(), acl: object.acl.clone() };
    let (mode, until) = rows::retention_columns(object.retention);
    tx.sql(
        "UPDATE versions SET retain_mode = ?4, retain_until = ?5, legal_hold = ?6, more = ?7
         WHERE bucket = ?1 AND key = ?2 AND age = ?3",
    )?
    .execute(params![bucket.id, key.as_bytes(), row.age, mode, until, row.object.legal_hold, more.text()])?;
    guard::renew(tx, bucket.id, key.as_bytes(), row.age)?;
    let happened = match change {
        ObjectChange::Tags(tags) if tags.is_empty() => Some(Happened::Untagged),
        ObjectChange::Tags(_) => Some(Happened::Tagged),
        ObjectChange::Acl(_) => Some(Happened::AclSet),
        ObjectChange::Retention(..) | ObjectChange::LegalHold(_) => None,
    };
    if let Some(happened) = happened {
        let ObjectVersion { version, size, etag, .. } = &row.object;
        journal::record(tx, &bucket, happened, Subject { key, version, size: *size, etag }, now)?;
    }
    Ok(row.object)
}
