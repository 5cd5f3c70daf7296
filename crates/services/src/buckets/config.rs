//! What a bucket's owner has set about it: documents that the store keeps by
//! name and does not look into.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muonic_policy::cors::Cors;
use muonic_policy::iam::Policy;
use muonic_policy::ownership::{ObjectOwnership, OwnershipControls};
use muonic_policy::tags::Of;
use muonic_ports::object_store::{Bucket, BucketChange, JOURNALED, NewEncryption, Retention, RetentionMode};
use muonic_types::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::access;
use super::acl::{block_of, bucket_acl, ownership_of};
use super::action::Action;
use super::call::Call;
use super::memo::Memo;
use super::objects::check_tags;
use super::{Buckets, Error, Result};

/// The kinds of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Acl,
    Cors,
    Encryption,
    Lifecycle,
    Location,
    Lock,
    Notification,
    Ownership,
    Policy,
    PublicAccessBlock,
    Tags,
}

impl Kind {
    /// As the store keeps it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Acl => "acl",
            Self::Cors => "cors",
            Self::Encryption => "encryption",
            Self::Lifecycle => "lifecycle",
            Self::Location => "location",
            Self::Lock => "object-lock",
            Self::Notification => JOURNALED,
            Self::Ownership => "ownership",
            Self::Policy => "policy",
            Self::PublicAccessBlock => "public-access-block",
            Self::Tags => "tags",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Self::Acl => "access list",
            Self::Cors => "CORS configuration",
            Self::Encryption => "encryption configuration",
            Self::Lifecycle => "lifecycle configuration",
            Self::Location => "location",
            Self::Lock => "object lock configuration",
            Self::Notification => "notification configuration",
            Self::Ownership => "ownership controls",
            Self::Policy => "policy",
            Self::PublicAccessBlock => "public access block",
            Self::Tags => "tags",
        }
    }

    fn actions(self) -> (Action, Action) {
        match self {
            Self::Acl => (Action::GET_BUCKET_ACL, Action::PUT_BUCKET_ACL),
            Self::Cors => (Action::GET_CORS, Action::PUT_CORS),
            Self::Encryption => (Action::GET_ENCRYPTION, Action::PUT_ENCRYPTION),
            Self::Lifecycle => (Action::GET_LIFECYCLE, Action::PUT_LIFECYCLE),
            Self::Location => (Action::LOCATION, Action::CREATE_BUCKET),
            Self::Lock => (Action::GET_LOCK, Action::PUT_LOCK),
            Self::Notification => (Action::GET_NOTIFICATION, Action::PUT_NOTIFICATION),
            Self::Ownership => (Action::GET_OWNERSHIP, Action::PUT_OWNERSHIP),
            Self::Policy => (Action::GET_POLICY, Action::PUT_POLICY),
            Self::PublicAccessBlock => (Action::GET_PUBLIC_BLOCK, Action::PUT_PUBLIC_BLOCK),
            Self::Tags => (Action::GET_BUCKET_TAGS, Action::PUT_BUCKET_TAGS),
        }
    }
}

/// How long new versions are retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRule {
    pub compliance: bool,
    pub days: Option<i32>,
    pub years: Option<i32>,
}

impl LockRule {
    /// Exactly one of days and years, and not more than a hundred years.
    pub fn check(&self) -> Result<()> {
        match (self.days, self.years) {
            (Some(1..=36_500), None) | (None, Some(1..=100)) => Ok(()),
            (Some(_), Some(_)) | (None, None) => {
                Err(Error::Malformed("a default retention has either Days or Years".to_owned()))
            }
            _ => Err(Error::Invalid("a default retention has 1 to 36,500 days or 1 to 100 years".to_owned())),
        }
    }
}

/// How new objects are encrypted where a request does not say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncryptionRule {
    pub kms: bool,
    pub key: Option<String>,
    pub bucket_key: bool,
}

impl Buckets {
    /// A document of a kind; `NoDocument` where there is none.
    pub async fn document<T: DeserializeOwned>(&self, call: Call<'_>, bucket: &str, kind: Kind) -> Result<T> {
        let bucket = self.open(call, kind.actions().0, bucket, None).await?;
        match bucket.documents.get(kind.name()) {
            Some(document) => parse(document, kind),
            None => Err(Error::NoDocument(kind)),
        }
    }

    /// Sets a document that has been checked, or removes it.
    pub async fn set_document<T: Serialize + Sync>(
        &self,
        call: Call<'_>,
        bucket: &str,
        kind: Kind,
        value: Option<&T>,
    ) -> Result<()> {
        let bucket = self.open(call, kind.actions().1, bucket, None).await?;
        self.keep(&bucket, kind, value.map(render).transpose()?).await
    }

    pub async fn remove_document(&self, call: Call<'_>, bucket: &str, kind: Kind) -> Result<()> {
        let action = if kind == Kind::Policy { Action::DELETE_POLICY } else { kind.actions().1 };
        let bucket = self.open(call, action, bucket, None).await?;
        self.keep(&bucket, kind, None).await
    }

    pub(super) async fn keep(&self, bucket: &Bucket, kind: Kind, document: Option<String>) -> Result<()> {
        let change = BucketChange::Document(kind.name().to_owned(), document);
        self.store.bucket_change(&bucket.name, change).await?;
        Ok(())
    }

