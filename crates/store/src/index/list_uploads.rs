//! Pages of a bucket's open uploads: by key, then by the time they began.

use muonic_ports::object_store::{Result, UploadListing, UploadQuery};
use rusqlite::{Connection, params};

use super::Index;
use super::failure::Failure;
use super::list::{next_key, past_prefix, roll_up};
use super::uploads;

impl Index {
    pub(crate) async fn uploads(&self, bucket: &str, query: &UploadQuery) -> Result<UploadListing> {
        let id = self.known(bucket)?.id;
        let (bucket, query) = (bucket.to_owned(), query.clone());
        self.readers().scan(move |conn| list(conn, (id, &bucket), &query)).await
    }
}

fn list(conn: &Connection, bucket: (i64, &str), query: &UploadQuery) -> Result<UploadListing, Failure> {
    let mut page = UploadListing::default();
    if query.max == 0 {
        return Ok(page);
    }
    let UploadQuery { prefix, delimiter, .. } = query;
    let delimiter = delimiter.as_deref();
    let mut seek = match &query.after {
        None => (Vec::new(), 0),
        Some((key, None)) if roll_up(key, prefix, delimiter) == Some(key) => (past_prefix(key), 0),
        Some((key, None)) => (next_key(key), 0),
        Some((key, Some(id))) => match uploads::content_of_id(id) {
            Some(content) => (key.as_bytes().to_vec(), content.saturating_add(1)),
            None => (next_key(key), 0),
        },
    };
    if seek.0.as_slice() < prefix.as_bytes() {
        seek = (prefix.as_bytes().to_vec(), 0);
    }
    let mut statement = conn.prepare_cached(
        "SELECT key, content, id, started_at, encryption, new FROM uploads
         WHERE bucket = ?1 AND (key, content) >= (?2, ?3) ORDER BY key, content",
    )?;
    let mut last = None;
    loop {
        let mut found = statement.query(params![bucket.0, seek.0, seek.1])?;
        let next = loop {
            let Some(row) = found.next()? else { return Ok(page) };
            let upload = uploads::read(bucket.1, row)?.1;
            if !upload.key.starts_with(prefix.as_str()) {
                return Ok(page);
            }
            if page.uploads.len() + page.prefixes.len() >= query.max as usize {
                page.next = last;
                return Ok(page);
            }
            if let Some(common) = roll_up(&upload.key, prefix, delimiter) {
                last = Some((common.to_owned(), None));
                page.prefixes.push(common.to_owned());
                break past_prefix(common);
            }
            last = Some((upload.key.clone(), Some(upload.id.clone())));
            page.uploads.push(upload);
        };
        seek = (next, 0);
    }
}
