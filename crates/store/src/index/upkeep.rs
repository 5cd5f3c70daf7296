//! What compaction, scrub, rotation of keys and the search for unnamed files
//! ask of the index. Changes are compared with what was read, so that each
//! may be done again, or too late.

use std::ops::ControlFlow;

use muonic_ports::object_store::{Result, VersionId};
use rusqlite::params;

use super::Index;
use super::extents::{self, extent_columns};
use super::guard;
use super::rows;
use crate::content::{Extent, ExtentId, Place, Seal, SealedBy};

/// An extent and its row, by which it is found again. The bytes of those in
/// the index are left out.
#[derive(Debug, Clone)]
pub(crate) struct Located {
    pub row: i64,
    pub extent: Extent,
}

/// An extent that lies elsewhere now.
#[derive(Debug, Clone)]
pub(crate) struct Moved {
    pub row: i64,
    pub id: ExtentId,
    pub old: Place,
    pub new: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub id: u64,
    /// Bytes that extents name, garbage that is not yet reclaimed among them.
    pub live: u64,
    /// Where the last that was ever named ends.
    pub used: u64,
}

impl Index {
    /// The content that the extent of a row belongs to.
    pub(crate) fn content_of(row: i64) -> u64 {
        extents::content_of(row).cast_unsigned()
    }

