use std::collections::BTreeMap;

use async_trait::async_trait;
use muonic_ports::metastore::Models;
use muonic_ports::{Error, Result};
use muonic_types::model::{Model, ModelSource, ModelVersion};
use muonic_types::{Digest, Name, ProjectId, Timestamp, VersionSelector};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::Sqlite;
use crate::blobs::{need_tree, read_tree, tree_columns};
use crate::row::{Columns, all, exec, json, micros, one, optional};

/// Versions as `v` with their trees as `t`.
macro_rules! select_versions {
    ($rest:literal) => {
        concat!(
            "SELECT v.name, v.version, v.source, v.metrics, v.created_at, ",
            tree_columns!(),
            " FROM model_versions v JOIN trees t ON t.digest = v.tree ",
            $rest
        )
    };
}

/// Models as `m`, each with its newest version.
macro_rules! select_models {
    ($rest:literal) => {
        concat!(
            "SELECT v.name, v.version, v.source, v.metrics, v.created_at, m.created_at AS first_at, ",
            tree_columns!(),
            " FROM models m
              JOIN model_versions v ON v.project = m.project AND v.name = m.name AND v.version = m.latest
              JOIN trees t ON t.digest = v.tree ",
            $rest
        )
    };
}

fn read_version(row: &SqliteRow) -> Result<ModelVersion> {
    Ok(ModelVersion {
        name: row.parsed("name")?,
        version: row.number("version")?,
        tree: read_tree(row)?,
        source: row.json("source")?,
        metrics: row.json("metrics")?,
        created_at: row.time("created_at")?,
    })
}

fn read_model(row: &SqliteRow, aliases: BTreeMap<String, u32>) -> Result<Model> {
    let latest = read_version(row)?;
    Ok(Model { name: latest.name.clone(), created_at: row.time("first_at")?, aliases, latest })
}

fn no_model(name: &Name) -> Error {
    Error::NotFound(format!("there is no model '{name}'"))
}

/// A model version to be registered within a transaction.
pub(crate) struct Registration<'a> {
    pub project: &'a ProjectId,
    pub name: &'a Name,
    pub tree: &'a Digest,
    pub source: &'a ModelSource,
    pub metrics: &'a BTreeMap<String, f64>,
    pub at: Timestamp,
}

