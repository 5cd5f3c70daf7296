//! Copies within one mounted store.

use std::collections::BTreeMap;

use muonic_ports::object_store::{CustomerKey, Error, NewObject, ObjectVersion, Precondition, Result, Target, Verify};
use object_store::{CopyMode, CopyOptions};

use super::Remote;
use crate::headers::refuse_what_is_not_kept;

/// S3 copies no more in one request.
const COPY_MAX: u64 = 5 << 30;

impl Remote {
    pub(super) async fn copy_object(
        &self,
        source: &ObjectVersion,
        source_key: Option<&CustomerKey>,
        target: Target,
        new: NewObject,
    ) -> Result<ObjectVersion> {
        self.ours(&target.bucket)?;
        self.ours(&source.bucket)?;
        refuse_what_is_not_kept(self.backend.kind, &new)?;
        let by_the_store = self.backend.kind.copies()
            && source.size <= COPY_MAX
            && target.condition == Precondition::default()
            && new.algorithm.is_none()
            && source.key != target.key
            && kept(&source.headers) == kept(&new.headers);
        if !by_the_store {
            let body = self.read_object(source, None, source_key).await?;
            return self.put_object(target, new, body, all_of(source)).await;
        }
        let (from, to) = (self.path(&source.key)?, self.path(&target.key)?);
        let found = self.get_object(&source.bucket, &source.key, None).await?;
        if found.as_ref().map(|f| &f.etag) != Some(&source.etag) {
            return Err(Error::NoSuchVersion);
        }
        let options = CopyOptions::new().with_mode(CopyMode::Overwrite);
        // Large ones take the store its time; the client bounds the silence.
        match self.backend.store.copy_opts(&from, &to, options).await {
            Ok(()) => {}
            Err(object_store::Error::NotFound { .. }) => return Err(Error::NoSuchVersion),
            Err(e) => return Err(self.backend.voice.error(e)),
        }
        self.get_object(&target.bucket, &target.key, None).await?.ok_or(Error::NoSuchKey)
    }
}

/// Headers, but for a type that says nothing and that stores add.
fn kept(headers: &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
    let mut kept: BTreeMap<_, _> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    if matches!(kept.get("content-type"), Some(&("binary/octet-stream" | "application/octet-stream"))) {
        kept.remove("content-type");
    }
    kept
}

/// Agrees where a copy has the size of its source.
pub(crate) fn all_of(source: &ObjectVersion) -> Verify {
    let size = source.size;
    Box::new(move |sums| {
        if sums.size == size {
            return Ok(());
        }
        Err(Error::Checksum(format!("{} of {size} bytes of the source of the copy arrived", sums.size)))
    })
}