    /// What uses the extent of a row, for people. Reads all versions.
    pub(crate) async fn names_of(&self, row: i64) -> Result<Vec<String>> {
        const MOST: i64 = 20;
        let content = extents::content_of(row);
        self.readers()
            .scan(move |conn| {
                let mut names = Vec::new();
                let mut versions = conn.prepare_cached(
                    "SELECT buckets.name, key, age, nullness FROM versions JOIN buckets ON buckets.id = versions.bucket
                     WHERE content = ?1 AND marker = 0 LIMIT ?2",
                )?;
                let mut versions = versions.query(params![content, MOST])?;
                while let Some(row) = versions.next()? {
                    let (bucket, key, age): (String, Vec<u8>, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                    let id = if row.get::<_, i64>(3)? == 0 { rows::version_id(age) } else { VersionId::null() };
                    names.push(format!("{bucket}/{} (version {id})", String::from_utf8_lossy(&key)));
                }
                let mut uploads = conn.prepare_cached(
                    "SELECT buckets.name, key FROM uploads JOIN buckets ON buckets.id = uploads.bucket WHERE content = ?1",
                )?;
                let mut uploads = uploads.query([content])?;
                while let Some(row) = uploads.next()? {
                    let (bucket, key): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
                    names.push(format!("an open upload of {bucket}/{}", String::from_utf8_lossy(&key)));
                }
                let mut blobs = conn.prepare_cached("SELECT digest FROM blobs WHERE content = ?1")?;
                let mut blobs = blobs.query([content])?;
                while let Some(row) = blobs.next()? {
                    names.push(format!("blob {}", muonic_types::Digest::from_bytes(row.get(0)?)));
                }
                Ok(names)
            })
            .await
    }

    pub(crate) async fn segments(&self) -> Result<Vec<Segment>> {
        self.readers()
            .scan(|conn| {
                let mut all = conn.prepare_cached("SELECT id, live, used FROM segments ORDER BY id")?;
                let all = all.query_map([], |row| {
                    Ok(Segment {
                        id: row.get(0)?,
                        live: row.get::<_, i64>(1)?.max(0).cast_unsigned(),
                        used: row.get(2)?,
                    })
                })?;
                Ok(all.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }

    /// Forgets a segment that no extent names; `false` where one does.
    pub(crate) async fn segment_forget(&self, segment: u64) -> Result<bool> {
        self.step(move |tx| {
            if tx.sql("SELECT 1 FROM extents WHERE place = 1 AND segment = ?1 LIMIT 1")?.exists([segment])? {
                return Ok(false);
            }
            tx.sql("DELETE FROM segments WHERE id = ?1")?.execute([segment])?;
            Ok(true)
        })
        .await
    }

    /// By offset, from `from` on.
    pub(crate) async fn extents_of_segment(&self, segment: u64, from: u64, max: u32) -> Result<Vec<Located>> {
        let sql = concat!(
            "SELECT ",
            extent_columns!(),
            " FROM extents WHERE place = 1 AND segment = ?1 AND offset >= ?2 ORDER BY offset LIMIT ?3"
        );
        self.located(sql, vec![segment, from, u64::from(max)]).await
    }

    /// All, by row, those after `after`; garbage that is not yet reclaimed too.
    pub(crate) async fn all_extents(&self, after: i64, max: u32) -> Result<Vec<Located>> {
        let sql = concat!("SELECT ", extent_columns!(), " FROM extents WHERE row > ?1 ORDER BY row LIMIT ?2");
        self.located(sql, vec![after.max(0).cast_unsigned(), u64::from(max)]).await
    }

    async fn located(&self, sql: &'static str, by: Vec<u64>) -> Result<Vec<Located>> {
        self.readers()
            .scan(move |conn| {
                let mut page = conn.prepare_cached(sql)?;
                let page = page.query_map(rusqlite::params_from_iter(by), |row| {
                    extents::read(row, false).map(|(row, extent)| Located { row, extent })
                })?;
                Ok(page.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }

    /// One extent with its bytes, if it is there still.
    pub(crate) fn extent_at(&self, row: i64) -> Result<Option<Extent>> {
        self.readers().point(|conn| {
            let mut found =
                conn.prepare_cached(concat!("SELECT ", extent_columns!(), ", data FROM extents WHERE row = ?1"))?;
            let mut found = found.query([row])?;
            found.next()?.map(|row| extents::read(row, true).map(|(_, extent)| extent)).transpose()
        })
    }

    /// Says for each whether it lies there now; `false` where it has moved or
    /// gone meanwhile, and its copy is the caller's again.
    pub(crate) async fn moved(&self, moved: Vec<Moved>) -> Result<Vec<bool>> {
        self.step(move |tx| {
            let mut done = Vec::with_capacity(moved.len());
            for Moved { row, id, old, new } in &moved {
                done.push(extents::relocate(tx, *row, id, old, new)?);
            }
            Ok(done)
        })
        .await
    }

    /// Wraps a data key anew, unless it is no longer wrapped as `old`.
    pub(crate) async fn set_seals(&self, seals: Vec<(i64, Seal, Seal)>) -> Result<Vec<bool>> {
        self.step(move |tx| {
            let mut done = Vec::with_capacity(seals.len());
            for (row, old, new) in &seals {
                let set = tx.sql("UPDATE extents SET seal = ?3 WHERE row = ?1 AND seal = ?2")?.execute(params![
                    row,
                    extents::seal_blob(old),
                    extents::seal_blob(new)
                ])?;
                done.push(set > 0);
            }
            Ok(done)
        })
        .await
    }

    /// Whether any extent is sealed so. Reads all rows.
    pub(crate) async fn is_sealed_by(&self, by: SealedBy) -> Result<bool> {
        // What a seal begins with, up to the wrapped key.
        let head = extents::seal_blob(&Seal { by, wrapped: Vec::new() });
        self.readers()
            .scan(move |conn| {
                let mut sealed = conn.prepare_cached("SELECT 1 FROM extents WHERE substr(seal, 1, ?1) = ?2 LIMIT 1")?;
                Ok(sealed.exists(params![head.len() as i64, head])?)
            })
            .await
    }

    /// The block sums of an extent that has none yet.
    pub(crate) async fn set_blocks(&self, row: i64, id: ExtentId, blocks: Vec<u32>) -> Result<bool> {
        self.step(move |tx| {
            let set = tx
                .sql("UPDATE extents SET blocks = ?3 WHERE row = ?1 AND id = ?2 AND blocks = x''")?
                .execute(params![row, id.as_slice(), extents::blocks_blob(&blocks)])?;
            Ok(set > 0)
        })
        .await
    }

    /// Says for each whether an extent that is a file of its own has this id.
    pub(crate) async fn files_named(&self, ids: Vec<ExtentId>) -> Result<Vec<bool>> {
        self.readers()
            .scan(move |conn| {
                let mut named = conn.prepare_cached("SELECT 1 FROM extents WHERE place = 2 AND id = ?1")?;
                Ok(ids.iter().map(|id| named.exists([id.as_slice()])).collect::<rusqlite::Result<_>>()?)
            })
            .await
    }

    /// What is wrong with the database itself, and with what its rows say of
    /// each other; empty where nothing is. Reads all of it: minutes where
    /// there are millions of objects, in which the WAL only grows. Without
    /// `thorough` it does not compare indexes with their tables.
    pub(crate) async fn check(&self, thorough: bool) -> Result<Vec<String>> {
        const MOST: usize = 100;
        self.readers()
            .scan(move |conn| {
                let mut wrong = Vec::new();
                let pragma = if thorough { "integrity_check" } else { "quick_check" };
                conn.pragma_query(None, pragma, |row| {
                    let line: String = row.get(0)?;
                    if line != "ok" {
                        wrong.push(line);
                    }
                    Ok(())
                })?;
                wrong.extend(guard::damaged(conn, MOST)?);
                for (what, sql) in CROSS_CHECKS {
                    let mut rows = conn.prepare(sql)?;
                    let mut rows = rows.query([])?;
                    let mut take = || -> rusqlite::Result<ControlFlow<()>> {
                        let Some(row) = rows.next()? else { return Ok(ControlFlow::Break(())) };
                        wrong.push(format!("{what} {}", row.get::<_, i64>(0)?));
                        Ok(if wrong.len() < MOST { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
                    };
                    while take()?.is_continue() {}
                }
                Ok(wrong)
            })
            .await
    }
}

/// Each finds numbers that should not be found.
const CROSS_CHECKS: &[(&str, &str)] = &[
    (
        "a version of a bucket that is not there:",
        "SELECT DISTINCT bucket FROM versions WHERE bucket NOT IN (SELECT id FROM buckets)",
    ),
    (
        "a version names a content that has no bytes:",
        "SELECT content FROM versions WHERE marker = 0 AND NOT EXISTS
         (SELECT 1 FROM extents WHERE row BETWEEN content << 14 AND (content << 14) + 16383)",
    ),
    (
        "a blob names a content that has no bytes:",
        "SELECT content FROM blobs WHERE NOT EXISTS (SELECT 1 FROM extents WHERE row = content << 14)",
    ),
    (
        "a version names a content that is garbage:",
        "SELECT garbage.content FROM garbage JOIN versions ON versions.content = garbage.content WHERE marker = 0",
    ),
    (
        "a content is counted with another number of names than it has:",
        "SELECT id FROM contents LEFT JOIN
         (SELECT content, count(*) AS names FROM
          (SELECT content FROM versions UNION ALL SELECT content FROM blobs)
          WHERE content IN (SELECT id FROM contents) GROUP BY content)
         ON content = id WHERE id NOT IN (SELECT content FROM garbage) AND refs <> coalesce(names, 0)",
    ),
    (
        "a segment's live bytes are miscounted:",
        "SELECT id FROM segments WHERE live <>
         (SELECT coalesce(sum(length), 0) FROM extents WHERE place = 1 AND segment = segments.id)",
    ),
];
