//! Rows of extents: where the bytes of a content lie.
//!
//! A row's number is its content's, then 14 bits of the part's number, so the
//! parts of an upload lie in order and completing it moves none of them.

use std::ops::Range;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::rows::odd;
use super::tx::Tx;
use crate::content::{Extent, Place, Seal, SealedBy};

type Sql<T> = rusqlite::Result<T>;

const PART_BITS: u32 = 14;

pub(super) fn row_of(content: i64, part: u16) -> i64 {
    (content << PART_BITS) | i64::from(part)
}

pub(super) fn content_of(row: i64) -> i64 {
    row >> PART_BITS
}

pub(super) fn part_of(row: i64) -> u16 {
    (row & ((1 << PART_BITS) - 1)) as u16
}

/// First and last row that a content may have.
pub(super) fn rows_of(content: i64) -> (i64, i64) {
    (row_of(content, 0), row_of(content, (1 << PART_BITS) - 1))
}

/// The columns of [`read`], in its order; `data` may be left out.
macro_rules! extent_columns {
    () => {
        "row, id, size, place, segment, offset, length, seal, digest, blocks"
    };
}
pub(super) use extent_columns;

/// `data`: whether the statement has that column too.
pub(super) fn read(row: &Row<'_>, data: bool) -> Sql<(i64, Extent)> {
    let id = row.get_ref(1)?.as_blob()?.try_into().map_err(|_| odd("extent id"))?;
    let length: u64 = row.get(6)?;
    let place = match row.get::<_, i64>(3)? {
        0 if data => Place::Inline(Bytes::copy_from_slice(row.get_ref(10)?.as_blob()?)),
        0 => Place::Inline(Bytes::new()),
        1 => Place::Segment { segment: row.get(4)?, offset: row.get(5)?, length },
        2 => Place::File { length },
        3 => {
            let digest = row.get_ref(8)?.as_blob()?.try_into().map_err(|_| odd("digest"))?;
            Place::Legacy { digest, length }
        }
        _ => return Err(odd("place")),
    };
    let seal = row.get_ref(7)?.as_blob_or_null()?.map(read_seal).transpose()?;
    let extent = Extent { id, size: row.get(2)?, place, seal, blocks: read_blocks(row.get_ref(9)?.as_blob()?)? };
    Ok((row.get(0)?, extent))
}

/// What a row of a part has beside its extent.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartColumns<'a> {
    pub(super) etag: &'a [u8],
    pub(super) sum: Option<&'a [u8]>,
    pub(super) modified_at: i64,
}

pub(super) fn insert(tx: &mut Tx<'_>, row: i64, extent: &Extent, part: Option<PartColumns<'_>>) -> Sql<()> {
    let (place, segment, offset, length, digest, data) = columns(&extent.place);
    tx.sql(
        "INSERT INTO extents (row, id, size, place, segment, offset, length, etag, sum, modified_at, seal, digest, \
         blocks, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?
    .execute(params![
        row,
        extent.id.as_slice(),
        extent.size,
        place,
        segment,
        offset,
        length,
        part.map(|p| p.etag),
        part.and_then(|p| p.sum),
        part.map(|p| p.modified_at),
        extent.seal.as_ref().map(seal_blob),
        digest,
        blocks_blob(&extent.blocks),
        data,
    ])?;
    if let Place::Segment { segment, offset, length } = extent.place {
        tx.segment_gains(segment, offset, length);
    }
    Ok(())
}

/// As columns: place, segment, offset, length, digest, data.
#[allow(clippy::type_complexity)]
fn columns(place: &Place) -> (i64, Option<u64>, Option<u64>, u64, Option<&[u8]>, Option<&[u8]>) {
    match place {
        Place::Inline(bytes) => (0, None, None, bytes.len() as u64, None, Some(bytes)),
        Place::Segment { segment, offset, length } => (1, Some(*segment), Some(*offset), *length, None, None),
        Place::File { length } => (2, None, None, *length, None, None),
        Place::Legacy { digest, length } => (3, None, None, *length, Some(digest), None),
    }
}

/// Puts an extent elsewhere, unless it has moved meanwhile. The bytes that an
/// inline place carries are not compared.
pub(super) fn relocate(tx: &mut Tx<'_>, row: i64, id: &[u8], old: &Place, new: &Place) -> Sql<bool> {
    let (was, was_segment, was_offset, was_length, ..) = columns(old);
    let (place, segment, offset, length, digest, data) = columns(new);
    let moved = tx
        .sql(
            "UPDATE extents SET place = ?1, segment = ?2, offset = ?3, length = ?4, digest = ?5, data = ?6
             WHERE row = ?7 AND id = ?8 AND place = ?9 AND segment IS ?10 AND offset IS ?11",
        )?
        .execute(params![place, segment, offset, length, digest, data, row, id, was, was_segment, was_offset])?;
    if moved == 0 {
        return Ok(false);
    }
    if let Some(segment) = was_segment {
        tx.segment_loses(segment, was_length);
    }
    if let Place::Segment { segment, offset, length } = *new {
        tx.segment_gains(segment, offset, length);
    }
    Ok(true)
}

/// Those of a content that overlap a range of its bytes, each with the offset
/// in the content at which it begins. `None` where there is no such content.
pub(super) fn of_content(conn: &Connection, content: i64, range: &Range<u64>) -> Sql<Option<Vec<(u64, Extent)>>> {
    let mut one = conn.prepare_cached(concat!("SELECT ", extent_columns!(), ", data FROM extents WHERE row = ?1"))?;
    // Most have no parts.
    if let Some((_, extent)) = one.query_row([row_of(content, 0)], |row| read(row, true)).optional()? {
        return Ok(Some(vec![(0, extent)]));
    }
    let layout = conn
        .prepare_cached("SELECT parts, uniform, ends FROM contents WHERE id = ?1 AND parts > 0")?
        .query_row([content], |row| Ok(Layout { parts: row.get(0)?, uniform: row.get(1)?, ends: row.get(2)? }))
        .optional()?;
    let Some(layout) = layout else { return Ok(None) };
    let mut found = Vec::new();
    for (number, start) in layout.overlapping(range)? {
        match one.query_row([row_of(content, number)], |row| read(row, true)).optional()? {
            Some((_, extent)) if layout.fits(number, start, extent.size) => found.push((start, extent)),
            Some(_) => return Err(odd("list of parts")),
            None => return Ok(None),
        }
    }
    Ok(Some(found))
}

/// Which part holds which bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) parts: u16,
    pub(super) uniform: Option<u64>,
    pub(super) ends: Option<Vec<u8>>,
}

