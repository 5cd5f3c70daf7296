//! Buckets and objects. A listing seeks from prefix to prefix and does not
//! read the keys below one that is rolled up.

use async_trait::async_trait;
use muonic_ports::metastore::{Buckets, Listing, ObjectRecord};
use muonic_ports::{Error, Result};
use muonic_types::{ProjectId, Timestamp};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::Sqlite;
use crate::row::{Columns, all, exec, json, micros, optional, signed};

/// Rows read at a time while prefixes are rolled up, so that little is read
/// in vain.
const ROLLED_ROWS: u32 = 32;

fn no_bucket(name: &str) -> Error {
    Error::NotFound(format!("there is no bucket '{name}'"))
}

async fn bucket_id(conn: &mut SqliteConnection, project: &ProjectId, name: &str) -> Result<i64> {
    let query = sqlx::query("SELECT id FROM buckets WHERE project = ? AND name = ?").bind(project.as_str()).bind(name);
    optional(conn, query).await?.ok_or_else(|| no_bucket(name))?.raw("id")
}

fn read_object(row: &SqliteRow) -> Result<ObjectRecord> {
    let key: Vec<u8> = row.raw("key")?;
    Ok(ObjectRecord {
        key: String::from_utf8(key).map_err(|e| Error::internal("the metastore holds a key that is not UTF-8", e))?,
        digest: row.digest("digest")?,
        size: row.number("size")?,
        etag: row.raw("etag")?,
        headers: row.json("headers")?,
        modified_at: row.time("modified_at")?,
    })
}

/// The least byte string above all that begin with `prefix`; `None` where
/// there is none.
fn above(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|b| *b != 0xff)?;
    let mut bound = prefix[..=last].to_vec();
    bound[last] += 1;
    Some(bound)
}

/// What `key` is rolled up into.
fn rolled<'k>(key: &'k str, prefix: &str, delimiter: Option<&str>) -> Option<&'k str> {
    let delimiter = delimiter?;
    let at = key.strip_prefix(prefix)?.find(delimiter)?;
    Some(&key[..prefix.len() + at + delimiter.len()])
}

/// The least key that may come after `after`: those it rolls up are done.
fn start(prefix: &str, delimiter: Option<&str>, after: Option<&str>) -> Option<Vec<u8>> {
    let from = match after {
        None => return Some(prefix.as_bytes().to_vec()),
        Some(after) if rolled(after, prefix, delimiter) == Some(after) => above(after.as_bytes())?,
        Some(after) => [after.as_bytes(), &[0]].concat(),
    };
    Some(from.max(prefix.as_bytes().to_vec()))
}

/// Objects with keys from `from` on and below `end`.
async fn page(
    conn: &mut SqliteConnection,
    bucket: i64,
    from: &[u8],
    end: Option<&[u8]>,
    rows: u32,
) -> Result<Vec<ObjectRecord>> {
    let sql = match end {
        Some(_) => {
            "SELECT key, digest, size, etag, headers, modified_at FROM objects
             WHERE bucket = ?1 AND key >= ?2 AND key < ?4 ORDER BY key LIMIT ?3"
        }
        None => {
            "SELECT key, digest, size, etag, headers, modified_at FROM objects
             WHERE bucket = ?1 AND key >= ?2 ORDER BY key LIMIT ?3"
        }
    };
    let mut query = sqlx::query(sql).bind(bucket).bind(from).bind(rows);
    if let Some(end) = end {
        query = query.bind(end);
    }
    all(conn, query).await?.iter().map(read_object).collect()
}

#[async_trait]
impl Buckets for Sqlite {
    async fn bucket_create(&self, project: &ProjectId, name: &str, at: Timestamp) -> Result<()> {
        let mut tx = self.write().await?;
        let insert =
            sqlx::query("INSERT INTO buckets (project, name, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING");
        if exec(&mut tx, insert.bind(project.as_str()).bind(name).bind(micros(at))).await? == 0 {
            return Err(Error::Conflict(format!("there is a bucket '{name}' already")));
        }
        tx.commit().await
    }

    async fn bucket_exists(&self, project: &ProjectId, name: &str) -> Result<bool> {
        let mut conn = self.read().await?;
        let find = sqlx::query("SELECT 1 FROM buckets WHERE project = ? AND name = ?");
        Ok(optional(&mut conn, find.bind(project.as_str()).bind(name)).await?.is_some())
    }

    async fn bucket_list(&self, project: &ProjectId) -> Result<Vec<(String, Timestamp)>> {
        let mut conn = self.read().await?;
        let list = sqlx::query("SELECT name, created_at FROM buckets WHERE project = ? ORDER BY name");
        let rows = all(&mut conn, list.bind(project.as_str())).await?;
        rows.iter().map(|row| Ok((row.raw("name")?, row.time("created_at")?))).collect()
    }

