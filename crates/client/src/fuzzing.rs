//! Doors for fuzz targets; see `fuzz/`.

use muonic_types::Digest;

use crate::pack::{PackError, PackReader};

/// All records of a pack; `None` where it is refused.
pub fn pack(pack: &[u8]) -> Option<Vec<(Digest, Vec<u8>)>> {
    let mut reader = PackReader::new(pack);
    let mut records = Vec::new();
    while let Some((digest, size)) = reader.head().ok()? {
        let mut bytes = Vec::new();
        let keep = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok::<_, PackError>(())
        };
        reader.body(size, keep).ok()?;
        records.push((digest, bytes));
    }
    Some(records)
}
