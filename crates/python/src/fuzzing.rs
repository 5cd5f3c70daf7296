//! Doors for fuzz targets; see `fuzz/`.

use crate::pylock;
use crate::requirements::{local_package, references};

/// The text of a requirements file, or a lock.
pub fn requirements(data: &[u8]) {
    let _ = pylock::requirements(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = (references(text), local_package(text));
}