const END: usize = 10;

fn number_in(at: &[u8; END]) -> u16 {
    u16::from_be_bytes([at[0], at[1]])
}

fn end_in(at: &[u8; END]) -> u64 {
    at[2..].try_into().map_or(0, u64::from_be_bytes)
}

impl Layout {
    /// Of parts by number and size.
    pub(super) fn of(parts: &[(u16, u64)]) -> Self {
        let count = u16::try_from(parts.len()).unwrap_or(u16::MAX);
        let first = parts.first().map_or(0, |p| p.1);
        let uniform = first > 0
            && parts.iter().enumerate().all(|(at, (number, size))| {
                usize::from(*number) == at + 1 && (*size == first || (at + 1 == parts.len() && *size <= first))
            });
        if uniform {
            return Self { parts: count, uniform: Some(first), ends: None };
        }
        let mut ends = Vec::with_capacity(parts.len() * END);
        let mut end = 0u64;
        for (number, size) in parts {
            end = end.saturating_add(*size);
            ends.extend_from_slice(&number.to_be_bytes());
            ends.extend_from_slice(&end.to_be_bytes());
        }
        Self { parts: count, uniform: None, ends: Some(ends) }
    }

    /// Number and first byte of each part that overlaps the range.
    pub(super) fn overlapping(&self, range: &Range<u64>) -> Sql<Vec<(u16, u64)>> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(size) = self.uniform.filter(|size| *size > 0) {
            let first = range.start / size;
            let past = range.end.div_ceil(size).min(u64::from(self.parts));
            return Ok((first..past).map(|at| (at as u16 + 1, at * size)).collect());
        }
        let (ends, rest) = self.ends.as_deref().unwrap_or_default().as_chunks::<END>();
        if !rest.is_empty() || ends.len() != usize::from(self.parts) {
            return Err(odd("list of parts"));
        }
        let first = ends.partition_point(|at| end_in(at) <= range.start);
        let mut start = if first == 0 { 0 } else { end_in(&ends[first - 1]) };
        let mut found = Vec::new();
        for at in &ends[first..] {
            if start >= range.end {
                break;
            }
            let end = end_in(at);
            if end < start {
                return Err(odd("list of parts"));
            }
            if end > start {
                found.push((number_in(at), start));
            }
            start = end;
        }
        Ok(found)
    }

    /// Whether a part that begins there has this size.
    fn fits(&self, number: u16, start: u64, size: u64) -> bool {
        if let Some(uniform) = self.uniform.filter(|size| *size > 0) {
            return size == uniform || (number == self.parts && size < uniform);
        }
        let (ends, _) = self.ends.as_deref().unwrap_or_default().as_chunks::<END>();
        let found = ends.binary_search_by_key(&number, number_in);
        found.is_ok_and(|at| end_in(&ends[at]) == start.saturating_add(size))
    }
}

pub(super) fn blocks_blob(blocks: &[u32]) -> Vec<u8> {
    blocks.iter().flat_map(|block| block.to_be_bytes()).collect()
}

pub(super) fn read_blocks(blob: &[u8]) -> Sql<Vec<u32>> {
    let (blocks, rest) = blob.as_chunks::<4>();
    if rest.is_empty() { Ok(blocks.iter().map(|b| u32::from_be_bytes(*b)).collect()) } else { Err(odd("block list")) }
}

/// Kind, version, length of the name or MD5 (2 bytes), that, the wrapped key.
pub(super) fn seal_blob(seal: &Seal) -> Vec<u8> {
    let (kind, version, name) = match &seal.by {
        SealedBy::Store { version } => (0, *version, ""),
        SealedBy::Named { name, version } => (1, *version, name.as_str()),
        SealedBy::Customer { key_md5 } => (2, 0, key_md5.as_str()),
    };
    let mut blob = vec![kind];
    blob.extend_from_slice(&version.to_be_bytes());
    blob.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
    blob.extend_from_slice(name.as_bytes());
    blob.extend_from_slice(&seal.wrapped);
    blob
}

pub(super) fn read_seal(blob: &[u8]) -> Sql<Seal> {
    let [kind, v0, v1, v2, v3, n0, n1, rest @ ..] = blob else { return Err(odd("seal")) };
    let version = u32::from_be_bytes([*v0, *v1, *v2, *v3]);
    let length = usize::from(u16::from_be_bytes([*n0, *n1]));
    let (name, wrapped) = rest.split_at_checked(length).ok_or_else(|| odd("seal"))?;
    let name = String::from_utf8(name.to_vec()).map_err(|_| odd("seal"))?;
    let by = match kind {
        0 => SealedBy::Store { version },
        1 => SealedBy::Named { name, version },
        2 => SealedBy::Customer { key_md5: name },
        _ => return Err(odd("seal")),
    };
    Ok(Seal { by, wrapped: wrapped.to_vec() })
}
