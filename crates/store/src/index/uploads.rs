//! Uploads in parts, until they are completed or given up.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::{BASE64, HEXLOWER};
use muonic_ports::Error as Port;
use muonic_ports::object_store::{
    Algorithm, ChecksumType, Encryption, Error, NewEncryption, NewObject, ObjectVersion, Origin, Part, Result, Sums,
    Target, Upload,
};
use muonic_types::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::Index;
use super::extents::{self, PartColumns};
use super::failure::Failure;
use super::rows;
use super::tx::Tx;
use super::versions;
use crate::content::Extent;

pub(super) const MOST_PARTS: u16 = 10_000;

/// The bytes of a part, durable, and what was found of them.
#[derive(Debug, Clone)]
pub(crate) struct NewPart {
    pub number: u16,
    pub extent: Extent,
    pub sums: Sums,
    pub at: Timestamp,
}

impl Index {
    /// `encryption` is what `new.encryption` has become.
    pub(crate) async fn upload_create(&self, target: Target, new: NewObject, encryption: Encryption) -> Result<Upload> {
        let full = new.checksum_type == Some(ChecksumType::FullObject);
        if full && matches!(new.algorithm, Some(Algorithm::Sha1 | Algorithm::Sha256)) {
            return Err(Error::NotSupported("full object checksums by SHA1 and SHA256 of uploads in parts"));
        }
        let mut random = [0u8; 16];
        SystemRandom::new()
            .fill(&mut random)
            .map_err(|_| Error::Store(Port::bug("the system gave no random bytes for an upload's id")))?;
        self.step(move |tx| create(tx, &target, &new, &encryption, &random)).await
    }

    pub(crate) fn upload(&self, bucket: &str, key: &str, id: &str) -> Result<Upload> {
        let known = self.known(bucket)?;
        let found = self.readers().point(|conn| find(conn, (known.id, bucket), key, id))?;
        found.map(|(_, upload)| upload).ok_or(Error::NoSuchUpload)
    }

    /// In the place of a part of that number, whose bytes become garbage.
    pub(crate) async fn upload_part(&self, upload: &Upload, part: NewPart) -> Result<Part> {
        if part.number == 0 || part.number > MOST_PARTS {
            return Err(Error::InvalidPart(part.number));
        }
        let upload = upload.clone();
        self.step(move |tx| put_part(tx, &upload, &part)).await
    }

    pub(crate) async fn upload_parts(&self, upload: &Upload, after: u16, max: u32) -> Result<Vec<Part>> {
        let known = self.known(&upload.bucket)?;
        let upload = upload.clone();
        self.readers()
            .scan(move |conn| {
                let (content, _) =
                    find(conn, (known.id, &upload.bucket), &upload.key, &upload.id)?.ok_or(Error::NoSuchUpload)?;
                Ok(parts(conn, content, after, max)?)
            })
            .await
    }

    /// The parts of a version that was uploaded in parts.
    pub(crate) async fn parts(&self, object: &ObjectVersion, after: u16, max: u32) -> Result<Vec<Part>> {
        if object.parts == 0 {
            return Ok(Vec::new());
        }
        let content = object.content.cast_signed();
        self.readers().scan(move |conn| Ok(parts(conn, content, after, max)?)).await
    }

    pub(crate) async fn upload_abort(&self, upload: &Upload) -> Result<()> {
        let upload = upload.clone();
        self.step(move |tx| {
            let (bucket, content) = open(tx, &upload)?;
            tx.sql("DELETE FROM uploads WHERE bucket = ?1 AND key = ?2 AND content = ?3")?.execute(params![
                bucket,
                upload.key.as_bytes(),
                content
            ])?;
            tx.discard(content)?;
            Ok(())
        })
        .await
    }
}

/// The content's number, then 16 random bytes.
fn id_of(content: i64, random: &[u8; 16]) -> String {
    format!("{content:016x}{}", HEXLOWER.encode(random))
}

