//! Getting and reading.

use std::ops::Range;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use muonic_ports::object_store::{ByteStream, CustomerKey, Error, ObjectVersion, Result, VersionId};
use object_store::{GetOptions, GetRange};

use super::Remote;
use crate::headers::headers;

impl Remote {
    pub(super) async fn get_object(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&VersionId>,
    ) -> Result<Option<ObjectVersion>> {
        self.ours(bucket)?;
        // There is no such key where none could be put.
        let Ok(path) = self.path(key) else { return Ok(None) };
        if version.is_some_and(|v| !v.is_null()) {
            return Ok(None);
        }
        let found = self.head(&path).await?;
        Ok(found.map(|found| self.object(key, &found.meta, headers(&found.attributes))))
    }

    pub(super) async fn read_object(
        &self,
        object: &ObjectVersion,
        range: Option<Range<u64>>,
        key: Option<&CustomerKey>,
    ) -> Result<ByteStream> {
        self.ours(&object.bucket)?;
        if key.is_some() {
            return Err(Error::CustomerKey("the object is not encrypted with a key of the customer"));
        }
        let path = self.path(&object.key)?;
        self.inside(&path).await?;
        let expected = range.as_ref().map_or(object.size, |r| r.end.saturating_sub(r.start));
        if expected == 0 {
            return Ok(stream::empty().boxed());
        }
        let options = GetOptions {
            if_match: Some(self.stores_etag(&object.etag)),
            range: range.map(GetRange::Bounded),
            ..Default::default()
        };
        let found = match self.ask(self.backend.store.get_opts(&path, options)).await? {
            Ok(found) => found,
            // It was replaced or deleted since it was looked at.
            Err(object_store::Error::Precondition { .. } | object_store::Error::NotModified { .. }) => {
                return Err(Error::NoSuchVersion);
            }
            Err(object_store::Error::NotFound { .. }) => {
                self.still_there().await?;
                return Err(Error::NoSuchVersion);
            }
            Err(e) => return Err(self.backend.voice.error(e)),
        };
        let now = self.object(&object.key, &found.meta, Default::default());
        if (now.size, &now.etag) != (object.size, &object.etag) {
            return Err(Error::NoSuchVersion);
        }
        let voice = self.backend.voice.clone();
        let bytes = found.into_stream().map_err(move |e| voice.io(e));
        Ok(whole(bytes.boxed(), expected))
    }
}

/// Ends in an error where bytes are missing, or there are more.
fn whole(bytes: ByteStream, expected: u64) -> ByteStream {
    let counted = stream::try_unfold((bytes, expected), |(mut bytes, left)| async move {
        let wrong = |what: &str| std::io::Error::other(format!("the mounted store gave {what} bytes than it said"));
        match bytes.try_next().await? {
            Some(piece) => match left.checked_sub(piece.len() as u64) {
                Some(left) => Ok(Some((piece, (bytes, left)))),
                None => Err(wrong("more")),
            },
            None if left == 0 => Ok(None::<(Bytes, _)>),
            None => Err(wrong("fewer")),
        }
    });
    counted.boxed()
}