pub(crate) async fn register(conn: &mut SqliteConnection, r: &Registration<'_>) -> Result<ModelVersion> {
    let tree = need_tree(conn, r.tree).await?;
    // JSON has no word for infinity or "not a number".
    let metrics: BTreeMap<String, f64> =
        r.metrics.iter().filter(|(_, v)| v.is_finite()).map(|(k, v)| (k.clone(), *v)).collect();
    let put = sqlx::query(
        "INSERT INTO models (project, name, latest, created_at) VALUES (?, ?, 1, ?)
         ON CONFLICT (project, name) DO UPDATE SET latest = latest + 1 RETURNING latest",
    );
    let put = put.bind(r.project.as_str()).bind(r.name.as_str()).bind(micros(r.at));
    let version: u32 = one(conn, put).await?.number("latest")?;
    let insert = sqlx::query(
        "INSERT INTO model_versions (project, name, version, tree, source, metrics, created_at)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(r.project.as_str())
    .bind(r.name.as_str())
    .bind(version)
    .bind(tree.digest.as_bytes().as_slice())
    .bind(json(r.source)?)
    .bind(json(&metrics)?)
    .bind(micros(r.at));
    exec(conn, insert).await?;
    Ok(ModelVersion { name: r.name.clone(), version, tree, source: r.source.clone(), metrics, created_at: r.at })
}

async fn load_model(conn: &mut SqliteConnection, project: &ProjectId, name: &Name) -> Result<Model> {
    let sql = select_models!("WHERE m.project = ? AND m.name = ?");
    let row = optional(conn, sqlx::query(sql).bind(project.as_str()).bind(name.as_str())).await?;
    let row = row.ok_or_else(|| no_model(name))?;
    let sql = "SELECT alias, version FROM aliases WHERE project = ? AND name = ?";
    let rows = all(conn, sqlx::query(sql).bind(project.as_str()).bind(name.as_str())).await?;
    let aliases = rows.iter().map(|row| Ok((row.raw("alias")?, row.number("version")?))).collect::<Result<_>>()?;
    read_model(&row, aliases)
}

async fn find_version(
    conn: &mut SqliteConnection,
    project: &ProjectId,
    name: &Name,
    version: u32,
) -> Result<Option<ModelVersion>> {
    let sql = select_versions!("WHERE v.project = ? AND v.name = ? AND v.version = ?");
    let query = sqlx::query(sql).bind(project.as_str()).bind(name.as_str()).bind(version);
    optional(conn, query).await?.as_ref().map(read_version).transpose()
}

#[async_trait]
impl Models for Sqlite {
    async fn model_register(
        &self,
        project: &ProjectId,
        name: &Name,
        tree: &Digest,
        source: &ModelSource,
        metrics: &BTreeMap<String, f64>,
        at: Timestamp,
    ) -> Result<ModelVersion> {
        let mut tx = self.write().await?;
        let version = register(&mut tx, &Registration { project, name, tree, source, metrics, at }).await?;
        tx.commit().await?;
        Ok(version)
    }

    async fn model_list(&self, project: &ProjectId) -> Result<Vec<Model>> {
        let mut conn = self.snapshot().await?;
        let sql = "SELECT name, alias, version FROM aliases WHERE project = ?";
        let mut aliases: BTreeMap<String, BTreeMap<String, u32>> = BTreeMap::new();
        for row in all(&mut conn, sqlx::query(sql).bind(project.as_str())).await? {
            aliases.entry(row.raw("name")?).or_default().insert(row.raw("alias")?, row.number("version")?);
        }
        let sql = select_models!("WHERE m.project = ? ORDER BY m.name");
        let rows = all(&mut conn, sqlx::query(sql).bind(project.as_str())).await?;
        rows.iter().map(|row| read_model(row, aliases.remove(row.raw::<&str>("name")?).unwrap_or_default())).collect()
    }

    async fn model_get(&self, project: &ProjectId, name: &Name) -> Result<Model> {
        let mut conn = self.snapshot().await?;
        load_model(&mut conn, project, name).await
    }

    async fn model_version(&self, project: &ProjectId, name: &Name, version: &VersionSelector) -> Result<ModelVersion> {
        let mut conn = self.snapshot().await?;
        let model = load_model(&mut conn, project, name).await?;
        let number = match version {
            VersionSelector::Latest => return Ok(model.latest),
            VersionSelector::Number(n) => *n,
            VersionSelector::Alias(alias) => *model
                .aliases
                .get(alias.as_str())
                .ok_or_else(|| Error::NotFound(format!("model '{name}' has no alias '{alias}'")))?,
        };
        find_version(&mut conn, project, name, number).await?.ok_or_else(|| no_version(&model, number))
    }

    async fn model_versions(&self, project: &ProjectId, name: &Name) -> Result<Vec<ModelVersion>> {
        let mut conn = self.read().await?;
        let sql = select_versions!("WHERE v.project = ? AND v.name = ? ORDER BY v.version DESC");
        let rows = all(&mut conn, sqlx::query(sql).bind(project.as_str()).bind(name.as_str())).await?;
        // A model is made together with its first version.
        if rows.is_empty() { Err(no_model(name)) } else { rows.iter().map(read_version).collect() }
    }

    async fn alias_set(&self, project: &ProjectId, name: &Name, alias: &Name, version: u32) -> Result<Model> {
        let mut tx = self.write().await?;
        let mut model = load_model(&mut tx, project, name).await?;
        if find_version(&mut tx, project, name, version).await?.is_none() {
            return Err(no_version(&model, version));
        }
        let put = sqlx::query(
            "INSERT INTO aliases (project, name, alias, version) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (project, name, alias) DO UPDATE SET version = ?4",
        );
        exec(&mut tx, put.bind(project.as_str()).bind(name.as_str()).bind(alias.as_str()).bind(version)).await?;
        tx.commit().await?;
        model.aliases.insert(alias.to_string(), version);
        Ok(model)
    }

    async fn alias_delete(&self, project: &ProjectId, name: &Name, alias: &Name) -> Result<Model> {
        let mut tx = self.write().await?;
        let mut model = load_model(&mut tx, project, name).await?;
        if model.aliases.remove(alias.as_str()).is_none() {
            return Err(Error::NotFound(format!("model '{name}' has no alias '{alias}'")));
        }
        let delete = sqlx::query("DELETE FROM aliases WHERE project = ? AND name = ? AND alias = ?");
        exec(&mut tx, delete.bind(project.as_str()).bind(name.as_str()).bind(alias.as_str())).await?;
        tx.commit().await?;
        Ok(model)
    }
}

fn no_version(model: &Model, version: u32) -> Error {
    Error::NotFound(format!("model '{}' has no version {version}; its newest is {}", model.name, model.latest.version))
}