pub(super) fn content_of_id(id: &str) -> Option<i64> {
    let digits = id.len() == 48 && id.bytes().all(|c| c.is_ascii_hexdigit());
    digits.then(|| i64::from_str_radix(&id[..16], 16).ok()).flatten()
}

/// What an object will be, as the row of its upload keeps it.
#[derive(Debug, Serialize, Deserialize)]
struct Intent {
    headers: BTreeMap<String, String>,
    tags: BTreeMap<String, String>,
    owner: String,
    acl: Option<String>,
    retention: (Option<i64>, Option<i64>),
    legal_hold: bool,
    algorithms: BTreeSet<String>,
    algorithm: Option<String>,
    composite: Option<bool>,
}

impl Intent {
    fn of(new: &NewObject) -> Self {
        Self {
            headers: new.headers.clone(),
            tags: new.tags.clone(),
            owner: new.owner.clone(),
            acl: new.acl.clone(),
            retention: rows::retention_columns(new.retention),
            legal_hold: new.legal_hold,
            algorithms: new.algorithms.iter().map(|a| a.name().to_owned()).collect(),
            algorithm: new.algorithm.map(|a| a.name().to_owned()),
            composite: new.checksum_type.map(|kind| kind == ChecksumType::Composite),
        }
    }

    fn object(self, encryption: &Encryption) -> rusqlite::Result<NewObject> {
        let algorithm = |name: &String| name.parse::<Algorithm>().map_err(|()| rows::odd("algorithm"));
        Ok(NewObject {
            origin: Origin::Upload,
            algorithms: self.algorithms.iter().map(algorithm).collect::<rusqlite::Result<_>>()?,
            algorithm: self.algorithm.as_ref().map(algorithm).transpose()?,
            headers: self.headers,
            tags: self.tags,
            owner: self.owner,
            acl: self.acl,
            encryption: match encryption {
                Encryption::Named(name) => NewEncryption::Named(Some(name.clone())),
                _ => NewEncryption::Store,
            },
            retention: rows::retention(self.retention.0, self.retention.1)?,
            legal_hold: self.legal_hold,
            checksum_type: self
                .composite
                .map(|composite| if composite { ChecksumType::Composite } else { ChecksumType::FullObject }),
        })
    }
}

/// Of columns key, content, id, started_at, encryption, new.
pub(super) fn read(bucket: &str, row: &Row<'_>) -> rusqlite::Result<(i64, Upload)> {
    let encryption = rows::encryption(row.get_ref(4)?.as_str_or_null()?)?;
    let intent: Intent = serde_json::from_str(row.get_ref(5)?.as_str()?).map_err(|_| rows::odd("upload"))?;
    let upload = Upload {
        bucket: bucket.to_owned(),
        key: String::from_utf8(row.get_ref(0)?.as_blob()?.to_vec()).map_err(|_| rows::odd("key"))?,
        id: row.get(2)?,
        started_at: rows::timestamp(row.get(3)?)?,
        new: intent.object(&encryption)?,
        encryption,
    };
    Ok((row.get(1)?, upload))
}

/// With the number of its content.
pub(super) fn find(
    conn: &Connection,
    bucket: (i64, &str),
    key: &str,
    id: &str,
) -> rusqlite::Result<Option<(i64, Upload)>> {
    let Some(content) = content_of_id(id) else { return Ok(None) };
    let found = conn
        .prepare_cached(
            "SELECT key, content, id, started_at, encryption, new FROM uploads
             WHERE bucket = ?1 AND key = ?2 AND content = ?3",
        )?
        .query_row(params![bucket.0, key.as_bytes(), content], |row| read(bucket.1, row))
        .optional()?;
    Ok(found.filter(|(_, upload)| upload.id == id))
}

