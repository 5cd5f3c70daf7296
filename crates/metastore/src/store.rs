//! Opening, pools, health.

use std::io::ErrorKind;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use muonic_ports::metastore::Counts;
use muonic_ports::{Error, Metastore, Result};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection, SqlitePool, Transaction};

use crate::fault;
use crate::row::{Columns, exec, one};
use crate::writer::{Exclusive, Write, Writer};

static MIGRATIONS: Migrator = sqlx::migrate!();

const READERS: u32 = 4;
/// How long a read waits for one of the readers.
const READ_WAIT: Duration = Duration::from_secs(10);
/// How long SQLite waits for a lock that another program holds.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// The WAL is cut back to this after a checkpoint.
const WAL_BYTES_KEPT: &str = "67108864";

/// The metastore in a SQLite file.
pub struct Sqlite {
    pub(crate) writer: Writer,
    /// `None` in memory, where the writing connection is the only one.
    readers: Option<SqlitePool>,
    /// For a copy of the whole; `None` in memory.
    plain: Option<SqliteConnectOptions>,
}

/// Opens the store at `path`, and makes it where there is none. Refuses one
/// that a newer program has written.
pub async fn open(path: &Path) -> Result<Sqlite> {
    create(path)?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(true)
        .busy_timeout(LOCK_WAIT)
        .disable_statement_logging();
    let writing = options
        .clone()
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", WAL_BYTES_KEPT);
    let mut conn = writing.connect().await.map_err(|e| opening(path, &e))?;
    migrate(&mut conn, &path.display().to_string()).await?;
    let plain = options.clone();
    let readers = SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(READ_WAIT)
        .test_before_acquire(false)
        .connect_lazy_with(options.pragma("query_only", "ON"));
    Ok(Sqlite { writer: Writer::new(conn), readers: Some(readers), plain: Some(plain) })
}

/// A store that is gone with the process, for tests.
pub async fn in_memory() -> Result<Sqlite> {
    let options = SqliteConnectOptions::new().in_memory(true).foreign_keys(true).disable_statement_logging();
    let mut conn = options.connect().await.map_err(fault::error)?;
    migrate(&mut conn, "the metastore in memory").await?;
    Ok(Sqlite { writer: Writer::new(conn), readers: None, plain: None })
}

/// Makes the file for its owner alone; SQLite gives its side files the same
/// mode. The name is made durable before anything is acknowledged.
fn create(path: &Path) -> Result<()> {
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => {
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            std::fs::File::open(folder)
                .and_then(|f| f.sync_all())
                .map_err(|e| Error::internal(format!("the folder {} cannot be synced: {e}", folder.display()), e))
        }
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(e) => {
            let what = format!("the metastore {} cannot be created: {e}", path.display());
            Err(match e.kind() {
                ErrorKind::StorageFull => Error::DiskFull,
                ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => Error::ReadOnly(what),
                _ => Error::internal(what, e),
            })
        }
    }
}

/// Says which file it was, where the error is not one of a few that speak for
/// themselves.
fn opening(path: &Path, error: &sqlx::Error) -> Error {
    match fault::Fault::from(error).into() {
        Error::Internal { what, source } => {
            Error::Internal { what: format!("the metastore {} cannot be opened: {what}", path.display()), source }
        }
        Error::ReadOnly(what) => Error::ReadOnly(format!("{what} ({})", path.display())),
        other => other,
    }
}

async fn migrate(conn: &mut SqliteConnection, place: &str) -> Result<()> {
    let newest = MIGRATIONS.iter().map(|m| m.version).max().unwrap_or(0);
    match MIGRATIONS.run(&mut *conn).await {
        Ok(()) => Ok(()),
        Err(MigrateError::VersionMissing(version)) if version > newest => Err(Error::bug(format!(
            "{place} was written by a newer muonic (schema {version}; this program knows {newest}): start that version, or restore a backup made before it"
        ))),
        Err(MigrateError::VersionMissing(version) | MigrateError::VersionMismatch(version)) => {
            Err(Error::bug(format!(
                "{place} was written by another build of muonic (its schema {version} is not ours): start the program that made it"
            )))
        }
        Err(MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _)) => Err(opening(Path::new(place), &e)),
        Err(e) => Err(Error::internal(format!("{place} cannot be brought to schema {newest}: {e}"), e)),
    }
}

