//! What happens to the objects of a bucket, for those who want to know. The
//! store's journal is the one source; what of it is told is what the bucket's
//! notifications ask for when it is read.

use std::time::Duration;

use muonic_policy::notification::Notifications;
use muonic_ports::object_store::{Change, Error as StoreError, Happened, Origin};
use muonic_types::store::{BucketEvent, BucketEventList};
use tokio::time::Instant;

use super::action::Action;
use super::call::Call;
use super::config::{Kind, parse, render};
use super::{Buckets, Error, Result};

/// Longest wait for an event.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Most events in one answer, and most changes that are looked at in one step.
const EVENTS_MAX: u32 = 1000;

impl Buckets {
    /// Notifications that have been checked; `None` ends them.
    pub async fn set_notifications(&self, call: Call<'_>, bucket: &str, new: Option<&Notifications>) -> Result<()> {
        let bucket = self.open(call, Action::PUT_NOTIFICATION, bucket, None).await?;
        if new.is_some() && !self.store.abilities(&bucket.name).journal {
            return Err(StoreError::NotSupported("events of a mounted bucket").into());
        }
        self.keep(&bucket, Kind::Notification, new.map(render).transpose()?).await
    }

    /// The events after a number, oldest first, at most `max`; where there is
    /// none, the first that come within `wait`. For those who may list the
    /// bucket. Of a bucket without notifications nothing is told.
    pub async fn events(
        &self,
        call: Call<'_>,
        bucket: &str,
        after: u64,
        max: Option<u32>,
        wait: Duration,
    ) -> Result<BucketEventList> {
        let max = max.unwrap_or(EVENTS_MAX);
        if max == 0 || max > EVENTS_MAX {
            return Err(Error::Invalid(format!("limit must be between 1 and {EVENTS_MAX}")));
        }
        let until = Instant::now() + wait.min(WAIT_MAX);
        let mut list = BucketEventList { events: Vec::new(), next: after, gap: false };
        loop {
            // Each time anew: who may read, and what is told, may change in a wait.
            let bucket = self.open(call, Action::LIST, bucket, None).await?;
            let Some(document) = bucket.documents.get(Kind::Notification.name()) else {
                return Err(Error::NoDocument(Kind::Notification));
            };
            let wanted: Notifications = parse(document, Kind::Notification)?;
            let left = until.saturating_duration_since(Instant::now());
            let found = tokio::select! {
                found = self.store.changes(&bucket.name, list.next, EVENTS_MAX, left) => found?,
                () = self.wakes.closed() => return Ok(list),
            };
            list.gap |= list.next > 0 && list.next < found.forgotten;
            let is_last = found.changes.is_empty();
            for change in found.changes {
                list.next = change.number;
                let name = name_of(change.what);
                if let Some(id) = wanted.tells(name, &change.key) {
                    let id = id.map(str::to_owned);
                    list.events.push(event(change, name, &bucket.name, id));
                }
                if list.events.len() >= max as usize {
                    return Ok(list);
                }
            }
            if is_last || !list.events.is_empty() {
                return Ok(list);
            }
        }
    }
}

/// As S3 calls it.
fn name_of(what: Happened) -> &'static str {
    match what {
        Happened::Created(Origin::Put) => "s3:ObjectCreated:Put",
        Happened::Created(Origin::Post) => "s3:ObjectCreated:Post",
        Happened::Created(Origin::Copy) => "s3:ObjectCreated:Copy",
        Happened::Created(Origin::Upload) => "s3:ObjectCreated:CompleteMultipartUpload",
        Happened::Removed { expired: false } => "s3:ObjectRemoved:Delete",
        Happened::Removed { expired: true } => "s3:LifecycleExpiration:Delete",
        Happened::Marked { expired: false } => "s3:ObjectRemoved:DeleteMarkerCreated",
        Happened::Marked { expired: true } => "s3:LifecycleExpiration:DeleteMarkerCreated",
        Happened::Tagged => "s3:ObjectTagging:Put",
        Happened::Untagged => "s3:ObjectTagging:Delete",
        Happened::AclSet => "s3:ObjectAcl:Put",
    }
}

fn event(change: Change, name: &str, bucket: &str, notification: Option<String>) -> BucketEvent {
    let Change { number, key, version, size, etag, at, .. } = change;
    BucketEvent {
        number,
        name: name.to_owned(),
        at,
        bucket: bucket.to_owned(),
        key,
        version: Some(version).filter(|version| !version.is_null()).map(|version| version.0),
        size,
        etag: Some(etag).filter(|etag| !etag.is_empty()),
        notification,
    }
}

#[cfg(test)]
mod tests {
    use muonic_policy::notification::EVENTS;

    use super::*;

    #[test]
    fn names_are_those_that_can_be_asked_for() {
        let created = [Origin::Put, Origin::Post, Origin::Copy, Origin::Upload].map(Happened::Created);
        let gone = [false, true].map(|expired| [Happened::Removed { expired }, Happened::Marked { expired }]).concat();
        for what in created.into_iter().chain(gone).chain([Happened::Tagged, Happened::Untagged, Happened::AclSet]) {
            assert!(EVENTS.contains(&name_of(what)), "{what:?}");
        }
    }
}
