//! Objects: put, find, read, delete.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use muonic_policy::lifecycle::{Facts, Lifecycle, State};
use muonic_policy::tags::{self, Of};
use muonic_ports::object_store::{
    Bucket, ByteStream, CustomerKey, Deleted, Encryption, Error as StoreError, LockGuard, NewEncryption, NewObject,
    ObjectVersion, Part, Precondition, Removal, Target, Verify, VersionId,
};

use muonic_types::Timestamp;

use super::access;
use super::acl::{AclWanted, block_of, ownership_of};
use super::action::Action;
use super::call::Call;
use super::config::{self, Kind};
use super::memo::Memo;
use super::{Buckets, Conditions, Error, Result, check_key};

/// An object to be, as a request describes it.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// Of these, `owner`, `acl` and `encryption` are filled in here.
    pub new: NewObject,
    /// `None`: what the bucket says.
    pub encryption: Option<NewEncryption>,
    pub acl: AclWanted,
}

/// One removal, as a request describes it.
#[derive(Debug, Clone, Default)]
pub struct Removing {
    pub key: String,
    pub version: Option<VersionId>,
    pub condition: Precondition,
}

/// When the bucket's lifecycle will remove an object, and by which rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    pub rule: String,
    pub at: Timestamp,
}

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Expiry {
    fn of(bucket: &Bucket, object: &ObjectVersion) -> Result<Option<Self>> {
        let Some(document) = bucket.documents.get(Kind::Lifecycle.name()) else { return Ok(None) };
        static KNOWN: Memo<Lifecycle> = Memo::new();
        let rules = KNOWN.get(&bucket.name, document, |text| config::parse(text, Kind::Lifecycle))?;
        let facts = Facts {
            key: &object.key,
            size: object.size,
            tags: &object.tags,
            modified_at: object.modified_at,
            state: State::Current,
        };
        let due = rules.expiration_of(&facts, DAY).filter(|_| object.latest);
        Ok(due.map(|(rule, at)| Self { rule: rule.to_owned(), at }))
    }
}

impl Buckets {
    /// Stores `body` under a key. `verify` is asked after its last byte.
    pub async fn put_object(
        &self,
        call: Call<'_>,
        (bucket, key): (&str, &str),
        draft: Draft,
        condition: Precondition,
        body: ByteStream,
        verify: Verify,
    ) -> Result<(ObjectVersion, Option<Expiry>)> {
        // Before the body is read: a gigabyte for a bucket that is not there
        // should not travel.
        let bucket = self.open(call, Action::PUT, bucket, Some(key)).await?;
        let new = self.complete(call, &bucket, key, draft)?;
        let target = self.target(&bucket, key, condition);
        let object = self.store.put(target, new, body, verify).await?;
        let expiry = Expiry::of(&bucket, &object)?;
        Ok((object, expiry))
    }

    /// What is known of the latest version, or of the one named.
    pub async fn object(
        &self,
        call: Call<'_>,
        (bucket, key): (&str, &str),
        version: Option<&VersionId>,
        conditions: &Conditions,
    ) -> Result<(ObjectVersion, Option<Expiry>)> {
        let action = if version.is_some() { Action::GET_VERSION } else { Action::GET };
        let (bucket, object) = self.find(call, action, (bucket, key), version).await?;
        conditions.check(&object)?;
        let expiry = Expiry::of(&bucket, &object)?;
        Ok((object, expiry))
    }

    /// The bytes of a version that [`Self::object`] has answered.
    pub async fn read(
        &self,
        object: &ObjectVersion,
        range: Option<Range<u64>>,
        key: Option<&CustomerKey>,
    ) -> Result<ByteStream> {
        Ok(self.store.read(object, range, key).await?)
    }

    /// Where a part of a version lies, and its record if it has one. Part 1 of
    /// a version that was not uploaded in parts is all of it.
    pub async fn part(&self, object: &ObjectVersion, number: u16) -> Result<(Range<u64>, Option<Part>)> {
        let beyond = || Error::PartNumber { count: object.parts.max(1) };
        if number == 0 || number > object.parts.max(1) {
            return Err(beyond());
        }
        if object.parts == 0 {
            return Ok((0..object.size, None));
        }
        let parts = self.store.parts(object, 0, number.into()).await?;
        let end: u64 = parts.iter().map(|part| part.size).sum();
        let part = parts.into_iter().nth(usize::from(number) - 1).ok_or_else(beyond)?;
        Ok((end - part.size..end, Some(part)))
    }

