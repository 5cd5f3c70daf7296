//! Buckets and objects, in S3's meaning. An object is a name for a blob; its
//! bytes lie in the same store as those of datasets and models.
//!
//! A put stores the bytes, records the blob, then names it: whoever dies in
//! between leaves a blob that nobody names, never a name without bytes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use muonic_ports::blob_store::ByteStream;
use muonic_ports::metastore::{Listing, ObjectRecord};
use muonic_ports::{BlobStore, Clock, Metastore};
use muonic_types::key::Principal;
use muonic_types::{ErrorCode, Timestamp};

use crate::auth::{Action, authorise};
use crate::{Error, Result};

/// Longest key, in bytes of UTF-8.
pub const KEY_BYTES_MAX: usize = 1024;
/// Most keys and prefixes in one page of a listing.
pub const PAGE_MAX: u32 = 1000;

pub struct Buckets {
    meta: Arc<dyn Metastore>,
    store: Arc<dyn BlobStore>,
    clock: Arc<dyn Clock>,
}

/// An object to be, without its bytes.
#[derive(Debug, Clone)]
pub struct NewObject {
    pub bucket: String,
    pub key: String,
    /// Content headers and `x-amz-` values to give back, by lower-case name.
    pub headers: BTreeMap<String, String>,
}

/// What is known only after the last byte of a body has passed.
#[derive(Debug, Clone, Default)]
pub struct Sums {
    /// Without quotes.
    pub etag: String,
    /// Added to the object's headers.
    pub headers: BTreeMap<String, String>,
}

/// Which part of a listing is asked for.
#[derive(Debug, Clone, Default)]
pub struct Page {
    pub prefix: String,
    pub delimiter: Option<String>,
    pub after: Option<String>,
    pub max: u32,
}

impl Buckets {
    pub fn new(meta: Arc<dyn Metastore>, store: Arc<dyn BlobStore>, clock: Arc<dyn Clock>) -> Self {
        Self { meta, store, clock }
    }

    /// `Conflict` where it exists.
    pub async fn create(&self, caller: &Principal, bucket: &str) -> Result<()> {
        authorise(caller, Action::WriteData)?;
        check_bucket_name(bucket)?;
        Ok(self.meta.bucket_create(&caller.project, bucket, self.clock.now()).await?)
    }

    /// Names with the times they were made, by name.
    pub async fn list(&self, caller: &Principal) -> Result<Vec<(String, Timestamp)>> {
        authorise(caller, Action::Read)?;
        Ok(self.meta.bucket_list(&caller.project).await?)
    }

    /// `NotFound` where there is none.
    pub async fn check(&self, caller: &Principal, bucket: &str) -> Result<()> {
        authorise(caller, Action::Read)?;
        self.must_exist(caller, bucket).await
    }

    /// `Conflict` where it is not empty.
    pub async fn delete(&self, caller: &Principal, bucket: &str) -> Result<()> {
        authorise(caller, Action::WriteData)?;
        Ok(self.meta.bucket_delete(&caller.project, bucket).await?)
    }

    /// Stores `body` under a key, in the place of what was there. `sums` is
    /// asked after the body's last byte; a body that ends in an error leaves
    /// no object and no blob.
    pub async fn put_object(
        &self,
        caller: &Principal,
        new: NewObject,
        body: ByteStream,
        sums: impl FnOnce() -> Sums + Send,
    ) -> Result<ObjectRecord> {
        authorise(caller, Action::WriteData)?;
        check_key(&new.key)?;
        // Before the body is read: a gigabyte for a bucket that is not there
        // should not travel.
        self.must_exist(caller, &new.bucket).await?;
        let blob = self.store.put(body, None).await?;
        let Sums { etag, headers } = sums();
        let mut object = ObjectRecord {
            key: new.key,
            digest: blob.digest,
            size: blob.size,
            etag,
            headers: new.headers,
            modified_at: self.clock.now(),
        };
        object.headers.extend(headers);
        self.meta.blobs_insert(&[blob], object.modified_at).await?;
        self.meta.object_put(&caller.project, &new.bucket, &object).await?;
        Ok(object)
    }

