//! Buckets, and in them objects by key, in S3's meaning. This folder decides
//! who may do what (`access`), fills in what a bucket's owner has set
//! (`config`) and hands the rest to the store, which decides conditions, locks
//! and versions in the step of the change.
//!
//! Invariants:
//! - Each method asks the store for the bucket once, and authorises before it
//!   reads anything of a body.
//! - An object that is not there is only said not to be there to those who may
//!   list the bucket.

pub mod access;
mod acl;
mod action;
mod attributes;
mod bucket;
mod call;
mod conditions;
pub mod config;
mod copy;
mod error;
mod events;
mod listing;
mod memo;
mod objects;
mod uploads;

use std::sync::Arc;

use muonic_ports::object_store::{Bucket, Error as StoreError, ObjectVersion, VersionId};
use muonic_ports::{Clock, ObjectStore};

use crate::Events;

pub use acl::AclWanted;
pub use action::Action;
pub use bucket::NewBucket;
pub use call::{Call, Caller, Facts, NoFacts, canonical_id};
pub use conditions::Conditions;
pub use copy::{Copy, PartCopy, Source};
pub(crate) use error::of_store;
pub use error::{Error, Result};
pub use objects::{Draft, Expiry, Removing, check_customer_key};
pub use uploads::{Completion, PartUpload};

/// Longest key, in bytes of UTF-8.
pub const KEY_BYTES_MAX: usize = 1024;
/// Most keys and prefixes in one page of a listing.
pub const PAGE_MAX: u32 = 1000;

pub struct Buckets {
    store: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
    wakes: Arc<Events>,
}

impl Buckets {
    pub fn new(store: Arc<dyn ObjectStore>, clock: Arc<dyn Clock>, wakes: Arc<Events>) -> Self {
        Self { store, clock, wakes }
    }

    /// The bucket, if the caller may do this in it.
    async fn open(&self, call: Call<'_>, action: Action, bucket: &str, key: Option<&str>) -> Result<Arc<Bucket>> {
        if let Some(key) = key {
            check_key(key)?;
        }
        let bucket = self.bucket(call, bucket).await?;
        access::authorise(call, action, &bucket, key, None)?;
        Ok(bucket)
    }

    async fn bucket(&self, call: Call<'_>, name: &str) -> Result<Arc<Bucket>> {
        let bucket = self.store.bucket(name).await?.ok_or(StoreError::NoSuchBucket)?;
        call.check_owner(&bucket)?;
        Ok(bucket)
    }

    /// A version that the caller may do this to. Its own access list counts.
    async fn find(
        &self,
        call: Call<'_>,
        action: Action,
        (bucket, key): (&str, &str),
        version: Option<&VersionId>,
    ) -> Result<(Arc<Bucket>, ObjectVersion)> {
        check_key(key)?;
        let bucket = self.bucket(call, bucket).await?;
        let object = self.find_in(call, action, &bucket, key, version).await?;
        Ok((bucket, object))
    }

    async fn find_in(
        &self,
        call: Call<'_>,
        action: Action,
        bucket: &Bucket,
        key: &str,
        version: Option<&VersionId>,
    ) -> Result<ObjectVersion> {
        match self.store.get(&bucket.name, key, version).await? {
            Some(object) if !object.is_delete_marker => {
                access::authorise(call, action, bucket, Some(key), Some(&object))?;
                Ok(object)
            }
            marker => {
                // Who may not list must not learn which keys there are.
                let asked = self::call::AboutKey { facts: call.facts, key };
                if !access::is_allowed(Call { facts: &asked, ..call }, Action::LIST, bucket, None, None)? {
                    return Err(access::denied(call, action, &bucket.name));
                }
                Err(match marker {
                    Some(ObjectVersion { version: id, modified_at, .. }) => {
                        Error::DeleteMarker { version: id, modified_at, is_named: version.is_some() }
                    }
                    None if version.is_some() => StoreError::NoSuchVersion.into(),
                    None => Error::NoSuchKey(clip(key).to_owned()),
                })
            }
        }
    }
}

fn clip(name: &str) -> &str {
    name.char_indices().nth(80).map_or(name, |(at, _)| &name[..at])
}

fn check_key(key: &str) -> Result<()> {
    match key.len() {
        0 => Err(Error::Invalid("an object needs a key".to_owned())),
        1..=KEY_BYTES_MAX => Ok(()),
        n => Err(Error::KeyTooLong(n)),
    }
}

/// S3's rules for the names of buckets.
pub fn check_bucket_name(name: &str) -> Result<()> {
    let bytes = name.as_bytes();
    let edge = |c: Option<&u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let ok = (3..=63).contains(&bytes.len())
        && bytes.iter().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'.'))
        && edge(bytes.first())
        && edge(bytes.last())
        && !name.contains("..")
        && !looks_like_ip(name)
        && !["xn--", "sthree-", "amzn-s3-demo-"].iter().any(|p| name.starts_with(p))
        && !["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"].iter().any(|s| name.ends_with(s));
    if ok {
        return Ok(());
    }
    Err(Error::BucketName(format!(
        "'{}' is not a bucket name; use 3 to 63 of a-z, 0-9, '-' and '.', with a letter or digit at both ends, and \
         nothing like an IP address",
        clip(name)
    )))
}

fn looks_like_ip(name: &str) -> bool {
    name.split('.').count() == 4 && name.bytes().all(|c| c.is_ascii_digit() || c == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_names_follow_s3() {
        for good in ["abc", "my-bucket", "my.bucket.2", "0ab", &"a".repeat(63)] {
            assert!(check_bucket_name(good).is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in [
            "",
            "ab",
            &long,
            "Abc",
            "a_b",
            "-ab",
            "ab-",
            ".ab",
            "a..b",
            "1.2.3.4",
            "xn--abc",
            "abc-s3alias",
            "é-bucket",
        ] {
            assert!(matches!(check_bucket_name(bad), Err(Error::BucketName(_))), "{bad}");
        }
    }

    #[test]
    fn keys_are_bounded_in_bytes() {
        assert!(check_key("a").is_ok());
        assert!(check_key(&"é".repeat(512)).is_ok());
        assert!(matches!(check_key(&"é".repeat(513)), Err(Error::KeyTooLong(1026))));
        assert!(matches!(check_key(""), Err(Error::Invalid(_))));
    }
}
