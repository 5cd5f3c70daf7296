//! Completing an upload in parts: its content becomes that of a version. No
//! row is written per part, but for parts that were not listed.

use data_encoding::{BASE64, HEXLOWER};
use muonic_ports::object_store::{
    ChecksumType, CompletedPart, Error, ObjectVersion, Precondition, Result, Target, Upload,
};
use muonic_types::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::Index;
use super::extents::{self, Layout};
use super::failure::Failure;
use super::objects::admit;
use super::rows;
use super::sums::{self, PartSum};
use super::tx::Tx;
use super::uploads;
use super::versions::{self, Facts};

/// All parts but the last have this at least.
const SMALLEST: u64 = 5 << 20;
/// How long a completed upload can be completed again, in microseconds.
const REMEMBERED: i64 = 24 * 60 * 60 * 1_000_000;

impl Index {
    /// Again with the same parts within a day it answers the same, as long as
    /// the version is there.
    pub(crate) async fn upload_complete(
        &self,
        upload: &Upload,
        parts: Vec<CompletedPart>,
        condition: Precondition,
        sum: Option<String>,
        at: Timestamp,
    ) -> Result<ObjectVersion> {
        if let Some(pair) = parts.windows(2).find(|pair| pair[0].number >= pair[1].number) {
            tracing::debug!(first = pair[0].number, second = pair[1].number, "parts are not in order");
            return Err(Error::InvalidPartOrder);
        }
        if parts.is_empty() {
            return Err(Error::InvalidPart(0));
        }
        let upload = upload.clone();
        let target = Target { bucket: upload.bucket.clone(), key: upload.key.clone(), condition, at };
        self.step(move |tx| complete(tx, &upload, &parts, &target, sum.as_deref())).await
    }
}

fn complete(
    tx: &mut Tx<'_>,
    upload: &Upload,
    listed: &[CompletedPart],
    target: &Target,
    expected: Option<&str>,
) -> Result<ObjectVersion, Failure> {
    let (bucket, content) = match uploads::open(tx, upload) {
        Err(Failure::Refused(Error::NoSuchUpload)) => {
            return Ok(finished(tx, upload, listed)?.ok_or(Error::NoSuchUpload)?);
        }
        open => open?,
    };
    let (_, there) =
        uploads::find(tx.conn(), (bucket, &upload.bucket), &upload.key, &upload.id)?.ok_or(Error::NoSuchUpload)?;
    let found = verify(tx, content, &there, listed)?;
    let sum = whole_sum(&there, &found, expected)?;
    let (spot, old) = admit(tx, target, &there.new)?;

    for number in &found.unlisted {
        let alone = tx.number();
        tx.sql("UPDATE extents SET row = ?2 WHERE row = ?1")?
            .execute([extents::row_of(content, *number), extents::row_of(alone, *number)])?;
        tx.discard(alone)?;
    }
    tx.sql("DELETE FROM uploads WHERE bucket = ?1 AND key = ?2 AND content = ?3")?.execute(params![
        bucket,
        upload.key.as_bytes(),
        content
    ])?;
    let layout = Layout::of(&found.sizes);
    tx.sql("INSERT INTO contents (id, refs, parts, uniform, ends) VALUES (?1, 1, ?2, ?3, ?4)")?.execute(params![
        content,
        layout.parts,
        layout.uniform,
        layout.ends
    ])?;
    let facts = Facts {
        content,
        size: found.sizes.iter().map(|(_, size)| size).sum(),
        md5: sums::md5_of(&found.md5s),
        parts: layout.parts,
        sum,
        encryption: there.encryption.clone(),
    };
    let object = versions::place(tx, spot, &there.new, facts, old.as_ref())?;
    remember(tx, upload, content, &object, bucket, target.at)?;
    Ok(object)
}

struct Found {
    sizes: Vec<(u16, u64)>,
    md5s: Vec<u8>,
    /// Those of the upload's algorithm; empty where a part has none.
    sums: Vec<PartSum>,
    unlisted: Vec<u16>,
}

