//! Buckets: made, changed, removed and read.

use std::collections::BTreeMap;
use std::sync::Arc;

use muonic_ports::object_store::{Bucket, BucketChange, Error, NewBucket, Result, Versioning};
use muonic_types::ProjectId;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Index;
use super::failure::Failure;
use super::readers::Known;
use super::rows;
use super::tx::Tx;

const COLUMNS: &str = "id, name, project, created_at, versioning, lock, documents";

pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Known> {
    let project: String = row.get(2)?;
    let bucket = Bucket {
        name: row.get(1)?,
        project: project.parse().map_err(|_| rows::odd("project"))?,
        created_at: rows::timestamp(row.get(3)?)?,
        versioning: rows::versioning(row.get(4)?),
        lock: row.get(5)?,
        documents: serde_json::from_str(row.get_ref(6)?.as_str()?).map_err(|_| rows::odd("bucket document"))?,
    };
    Ok(Known { id: row.get(0)?, bucket: Arc::new(bucket) })
}

fn find(conn: &Connection, name: &str) -> rusqlite::Result<Option<Known>> {
    conn.prepare_cached(&format!("SELECT {COLUMNS} FROM buckets WHERE name = ?1"))?.query_row([name], read).optional()
}

impl Index {
    /// With its number. `NoSuchBucket`.
    pub(super) fn known(&self, name: &str) -> Result<Known> {
        let read = || self.readers().point(|conn| find(conn, name));
        self.cache().get(name, read)?.ok_or(Error::NoSuchBucket)
    }

    pub(crate) fn bucket(&self, name: &str) -> Result<Option<Arc<Bucket>>> {
        match self.known(name) {
            Ok(known) => Ok(Some(known.bucket)),
            Err(Error::NoSuchBucket) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Those of a project, by name; of all, where none is given.
    pub(crate) async fn buckets(&self, project: Option<&ProjectId>) -> Result<Vec<Bucket>> {
        let project = project.map(ToString::to_string);
        self.readers()
            .scan(move |conn| {
                let filter = if project.is_some() { "WHERE project = ?1" } else { "WHERE ?1 IS NULL" };
                let mut all = conn.prepare_cached(&format!("SELECT {COLUMNS} FROM buckets {filter} ORDER BY name"))?;
                let all = all.query_map([project], read)?.collect::<rusqlite::Result<Vec<_>>>()?;
                Ok(all.into_iter().map(|known| Arc::unwrap_or_clone(known.bucket)).collect())
            })
            .await
    }

    pub(crate) async fn bucket_create(&self, new: NewBucket) -> Result<Bucket> {
        self.step(move |tx| create(tx, &new)).await
    }

    pub(crate) async fn bucket_delete(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.step(move |tx| delete(tx, &name)).await
    }

    pub(crate) async fn bucket_change(&self, name: &str, change: BucketChange) -> Result<Bucket> {
        let name = name.to_owned();
        self.step(move |tx| alter(tx, &name, &change)).await
    }
}

fn create(tx: &mut Tx<'_>, new: &NewBucket) -> Result<Bucket, Failure> {
    if find(tx.conn(), &new.name)?.is_some() {
        return Err(Error::BucketExists.into());
    }
    let id = tx.number();
    let versioning = if new.lock { Versioning::On } else { Versioning::Off };
    tx.sql(
        "INSERT INTO buckets (id, name, project, created_at, versioning, lock, documents)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        id,
        new.name,
        new.project.to_string(),
        rows::micros(new.at),
        rows::versioning_number(versioning),
        new.lock,
        rows::json(&new.documents),
    ])?;
    tx.bucket_changed(&new.name);
    Ok(Bucket {
        name: new.name.clone(),
        project: new.project.clone(),
        created_at: rows::timestamp(rows::micros(new.at))?,
        versioning,
        lock: new.lock,
        documents: new.documents.clone(),
    })
}

fn delete(tx: &mut Tx<'_>, name: &str) -> Result<(), Failure> {
    let bucket = tx.bucket(name)?;
    if tx.sql("SELECT 1 FROM versions WHERE bucket = ?1 LIMIT 1")?.exists([bucket.id])? {
        return Err(Error::BucketNotEmpty.into());
    }
    tx.sql("DELETE FROM buckets WHERE id = ?1")?.execute([bucket.id])?;
    // Its uploads may be many: they follow in small steps.
    if tx.sql("SELECT 1 FROM uploads WHERE bucket = ?1 LIMIT 1")?.exists([bucket.id])? {
        tx.discard(-bucket.id)?;
    }
    tx.bucket_changed(name);
    Ok(())
}

fn alter(tx: &mut Tx<'_>, name: &str, change: &BucketChange) -> Result<Bucket, Failure> {
    let Known { id, bucket } = find(tx.conn(), name)?.ok_or(Error::NoSuchBucket)?;
    let mut bucket = Arc::unwrap_or_clone(bucket);
    match change {
        BucketChange::Versioning(Versioning::Off) => {
            return Err(state("versioning cannot be switched off again; suspend it").into());
        }
        BucketChange::Versioning(Versioning::Suspended) if bucket.lock => {
            return Err(state("versioning cannot be suspended in a bucket with object lock").into());
        }
        BucketChange::Versioning(versioning) => bucket.versioning = *versioning,
        BucketChange::Lock if bucket.versioning != Versioning::On => {
            return Err(state("object lock needs versioning; switch it on first").into());
        }
        BucketChange::Lock => bucket.lock = true,
        BucketChange::Document(what, text) => set(&mut bucket.documents, what, text.as_ref()),
    }
    tx.sql("UPDATE buckets SET versioning = ?2, lock = ?3, documents = ?4 WHERE id = ?1")?.execute(params![
        id,
        rows::versioning_number(bucket.versioning),
        bucket.lock,
        rows::json(&bucket.documents)
    ])?;
    tx.bucket_changed(name);
    Ok(bucket)
}

fn set(documents: &mut BTreeMap<String, String>, what: &str, text: Option<&String>) {
    match text {
        Some(text) => documents.insert(what.to_owned(), text.clone()),
        None => documents.remove(what),
    };
}

pub(super) fn state(sentence: &str) -> Error {
    Error::BucketState(sentence.to_owned())
}