    async fn bucket_delete(&self, project: &ProjectId, name: &str) -> Result<()> {
        let mut tx = self.write().await?;
        let bucket = bucket_id(&mut tx, project, name).await?;
        let any = sqlx::query("SELECT 1 FROM objects WHERE bucket = ? LIMIT 1").bind(bucket);
        if optional(&mut tx, any).await?.is_some() {
            return Err(Error::Conflict(format!("bucket '{name}' is not empty")));
        }
        exec(&mut tx, sqlx::query("DELETE FROM buckets WHERE id = ?").bind(bucket)).await?;
        tx.commit().await
    }

    async fn object_put(&self, project: &ProjectId, bucket: &str, object: &ObjectRecord) -> Result<()> {
        let mut tx = self.write().await?;
        let id = bucket_id(&mut tx, project, bucket).await?;
        let digest = object.digest.as_bytes().as_slice();
        if optional(&mut tx, sqlx::query("SELECT 1 FROM blobs WHERE digest = ?").bind(digest)).await?.is_none() {
            return Err(Error::MissingBlobs(format!("the blob {} has not been uploaded", object.digest)));
        }
        let put = sqlx::query(
            "INSERT INTO objects (bucket, key, digest, size, etag, headers, modified_at) VALUES (?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (bucket, key) DO UPDATE SET digest = excluded.digest, size = excluded.size,
                 etag = excluded.etag, headers = excluded.headers, modified_at = excluded.modified_at",
        )
        .bind(id)
        .bind(object.key.as_bytes())
        .bind(digest)
        .bind(signed(object.size)?)
        .bind(&object.etag)
        .bind(json(&object.headers)?)
        .bind(micros(object.modified_at));
        exec(&mut tx, put).await?;
        tx.commit().await
    }

    async fn object_get(&self, project: &ProjectId, bucket: &str, key: &str) -> Result<Option<ObjectRecord>> {
        let mut conn = self.snapshot().await?;
        let id = bucket_id(&mut conn, project, bucket).await?;
        let find = sqlx::query(
            "SELECT key, digest, size, etag, headers, modified_at FROM objects WHERE bucket = ? AND key = ?",
        );
        optional(&mut conn, find.bind(id).bind(key.as_bytes())).await?.as_ref().map(read_object).transpose()
    }

    async fn object_delete(&self, project: &ProjectId, bucket: &str, key: &str) -> Result<bool> {
        let mut tx = self.write().await?;
        let id = bucket_id(&mut tx, project, bucket).await?;
        let delete = sqlx::query("DELETE FROM objects WHERE bucket = ? AND key = ?");
        let deleted = exec(&mut tx, delete.bind(id).bind(key.as_bytes())).await? > 0;
        tx.commit().await?;
        Ok(deleted)
    }

    async fn object_list(
        &self,
        project: &ProjectId,
        bucket: &str,
        prefix: &str,
        delimiter: Option<&str>,
        after: Option<&str>,
        max: u32,
    ) -> Result<Listing> {
        let mut conn = self.snapshot().await?;
        let bucket = bucket_id(&mut conn, project, bucket).await?;
        let delimiter = delimiter.filter(|d| !d.is_empty());
        let end = above(prefix.as_bytes());
        let mut listing = Listing::default();
        let mut last = None;
        let mut from = start(prefix, delimiter, after);
        let most = max.saturating_add(1);
        let rows = if delimiter.is_some() { most.min(ROLLED_ROWS) } else { most };
        while let Some(lower) = from.filter(|_| max > 0) {
            let objects = page(&mut conn, bucket, &lower, end.as_deref(), rows).await?;
            let full = objects.len() == rows as usize;
            // Where the next page begins: behind all that was seen.
            let mut next = None;
            for object in objects {
                if last.as_deref().is_some_and(|p| Some(p) == rolled(&object.key, prefix, delimiter)) {
                    continue;
                }
                if listing.objects.len() + listing.prefixes.len() == max as usize {
                    listing.next_after = last;
                    return Ok(listing);
                }
                match rolled(&object.key, prefix, delimiter) {
                    Some(rolled) => {
                        next = above(rolled.as_bytes());
                        last = Some(rolled.to_owned());
                        listing.prefixes.push(rolled.to_owned());
                    }
                    None => {
                        next = Some([object.key.as_bytes(), &[0]].concat());
                        last = Some(object.key.clone());
                        listing.objects.push(object);
                    }
                }
            }
            from = next.filter(|_| full);
        }
        Ok(listing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_tight() {
        assert_eq!(above(b"a"), Some(b"b".to_vec()));
        assert_eq!(above(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(above(b"\xff"), None);
        assert_eq!(above(b""), None);
        // A bound need not be UTF-8: the last scalar ends in 0xbf.
        assert_eq!(above("\u{10ffff}".as_bytes()), Some(b"\xf4\x8f\xbf\xc0".to_vec()));
    }

    #[test]
    fn a_prefix_already_told_is_passed_over() {
        assert_eq!(start("", Some("/"), Some("a/")), Some(b"a0".to_vec()));
        assert_eq!(start("", Some("/"), Some("a/b")), Some(b"a/b\0".to_vec()));
        assert_eq!(start("", None, Some("a/")), Some(b"a/\0".to_vec()));
        assert_eq!(start("b", None, Some("a")), Some(b"b".to_vec()));
    }
}
