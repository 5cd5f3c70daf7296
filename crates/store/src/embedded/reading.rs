//! The bytes of a version: one extent, or those of its parts one after the
//! other.

use std::collections::VecDeque;
use std::ops::Range;

use futures_util::{StreamExt, stream};
use muonic_ports::object_store::{ByteStream, CustomerKey, Error, ObjectVersion, Result};

use super::EmbeddedStore;
use super::pins::Pin;
use crate::content::Extent;
use crate::data::Data;

impl EmbeddedStore {
    pub(super) async fn bytes_of(
        &self,
        object: &ObjectVersion,
        range: Option<Range<u64>>,
        key: Option<&CustomerKey>,
    ) -> Result<ByteStream> {
        if object.is_delete_marker {
            return Err(Error::NoSuchKey);
        }
        let pin = self.inner.pins.pin(object.content);
        let range = range.unwrap_or(0..object.size);
        let range = range.start..range.end.min(object.size);
        let extents = self.index().extents(object.content, range.clone())?.ok_or(Error::NoSuchVersion)?;
        check_sizes(object, &range, &extents)?;
        let mut parts: VecDeque<(Range<u64>, Extent)> = extents
            .into_iter()
            .map(|(begin, extent)| {
                let within = range.start.saturating_sub(begin)..(range.end.saturating_sub(begin)).min(extent.size);
                (within, extent)
            })
            .collect();
        let Some((within, extent)) = parts.pop_front() else {
            return Ok(Box::pin(stream::empty()));
        };
        let first = self.data().read(&extent, Some(within), key).await?;
        if parts.is_empty() && !matches!(extent.place, crate::content::Place::File { .. }) {
            // All of it is read already.
            return Ok(first);
        }
        let rest = Rest { data: self.data().clone(), parts, key: key.cloned(), current: first, _pin: pin };
        Ok(Box::pin(stream::unfold(Some(rest), Rest::next)))
    }
}

/// Whether an object's extents are as long as it is: its end would be taken
/// for the end of its bytes, or theirs for its own.
fn check_sizes(object: &ObjectVersion, range: &Range<u64>, extents: &[(u64, Extent)]) -> Result<()> {
    let ends_at = extents.last().map_or(range.end, |(begin, extent)| begin.saturating_add(extent.size));
    let to_the_end = object.parts == 0 || range.end == object.size;
    if ends_at < range.end || extents.is_empty() && !range.is_empty() || to_the_end && ends_at != object.size {
        let what = format!(
            "the index says that {}/{} has {} bytes, and its extents end at {ends_at}; restore the index from a backup",
            object.bucket, object.key, object.size
        );
        return Err(muonic_ports::Error::bug(what).into());
    }
    Ok(())
}

struct Rest {
    data: Data,
    parts: VecDeque<(Range<u64>, Extent)>,
    key: Option<CustomerKey>,
    current: ByteStream,
    _pin: Pin,
}

impl Rest {
    async fn next(rest: Option<Self>) -> Option<(std::io::Result<bytes::Bytes>, Option<Self>)> {
        let mut rest = rest?;
        loop {
            match rest.current.next().await {
                Some(Ok(piece)) => return Some((Ok(piece), Some(rest))),
                Some(Err(error)) => return Some((Err(error), None)),
                None => {}
            }
            let (within, extent) = rest.parts.pop_front()?;
            match rest.data.read(&extent, Some(within), rest.key.as_ref()).await {
                Ok(body) => rest.current = body,
                Err(error) => return Some((Err(std::io::Error::other(error)), None)),
            }
        }
    }
}
