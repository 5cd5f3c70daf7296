//! Doors for fuzz targets; see `fuzz/`.

use crate::{Error, Manifest, Reader, Writer};

/// What is read is what was written.
pub fn bundle(data: &[u8]) {
    if let Ok(reader) = Reader::new(data) {
        let _ = reader.files(|_, _| Ok::<_, Error>(()));
    }
    let Ok(manifest) = Manifest::decode(data) else { return };
    assert_eq!(Manifest::decode(&manifest.encode()).ok().as_ref(), Some(&manifest));
    let mut bytes = Vec::new();
    let writer = Writer::new(&mut bytes, manifest.clone()).expect("memory takes it");
    drop(writer);
    let reader = Reader::new(&bytes[..]).expect("it was just written");
    assert_eq!(reader.manifest(), &manifest);
}
