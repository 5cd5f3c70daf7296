//! Pages of a bucket's keys, in byte order.
//!
//! A prefix that is rolled up is sought past, never read through. A page ends
//! early where it would have to look at too many rows that are not shown.

use muonic_ports::object_store::{After, ListQuery, Listing, Result};
use rusqlite::{Connection, params};

use super::Index;
use super::failure::Failure;
use super::rows::{self, VersionRow, version_columns};
use super::versions;

/// Rows of one key that are read through before the next key is sought.
const SAME_KEY: usize = 16;
/// Rows that one page looks at without showing them.
const HIDDEN: usize = 200_000;

impl Index {
    pub(crate) async fn list(&self, bucket: &str, query: &ListQuery) -> Result<Listing> {
        let id = self.known(bucket)?.id;
        let (bucket, query) = (bucket.to_owned(), query.clone());
        self.readers().scan(move |conn| list(conn, (id, &bucket), &query)).await
    }
}

/// Where rows are read from.
struct Seek {
    key: Vec<u8>,
    /// The first age of that key; later keys from their latest on.
    age: i64,
}

impl Seek {
    fn key(key: Vec<u8>) -> Self {
        Self { key, age: i64::MIN }
    }

    fn past_key(key: &str) -> Self {
        Self::key(next_key(key))
    }
}

/// The first key after this one.
pub(super) fn next_key(key: &str) -> Vec<u8> {
    let mut next = key.as_bytes().to_vec();
    next.push(0);
    next
}

/// What all that begins with this comes before.
pub(super) fn past_prefix(prefix: &str) -> Vec<u8> {
    let mut next = prefix.as_bytes().to_vec();
    // No byte of UTF-8 is 0xff.
    if let Some(last) = next.last_mut() {
        *last += 1;
    }
    next
}

/// The prefix a key is rolled up into.
pub(super) fn roll_up<'k>(key: &'k str, prefix: &str, delimiter: Option<&str>) -> Option<&'k str> {
    let delimiter = delimiter.filter(|d| !d.is_empty())?;
    let at = key.strip_prefix(prefix)?.find(delimiter)?;
    key.get(..prefix.len() + at + delimiter.len())
}

fn list(conn: &Connection, bucket: (i64, &str), query: &ListQuery) -> Result<Listing, Failure> {
    let mut page = Page { query, listing: Listing::default(), last: None, hidden: 0, same: 0 };
    if query.max == 0 {
        return Ok(page.listing);
    }
    let delimiter = query.delimiter.as_deref();
    // Whether the key sought first is begun in the middle, after rows not seen.
    let mut begun = None;
    let mut seek = match &query.after {
        After::Start => Seek::key(Vec::new()),
        After::Key(key) if roll_up(key, &query.prefix, delimiter) == Some(key) => Seek::key(past_prefix(key)),
        After::Key(key) => Seek::past_key(key),
        After::Version(key, id) => match rows::version_age(id) {
            Some(age) => resume(conn, bucket, key, age, &mut begun)?,
            None if id.is_null() => match versions::null(conn, bucket, key)? {
                Some(row) => resume(conn, bucket, key, row.age, &mut begun)?,
                // It has gone since; what is left of the key was not shown, or is shown again.
                None => Seek::key(key.as_bytes().to_vec()),
            },
            None => Seek::past_key(key),
        },
    };
    if seek.key.as_slice() < query.prefix.as_bytes() {
        seek = Seek::key(query.prefix.as_bytes().to_vec());
    }
    let sql = concat!(
        "SELECT ",
        version_columns!(),
        " FROM versions WHERE bucket = ?1 AND (key, age) >= (?2, ?3) ORDER BY key, age"
    );
    let mut statement = conn.prepare_cached(sql)?;
    loop {
        let mut found = statement.query(params![bucket.0, seek.key, seek.age])?;
        let next = loop {
            let Some(row) = found.next()? else { break None };
            match page.take(rows::read_version(bucket.1, row, false)?, &mut begun) {
                Step::Next => {}
                Step::Seek(to) => break Some(to),
                Step::End => break None,
            }
        };
        match next {
            Some(next) => seek = next,
            None => return Ok(page.listing),
        }
    }
}

fn resume(
    conn: &Connection,
    bucket: (i64, &str),
    key: &str,
    age: i64,
    begun: &mut Option<String>,
) -> rusqlite::Result<Seek> {
    let newer = conn
        .prepare_cached("SELECT 1 FROM versions WHERE bucket = ?1 AND key = ?2 AND age <= ?3 LIMIT 1")?
        .exists(params![bucket.0, key.as_bytes(), age])?;
    *begun = newer.then(|| key.to_owned());
    Ok(Seek { key: key.as_bytes().to_vec(), age: age.saturating_add(1) })
}

enum Step {
    Next,
    Seek(Seek),
    End,
}

struct Page<'q> {
    query: &'q ListQuery,
    listing: Listing,
    /// Where the next page would begin.
    last: Option<After>,
    /// Rows that were not shown, in all and of the last key.
    hidden: usize,
    same: usize,
}

impl Page<'_> {
    /// Decides about the next row in order. `begun` is the key whose latest
    /// version has been seen.
    fn take(&mut self, row: VersionRow, begun: &mut Option<String>) -> Step {
        let ListQuery { prefix, delimiter, versions, .. } = self.query;
        let mut object = row.object;
        if !object.key.starts_with(prefix.as_str()) {
            return Step::End;
        }
        let first = begun.as_ref() != Some(&object.key);
        if !versions && !first {
            return self.hide(&object.key);
        }
        object.latest = first;
        if first {
            begun.get_or_insert_default().clone_from(&object.key);
            self.same = 0;
        }
        if !versions && object.is_delete_marker {
            return self.hide(&object.key);
        }
        if self.listing.objects.len() + self.listing.prefixes.len() >= self.query.max as usize {
            self.listing.next = self.last.take();
            return Step::End;
        }
        if let Some(common) = roll_up(&object.key, prefix, delimiter.as_deref()) {
            self.last = Some(After::Key(common.to_owned()));
            let past = past_prefix(common);
            self.listing.prefixes.push(common.to_owned());
            return Step::Seek(Seek::key(past));
        }
        self.last = Some(if *versions {
            After::Version(object.key.clone(), object.version.clone())
        } else {
            After::Key(object.key.clone())
        });
        self.listing.objects.push(object);
        Step::Next
    }

    fn hide(&mut self, key: &str) -> Step {
        self.hidden += 1;
        let rolled = roll_up(key, &self.query.prefix, self.query.delimiter.as_deref());
        if self.hidden >= HIDDEN && rolled != Some(key) {
            self.listing.next = Some(After::Key(key.to_owned()));
            return Step::End;
        }
        self.same += 1;
        if self.same > SAME_KEY { Step::Seek(Seek::past_key(key)) } else { Step::Next }
    }
}
