//! What is known of an object, in the port's terms.

use std::collections::BTreeMap;

use muonic_ports::object_store::{Encryption, ObjectVersion, VersionId};
use muonic_types::Timestamp;
use object_store::ObjectMeta;

use super::Remote;
use crate::backend::Kind;

impl Remote {
    pub(super) fn object(&self, key: &str, meta: &ObjectMeta, headers: BTreeMap<String, String>) -> ObjectVersion {
        let modified = meta.last_modified;
        let modified_at = Timestamp::new(modified.timestamp(), modified.timestamp_subsec_nanos() as i32);
        self.new_object(key, meta.size, meta.e_tag.as_deref(), modified_at.unwrap_or_default(), headers)
    }

    pub(super) fn new_object(
        &self,
        key: &str,
        size: u64,
        stores_etag: Option<&str>,
        modified_at: Timestamp,
        headers: BTreeMap<String, String>,
    ) -> ObjectVersion {
        ObjectVersion {
            bucket: self.bucket.name.clone(),
            key: key.to_owned(),
            version: VersionId::null(),
            latest: true,
            is_delete_marker: false,
            size,
            etag: etag(stores_etag, size, modified_at),
            modified_at,
            headers,
            tags: BTreeMap::new(),
            owner: self.bucket.project.to_string(),
            acl: None,
            encryption: Encryption::None,
            retention: None,
            legal_hold: false,
            sum: None,
            parts: 0,
            content: 0,
        }
    }

    /// The store's own form of an ETag of ours.
    pub(super) fn stores_etag(&self, etag: &str) -> String {
        if self.backend.kind == Kind::Hdfs || etag.starts_with("W/") { etag.to_owned() } else { format!("\"{etag}\"") }
    }
}

/// Without quotes; where the store has none, one that changes with size and
/// time.
fn etag(given: Option<&str>, size: u64, modified_at: Timestamp) -> String {
    match given {
        Some(tag) if !tag.starts_with("W/") => tag.trim_matches('"').to_owned(),
        Some(tag) => tag.to_owned(),
        None => format!("{:x}-{size:x}", modified_at.as_millisecond()),
    }
}
