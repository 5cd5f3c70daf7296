//! Buckets that older programs kept here.

use async_trait::async_trait;
use muonic_ports::metastore::{Former, FormerBucket, FormerObject};
use muonic_ports::{Error, Result};

use crate::Sqlite;
use crate::row::{Columns, all, exec};

const ID: &str = "(SELECT id FROM buckets WHERE project = ?1 AND name = ?2)";

#[async_trait]
impl Former for Sqlite {
    async fn former_buckets(&self) -> Result<Vec<FormerBucket>> {
        let mut conn = self.read().await?;
        let rows = all(&mut conn, sqlx::query("SELECT project, name, created_at FROM buckets ORDER BY id")).await?;
        rows.iter()
            .map(|row| {
                let (project, name) = (row.parsed("project")?, row.raw("name")?);
                Ok(FormerBucket { project, name, created_at: row.time("created_at")? })
            })
            .collect()
    }

    async fn former_objects(&self, bucket: &FormerBucket, after: Option<&str>, max: u32) -> Result<Vec<FormerObject>> {
        let mut conn = self.read().await?;
        let sql = format!(
            "SELECT key, digest, etag, headers, modified_at FROM objects
             WHERE bucket = {ID} AND key > ?3 ORDER BY key LIMIT ?4"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(bucket.project.as_str()).bind(&bucket.name);
        let after = after.unwrap_or_default().as_bytes().to_vec();
        let rows = all(&mut conn, query.bind(after).bind(max)).await?;
        rows.iter()
            .map(|row| {
                let key: Vec<u8> = row.raw("key")?;
                let key = String::from_utf8(key);
                Ok(FormerObject {
                    key: key.map_err(|e| Error::internal("the metastore holds a key that is not UTF-8", e))?,
                    digest: row.digest("digest")?,
                    etag: row.raw("etag")?,
                    headers: row.json("headers")?,
                    modified_at: row.time("modified_at")?,
                })
            })
            .collect()
    }

    async fn former_bucket_forget(&self, bucket: &FormerBucket) -> Result<()> {
        let mut tx = self.write().await?;
        for sql in [
            format!("DELETE FROM objects WHERE bucket = {ID}"),
            "DELETE FROM buckets WHERE project = ?1 AND name = ?2".into(),
        ] {
            let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(bucket.project.as_str()).bind(&bucket.name);
            exec(&mut tx, query).await?;
        }
        tx.commit().await
    }
}