    /// No tags removes them.
    pub async fn set_bucket_tags(&self, call: Call<'_>, bucket: &str, tags: &BTreeMap<String, String>) -> Result<()> {
        check_tags(Of::Bucket, tags)?;
        self.set_document(call, bucket, Kind::Tags, Some(tags).filter(|tags| !tags.is_empty())).await
    }

    /// The text as it was put.
    pub async fn policy(&self, call: Call<'_>, bucket: &str) -> Result<String> {
        let bucket = self.open(call, Action::GET_POLICY, bucket, None).await?;
        bucket.documents.get(Kind::Policy.name()).cloned().ok_or(Error::NoDocument(Kind::Policy))
    }

    pub async fn set_policy(&self, call: Call<'_>, bucket: &str, text: String) -> Result<()> {
        let bucket = self.open(call, Action::PUT_POLICY, bucket, None).await?;
        let policy = Policy::parse(&text, &bucket.name)?;
        // A deny that depends on what no request carries would deny nothing.
        if let Some(key) = policy.condition_keys().into_iter().find(|key| !super::call::is_known_key(key)) {
            return Err(Error::NotImplemented(format!("the condition key {key} in bucket policies")));
        }
        block_of(&bucket)?.check_policy(&policy)?;
        self.keep(&bucket, Kind::Policy, Some(text)).await
    }

    /// Whether its policy or its access list lets everybody in.
    pub async fn is_public(&self, call: Call<'_>, bucket: &str) -> Result<bool> {
        let bucket = self.open(call, Action::GET_POLICY_STATUS, bucket, None).await?;
        let policy = access::policy_of(&bucket)?;
        let block = block_of(&bucket)?;
        let by_policy = policy.is_some_and(|policy| policy.is_public()) && !block.restrict_public_buckets;
        let by_acl = ownership_of(&bucket)?.acls_enabled() && bucket_acl(&bucket)?.is_public();
        Ok(by_policy || by_acl && !block.ignore_public_acls)
    }

    pub async fn set_ownership(&self, call: Call<'_>, bucket: &str, ownership: ObjectOwnership) -> Result<()> {
        let bucket = self.open(call, Action::PUT_OWNERSHIP, bucket, None).await?;
        ownership.check_bucket_acl(&bucket_acl(&bucket)?)?;
        let controls = OwnershipControls { version: 1, object_ownership: ownership };
        self.keep(&bucket, Kind::Ownership, Some(render(&controls)?)).await
    }

    /// For browsers, who ask without a signature; `None` where the bucket or
    /// its rules are not there.
    pub async fn cors(&self, bucket: &str) -> Result<Option<Arc<Cors>>> {
        static KNOWN: Memo<Cors> = Memo::new();
        let Some(bucket) = self.store.bucket(bucket).await? else { return Ok(None) };
        let text = bucket.documents.get(Kind::Cors.name());
        text.map(|text| KNOWN.get(&bucket.name, text, |text| parse(text, Kind::Cors))).transpose()
    }

    /// `NoDocument` unless the bucket's versions may be locked.
    pub async fn lock_rule(&self, call: Call<'_>, bucket: &str) -> Result<Option<LockRule>> {
        let bucket = self.open(call, Action::GET_LOCK, bucket, None).await?;
        if !bucket.lock {
            return Err(Error::NoDocument(Kind::Lock));
        }
        bucket.documents.get(Kind::Lock.name()).map(|document| parse(document, Kind::Lock)).transpose()
    }

    /// Allows locks where they were not, if versioning is on.
    pub async fn set_lock_rule(&self, call: Call<'_>, bucket: &str, rule: Option<LockRule>) -> Result<()> {
        if let Some(rule) = &rule {
            rule.check()?;
        }
        let bucket = self.open(call, Action::PUT_LOCK, bucket, None).await?;
        if !bucket.lock {
            self.store.bucket_change(&bucket.name, BucketChange::Lock).await?;
        }
        self.keep(&bucket, Kind::Lock, rule.as_ref().map(render).transpose()?).await
    }
}

pub fn parse<T: DeserializeOwned>(document: &str, kind: Kind) -> Result<T> {
    serde_json::from_str(document).map_err(|e| {
        muonic_ports::Error::internal(format!("the {} of a bucket cannot be read", kind.title()), e).into()
    })
}

pub fn render<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|e| muonic_ports::Error::internal("a document of a bucket cannot be written", e).into())
}

pub(super) fn default_retention(bucket: &Bucket, now: Timestamp) -> Result<Option<Retention>> {
    let Some(document) = bucket.documents.get(Kind::Lock.name()) else { return Ok(None) };
    let rule: LockRule = parse(document, Kind::Lock)?;
    let days = rule.days.unwrap_or_else(|| rule.years.unwrap_or_default().saturating_mul(365));
    let until = now
        .checked_add(Duration::from_secs(u64::from(days.unsigned_abs()) * 24 * 3600))
        .map_err(|e| muonic_ports::Error::internal("a retention ends beyond all time", e))?;
    let mode = if rule.compliance { RetentionMode::Compliance } else { RetentionMode::Governance };
    Ok(Some(Retention { mode, until }))
}

pub(super) fn default_encryption(bucket: &Bucket) -> Result<NewEncryption> {
    let Some(document) = bucket.documents.get(Kind::Encryption.name()) else { return Ok(NewEncryption::Store) };
    let rule: EncryptionRule = parse(document, Kind::Encryption)?;
    Ok(if rule.kms { NewEncryption::Named(rule.key) } else { NewEncryption::Store })
}
