//! What a row of `versions` says is summed with it: a flipped bit in it is an
//! error of that row, not another object.
//!
//! A guard is eight bytes: the CRC32C of the columns that lists read, and that
//! of `more` (zeros where there is none), both little-endian.

use std::cell::RefCell;

use crc_fast::crc32_iscsi;
use rusqlite::types::{FromSql, Type, Value, ValueRef};
use rusqlite::{CachedStatement, Connection, Row, params};

use super::rows::{odd, version_columns};
use super::tx::Tx;

type Sql<T> = rusqlite::Result<T>;

/// Columns that lists read, and then where the guard and `more` are.
const COLUMNS: usize = 16;
const GUARD: usize = COLUMNS;
const MORE: usize = COLUMNS + 1;

/// A row, its columns in the order of [`version_columns`].
pub(super) type NewRow = [Value; COLUMNS];

thread_local! {
    /// What is summed; kept, as a list sums ten thousand rows.
    static BYTES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn sum<'v>(values: impl Iterator<Item = ValueRef<'v>>) -> [u8; 4] {
    BYTES.with_borrow_mut(|bytes| {
        bytes.clear();
        for value in values {
            write(bytes, value);
        }
        crc32_iscsi(bytes).to_le_bytes()
    })
}

fn write(bytes: &mut Vec<u8>, value: ValueRef<'_>) {
    let mut sized = |kind, text: &[u8]| {
        bytes.push(kind);
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text);
    };
    match value {
        ValueRef::Null => bytes.push(0),
        ValueRef::Integer(n) => {
            bytes.push(1);
            bytes.extend(n.to_le_bytes());
        }
        ValueRef::Real(n) => {
            bytes.push(2);
            bytes.extend(n.to_le_bytes());
        }
        ValueRef::Text(t) => sized(3, t),
        ValueRef::Blob(b) => sized(4, b),
    }
}

fn sum_of_more(more: ValueRef<'_>) -> [u8; 4] {
    if more == ValueRef::Null { [0; 4] } else { sum(std::iter::once(more)) }
}

fn of<'v>(columns: impl Iterator<Item = ValueRef<'v>>, more: ValueRef<'v>) -> [u8; 8] {
    let [a, b, c, d] = sum(columns);
    let [e, f, g, h] = sum_of_more(more);
    [a, b, c, d, e, f, g, h]
}

/// The columns of a row that is as it was written.
pub(super) struct Columns<'r> {
    /// Those of [`version_columns`] before the guard.
    values: [ValueRef<'r>; COLUMNS],
    more: ValueRef<'r>,
}

impl<'r> Columns<'r> {
    pub(super) fn at(&self, at: usize) -> ValueRef<'r> {
        self.values[at]
    }

    pub(super) fn get<T: FromSql>(&self, at: usize) -> Sql<T> {
        Ok(T::column_result(self.values[at])?)
    }

    /// Null where the statement does not read it.
    pub(super) fn more(&self) -> ValueRef<'r> {
        self.more
    }
}

/// Reads a row; an error where it is not as it was written. `more`: whether the
/// statement has that column.
pub(super) fn read<'r>(row: &'r Row<'_>, more: bool) -> Sql<Columns<'r>> {
    let kept: [u8; 8] = row.get_ref(GUARD)?.as_blob()?.try_into().map_err(|_| odd("guard"))?;
    let mut columns = Columns { values: [ValueRef::Null; COLUMNS], more: ValueRef::Null };
    for (at, column) in columns.values.iter_mut().enumerate() {
        *column = row.get_ref(at)?;
    }
    if more {
        columns.more = row.get_ref(MORE)?;
    }
    let holds = sum(columns.values.into_iter()) == kept[..4];
    if holds && (!more || sum_of_more(columns.more) == kept[4..]) {
        return Ok(columns);
    }
    let key = columns.at(0).as_blob().unwrap_or_default();
    let what = format!("the row of {:?} is damaged; restore it from a backup", String::from_utf8_lossy(key));
    Err(rusqlite::Error::FromSqlConversionFailure(GUARD, Type::Blob, what.into()))
}

/// Adds a row.
pub(super) fn insert(tx: &Tx<'_>, row: NewRow, more: Option<String>) -> Sql<()> {
    let more = more.map_or(Value::Null, Value::Text);
    let guard = of(row.iter().map(ValueRef::from), ValueRef::from(&more));
    let all = row.into_iter().chain([Value::Blob(guard.to_vec()), more]);
    tx.sql(concat!(
        "INSERT INTO versions (",
        version_columns!(),
        ", more) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)"
    ))?
    .execute(rusqlite::params_from_iter(all))?;
    Ok(())
}

/// Sums a row again that was changed.
pub(super) fn renew(tx: &Tx<'_>, bucket: i64, key: &[u8], age: i64) -> Sql<()> {
    let sql = "WHERE bucket = ?1 AND key = ?2 AND age = ?3";
    let guard = tx
        .sql(&format!("SELECT {}, more FROM versions {sql}", version_columns!()))?
        .query_row(params![bucket, key, age], guard_of)?;
    set(&mut tx.sql(SET)?, (bucket, key, age), &guard)
}

const SET: &str = "UPDATE versions SET guard = ?4 WHERE bucket = ?1 AND key = ?2 AND age = ?3";

fn guard_of(row: &Row<'_>) -> Sql<[u8; 8]> {
    let columns = (0..COLUMNS).map(|at| row.get_ref(at)).collect::<Sql<Vec<_>>>()?;
    Ok(of(columns.into_iter(), row.get_ref(MORE)?))
}

fn set(statement: &mut CachedStatement<'_>, (bucket, key, age): (i64, &[u8], i64), guard: &[u8; 8]) -> Sql<()> {
    statement.execute(params![bucket, key, age, guard.as_slice()])?;
    Ok(())
}

/// Sums all rows of an index that had no guards.
pub(super) fn fill(conn: &Connection) -> Sql<()> {
    const PAGE: i64 = 1000;
    let page = concat!(
        "SELECT ",
        version_columns!(),
        ", more FROM versions WHERE (bucket, key, age) > (?1, ?2, ?3) ORDER BY bucket, key, age LIMIT ?4"
    );
    let (mut page, mut update) = (conn.prepare_cached(page)?, conn.prepare_cached(SET)?);
    let mut last = (i64::MIN, Vec::new(), i64::MIN);
    loop {
        let found = page.query_map(params![last.0, last.1, last.2, PAGE], |row| {
            Ok((row.get(15)?, row.get::<_, Vec<u8>>(0)?, row.get(1)?, guard_of(row)?))
        })?;
        let found = found.collect::<Sql<Vec<_>>>()?;
        for (bucket, key, age, guard) in &found {
            set(&mut update, (*bucket, key, *age), guard)?;
        }
        let Some((bucket, key, age, _)) = found.into_iter().next_back() else { return Ok(()) };
        last = (bucket, key, age);
    }
}

/// Sentences about rows that are damaged, at most `most`. Reads all.
pub(super) fn damaged(conn: &Connection, most: usize) -> Sql<Vec<String>> {
    let mut wrong = Vec::new();
    let mut all = conn.prepare(concat!("SELECT ", version_columns!(), ", more FROM versions"))?;
    let mut all = all.query([])?;
    while wrong.len() < most
        && let Some(row) = all.next()?
    {
        if let Err(error) = read(row, true) {
            wrong.push(format!("versions: {error}"));
        }
    }
    Ok(wrong)
}
