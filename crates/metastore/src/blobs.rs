//! Many digests go to SQLite as one JSON array: one statement whatever their
//! number.

use std::collections::HashMap;

use async_trait::async_trait;
use muonic_ports::blob_store::Blob;
use muonic_ports::metastore::Blobs;
use muonic_ports::{Error, Result};
use muonic_types::blob::TreeSummary;
use muonic_types::{Digest, Timestamp};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::Sqlite;
use crate::row::{Columns, all, exec, json, micros, optional, signed};

pub(crate) fn read_tree(row: &SqliteRow) -> Result<TreeSummary> {
    Ok(TreeSummary {
        digest: row.digest("tree_digest")?,
        files: row.number("tree_files")?,
        bytes: row.number("tree_bytes")?,
    })
}

/// The columns of a tree where `trees` is joined as `t`.
macro_rules! tree_columns {
    () => {
        "t.digest AS tree_digest, t.files AS tree_files, t.bytes AS tree_bytes"
    };
}
pub(crate) use tree_columns;

pub(crate) async fn find_tree(conn: &mut SqliteConnection, digest: &Digest) -> Result<Option<TreeSummary>> {
    let sql = concat!("SELECT ", tree_columns!(), " FROM trees t WHERE t.digest = ?");
    optional(conn, sqlx::query(sql).bind(digest.as_bytes().as_slice())).await?.as_ref().map(read_tree).transpose()
}

pub(crate) async fn need_tree(conn: &mut SqliteConnection, digest: &Digest) -> Result<TreeSummary> {
    find_tree(conn, digest).await?.ok_or_else(|| Error::NotFound(format!("there is no tree {digest}")))
}

fn hexes(digests: &[Digest]) -> Result<String> {
    json(&digests.iter().map(Digest::hex).collect::<Vec<_>>())
}

#[async_trait]
impl Blobs for Sqlite {
    async fn blobs_insert(&self, blobs: &[Blob], at: Timestamp) -> Result<()> {
        let list: Vec<_> = blobs.iter().map(|b| (b.digest.hex(), b.size)).collect();
        let list = json(&list)?;
        let mut tx = self.write().await?;
        let insert = sqlx::query(
            "INSERT INTO blobs (digest, size, created_at)
             SELECT unhex(j.value ->> 0), j.value ->> 1, ?2 FROM json_each(?1) j WHERE true
             ON CONFLICT DO NOTHING RETURNING size",
        );
        let added = all(&mut tx, insert.bind(list).bind(micros(at))).await?;
        let mut bytes = 0_u64;
        for row in &added {
            bytes = bytes.saturating_add(row.number("size")?);
        }
        if bytes > 0 {
            let add = sqlx::query("UPDATE store SET stored_bytes = stored_bytes + ?").bind(signed(bytes)?);
            exec(&mut tx, add).await?;
        }
        tx.commit().await
    }

    async fn blobs_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>> {
        let mut conn = self.read().await?;
        let sql = "SELECT j.key AS at FROM json_each(?) j
                   WHERE NOT EXISTS (SELECT 1 FROM blobs WHERE digest = unhex(j.value)) ORDER BY j.key";
        let rows = all(&mut conn, sqlx::query(sql).bind(hexes(digests)?)).await?;
        rows.iter()
            .map(|row| {
                let at: usize = row.number("at")?;
                digests.get(at).copied().ok_or_else(|| Error::bug("a missing blob nobody asked for"))
            })
            .collect()
    }

    async fn blob_sizes(&self, digests: &[Digest]) -> Result<HashMap<Digest, u64>> {
        let mut conn = self.read().await?;
        let sql = "SELECT digest, size FROM blobs WHERE digest IN (SELECT unhex(value) FROM json_each(?))";
        let rows = all(&mut conn, sqlx::query(sql).bind(hexes(digests)?)).await?;
        rows.iter().map(|row| Ok((row.digest("digest")?, row.number("size")?))).collect()
    }

