//! Running statements, and turning rows into the nouns. A row that cannot be
//! read is a fault of ours or of the disk, so it is `Error::Internal`.

use std::str::FromStr;

use muonic_ports::{Error, Result};
use muonic_types::{Cpu, Digest, Memory, Price, Resources, Timestamp};
use serde::Serialize;
use serde::de::value::{Error as WordError, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Row, SqliteConnection};

use crate::fault;

pub(crate) type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, SqliteArguments>;

/// Runs a statement; answers how many rows it changed.
pub(crate) async fn exec(conn: &mut SqliteConnection, query: Query<'_>) -> Result<u64> {
    Ok(query.execute(conn).await.map_err(fault::error)?.rows_affected())
}

pub(crate) async fn optional(conn: &mut SqliteConnection, query: Query<'_>) -> Result<Option<SqliteRow>> {
    query.fetch_optional(conn).await.map_err(fault::error)
}

pub(crate) async fn one(conn: &mut SqliteConnection, query: Query<'_>) -> Result<SqliteRow> {
    query.fetch_one(conn).await.map_err(fault::error)
}

pub(crate) async fn all(conn: &mut SqliteConnection, query: Query<'_>) -> Result<Vec<SqliteRow>> {
    query.fetch_all(conn).await.map_err(fault::error)
}

fn unreadable(column: &str, why: impl std::fmt::Display) -> Error {
    Error::bug(format!("the metastore holds a row whose {column} cannot be read: {why}"))
}

/// Reading columns by name.
pub(crate) trait Columns {
    fn raw<'r, T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>>(&'r self, column: &str) -> Result<T>;

    fn number<N: TryFrom<i64>>(&self, column: &str) -> Result<N> {
        let n: i64 = self.raw(column)?;
        N::try_from(n).map_err(|_| unreadable(column, format!("{n} is out of range")))
    }

    fn number_or_none<N: TryFrom<i64>>(&self, column: &str) -> Result<Option<N>> {
        let n: Option<i64> = self.raw(column)?;
        n.map(|n| N::try_from(n).map_err(|_| unreadable(column, format!("{n} is out of range")))).transpose()
    }

    fn text_or_none(&self, column: &str) -> Result<Option<String>> {
        self.raw(column)
    }

    /// A name or an id.
    fn parsed<T: FromStr<Err: std::fmt::Display>>(&self, column: &str) -> Result<T> {
        self.raw::<&str>(column)?.parse().map_err(|e| unreadable(column, e))
    }

    fn parsed_or_none<T: FromStr<Err: std::fmt::Display>>(&self, column: &str) -> Result<Option<T>> {
        let text: Option<&str> = self.raw(column)?;
        text.map(|t| t.parse().map_err(|e| unreadable(column, e))).transpose()
    }

    /// A state or another word of an enum.
    fn word<T: DeserializeOwned>(&self, column: &str) -> Result<T> {
        let text: &str = self.raw(column)?;
        parse_word(text).map_err(|e| unreadable(column, e))
    }

    fn word_or_none<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>> {
        let text: Option<&str> = self.raw(column)?;
        text.map(|t| parse_word(t).map_err(|e| unreadable(column, e))).transpose()
    }

    fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T> {
        serde_json::from_str(self.raw::<&str>(column)?).map_err(|e| unreadable(column, e))
    }

    fn json_or_none<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>> {
        let text: Option<&str> = self.raw(column)?;
        text.map(|t| serde_json::from_str(t).map_err(|e| unreadable(column, e))).transpose()
    }

    fn time(&self, column: &str) -> Result<Timestamp> {
        Timestamp::from_microsecond(self.raw(column)?).map_err(|e| unreadable(column, e))
    }

    fn time_or_none(&self, column: &str) -> Result<Option<Timestamp>> {
        let at: Option<i64> = self.raw(column)?;
        at.map(|at| Timestamp::from_microsecond(at).map_err(|e| unreadable(column, e))).transpose()
    }

    fn digest(&self, column: &str) -> Result<Digest> {
        digest_of(column, self.raw(column)?)
    }

    fn digest_or_none(&self, column: &str) -> Result<Option<Digest>> {
        let bytes: Option<&[u8]> = self.raw(column)?;
        bytes.map(|b| digest_of(column, b)).transpose()
    }

    /// The columns `cpu_milli`, `memory_bytes` and `gpu`.
    fn resources(&self) -> Result<Resources> {
        Ok(Resources {
            cpu: Cpu { milli: self.number("cpu_milli")? },
            memory: Memory { bytes: self.number("memory_bytes")? },
            gpu: self.number("gpu")?,
        })
    }

    fn price(&self) -> Result<Price> {
        Ok(Price { nano_usd_per_s: self.number("price_nano_usd_per_s")? })
    }
}

impl Columns for SqliteRow {
    fn raw<'r, T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>>(&'r self, column: &str) -> Result<T> {
        self.try_get(column).map_err(|e| unreadable(column, e))
    }
}

fn parse_word<T: DeserializeOwned>(text: &str) -> Result<T, WordError> {
    let text: StrDeserializer<'_, WordError> = text.into_deserializer();
    T::deserialize(text)
}

fn digest_of(column: &str, bytes: &[u8]) -> Result<Digest> {
    bytes.try_into().map(Digest::from_bytes).map_err(|_| unreadable(column, "it is not 32 bytes"))
}

/// The word of an enum, as the API writes it.
pub(crate) fn word<T: Serialize>(value: &T) -> Result<String> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        _ => Err(Error::bug("a state is not written as a word")),
    }
}

pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::internal("a value cannot be written as JSON", e))
}

pub(crate) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

pub(crate) fn micros_or_none(at: Option<Timestamp>) -> Option<i64> {
    at.map(micros)
}

pub(crate) fn bytes_or_none(digest: &Option<Digest>) -> Option<&[u8]> {
    digest.as_ref().map(|d| d.as_bytes().as_slice())
}

/// SQLite's integers are signed; sizes, counts and prices beyond 2^63 are
/// beyond any machine.
pub(crate) fn signed(n: u64) -> Result<i64> {
    i64::try_from(n).map_err(|_| Error::bug(format!("{n} is more than the metastore can hold")))
}

/// US dollars for a stretch of time.
pub(crate) fn cost_usd(price: Price, from: Timestamp, to: Timestamp) -> f64 {
    price.usd((to.duration_since(from).as_secs_f64()).max(0.0))
}
