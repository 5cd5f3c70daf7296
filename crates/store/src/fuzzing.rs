//! Doors for fuzz targets; see `fuzz/`.

pub use crate::data::fuzzing::extent;
pub use crate::index::fuzzing::row;
pub use crate::keys::fuzzing::keys;

/// The file `format`, or the name of a data file.
pub fn files(data: &[u8]) {
    if let Ok(name) = std::str::from_utf8(data) {
        crate::data::fuzzing::name(name);
    }
    let root = std::env::temp_dir().join(format!("muonic-fuzz-format-{}", std::process::id()));
    std::fs::create_dir_all(&root).and_then(|()| std::fs::write(root.join("format"), data)).expect("a file");
    let is_ours = crate::embedded::is_encrypted(&root);
    assert!(!is_ours || data.starts_with(b"muonic-store "));
}
