//! Doors for fuzz targets; see `fuzz/`.

use std::path::{Component, Path};

use crate::manifest::Reader;
use crate::names::{escaped, is_path};

/// A manifest, and its lines as keys: whatever their names, files lie below
/// the folder.
pub fn manifest(data: &[u8]) {
    let below = |path: &str| Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    for key in data.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()) {
        assert!(!is_path(key) || below(key), "{key:?}");
        let name = escaped(key);
        assert!(is_path(&name) && !name.contains('/'), "{name:?}");
    }
    let path = std::env::temp_dir().join(format!("muonic-fuzz-manifest-{}", std::process::id()));
    std::fs::write(&path, data).expect("a file");
    let Ok(Some(mut reader)) = Reader::open(&path) else { return };
    while let Ok(Some(entry)) = reader.next() {
        assert!(entry.path.is_none_or(|path| !is_path(&path) || below(&path)));
    }
}
