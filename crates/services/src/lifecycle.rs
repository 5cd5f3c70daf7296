//! Does what the lifecycle configurations of buckets say is due: expires
//! objects, removes old versions and useless delete markers, aborts uploads
//! that nobody has finished. `muonic_policy::lifecycle` decides; here is the
//! walk and the doing.
//!
//! Each removal names what it saw, so an object that was written again in the
//! meantime stays, and one under lock is refused by the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muonic_policy::lifecycle::{Action, Facts, Lifecycle as Rules, State};
use muonic_ports::object_store::{
    Bucket, Error as StoreError, EtagMatch, ListQuery, LockGuard, ObjectVersion, Precondition, Removal, UploadQuery,
};
use muonic_ports::{Clock, ObjectStore};
use muonic_types::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::buckets::config::{Kind, parse};
use crate::buckets::{PAGE_MAX, Result};

const EVERY: Duration = Duration::from_secs(3600);

pub struct Lifecycle {
    store: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
    /// How long a day is.
    day: Duration,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    pub removed: u64,
    pub aborted: u64,
}

impl Lifecycle {
    pub fn new(store: Arc<dyn ObjectStore>, clock: Arc<dyn Clock>, day: Duration) -> Self {
        Self { store, clock, day }
    }

    /// Once an hour, until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            match stop.run_until_cancelled(self.round()).await {
                None => return,
                Some(Ok(done)) if done != Done::default() => {
                    tracing::info!(removed = done.removed, aborted = done.aborted, "did what lifecycles ask for");
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => tracing::warn!(%error, "lifecycles were not followed; next try in an hour"),
            }
            if stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
                return;
            }
        }
    }

    /// One walk over all buckets that have a lifecycle. A bucket that fails
    /// does not keep the others from theirs; the last failure is answered.
    pub async fn round(&self) -> Result<Done> {
        let (mut done, mut failed) = (Done::default(), None);
        for bucket in self.store.buckets(None).await? {
            let Some(document) = bucket.documents.get(Kind::Lifecycle.name()) else { continue };
            let walked = match parse::<Rules>(document, Kind::Lifecycle) {
                Ok(rules) if rules.is_active() => self.bucket(&bucket, &rules, &mut done).await,
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = walked {
                tracing::warn!(bucket = bucket.name, %error, "the bucket's lifecycle was not followed to its end");
                failed = Some(error);
            }
        }
        failed.map_or(Ok(done), Err)
    }

    async fn bucket(&self, bucket: &Bucket, rules: &Rules, done: &mut Done) -> Result<()> {
        let mut query = ListQuery { max: PAGE_MAX, versions: true, ..ListQuery::default() };
        let mut walk = Walk::default();
        // Whether a version is the last of its key is known when the next one is.
        let mut held: Option<ObjectVersion> = None;
        loop {
            let page = self.store.list(&bucket.name, &query).await?;
            let mut removals = Vec::new();
            for next in page.objects {
                if let Some(object) = held.replace(next) {
                    let is_last = held.as_ref().is_some_and(|next| next.key != object.key);
                    let state = walk.state(&object, is_last);
                    removals.extend(self.due(bucket, rules, &object, state).await?);
                }
            }
            let next = page.next;
            if next.is_none()
                && let Some(object) = held.take()
            {
                let state = walk.state(&object, true);
                removals.extend(self.due(bucket, rules, &object, state).await?);
            }
            done.removed += self.remove(bucket, removals).await?;
            match next {
                Some(next) => query.after = next,
                None => break,
            }
        }
        self.uploads(bucket, rules, done).await
    }

    async fn due(
        &self,
        bucket: &Bucket,
        rules: &Rules,
        object: &ObjectVersion,
        state: State,
    ) -> Result<Option<Removal>> {
        // Listings leave tags out.
        let tags = match rules.asks_for_tags() && !object.is_delete_marker {
            true => match self.store.get(&bucket.name, &object.key, Some(&object.version)).await? {
                Some(found) => found.tags,
                None => return Ok(None),
            },
            false => BTreeMap::new(),
        };
        let (key, size, modified_at) = (object.key.as_str(), object.size, object.modified_at);
        let now = self.clock.now();
        let facts = Facts { key, size, tags: &tags, modified_at, state };
        let Some(due) = rules.due(&facts, now, self.day) else { return Ok(None) };
        let (version, condition) = match due.action {
            Action::Expire => {
                let if_match = Some(EtagMatch::Tags(vec![object.etag.clone()]));
                (None, Precondition { if_match, if_modified_at: Some(modified_at), ..Precondition::default() })
            }
            Action::RemoveVersion | Action::RemoveMarker => (Some(object.version.clone()), Precondition::default()),
            Action::AbortUpload => return Ok(None),
        };
        tracing::debug!(bucket = bucket.name, key, rule = due.rule, "a lifecycle removes this");
        let (guard, owner) = (LockGuard { now, bypass: false }, bucket.project.to_string());
        Ok(Some(Removal { key: key.to_owned(), version, condition, guard, owner, expired: true }))
    }

    async fn remove(&self, bucket: &Bucket, removals: Vec<Removal>) -> Result<u64> {
        if removals.is_empty() {
            return Ok(0);
        }
        let mut removed = 0;
        for answer in self.store.delete(&bucket.name, removals, self.clock.now()).await? {
            match answer {
                Ok(_) => removed += 1,
                // Written again, or locked.
                Err(
                    StoreError::PreconditionFailed(_)
                    | StoreError::NoSuchKey
                    | StoreError::LegalHold
                    | StoreError::Retained(_),
                ) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(removed)
    }

    async fn uploads(&self, bucket: &Bucket, rules: &Rules, done: &mut Done) -> Result<()> {
        let mut query = UploadQuery { max: PAGE_MAX, ..UploadQuery::default() };
        loop {
            let page = match self.store.uploads(&bucket.name, &query).await {
                Err(StoreError::NotSupported(_)) => return Ok(()),
                page => page?,
            };
            for upload in &page.uploads {
                let facts = Facts {
                    key: &upload.key,
                    size: 0,
                    tags: &upload.new.tags,
                    modified_at: upload.started_at,
                    state: State::Upload,
                };
                if rules.due(&facts, self.clock.now(), self.day).is_some() {
                    match self.store.upload_abort(upload).await {
                        Ok(()) => done.aborted += 1,
                        Err(StoreError::NoSuchUpload) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(()),
            }
        }
    }
}

/// What the versions before have to say about the next one.
#[derive(Default)]
struct Walk {
    /// When the version before it, the newer one, was written.
    newer_at: Timestamp,
    noncurrent: u32,
}

impl Walk {
    fn state(&mut self, object: &ObjectVersion, is_last: bool) -> State {
        let is_first = object.latest;
        if is_first {
            self.noncurrent = 0;
        }
        let since = std::mem::replace(&mut self.newer_at, object.modified_at);
        if !is_first {
            let newer = self.noncurrent;
            self.noncurrent += 1;
            return State::Noncurrent { since, newer, is_delete_marker: object.is_delete_marker };
        }
        match object.is_delete_marker {
            true => State::CurrentMarker { alone: is_last },
            false => State::Current,
        }
    }
}