    pub async fn parts(&self, object: &ObjectVersion, after: u16, max: u32) -> Result<Vec<Part>> {
        Ok(self.store.parts(object, after, max).await?)
    }

    /// Each removal has an answer of its own; an error is about all.
    pub async fn delete_objects(
        &self,
        call: Call<'_>,
        bucket: &str,
        removals: Vec<Removing>,
        bypass: bool,
    ) -> Result<Vec<Result<Deleted>>> {
        let bucket = self.bucket(call, bucket).await?;
        let at = self.clock.now();
        let guard = LockGuard { now: at, bypass: access::may_bypass(call, bypass, &bucket) };
        let mut answers: Vec<Option<Result<Deleted>>> = Vec::with_capacity(removals.len());
        let mut allowed = Vec::with_capacity(removals.len());
        for removing in removals {
            let action = if removing.version.is_some() { Action::DELETE_VERSION } else { Action::DELETE };
            let checked = check_key(&removing.key)
                .and_then(|()| access::authorise(call, action, &bucket, Some(&removing.key), None));
            answers.push(checked.err().map(Err));
            if answers.last().is_some_and(Option::is_none) {
                let Removing { key, version, condition } = removing;
                let owner = call.caller.owner();
                allowed.push(Removal { key, version, condition, guard, owner, expired: false });
            }
        }
        let mut removed = if allowed.is_empty() {
            Vec::new().into_iter()
        } else {
            self.store.delete(&bucket.name, allowed, at).await?.into_iter()
        };
        let missing = || Err(muonic_ports::Error::bug("the store left a removal without an answer").into());
        Ok(answers
            .into_iter()
            .map(|answer| answer.unwrap_or_else(|| removed.next().map_or_else(missing, |r| r.map_err(Error::from))))
            .collect())
    }

    /// Fills in what the request leaves to the bucket, and checks that the
    /// caller may set what it sets.
    pub(super) fn complete(&self, call: Call<'_>, bucket: &Bucket, key: &str, draft: Draft) -> Result<NewObject> {
        let Draft { mut new, encryption, acl } = draft;
        let may = |action| access::authorise(call, action, bucket, Some(key), None);
        if !new.tags.is_empty() {
            check_tags(Of::Object, &new.tags)?;
            if !access::may_tag_new(call, bucket, key)? {
                return Err(access::denied(call, Action::PUT_TAGS, &bucket.name));
            }
        }
        if new.retention.is_some() || new.legal_hold {
            if !bucket.lock {
                return Err(Error::NotLockable);
            }
            if new.retention.is_some() {
                may(Action::PUT_RETENTION)?;
            }
            if new.legal_hold {
                may(Action::PUT_LEGAL_HOLD)?;
            }
        }
        if new.retention.is_some_and(|retention| retention.until <= self.clock.now()) {
            return Err(Error::Invalid("the retain until date must be in the future".to_owned()));
        }
        if new.retention.is_none() && bucket.lock {
            new.retention = config::default_retention(bucket, self.clock.now())?;
        }
        let is_acl_asked = acl.is_asked();
        new.owner = acl.owner_of_new(call, bucket)?;
        if is_acl_asked {
            new.acl = acl.document(&new.owner, bucket.project.as_str(), ownership_of(bucket)?, block_of(bucket)?)?;
        }
        new.encryption = match encryption {
            Some(encryption) => encryption,
            None => config::default_encryption(bucket)?,
        };
        Ok(new)
    }

    pub(super) fn target(&self, bucket: &Bucket, key: &str, condition: Precondition) -> Target {
        Target { bucket: bucket.name.clone(), key: key.to_owned(), condition, at: self.clock.now() }
    }
}

/// Compares the MD5 of a customer's key, in Base64, where no bytes are read:
/// else the store does it.
pub fn check_customer_key(encryption: &Encryption, md5: Option<&str>) -> Result<()> {
    let refused = match (encryption, md5) {
        (Encryption::Customer { key_md5 }, Some(md5)) if key_md5 == md5 => return Ok(()),
        (Encryption::Customer { .. }, Some(_)) => "this was stored with another key of the customer",
        (Encryption::Customer { .. }, None) => "this was stored with a key of the customer, which must be sent",
        (_, Some(_)) => "this was not stored with a key of the customer",
        (_, None) => return Ok(()),
    };
    Err(StoreError::CustomerKey(refused).into())
}

/// S3's rules for tags.
pub(super) fn check_tags(of: Of, tags: &BTreeMap<String, String>) -> Result<()> {
    tags::set(of, tags.iter().map(|(key, value)| (key.clone(), value.clone())))?;
    Ok(())
}
