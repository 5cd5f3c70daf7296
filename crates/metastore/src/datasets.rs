use async_trait::async_trait;
use muonic_ports::metastore::Datasets;
use muonic_ports::{Error, Result};
use muonic_types::dataset::{Dataset, DatasetPut, DatasetVersion};
use muonic_types::{Digest, Name, ProjectId, Timestamp, VersionSelector};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::Sqlite;
use crate::blobs::{need_tree, read_tree, tree_columns};
use crate::row::{Columns, all, exec, micros, optional};

/// Versions as `v` with their trees as `t`.
macro_rules! select_versions {
    ($rest:literal) => {
        concat!(
            "SELECT v.name, v.version, v.created_at, ",
            tree_columns!(),
            " FROM dataset_versions v JOIN trees t ON t.digest = v.tree ",
            $rest
        )
    };
}

fn read_version(row: &SqliteRow) -> Result<DatasetVersion> {
    Ok(DatasetVersion {
        name: row.parsed("name")?,
        version: row.number("version")?,
        tree: read_tree(row)?,
        created_at: row.time("created_at")?,
    })
}

async fn latest(conn: &mut SqliteConnection, project: &ProjectId, name: &Name) -> Result<Option<DatasetVersion>> {
    let sql = select_versions!("WHERE v.project = ? AND v.name = ? ORDER BY v.version DESC LIMIT 1");
    let row = optional(conn, sqlx::query(sql).bind(project.as_str()).bind(name.as_str())).await?;
    row.as_ref().map(read_version).transpose()
}

fn no_dataset(name: &Name) -> Error {
    Error::NotFound(format!("there is no dataset '{name}'"))
}

#[async_trait]
impl Datasets for Sqlite {
    async fn dataset_put(&self, project: &ProjectId, name: &Name, tree: &Digest, at: Timestamp) -> Result<DatasetPut> {
        let mut tx = self.write().await?;
        let tree = need_tree(&mut tx, tree).await?;
        let before = latest(&mut tx, project, name).await?;
        if let Some(version) = before.as_ref().filter(|v| v.tree.digest == tree.digest) {
            let version = version.clone();
            // Waits for a commit: the version found may not be durable yet.
            tx.commit().await?;
            return Ok(DatasetPut { version, created: false });
        }
        let number = before.map_or(1, |v| v.version + 1);
        let put = sqlx::query(
            "INSERT INTO datasets (project, name, latest, created_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (project, name) DO UPDATE SET latest = ?3",
        );
        exec(&mut tx, put.bind(project.as_str()).bind(name.as_str()).bind(number).bind(micros(at))).await?;
        let insert = sqlx::query(
            "INSERT INTO dataset_versions (project, name, version, tree, created_at) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(project.as_str())
        .bind(name.as_str())
        .bind(number)
        .bind(tree.digest.as_bytes().as_slice())
        .bind(micros(at));
        exec(&mut tx, insert).await?;
        tx.commit().await?;
        Ok(DatasetPut {
            version: DatasetVersion { name: name.clone(), version: number, tree, created_at: at },
            created: true,
        })
    }

    async fn dataset_list(&self, project: &ProjectId) -> Result<Vec<Dataset>> {
        let mut conn = self.read().await?;
        let sql = concat!(
            "SELECT v.name, v.version, v.created_at, d.created_at AS first_at, ",
            tree_columns!(),
            " FROM datasets d
              JOIN dataset_versions v ON v.project = d.project AND v.name = d.name AND v.version = d.latest
              JOIN trees t ON t.digest = v.tree
              WHERE d.project = ? ORDER BY d.name"
        );
        let rows = all(&mut conn, sqlx::query(sql).bind(project.as_str())).await?;
        rows.iter()
            .map(|row| {
                let latest = read_version(row)?;
                Ok(Dataset { name: latest.name.clone(), created_at: row.time("first_at")?, latest })
            })
            .collect()
    }

    async fn dataset_get(&self, project: &ProjectId, name: &Name, version: &VersionSelector) -> Result<DatasetVersion> {
        let mut conn = self.snapshot().await?;
        let newest = latest(&mut conn, project, name).await?.ok_or_else(|| no_dataset(name))?;
        let number = match version {
            VersionSelector::Latest => return Ok(newest),
            VersionSelector::Number(n) => *n,
            VersionSelector::Alias(alias) => {
                let what = format!("dataset '{name}' has no version '{alias}': use a number or latest");
                return Err(Error::NotFound(what));
            }
        };
        let sql = select_versions!("WHERE v.project = ? AND v.name = ? AND v.version = ?");
        let query = sqlx::query(sql).bind(project.as_str()).bind(name.as_str()).bind(number);
        match optional(&mut conn, query).await? {
            Some(row) => read_version(&row),
            None => Err(Error::NotFound(format!(
                "dataset '{name}' has no version {number}; its newest is {}",
                newest.version
            ))),
        }
    }

    async fn dataset_versions(&self, project: &ProjectId, name: &Name) -> Result<Vec<DatasetVersion>> {
        let mut conn = self.read().await?;
        let sql = select_versions!("WHERE v.project = ? AND v.name = ? ORDER BY v.version DESC");
        let rows = all(&mut conn, sqlx::query(sql).bind(project.as_str()).bind(name.as_str())).await?;
        // A dataset is made together with its first version.
        if rows.is_empty() { Err(no_dataset(name)) } else { rows.iter().map(read_version).collect() }
    }
}
