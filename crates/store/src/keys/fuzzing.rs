//! Doors for fuzz targets; see `fuzz/`.

use super::{DataKey, envelope, file};

/// The text of a key file, or a wrapped data key. No other bytes than those
/// that were sealed open.
pub fn keys(data: &[u8]) {
    if let Ok(keys) = std::str::from_utf8(data).map_err(|e| e.to_string()).and_then(file::parse) {
        assert!(keys.iter().any(|key| key.name.is_none()));
    }
    assert!(envelope::open(&[7; 32], data, b"id").expect("an answer").is_none());
    let mut sealed = envelope::seal(&[7; 32], &DataKey([8; 32]), b"id").expect("sealed");
    let is_same = data.iter().all(|byte| *byte == 0);
    sealed.iter_mut().zip(data).for_each(|(byte, change)| *byte ^= change);
    let changed = envelope::open(&[7; 32], &sealed, b"id").expect("an answer");
    assert!(changed.is_none() || is_same || data[..data.len().min(sealed.len())].iter().all(|byte| *byte == 0));
}
