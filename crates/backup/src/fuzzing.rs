//! Doors for fuzz targets; see `fuzz/`.

use std::path::{Component, Path};

use crate::keys::{self, Sealed};
use crate::list::Reader;
use crate::manifest::Manifest;

/// Any file of a snapshot that is read as text. What its list names lies below
/// the data folder, and below the destination.
pub fn snapshot(data: &[u8]) {
    if let Ok(manifest) = serde_json::from_slice::<Manifest>(data) {
        let _ = manifest.snapshot();
    }
    if let Some(sealed) = serde_json::from_slice::<Sealed>(data).ok().filter(Sealed::is_quick) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let _ = runtime.block_on(keys::open(sealed, "passphrase".to_owned()));
    }
    let (before, after) = data.split_at(data.iter().position(|byte| *byte == 0).unwrap_or(data.len()));
    let _ = keys::none_retired(before, after);

    let path = std::env::temp_dir().join(format!("muonic-fuzz-list-{}", std::process::id()));
    std::fs::write(&path, data).expect("a file");
    let Ok(mut list) = Reader::open(&path, "a snapshot".to_owned()) else { return };
    while let Ok(Some(entry)) = list.take() {
        for path in [entry.restored(), entry.stored()] {
            assert!(Path::new(&path).components().all(|part| matches!(part, Component::Normal(_))), "{path}");
        }
    }
}
