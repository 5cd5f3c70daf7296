//! Blobs by their SHA-256.

use muonic_ports::object_store::Result;
use muonic_types::Digest;
use rusqlite::{OptionalExtension, params};

use super::Index;
use super::extents::{self, extent_columns};
use crate::content::Extent;

impl Index {
    /// Names each extent by its digest, in one step. Answers which were new;
    /// the extents of the others are the caller's again.
    pub(crate) async fn blob_put_many(&self, blobs: Vec<(Digest, Extent)>) -> Result<Vec<bool>> {
        self.step(move |tx| {
            let mut new = Vec::with_capacity(blobs.len());
            for (digest, extent) in &blobs {
                let content = tx.number();
                let named = tx
                    .sql("INSERT INTO blobs (digest, content) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
                    .execute(params![digest.as_bytes(), content])?;
                if named > 0 {
                    extents::insert(tx, extents::row_of(content, 0), extent, None)?;
                }
                new.push(named > 0);
            }
            Ok(new)
        })
        .await
    }

    pub(crate) fn blob(&self, digest: &Digest) -> Result<Option<Extent>> {
        self.readers().point(|conn| {
            let content: Option<i64> = conn
                .prepare_cached("SELECT content FROM blobs WHERE digest = ?1")?
                .query_row([digest.as_bytes()], |row| row.get(0))
                .optional()?;
            let Some(content) = content else { return Ok(None) };
            let extent = conn
                .prepare_cached(concat!("SELECT ", extent_columns!(), ", data FROM extents WHERE row = ?1"))?
                .query_row([extents::row_of(content, 0)], |row| extents::read(row, true))
                .optional()?;
            Ok(extent.map(|(_, extent)| extent))
        })
    }

    /// Whether it was there.
    pub(crate) async fn blob_remove(&self, digest: &Digest) -> Result<bool> {
        let digest = *digest;
        self.step(move |tx| {
            let content: Option<i64> = tx
                .sql("DELETE FROM blobs WHERE digest = ?1 RETURNING content")?
                .query_row([digest.as_bytes()], |row| row.get(0))
                .optional()?;
            if let Some(content) = content {
                tx.release(content)?;
            }
            Ok(content.is_some())
        })
        .await
    }

    /// By digest, each with its size.
    pub(crate) async fn blobs(&self, after: Option<Digest>, max: u32) -> Result<Vec<(Digest, u64)>> {
        self.readers()
            .scan(move |conn| {
                let after = after.map_or_else(Vec::new, |digest| digest.as_bytes().to_vec());
                let mut page = conn.prepare_cached(
                    "SELECT blobs.digest, size FROM blobs JOIN extents ON row = content << 14
                     WHERE blobs.digest > ?1 ORDER BY blobs.digest LIMIT ?2",
                )?;
                let page =
                    page.query_map(params![after, max], |row| Ok((Digest::from_bytes(row.get(0)?), row.get(1)?)))?;
                Ok(page.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }
}
