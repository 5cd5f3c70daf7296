//! Doors for fuzz targets; see `fuzz/`.

/// A `Range` is refused, passed over, or lies within the blob.
pub fn range(text: &str, size: u64) {
    if let Some(Ok(range)) = crate::routes::blobs::parse_range(text, size) {
        assert!(range.start < range.end && range.end <= size, "{text} of {size}");
    }
}
