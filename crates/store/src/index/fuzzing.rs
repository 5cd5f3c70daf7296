//! Doors for fuzz targets; see `fuzz/`.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, params_from_iter};

use super::rows::read_version;
use super::{buckets, extents, uploads};

/// Takes values off the bytes: a byte for the kind, then the value.
fn value<'a>(data: &mut &'a [u8]) -> ValueRef<'a> {
    let Some((kind, rest)) = data.split_first() else { return ValueRef::Null };
    *data = rest;
    match kind % 6 {
        0 => ValueRef::Null,
        1 => ValueRef::Integer(number(data)),
        2 => ValueRef::Real(f64::from_bits(number(data).cast_unsigned())),
        3 => ValueRef::Integer(i64::from(kind / 6)),
        kind => {
            let length = usize::from(data.split_off_first().copied().unwrap_or_default());
            let bytes = data.split_off(..length.min(data.len())).unwrap_or_default();
            if kind == 4 { ValueRef::Text(bytes) } else { ValueRef::Blob(bytes) }
        }
    }
}

fn number(data: &mut &[u8]) -> i64 {
    let mut bytes = [0; 8];
    let found = data.split_off(..data.len().min(8)).unwrap_or_default();
    bytes[..found.len()].copy_from_slice(found);
    i64::from_le_bytes(bytes)
}

thread_local! {
    static CONNECTION: Connection = Connection::open_in_memory().expect("a connection");
}

/// A row of any table: what is odd in it is an error. Seals and sums are
/// written so that they are read again as the same.
pub fn row(mut data: &[u8]) {
    let values: [ToSqlOutput<'_>; 16] = std::array::from_fn(|_| ToSqlOutput::Borrowed(value(&mut data)));
    CONNECTION.with(|connection| {
        let columns = "SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16";
        let mut select = connection.prepare_cached(columns).expect("a statement");
        let mut rows = select.query(params_from_iter(values)).expect("a query");
        let row = rows.next().expect("an answer").expect("a row");
        let _ = (read_version("bucket", row, true), read_version("bucket", row, false));
        let _ = (uploads::read("bucket", row), buckets::read(row).map(|known| known.id));
        let Ok((number, extent)) = extents::read(row, true) else { return };
        let _ = (extents::content_of(number), extents::part_of(number));
        if let Some(seal) = &extent.seal {
            assert_eq!(extents::read_seal(&extents::seal_blob(seal)).as_ref(), Ok(seal));
        }
        assert_eq!(extents::read_blocks(&extents::blocks_blob(&extent.blocks)), Ok(extent.blocks));
    });
    parts(data);
}

/// The list of an object's parts: those that overlap a range, in their order.
fn parts(mut data: &[u8]) {
    let mut next = || number(&mut data).cast_unsigned();
    let (parts, uniform, start, end) = (next() as u16, next(), next(), next());
    let ends = Some(data.to_vec());
    // More than fit into so many bytes would only take time.
    let layout = extents::Layout { parts: parts % 64, uniform: Some(uniform), ends: ends.clone() };
    let by_list = extents::Layout { parts: (data.len() / 10) as u16, uniform: None, ends };
    for layout in [layout, by_list] {
        let found = layout.overlapping(&(start..end)).unwrap_or_default();
        assert!(found.iter().all(|(_, begin)| *begin < end), "{found:?}");
        assert!(found.is_sorted_by(|a, b| a.1 <= b.1), "{found:?}");
    }
}