    async fn tree_insert(&self, tree: &TreeSummary, at: Timestamp) -> Result<()> {
        let mut tx = self.write().await?;
        let digest = tree.digest.as_bytes().as_slice();
        if optional(&mut tx, sqlx::query("SELECT 1 FROM blobs WHERE digest = ?").bind(digest)).await?.is_none() {
            return Err(Error::MissingBlobs(format!("the blob of the tree {} has not been uploaded", tree.digest)));
        }
        let insert = sqlx::query(
            "INSERT INTO trees (digest, files, bytes, created_at) VALUES (?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET created_at = max(created_at, excluded.created_at)",
        );
        let insert = insert.bind(digest).bind(signed(tree.files)?).bind(signed(tree.bytes)?).bind(micros(at));
        exec(&mut tx, insert).await?;
        tx.commit().await
    }

    async fn tree_get(&self, digest: &Digest) -> Result<Option<TreeSummary>> {
        let mut conn = self.read().await?;
        find_tree(&mut conn, digest).await
    }

    async fn trees_in_use(&self, since: Timestamp) -> Result<Vec<Digest>> {
        let mut conn = self.read().await?;
        let rows = all(&mut conn, sqlx::query(IN_USE).bind(micros(since))).await?;
        rows.iter().map(|row| row.digest("digest")).collect()
    }

    async fn blobs_before(&self, before: Timestamp, after: Option<Digest>, max: u32) -> Result<Vec<Blob>> {
        let mut conn = self.read().await?;
        let sql = "SELECT digest, size FROM blobs WHERE digest > ? AND created_at < ? ORDER BY digest LIMIT ?";
        let after = after.map(|digest| digest.as_bytes().to_vec()).unwrap_or_default();
        let rows = all(&mut conn, sqlx::query(sql).bind(after).bind(micros(before)).bind(max)).await?;
        rows.iter().map(|row| Ok(Blob { digest: row.digest("digest")?, size: row.number("size")? })).collect()
    }

    async fn blobs_forget(&self, blobs: &[Blob], since: Timestamp) -> Result<()> {
        let list = hexes(&blobs.iter().map(|b| b.digest).collect::<Vec<_>>())?;
        let mut tx = self.write().await?;
        let used =
            format!("SELECT digest FROM ({IN_USE}) WHERE digest IN (SELECT unhex(value) FROM json_each(?2)) LIMIT 1");
        let used = sqlx::query(sqlx::AssertSqlSafe(used)).bind(micros(since)).bind(&list);
        if let Some(row) = optional(&mut tx, used).await? {
            return Err(Error::Conflict(format!("the tree {} is in use again", row.digest("digest")?)));
        }
        let trees = sqlx::query("DELETE FROM trees WHERE digest IN (SELECT unhex(value) FROM json_each(?))");
        exec(&mut tx, trees.bind(&list)).await?;
        let sql = "DELETE FROM blobs WHERE digest IN (SELECT unhex(value) FROM json_each(?)) RETURNING size";
        let mut bytes = 0_u64;
        for row in &all(&mut tx, sqlx::query(sql).bind(&list)).await? {
            bytes = bytes.saturating_add(row.number("size")?);
        }
        let take = sqlx::query("UPDATE store SET stored_bytes = stored_bytes - ?").bind(signed(bytes)?);
        exec(&mut tx, take).await?;
        tx.commit().await
    }
}

/// Objects are here only until they are taken over from an older data folder.
const IN_USE: &str = "SELECT tree AS digest FROM dataset_versions
    UNION SELECT tree FROM model_versions
    UNION SELECT model_tree FROM attempts WHERE model_tree IS NOT NULL
    UNION SELECT output_tree FROM attempts WHERE output_tree IS NOT NULL
    UNION SELECT tree FROM revisions
    UNION SELECT tree FROM replicas
    UNION SELECT unhex(substr(spec ->> 'code', 8)) FROM jobs WHERE spec ->> 'code' IS NOT NULL
    UNION SELECT digest FROM objects
    UNION SELECT digest FROM trees WHERE created_at >= ?1";