fn create(
    tx: &mut Tx<'_>,
    target: &Target,
    new: &NewObject,
    encryption: &Encryption,
    random: &[u8; 16],
) -> Result<Upload, Failure> {
    let bucket = tx.bucket(&target.bucket)?;
    versions::may_lock(&bucket, new.retention, new.legal_hold)?;
    let content = tx.number();
    let id = id_of(content, random);
    tx.sql(
        "INSERT INTO uploads (bucket, key, content, id, started_at, encryption, new) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        bucket.id,
        target.key.as_bytes(),
        content,
        id,
        rows::micros(target.at),
        rows::encryption_text(encryption),
        rows::json(&Intent::of(new)),
    ])?;
    Ok(Upload {
        bucket: target.bucket.clone(),
        key: target.key.clone(),
        id,
        started_at: rows::timestamp(rows::micros(target.at))?,
        new: Intent::of(new).object(encryption)?,
        encryption: encryption.clone(),
    })
}

/// Numbers of the bucket and the content of an upload that is open.
pub(super) fn open(tx: &mut Tx<'_>, upload: &Upload) -> Result<(i64, i64), Failure> {
    let bucket = tx.bucket(&upload.bucket)?;
    let content = content_of_id(&upload.id).ok_or(Error::NoSuchUpload)?;
    let id: Option<String> = tx
        .sql("SELECT id FROM uploads WHERE bucket = ?1 AND key = ?2 AND content = ?3")?
        .query_row(params![bucket.id, upload.key.as_bytes(), content], |row| row.get(0))
        .optional()?;
    if id.as_ref() == Some(&upload.id) { Ok((bucket.id, content)) } else { Err(Error::NoSuchUpload.into()) }
}

fn put_part(tx: &mut Tx<'_>, upload: &Upload, part: &NewPart) -> Result<Part, Failure> {
    let (_, content) = open(tx, upload)?;
    let row = extents::row_of(content, part.number);
    if tx.sql("SELECT 1 FROM extents WHERE row = ?1")?.exists([row])? {
        let alone = tx.number();
        tx.sql("UPDATE extents SET row = ?2 WHERE row = ?1")?.execute([row, extents::row_of(alone, part.number)])?;
        tx.discard(alone)?;
    }
    let sum = upload.new.algorithm.and_then(|a| Some((a, part.sums.found.get(&a)?)));
    let blob = sum.map(|(a, bytes)| rows::sum_blob(a, ChecksumType::FullObject, bytes));
    let columns = PartColumns { etag: &part.sums.md5, sum: blob.as_deref(), modified_at: rows::micros(part.at) };
    extents::insert(tx, row, &part.extent, Some(columns))?;
    Ok(Part {
        number: part.number,
        size: part.extent.size,
        etag: rows::etag(&part.sums.md5, 0),
        sum: sum.map(|(a, bytes)| (a, BASE64.encode(bytes))),
        modified_at: rows::timestamp(rows::micros(part.at))?,
    })
}

fn parts(conn: &Connection, content: i64, after: u16, max: u32) -> rusqlite::Result<Vec<Part>> {
    let (_, last) = extents::rows_of(content);
    conn.prepare_cached(
        "SELECT row, size, etag, sum, modified_at FROM extents
         WHERE row > ?1 AND row <= ?2 AND etag IS NOT NULL ORDER BY row LIMIT ?3",
    )?
    .query_map(params![extents::row_of(content, after.min(MOST_PARTS)), last, max], |row| {
        let sum = row.get_ref(3)?.as_blob_or_null()?.map(rows::sum).transpose()?;
        Ok(Part {
            number: extents::part_of(row.get(0)?),
            size: row.get(1)?,
            etag: rows::etag(row.get_ref(2)?.as_blob()?, 0),
            sum: sum.map(|(algorithm, _, bytes)| (algorithm, BASE64.encode(bytes))),
            modified_at: rows::timestamp(row.get(4)?)?,
        })
    })?
    .collect()
}
