//! Doors for fuzz targets; see `fuzz/`.

use std::collections::BTreeMap;

use data_encoding::BASE64;

use crate::options::MountSpec;
use crate::record;
use crate::seal::{SealError, Sealer};

/// Seals nothing, so that what was sealed can be chosen.
struct Open;

impl Sealer for Open {
    fn seal(&self, plain: &[u8], _: &[u8]) -> Result<Vec<u8>, SealError> {
        Ok(plain.to_vec())
    }

    fn open(&self, sealed: &[u8], _: &[u8]) -> Result<Vec<u8>, SealError> {
        Ok(sealed.to_vec())
    }
}

/// What can be mounted is found again in its record, and shows no secret.
pub fn spec(url: &str, options: &BTreeMap<String, String>) {
    let Ok(spec) = MountSpec::parse(url, options) else { return };
    assert!(spec.prefix.is_empty() || spec.prefix.ends_with('/'));
    let document = record::write("bucket", &spec, &Open).expect("it is written");
    let again = record::read("bucket", &document, &Open).unwrap_or_else(|e| panic!("{document}: {e}"));
    assert_eq!(again, spec);
}

/// The text of a record, or the secrets in one.
pub fn record(text: &str) {
    let _ = record::read("bucket", text, &Open);
    let secrets = BASE64.encode(text.as_bytes());
    let document = format!(r#"{{"version": 1, "url": "s3://b", "options": {{}}, "secrets": "{secrets}"}}"#);
    let _ = record::read("bucket", &document, &Open);
}
