//! Metric points of attempts, within the transactions of `jobs`.

use std::collections::{BTreeMap, HashMap};

use muonic_ports::{Error, Result};
use muonic_types::job::{METRIC_NAMES_MAX, METRIC_POINTS_MAX, MetricPoint};
use muonic_types::{AttemptId, JobId};
use sqlx::{QueryBuilder, SqliteConnection};

use crate::attempts::{no_attempt, parts};
use crate::row::{Columns, all, exec, micros, optional, signed};

/// Rows per statement. Few sizes, so that few statements are prepared and
/// kept; the last must be 1.
const CHUNKS: [usize; 4] = [256, 32, 4, 1];

/// Splits a slice into pieces of the sizes in `CHUNKS`.
fn chunks<T>(mut rest: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = *CHUNKS.iter().find(|size| **size <= rest.len())?;
        let (chunk, after) = rest.split_at(size);
        rest = after;
        Some(chunk)
    })
}

pub(crate) async fn append(
    conn: &mut SqliteConnection,
    id: &AttemptId,
    first: u64,
    points: &[MetricPoint],
) -> Result<()> {
    let (job, number) = parts(id)?;
    let find = sqlx::query("SELECT state, points FROM attempts WHERE job = ? AND number = ?");
    let row = optional(conn, find.bind(job.as_str()).bind(number)).await?.ok_or_else(|| no_attempt(id))?;
    if row.raw::<&str>("state")? == "finished" {
        return Err(Error::Conflict(format!("attempt '{id}' has ended already")));
    }
    let known: u64 = row.number("points")?;
    if first > known {
        return Err(Error::Conflict(format!(
            "points {known} to {} of attempt '{id}' are missing: send from point {known} on",
            first - 1
        )));
    }
    // As many as the server has already.
    let skip = usize::try_from(known - first).unwrap_or(usize::MAX).min(points.len());
    let fresh = &points[skip..];
    if fresh.is_empty() {
        return Ok(());
    }
    let mut ordinal = signed(known)?;
    let start = ordinal;
    for chunk in chunks(fresh) {
        let mut insert =
            QueryBuilder::<sqlx::Sqlite>::new("INSERT INTO metrics (job, attempt, ordinal, name, step, value, at) ");
        insert.push_values(chunk, |mut row, p| {
            row.push_bind(job.as_str()).push_bind(number).push_bind(ordinal);
            row.push_bind(&p.name).push_bind(p.step).push_bind(p.value).push_bind(micros(p.at));
            ordinal += 1;
        });
        exec(conn, insert.build()).await?;
    }
    let last: BTreeMap<&str, f64> = fresh.iter().map(|p| (p.name.as_str(), p.value)).collect();
    for chunk in chunks(&last.into_iter().collect::<Vec<_>>()) {
        let mut upsert = QueryBuilder::<sqlx::Sqlite>::new("INSERT INTO metrics_last (job, attempt, name, value) ");
        upsert.push_values(chunk, |mut row, (name, value)| {
            row.push_bind(job.as_str()).push_bind(number).push_bind(*name).push_bind(*value);
        });
        upsert.push(" ON CONFLICT (job, attempt, name) DO UPDATE SET value = excluded.value");
        exec(conn, upsert.build()).await?;
    }
    let names = sqlx::query("SELECT COUNT(*) AS names FROM metrics_last WHERE job = ? AND attempt = ?");
    let row = optional(conn, names.bind(job.as_str()).bind(number)).await?;
    let names: u64 = row.map_or(Ok(0), |row| row.number("names"))?;
    if names > METRIC_NAMES_MAX || ordinal as u64 > METRIC_POINTS_MAX {
        return Err(Error::Conflict(format!(
            "attempt '{id}' may have {METRIC_NAMES_MAX} metrics and {METRIC_POINTS_MAX} points of them"
        )));
    }
    let count = sqlx::query("UPDATE attempts SET points = ? WHERE job = ? AND number = ?");
    debug_assert_eq!(ordinal - start, fresh.len() as i64);
    exec(conn, count.bind(ordinal).bind(job.as_str()).bind(number)).await.map(drop)
}

/// The newest `limit` points of the job's last attempt that has any, in order
/// of arrival.
pub(crate) async fn newest(
    conn: &mut SqliteConnection,
    job: &JobId,
    name: Option<&str>,
    limit: u32,
) -> Result<Vec<MetricPoint>> {
    let sql = "SELECT name, step, value, at FROM metrics
               WHERE job = ?1 AND attempt = (SELECT max(attempt) FROM metrics WHERE job = ?1)
                 AND (?2 IS NULL OR name = ?2)
               ORDER BY ordinal DESC LIMIT ?3";
    let mut rows = all(conn, sqlx::query(sql).bind(job.as_str()).bind(name).bind(limit)).await?;
    rows.reverse();
    rows.iter()
        .map(|row| {
            Ok(MetricPoint {
                name: row.raw("name")?,
                step: row.number("step")?,
                value: row.raw::<Option<f64>>("value")?.unwrap_or(f64::NAN),
                at: row.time("at")?,
            })
        })
        .collect()
}

/// Last values per job of a JSON array, each of the job's last attempt that
/// has any.
pub(crate) async fn last_of_jobs(
    conn: &mut SqliteConnection,
    ids: &str,
) -> Result<HashMap<JobId, BTreeMap<String, f64>>> {
    let sql = "SELECT m.job, m.name, m.value FROM json_each(?) j
               JOIN metrics_last m ON m.job = j.value
                AND m.attempt = (SELECT max(attempt) FROM metrics_last WHERE job = j.value)";
    let mut last: HashMap<JobId, BTreeMap<String, f64>> = HashMap::new();
    for row in all(conn, sqlx::query(sql).bind(ids)).await? {
        let value = row.raw::<Option<f64>>("value")?.unwrap_or(f64::NAN);
        last.entry(row.parsed("job")?).or_default().insert(row.raw("name")?, value);
    }
    Ok(last)
}

pub(crate) async fn last_of_attempt(conn: &mut SqliteConnection, id: &AttemptId) -> Result<BTreeMap<String, f64>> {
    let (job, number) = parts(id)?;
    let sql = "SELECT name, value FROM metrics_last WHERE job = ? AND attempt = ?";
    let rows = all(conn, sqlx::query(sql).bind(job.as_str()).bind(number)).await?;
    rows.iter().map(|row| Ok((row.raw("name")?, row.raw::<Option<f64>>("value")?.unwrap_or(f64::NAN)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_all_in_order() {
        for len in [0, 1, 3, 4, 31, 33, 255, 256, 257, 1000] {
            let all: Vec<usize> = (0..len).collect();
            let pieces: Vec<&[usize]> = chunks(&all).collect();
            assert!(pieces.iter().all(|p| CHUNKS.contains(&p.len())));
            assert_eq!(pieces.concat(), all);
        }
    }
}
