//! How values are written in columns, and rows of versions read.
//!
//! What a column holds that this program cannot have written is an error of
//! the row, never a guess.

use std::collections::BTreeMap;

use data_encoding::{BASE64, HEXLOWER};
use muonic_ports::object_store::{
    Algorithm, ChecksumType, Encryption, ObjectVersion, Retention, RetentionMode, VersionId, Versioning,
};
use muonic_types::Timestamp;
use rusqlite::Row;
use rusqlite::types::Type;
use serde::{Deserialize, Serialize};

use super::guard;

type Sql<T> = rusqlite::Result<T>;

/// A value that nothing of ours has written.
pub(super) fn odd(what: &'static str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, format!("the store's index has an odd {what}").into())
}

pub(super) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

pub(super) fn timestamp(micros: i64) -> Sql<Timestamp> {
    Timestamp::from_microsecond(micros).map_err(|_| odd("time"))
}

pub(super) fn versioning(n: i64) -> Versioning {
    match n {
        0 => Versioning::Off,
        1 => Versioning::On,
        _ => Versioning::Suspended,
    }
}

pub(super) fn versioning_number(versioning: Versioning) -> i64 {
    match versioning {
        Versioning::Off => 0,
        Versioning::On => 1,
        Versioning::Suspended => 2,
    }
}

/// The id of the version that was made at this place in the sequence.
pub(super) fn version_id(age: i64) -> VersionId {
    VersionId(format!("{:016x}", age.unsigned_abs()))
}

/// `None` where no version has such an id.
pub(super) fn version_age(id: &VersionId) -> Option<i64> {
    let digits = id.0.len() == 16 && id.0.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    digits.then(|| i64::from_str_radix(&id.0, 16).ok().map(|n| -n)).flatten()
}

pub(super) fn encryption_text(encryption: &Encryption) -> Option<String> {
    match encryption {
        Encryption::None => None,
        Encryption::Store => Some("s".into()),
        Encryption::Named(name) => Some(format!("n{name}")),
        Encryption::Customer { key_md5 } => Some(format!("c{key_md5}")),
    }
}

pub(super) fn encryption(text: Option<&str>) -> Sql<Encryption> {
    let Some(text) = text else { return Ok(Encryption::None) };
    match text.split_at_checked(1) {
        Some(("s", "")) => Ok(Encryption::Store),
        Some(("n", name)) => Ok(Encryption::Named(name.to_owned())),
        Some(("c", md5)) => Ok(Encryption::Customer { key_md5: md5.to_owned() }),
        _ => Err(odd("encryption")),
    }
}

fn algorithm_number(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::Crc32 => 1,
        Algorithm::Crc32c => 2,
        Algorithm::Crc64Nvme => 3,
        Algorithm::Sha1 => 4,
        Algorithm::Sha256 => 5,
    }
}

pub(super) fn sum_blob(algorithm: Algorithm, kind: ChecksumType, sum: &[u8]) -> Vec<u8> {
    let mut blob = Vec::with_capacity(2 + sum.len());
    blob.push(algorithm_number(algorithm));
    blob.push(match kind {
        ChecksumType::FullObject => 0,
        ChecksumType::Composite => 1,
    });
    blob.extend_from_slice(sum);
    blob
}

pub(super) fn sum(blob: &[u8]) -> Sql<(Algorithm, ChecksumType, &[u8])> {
    let [number, kind, sum @ ..] = blob else { return Err(odd("sum")) };
    let algorithm = Algorithm::ALL.into_iter().find(|a| algorithm_number(*a) == *number).ok_or_else(|| odd("sum"))?;
    let kind = match kind {
        0 => ChecksumType::FullObject,
        1 => ChecksumType::Composite,
        _ => return Err(odd("sum")),
    };
    if sum.len() == algorithm.len() { Ok((algorithm, kind, sum)) } else { Err(odd("sum")) }
}

/// An ETag as clients see it.
pub(super) fn etag(md5: &[u8], parts: u16) -> String {
    match parts {
        0 => HEXLOWER.encode(md5),
        n => format!("{}-{n}", HEXLOWER.encode(md5)),
    }
}

