//! The tables of the index, and how connections to it are set up.
//!
//! `user_version` counts the migrations that were made. A step of
//! [`MIGRATIONS`] never changes once it was released; new ones are appended.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::{checkpoint, guard};

/// What SQL cannot do of a step, in the same transaction.
type Rest = fn(&Connection) -> rusqlite::Result<()>;

/// Each brings the schema from its place in the list to the next.
const MIGRATIONS: &[(&str, Rest)] = &[
    (include_str!("schema/0001.sql"), |_| Ok(())),
    (include_str!("schema/0002.sql"), guard::fill),
    (include_str!("schema/0003.sql"), |_| Ok(())),
];

/// KiB of page cache: the writer's, and each reader's.
const WRITER_CACHE: i64 = 8 << 10;
const READER_CACHE: i64 = 2 << 10;

/// The folder is this process's alone, so SQLite may lock the file once and
/// keep all further locks, and the WAL's index, in memory: a read makes no
/// system calls for them. A connection that could not write would turn that
/// one lock into a shared one.
const VFS: &str = "unix-excl";

/// Without `sync` nothing survives a power loss for certain.
pub(super) fn writer(path: &Path, sync: bool) -> rusqlite::Result<Connection> {
    let conn = open(path, OpenFlags::SQLITE_OPEN_CREATE)?;
    conn.execute_batch("PRAGMA page_size = 4096; PRAGMA journal_mode = WAL;")?;
    conn.pragma_update(None, "synchronous", if sync { "FULL" } else { "OFF" })?;
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    conn.pragma_update(None, "journal_size_limit", 64 << 20)?;
    set_up(&conn, WRITER_CACHE)?;
    migrate(&conn)?;
    Ok(conn)
}

/// For checkpoints: it writes only what the WAL holds.
pub(super) fn checkpointer(path: &Path) -> rusqlite::Result<Connection> {
    let conn = open(path, OpenFlags::empty())?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    set_up(&conn, 256)?;
    Ok(conn)
}

pub(super) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let conn = open(path, OpenFlags::empty())?;
    set_up(&conn, READER_CACHE)?;
    conn.pragma_update(None, "query_only", true)?;
    // It may be the last to close, where a scan outlives its store.
    checkpoint::never_again(&conn)?;
    Ok(conn)
}

#[cfg(test)]
pub(super) fn in_memory() -> rusqlite::Result<Connection> {
    let conn = Connection::open_in_memory()?;
    set_up(&conn, WRITER_CACHE)?;
    migrate(&conn)?;
    Ok(conn)
}

fn open(path: &Path, more: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
    Connection::open_with_flags_and_vfs(path, flags, VFS)
}

fn set_up(conn: &Connection, cache: i64) -> rusqlite::Result<()> {
    conn.pragma_update(None, "cache_size", -cache)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    // A failed read of a mapped file would kill the process.
    conn.pragma_update(None, "mmap_size", 0)?;
    conn.pragma_update(None, "trusted_schema", false)?;
    conn.busy_timeout(std::time::Duration::from_secs(10))?;
    conn.set_prepared_statement_cache_capacity(128);
    Ok(())
}

fn migrate(conn: &Connection) -> rusqlite::Result<()> {
    let done: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let done = usize::try_from(done).unwrap_or(usize::MAX);
    if done > MIGRATIONS.len() {
        let what = format!("it has format {done}, made by a newer program; this one knows {}", MIGRATIONS.len());
        return Err(rusqlite::Error::ToSqlConversionFailure(what.into()));
    }
    for (at, (sql, rest)) in MIGRATIONS.iter().enumerate().skip(done) {
        let step = || {
            conn.execute_batch(&format!("BEGIN IMMEDIATE; {sql}; PRAGMA user_version = {};", at + 1))?;
            rest(conn)?;
            conn.execute_batch("COMMIT")
        };
        step().inspect_err(|_| {
            if !conn.is_autocommit() {
                let _ = conn.execute_batch("ROLLBACK");
            }
        })?;
    }
    Ok(())
}
