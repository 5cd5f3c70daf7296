//! Counts over the whole index.

use muonic_ports::object_store::Result;

use super::Index;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    pub buckets: u64,
    /// Keys whose latest version is not a delete marker.
    pub objects: u64,
    /// With delete markers.
    pub versions: u64,
    pub uploads: u64,
    pub blobs: u64,
    /// Bytes that extents take, by where they lie; garbage among them.
    pub inline_bytes: u64,
    pub segment_bytes: u64,
    pub file_bytes: u64,
    pub legacy_bytes: u64,
    /// Contents that wait for the reclaimer.
    pub garbage: u64,
}

impl Index {
    /// Reads all rows: seconds where there are millions.
    pub(crate) async fn stats(&self) -> Result<Stats> {
        self.readers()
            .scan(|conn| {
                let count = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, u64>(0));
                let mut stats = Stats {
                    buckets: count("SELECT count(*) FROM buckets")?,
                    objects: count(
                        "SELECT count(*) FROM (SELECT marker, min(age) FROM versions GROUP BY bucket, key) WHERE marker = 0",
                    )?,
                    versions: count("SELECT count(*) FROM versions")?,
                    uploads: count("SELECT count(*) FROM uploads WHERE bucket IN (SELECT id FROM buckets)")?,
                    blobs: count("SELECT count(*) FROM blobs")?,
                    garbage: count("SELECT count(*) FROM garbage")?,
                    ..Stats::default()
                };
                let mut places = conn.prepare("SELECT place, sum(length) FROM extents GROUP BY place")?;
                let mut places = places.query([])?;
                while let Some(row) = places.next()? {
                    let bytes = row.get(1)?;
                    match row.get::<_, i64>(0)? {
                        0 => stats.inline_bytes = bytes,
                        1 => stats.segment_bytes = bytes,
                        2 => stats.file_bytes = bytes,
                        _ => stats.legacy_bytes = bytes,
                    }
                }
                Ok(stats)
            })
            .await
    }
}
