use async_trait::async_trait;
use muonic_ports::metastore::Keys;
use muonic_ports::{Error, Result};
use muonic_types::KeyId;
use muonic_types::key::{Key, KeyLimits};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::Sqlite;
use crate::row::{Columns, all, exec, json, micros, micros_or_none, word};

/// The columns of a key where `keys` is joined as `k`, under names that do
/// not clash.
macro_rules! key_columns {
    () => {
        "k.id AS key_id, k.name AS key_name, k.project AS key_project, k.role AS key_role,
         k.created_at AS key_created_at, k.expires_at AS key_expires_at,
         k.attempt AS key_attempt, k.replica AS key_replica, k.limits AS key_limits"
    };
}
pub(crate) use key_columns;

pub(crate) fn read_key(row: &SqliteRow) -> Result<Key> {
    Ok(Key {
        id: row.parsed("key_id")?,
        name: row.parsed("key_name")?,
        project: row.parsed("key_project")?,
        role: row.word("key_role")?,
        created_at: row.time("key_created_at")?,
        expires_at: row.time_or_none("key_expires_at")?,
        attempt: row.parsed_or_none("key_attempt")?,
        replica: row.parsed_or_none("key_replica")?,
        limits: row.json_or_none("key_limits")?.unwrap_or_default(),
    })
}

pub(crate) async fn insert_key(conn: &mut SqliteConnection, key: &Key) -> Result<()> {
    let insert = sqlx::query(
        "INSERT INTO keys (id, name, project, role, created_at, expires_at, attempt, replica, limits)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(key.id.as_str())
    .bind(key.name.as_str())
    .bind(key.project.as_str())
    .bind(word(&key.role)?)
    .bind(micros(key.created_at))
    .bind(micros_or_none(key.expires_at))
    .bind(key.attempt.as_ref().map(|a| a.as_str()))
    .bind(key.replica.as_ref().map(|r| r.as_str()))
    .bind((key.limits != KeyLimits::default()).then(|| json(&key.limits)).transpose()?);
    match exec(conn, insert).await? {
        0 => Err(Error::Conflict(format!("there is, or was, a key '{}' already", key.id))),
        _ => Ok(()),
    }
}

#[async_trait]
impl Keys for Sqlite {
    async fn key_insert(&self, key: &Key) -> Result<()> {
        let mut tx = self.write().await?;
        insert_key(&mut tx, key).await?;
        tx.commit().await
    }

    async fn key_list(&self) -> Result<Vec<Key>> {
        let mut conn = self.read().await?;
        let sql = concat!("SELECT ", key_columns!(), " FROM keys k WHERE k.revoked = 0 ORDER BY k.id");
        all(&mut conn, sqlx::query(sql)).await?.iter().map(read_key).collect()
    }

    async fn key_revoke(&self, id: &KeyId) -> Result<()> {
        let mut tx = self.write().await?;
        if exec(&mut tx, sqlx::query("UPDATE keys SET revoked = 1 WHERE id = ?").bind(id.as_str())).await? == 0 {
            return Err(Error::NotFound(format!("there is no key '{id}'")));
        }
        tx.commit().await
    }
}