    /// What is known of an object; `NotFound` is about the bucket.
    pub async fn object(&self, caller: &Principal, bucket: &str, key: &str) -> Result<Option<ObjectRecord>> {
        authorise(caller, Action::Read)?;
        check_key(key)?;
        match self.meta.object_get(&caller.project, bucket, key).await? {
            Some(object) => Ok(Some(object)),
            None => self.must_exist(caller, bucket).await.map(|()| None),
        }
    }

    /// The bytes of an object that `object` has answered, or a range of them.
    pub async fn read(
        &self,
        caller: &Principal,
        object: &ObjectRecord,
        range: Option<Range<u64>>,
    ) -> Result<ByteStream> {
        authorise(caller, Action::Read)?;
        let (size, body) = self.store.get(&object.digest, range).await.map_err(|e| match e {
            // It was recorded, so the fault is ours and not the caller's.
            muonic_ports::Error::NotFound(what) | muonic_ports::Error::Checksum(what) => muonic_ports::Error::bug(what),
            other => other,
        })?;
        if size != object.size {
            let what = format!("{} has {size} bytes in the store and {} on record", object.digest, object.size);
            return Err(muonic_ports::Error::bug(what).into());
        }
        Ok(body)
    }

    /// True where there was one; `NotFound` is about the bucket.
    pub async fn delete_object(&self, caller: &Principal, bucket: &str, key: &str) -> Result<bool> {
        authorise(caller, Action::WriteData)?;
        check_key(key)?;
        let deleted = self.meta.object_delete(&caller.project, bucket, key).await?;
        if !deleted {
            self.must_exist(caller, bucket).await?;
        }
        Ok(deleted)
    }

    /// Keys in byte order, at most [`PAGE_MAX`] of them and prefixes together.
    pub async fn objects(&self, caller: &Principal, bucket: &str, page: &Page) -> Result<Listing> {
        authorise(caller, Action::Read)?;
        self.must_exist(caller, bucket).await?;
        let Page { prefix, delimiter, after, max } = page;
        let delimiter = delimiter.as_deref().filter(|d| !d.is_empty());
        let max = (*max).min(PAGE_MAX);
        if max == 0 {
            return Ok(Listing::default());
        }
        Ok(self.meta.object_list(&caller.project, bucket, prefix, delimiter, after.as_deref(), max).await?)
    }

    async fn must_exist(&self, caller: &Principal, bucket: &str) -> Result<()> {
        if self.meta.bucket_exists(&caller.project, bucket).await? {
            Ok(())
        } else {
            Err(Error::not_found(format!("there is no bucket '{}'", clip(bucket))))
        }
    }
}

fn clip(name: &str) -> &str {
    name.char_indices().nth(80).map_or(name, |(at, _)| &name[..at])
}

fn check_key(key: &str) -> Result<()> {
    match key.len() {
        0 => Err(Error::invalid("an object needs a key")),
        1..=KEY_BYTES_MAX => Ok(()),
        n => {
            Err(Error::new(ErrorCode::TooLarge, format!("the key has {n} bytes, at most {KEY_BYTES_MAX} are allowed")))
        }
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
    Err(Error::invalid(format!("'{}' is not a bucket name", clip(name))).hint(
        "use 3 to 63 of a-z, 0-9, '-' and '.', with a letter or digit at both ends, and nothing like an IP address",
    ))
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
            let refused = check_bucket_name(bad).expect_err(bad);
            assert_eq!(refused.code, ErrorCode::InvalidRequest);
        }
    }

    #[test]
    fn keys_are_bounded_in_bytes() {
        assert!(check_key("a").is_ok());
        assert!(check_key(&"é".repeat(512)).is_ok());
        assert_eq!(check_key(&"é".repeat(513)).expect_err("long").code, ErrorCode::TooLarge);
        assert_eq!(check_key("").expect_err("empty").code, ErrorCode::InvalidRequest);
    }
}