/// A sum as clients see it.
pub(super) fn sum_text(sum: &[u8], kind: ChecksumType, parts: u16) -> String {
    match kind {
        ChecksumType::FullObject => BASE64.encode(sum),
        ChecksumType::Composite => format!("{}-{parts}", BASE64.encode(sum)),
    }
}

pub(super) fn retention_columns(retention: Option<Retention>) -> (Option<i64>, Option<i64>) {
    let mode = retention.map(|r| match r.mode {
        RetentionMode::Governance => 1,
        RetentionMode::Compliance => 2,
    });
    (mode, retention.map(|r| micros(r.until)))
}

pub(super) fn retention(mode: Option<i64>, until: Option<i64>) -> Sql<Option<Retention>> {
    let (Some(mode), Some(until)) = (mode, until) else { return Ok(None) };
    let mode = match mode {
        1 => RetentionMode::Governance,
        2 => RetentionMode::Compliance,
        _ => return Err(odd("retention")),
    };
    Ok(Some(Retention { mode, until: timestamp(until)? }))
}

/// What only reads of one version need.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct More {
    #[serde(rename = "h", skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(rename = "t", skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) tags: BTreeMap<String, String>,
    #[serde(rename = "a", skip_serializing_if = "Option::is_none")]
    pub(super) acl: Option<String>,
}

impl More {
    pub(super) fn text(&self) -> Option<String> {
        if *self == Self::default() { None } else { json(self).into() }
    }

    pub(super) fn parse(text: Option<&str>) -> Sql<Self> {
        text.map_or_else(|| Ok(Self::default()), |text| serde_json::from_str(text).map_err(|_| odd("document")))
    }
}

/// Maps with text keys: writing them cannot fail.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// The columns of [`read_version`], in its order; lists leave out `more`, which
/// follows.
macro_rules! version_columns {
    () => {
        "key, age, nullness, marker, size, content, modified_at, etag, parts, sum, owner, encryption, \
         retain_mode, retain_until, legal_hold, bucket, guard"
    };
}
pub(super) use version_columns;

/// A version as its row has it.
#[derive(Debug, Clone)]
pub(super) struct VersionRow {
    pub(super) age: i64,
    pub(super) nullness: i64,
    pub(super) content: i64,
    pub(super) object: ObjectVersion,
}

/// `latest` is left `false`; it is for the query to know. `more`: whether the
/// statement has that column too.
pub(super) fn read_version(bucket: &str, row: &Row<'_>, more: bool) -> Sql<VersionRow> {
    let row = guard::read(row, more)?;
    let key = String::from_utf8(row.at(0).as_blob()?.to_vec()).map_err(|_| odd("key"))?;
    let (age, nullness, marker): (i64, i64, bool) = (row.get(1)?, row.get(2)?, row.get(3)?);
    let (size, content): (u64, i64) = (row.get(4)?, row.get(5)?);
    let parts: u16 = row.get(8)?;
    let kept = match row.at(9).as_blob_or_null()? {
        None => None,
        Some(blob) => {
            let (algorithm, kind, bytes) = sum(blob)?;
            Some((algorithm, kind, sum_text(bytes, kind, parts)))
        }
    };
    let more = More::parse(row.more().as_str_or_null()?)?;
    let object = ObjectVersion {
        bucket: bucket.to_owned(),
        key,
        version: if nullness == 0 { version_id(age) } else { VersionId::null() },
        latest: false,
        is_delete_marker: marker,
        size,
        etag: if marker { String::new() } else { etag(row.at(7).as_blob()?, parts) },
        modified_at: timestamp(row.get(6)?)?,
        headers: more.headers,
        tags: more.tags,
        owner: row.get(10)?,
        acl: more.acl,
        encryption: encryption(row.at(11).as_str_or_null()?)?,
        retention: retention(row.get(12)?, row.get(13)?)?,
        legal_hold: row.get(14)?,
        sum: kept,
        parts,
        content: content.unsigned_abs(),
    };
    Ok(VersionRow { age, nullness, content, object })
}
