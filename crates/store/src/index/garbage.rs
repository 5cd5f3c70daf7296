//! Contents that nothing names any longer, for the reclaimer: it asks what
//! there is, frees the bytes, and says so. It may be killed anywhere between.

use muonic_ports::object_store::Result;
use rusqlite::{OptionalExtension, params};

use super::Index;
use super::extents::{self, extent_columns};
use super::failure::Failure;
use super::tx::Tx;
use crate::content::{Extent, Place};

/// Entries that one step looks at or writes.
const STEP: u32 = 1000;

/// Extents of one content; bytes that lie in the index are not in them.
#[derive(Debug, Clone)]
pub(crate) struct Garbage {
    /// When it became garbage, on the scale of [`Index::mark`].
    pub number: u64,
    /// With their rows.
    pub extents: Vec<(i64, Extent)>,
}

impl Index {
    /// A mark before all that becomes garbage from now on. Whoever has read
    /// the name of a content has done so before it became garbage, so what is
    /// older than a mark set some time ago can be freed without harm to those
    /// who read no longer than that.
    pub(crate) async fn mark(&self) -> Result<u64> {
        self.step(|tx| Ok(tx.number().unsigned_abs())).await
    }

    /// What became garbage before `mark`, the oldest first, at most `max`
    /// extents. Empty means that there is none.
    pub(crate) async fn garbage(&self, mark: u64, max: u32) -> Result<Vec<Garbage>> {
        let mark = i64::try_from(mark).unwrap_or(i64::MAX);
        loop {
            let (found, hollow) = self.readers().scan(move |conn| Ok(read(conn, mark, max.max(1))?)).await?;
            let progress = !hollow.is_empty();
            if progress {
                self.step(move |tx| clear(tx, &hollow)).await?;
            }
            if !progress || !found.is_empty() {
                return Ok(found);
            }
        }
    }

    /// The bytes of these are freed: forgets them.
    pub(crate) async fn garbage_done(&self, done: Vec<Garbage>) -> Result<()> {
        self.step(move |tx| {
            for garbage in &done {
                forget(tx, garbage)?;
            }
            Ok(())
        })
        .await
    }
}

/// An entry without extents of its own.
type Hollow = (i64, i64);

fn read(conn: &rusqlite::Connection, mark: i64, max: u32) -> rusqlite::Result<(Vec<Garbage>, Vec<Hollow>)> {
    let mut entries =
        conn.prepare_cached("SELECT number, content FROM garbage WHERE number < ?1 ORDER BY number LIMIT ?2")?;
    let mut of = conn.prepare_cached(concat!(
        "SELECT ",
        extent_columns!(),
        " FROM extents WHERE row BETWEEN ?1 AND ?2 ORDER BY row LIMIT ?3"
    ))?;
    let (mut found, mut hollow, mut left) = (Vec::new(), Vec::new(), max);
    let mut rows = entries.query(params![mark, max.min(STEP)])?;
    while let Some(row) = rows.next()? {
        let (number, content): (i64, i64) = (row.get(0)?, row.get(1)?);
        let extents = if content < 0 {
            Vec::new()
        } else {
            let (first, last) = extents::rows_of(content);
            of.query_map(params![first, last, left], |row| extents::read(row, false))?
                .collect::<rusqlite::Result<Vec<_>>>()?
        };
        if extents.is_empty() {
            hollow.push((number, content));
            continue;
        }
        left = left.saturating_sub(u32::try_from(extents.len()).unwrap_or(u32::MAX));
        found.push(Garbage { number: number.unsigned_abs(), extents });
        if left == 0 {
            break;
        }
    }
    Ok((found, hollow))
}

/// Removes entries that have no extents, and lets the uploads of buckets that
/// are gone follow them.
fn clear(tx: &mut Tx<'_>, hollow: &[Hollow]) -> Result<(), Failure> {
    let mut budget = STEP;
    for (number, content) in hollow {
        if *content < 0 {
            if budget == 0 {
                continue;
            }
            let uploads = tx
                .sql("SELECT key, content FROM uploads WHERE bucket = ?1 LIMIT ?2")?
                .query_map(params![content.saturating_neg(), budget], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<Vec<(Vec<u8>, i64)>>>()?;
            let all = uploads.len() < budget as usize;
            budget -= uploads.len() as u32;
            for (key, upload) in uploads {
                tx.sql("DELETE FROM uploads WHERE bucket = ?1 AND key = ?2 AND content = ?3")?.execute(params![
                    content.saturating_neg(),
                    key,
                    upload
                ])?;
                tx.discard(upload)?;
            }
            if !all {
                continue;
            }
        } else {
            tx.sql("DELETE FROM contents WHERE id = ?1")?.execute([content])?;
        }
        tx.sql("DELETE FROM garbage WHERE number = ?1")?.execute([number])?;
    }
    Ok(())
}

fn forget(tx: &mut Tx<'_>, garbage: &Garbage) -> Result<(), Failure> {
    let content: Option<i64> = tx
        .sql("SELECT content FROM garbage WHERE number = ?1")?
        .query_row([garbage.number], |row| row.get(0))
        .optional()?;
    // Said twice, or not garbage at all.
    let Some(content) = content.filter(|content| *content >= 0) else { return Ok(()) };
    for (row, extent) in &garbage.extents {
        if extents::content_of(*row) != content {
            continue;
        }
        let gone = tx
            .sql("DELETE FROM extents WHERE row = ?1 AND id = ?2 RETURNING segment, length")?
            .query_row(params![row, extent.id.as_slice()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        if let (Some((Some(segment), length)), Place::Segment { .. }) = (gone, &extent.place) {
            tx.segment_loses(segment, length);
        }
    }
    let (first, last) = extents::rows_of(content);
    if !tx.sql("SELECT 1 FROM extents WHERE row BETWEEN ?1 AND ?2 LIMIT 1")?.exists([first, last])? {
        tx.sql("DELETE FROM contents WHERE id = ?1")?.execute([content])?;
        tx.sql("DELETE FROM garbage WHERE number = ?1")?.execute([garbage.number])?;
    }
    Ok(())
}
