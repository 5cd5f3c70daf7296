//! The record of a mount: the document `mount` of its bucket.
//!
//! Invariant: the secrets are sealed for this bucket, URL and options alone.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use crate::options::MountSpec;
use crate::seal::{SealError, Sealer};

/// The document's name.
pub const DOCUMENT: &str = "mount";
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u32,
    url: String,
    options: BTreeMap<String, String>,
    /// The secret options as JSON, sealed, in Base64.
    secrets: String,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("the record of the mount cannot be read: {0}")]
    Malformed(String),
    #[error("{0}")]
    Sealed(#[from] SealError),
}

/// What the secrets are sealed for.
fn context(bucket: &str, url: &str, options: &BTreeMap<String, String>) -> Vec<u8> {
    serde_json::json!(["muonic mount", VERSION, bucket, url, options]).to_string().into_bytes()
}

pub(crate) fn write(bucket: &str, spec: &MountSpec, sealer: &dyn Sealer) -> Result<String, RecordError> {
    let secrets: BTreeMap<&str, &str> = spec.secrets().iter().map(|(name, s)| (name.as_str(), s.0.as_str())).collect();
    let secrets = serde_json::json!(secrets).to_string();
    let options = spec.plain_options().clone();
    let sealed = sealer.seal(secrets.as_bytes(), &context(bucket, spec.url(), &options))?;
    let record = Record { version: VERSION, url: spec.url().to_owned(), options, secrets: BASE64.encode(&sealed) };
    serde_json::to_string(&record).map_err(malformed)
}

pub(crate) fn read(bucket: &str, document: &str, sealer: &dyn Sealer) -> Result<MountSpec, RecordError> {
    let record: Record = serde_json::from_str(document).map_err(malformed)?;
    if record.version != VERSION {
        return Err(malformed(format!("its version is {}, and this server knows {VERSION}", record.version)));
    }
    let sealed = BASE64.decode(record.secrets.as_bytes()).map_err(malformed)?;
    let opened = sealer.open(&sealed, &context(bucket, &record.url, &record.options))?;
    // Not the parser's own words: they could hold a piece of a secret.
    let secrets: BTreeMap<String, String> =
        serde_json::from_slice(&opened).map_err(|_| malformed("its secrets are no JSON object"))?;
    let mut options = record.options;
    options.extend(secrets);
    MountSpec::parse(&record.url, &options).map_err(malformed)
}

fn malformed(why: impl std::fmt::Display) -> RecordError {
    RecordError::Malformed(why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::MasterSealer;

    #[test]
    fn records_come_back_for_their_bucket_only() {
        let sealer = MasterSealer::new([3; 32]);
        let options = [("access_key_id", "AK"), ("secret_access_key", "hush-hush"), ("endpoint", "https://a.example")];
        let options = options.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let spec = MountSpec::parse("s3://data/x", &options).expect("parsed");
        let document = write("bucket", &spec, &sealer).expect("written");
        assert!(!document.contains("hush"), "{document}");
        assert_eq!(read("bucket", &document, &sealer).expect("read"), spec);
        assert!(read("other", &document, &sealer).is_err());
        let elsewhere = document.replace("a.example", "b.example");
        assert!(matches!(read("bucket", &elsewhere, &sealer), Err(RecordError::Sealed(_))));
        assert!(matches!(read("bucket", "{}", &sealer), Err(RecordError::Malformed(_))));
    }
}