/// A connection to read from.
pub(crate) enum Read {
    Plain(PoolConnection<sqlx::Sqlite>),
    Snapshot(Transaction<'static, sqlx::Sqlite>),
    Exclusive(Exclusive),
}

impl Deref for Read {
    type Target = SqliteConnection;
    fn deref(&self) -> &SqliteConnection {
        match self {
            Self::Plain(conn) => conn,
            Self::Snapshot(tx) => tx,
            Self::Exclusive(conn) => conn,
        }
    }
}

impl DerefMut for Read {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        match self {
            Self::Plain(conn) => conn,
            Self::Snapshot(tx) => tx,
            Self::Exclusive(conn) => conn,
        }
    }
}

impl Sqlite {
    pub(crate) async fn write(&self) -> Result<Write> {
        self.writer.begin().await
    }

    /// For a single statement.
    pub(crate) async fn read(&self) -> Result<Read> {
        match &self.readers {
            Some(pool) => Ok(Read::Plain(pool.acquire().await.map_err(fault::error)?)),
            None => Ok(Read::Exclusive(self.writer.read().await?)),
        }
    }

    /// For several statements that shall see the same state.
    pub(crate) async fn snapshot(&self) -> Result<Read> {
        match &self.readers {
            Some(pool) => Ok(Read::Snapshot(pool.begin().await.map_err(fault::error)?)),
            None => Ok(Read::Exclusive(self.writer.read().await?)),
        }
    }
}

impl Sqlite {
    /// Copies the whole to a new file while it is written to, and syncs it:
    /// one state, with all that was acknowledged before the call.
    pub async fn copy_to(&self, to: &Path) -> Result<()> {
        let Some(plain) = &self.plain else { return Err(Error::bug("a metastore in memory cannot be copied")) };
        let Some(name) = to.to_str() else {
            return Err(Error::Conflict(format!("{} is not a path in UTF-8", to.display())));
        };
        create(to)?;
        let mut conn = plain.connect().await.map_err(fault::error)?;
        let copied = sqlx::query("VACUUM INTO ?").bind(name).execute(&mut conn).await;
        let _ = conn.close().await;
        copied.map_err(|e| opening(to, &e))?;
        let file = to.to_owned();
        let synced = tokio::task::spawn_blocking(move || std::fs::File::open(file)?.sync_all()).await;
        synced
            .map_err(|e| Error::internal("a file operation did not finish", e))?
            .map_err(|e| Error::internal(format!("{} cannot be synced: {e}", to.display()), e))
    }
}

/// What is wrong with a copy of a metastore; empty where nothing is. Nothing
/// of it is changed.
pub async fn check_copy(path: &Path) -> Result<Vec<String>> {
    let options =
        SqliteConnectOptions::new().filename(path).read_only(true).immutable(true).disable_statement_logging();
    let mut conn = options.connect().await.map_err(|e| opening(path, &e))?;
    let lines = sqlx::query_scalar("PRAGMA quick_check").fetch_all(&mut conn).await;
    let _ = conn.close().await;
    let lines: Vec<String> = lines.map_err(|e| opening(path, &e))?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}

#[async_trait]
impl Metastore for Sqlite {
    async fn counts(&self) -> Result<Counts> {
        let mut conn = self.read().await?;
        let sql = "SELECT
            count(*) FILTER (WHERE state = 'queued') AS queued,
            count(*) FILTER (WHERE state <> 'queued') AS running,
            (SELECT count(*) FROM endpoints) AS endpoints,
            (SELECT count(*) FROM datasets) AS datasets,
            (SELECT count(*) FROM models) AS models,
            (SELECT stored_bytes FROM store) AS stored_bytes
            FROM jobs INDEXED BY jobs_live WHERE state IN ('queued', 'starting', 'running')";
        let row = one(&mut conn, sqlx::query(sql)).await?;
        Ok(Counts {
            jobs_queued: row.number("queued")?,
            jobs_running: row.number("running")?,
            endpoints: row.number("endpoints")?,
            datasets: row.number("datasets")?,
            models: row.number("models")?,
            stored_bytes: row.number("stored_bytes")?,
        })
    }

    /// Really writes: nothing less finds a full or failing disk.
    async fn check(&self) -> Result<()> {
        let mut tx = self.write().await?;
        exec(&mut tx, sqlx::query("UPDATE store SET checks = checks + 1")).await?;
        tx.commit().await
    }

    async fn close(&self) {
        if let Some(pool) = &self.readers {
            pool.close().await;
        }
        self.writer.close().await;
    }
}
