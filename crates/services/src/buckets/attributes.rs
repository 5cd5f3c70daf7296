//! What is known about an object besides its bytes, and can change: tags,
//! retention, legal hold.

use std::collections::BTreeMap;

use muonic_policy::tags::Of as TagsOf;
use muonic_ports::object_store::{LockGuard, ObjectChange, ObjectVersion, Retention, VersionId};

use super::access;
use super::action::Action;
use super::call::Call;
use super::objects::check_tags;
use super::{Buckets, Error, Result, check_key};

type Of<'a> = (&'a str, &'a str);

fn of_version(version: Option<&VersionId>, latest: Action, named: Action) -> Action {
    if version.is_some() { named } else { latest }
}

impl Buckets {
    pub async fn tags(&self, call: Call<'_>, of: Of<'_>, version: Option<&VersionId>) -> Result<ObjectVersion> {
        let action = of_version(version, Action::GET_TAGS, Action::GET_VERSION_TAGS);
        Ok(self.find(call, action, of, version).await?.1)
    }

    /// No tags removes them.
    pub async fn set_tags(
        &self,
        call: Call<'_>,
        of: Of<'_>,
        version: Option<&VersionId>,
        tags: BTreeMap<String, String>,
    ) -> Result<ObjectVersion> {
        check_tags(TagsOf::Object, &tags)?;
        let action = if tags.is_empty() {
            of_version(version, Action::DELETE_TAGS, Action::DELETE_VERSION_TAGS)
        } else {
            of_version(version, Action::PUT_TAGS, Action::PUT_VERSION_TAGS)
        };
        self.change(call, action, of, version, ObjectChange::Tags(tags)).await
    }

    pub async fn retention(&self, call: Call<'_>, of: Of<'_>, version: Option<&VersionId>) -> Result<Retention> {
        let (bucket, object) = self.find(call, Action::GET_RETENTION, of, version).await?;
        if !bucket.lock {
            return Err(Error::NotLockable);
        }
        object.retention.ok_or(Error::NoLock("retention"))
    }

    /// `bypass` is what the caller asks for, if it may.
    pub async fn set_retention(
        &self,
        call: Call<'_>,
        of: Of<'_>,
        version: Option<&VersionId>,
        retention: Option<Retention>,
        bypass: bool,
    ) -> Result<()> {
        let bucket = self.open(call, Action::PUT_RETENTION, of.0, Some(of.1)).await?;
        if !bucket.lock {
            return Err(Error::NotLockable);
        }
        let now = self.clock.now();
        if retention.is_some_and(|retention| retention.until <= now) {
            return Err(Error::Invalid("the retain until date must be in the future".to_owned()));
        }
        let guard = LockGuard { now, bypass: access::may_bypass(call, bypass, &bucket) };
        self.store.change(&bucket.name, of.1, version, ObjectChange::Retention(retention, guard)).await?;
        Ok(())
    }

    pub async fn legal_hold(&self, call: Call<'_>, of: Of<'_>, version: Option<&VersionId>) -> Result<bool> {
        let (bucket, object) = self.find(call, Action::GET_LEGAL_HOLD, of, version).await?;
        if bucket.lock { Ok(object.legal_hold) } else { Err(Error::NotLockable) }
    }

    pub async fn set_legal_hold(
        &self,
        call: Call<'_>,
        of: Of<'_>,
        version: Option<&VersionId>,
        held: bool,
    ) -> Result<()> {
        let bucket = self.open(call, Action::PUT_LEGAL_HOLD, of.0, Some(of.1)).await?;
        if !bucket.lock {
            return Err(Error::NotLockable);
        }
        self.store.change(&bucket.name, of.1, version, ObjectChange::LegalHold(held)).await?;
        Ok(())
    }

    async fn change(
        &self,
        call: Call<'_>,
        action: Action,
        of: Of<'_>,
        version: Option<&VersionId>,
        change: ObjectChange,
    ) -> Result<ObjectVersion> {
        check_key(of.1)?;
        let bucket = self.bucket(call, of.0).await?;
        if access::is_plain(call, &bucket) {
            access::authorise(call, action, &bucket, Some(of.1), None)?;
        } else {
            // Its tags and its owner count.
            self.find_in(call, action, &bucket, of.1, version).await?;
        }
        Ok(self.store.change(&bucket.name, of.1, version, change).await?)
    }
}