/// Reads all parts once, in order, beside the list.
fn verify(tx: &Tx<'_>, content: i64, upload: &Upload, listed: &[CompletedPart]) -> Result<Found, Failure> {
    let mut found = Found {
        sizes: Vec::with_capacity(listed.len()),
        md5s: Vec::with_capacity(listed.len() * 16),
        sums: Vec::new(),
        unlisted: Vec::new(),
    };
    let mut summed = upload.new.algorithm.is_some();
    let mut wanted = listed.iter().peekable();
    let (first, last) = extents::rows_of(content);
    let mut statement = tx.sql("SELECT row, size, etag, sum FROM extents WHERE row BETWEEN ?1 AND ?2 ORDER BY row")?;
    let mut parts = statement.query([first, last])?;
    while let Some(row) = parts.next()? {
        let number = extents::part_of(row.get(0)?);
        let Some(part) = wanted.next_if(|part| part.number <= number) else {
            found.unlisted.push(number);
            continue;
        };
        let size: u64 = row.get(1)?;
        let md5 = row.get_ref(2)?.as_blob()?;
        let mut etag = [0; 16];
        let named = part.etag.len() == 32 && HEXLOWER.decode_mut(part.etag.as_bytes(), &mut etag).is_ok();
        if part.number != number || !named || etag != md5 {
            return Err(Error::InvalidPart(part.number).into());
        }
        let sum = row.get_ref(3)?.as_blob_or_null()?.map(rows::sum).transpose()?;
        if let Some((algorithm, text)) = &part.sum
            && !sum.is_some_and(|(its, _, bytes)| its == *algorithm && BASE64.encode(bytes) == *text)
        {
            return Err(Error::InvalidPart(number).into());
        }
        if size < SMALLEST && wanted.peek().is_some() {
            return Err(Error::PartTooSmall { number, size, min: SMALLEST }.into());
        }
        match sum {
            Some((_, _, bytes)) if summed => found.sums.push(PartSum { size, sum: bytes.to_vec() }),
            _ => summed = false,
        }
        found.sizes.push((number, size));
        found.md5s.extend_from_slice(md5);
    }
    if let Some(part) = wanted.next() {
        return Err(Error::InvalidPart(part.number).into());
    }
    if !summed {
        found.sums.clear();
    }
    Ok(found)
}

/// The sum of the object as its column has it, compared with the one expected.
fn whole_sum(upload: &Upload, found: &Found, expected: Option<&str>) -> Result<Option<Vec<u8>>, Error> {
    let kind =
        |algorithm: muonic_ports::object_store::Algorithm| upload.new.checksum_type.unwrap_or(algorithm.usual_type());
    let sum = upload.new.algorithm.filter(|_| !found.sums.is_empty()).and_then(|algorithm| {
        let kind = kind(algorithm);
        Some((algorithm, kind, sums::whole(algorithm, kind, &found.sums)?))
    });
    let Some(expected) = expected else {
        return Ok(sum.map(|(algorithm, kind, bytes)| rows::sum_blob(algorithm, kind, &bytes)));
    };
    let Some((algorithm, kind, bytes)) = sum else {
        return Err(Error::Checksum("the parts were sent without sums, so the object's cannot be checked".into()));
    };
    // Clients leave out the number of parts, or send it.
    let text = BASE64.encode(&bytes);
    let parts = u16::try_from(found.sizes.len()).unwrap_or(u16::MAX);
    let with_parts = format!("{text}-{parts}");
    if expected != text && !(kind == ChecksumType::Composite && expected == with_parts) {
        return Err(Error::Checksum(format!(
            "the object's {} is {text}, not {expected} as announced; send the parts again",
            algorithm.name()
        )));
    }
    Ok(Some(rows::sum_blob(algorithm, kind, &bytes)))
}

fn remember(
    tx: &mut Tx<'_>,
    upload: &Upload,
    content: i64,
    object: &ObjectVersion,
    bucket: i64,
    at: Timestamp,
) -> rusqlite::Result<()> {
    let at = rows::micros(at);
    let age: i64 = tx
        .sql("SELECT age FROM versions WHERE bucket = ?1 AND key = ?2 ORDER BY age LIMIT 1")?
        .query_row(params![bucket, object.key.as_bytes()], |row| row.get(0))?;
    tx.sql("INSERT INTO finished (content, id, bucket, key, age, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![content, upload.id, bucket, object.key.as_bytes(), age, at])?;
    // Two old ones go for each that comes.
    tx.sql(
        "DELETE FROM finished WHERE content IN (SELECT content FROM finished ORDER BY content LIMIT 2) AND at < ?1",
    )?
    .execute([at.saturating_sub(REMEMBERED)])?;
    Ok(())
}

/// The version that an upload has become, for one who lists the same parts.
fn finished(tx: &mut Tx<'_>, upload: &Upload, listed: &[CompletedPart]) -> Result<Option<ObjectVersion>, Failure> {
    let bucket = tx.bucket(&upload.bucket)?;
    let Some(content) = uploads::content_of_id(&upload.id) else { return Ok(None) };
    let age: Option<i64> = tx
        .sql("SELECT age FROM finished WHERE content = ?1 AND id = ?2 AND bucket = ?3 AND key = ?4")?
        .query_row(params![content, upload.id, bucket.id, upload.key.as_bytes()], |row| row.get(0))
        .optional()?;
    let Some(age) = age else { return Ok(None) };
    let at = (bucket.id, upload.bucket.as_str());
    let Some(row) = versions::by_age(tx.conn(), at, &upload.key, age)? else { return Ok(None) };
    let latest = versions::latest(tx.conn(), at, &upload.key)?.is_some_and(|latest| latest.age == age);
    let md5s: Option<Vec<Vec<u8>>> =
        listed.iter().map(|part| HEXLOWER.decode(part.etag.as_bytes()).ok().filter(|md5| md5.len() == 16)).collect();
    let Some(md5s) = md5s else { return Ok(None) };
    let parts = u16::try_from(listed.len()).unwrap_or(u16::MAX);
    let same = row.object.etag == rows::etag(&sums::md5_of(&md5s.concat()), parts);
    let object = ObjectVersion { latest, ..row.object };
    Ok(same.then_some(object))
}
