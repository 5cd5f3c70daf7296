//! What is done with a mount of each server.

use std::collections::BTreeMap;
use std::sync::Arc;

use muonic_mounts::Remote;
use muonic_ports::conformance::object_store::{BUCKET, Keys, suite_with};
use muonic_ports::object_store::*;
use muonic_ports::store_admin::MountError;
use muonic_ports::{Mounting, ObjectStore};
use muonic_types::Timestamp;

use crate::common::{self, Embedded, body, new_bucket, pairs, whole};

/// A bucket, container or folder of a server, and how to get at it.
pub struct Place {
    url: String,
    options: BTreeMap<String, String>,
}

impl Place {
    pub fn new(url: &str, options: &[(&str, &str)]) -> Self {
        Self { url: url.to_owned(), options: pairs(options) }
    }

    /// The same with other options.
    pub fn with(&self, options: &[(&str, &str)]) -> Self {
        let mut all = self.options.clone();
        all.extend(pairs(options));
        Self { url: self.url.clone(), options: all }
    }

    /// The same with another URL.
    pub fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), options: self.options.clone() }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn options(&self) -> &BTreeMap<String, String> {
        &self.options
    }

    pub fn open(&self) -> Arc<Remote> {
        common::remote(&self.url, &self.options, new_bucket(BUCKET))
    }

    /// Values that nobody may read.
    fn secrets(&self) -> impl Iterator<Item = &str> {
        let secret = |name: &str| name.contains("key") && !name.ends_with("_id") || name.contains("token");
        self.options.iter().filter(move |(name, _)| secret(name)).map(|(_, value)| value.as_str())
    }

    fn shows_no_secret(&self, text: &str) {
        assert!(self.secrets().all(|secret| !text.contains(secret)), "{text}");
    }
}

pub fn target(key: &str) -> Target {
    common::target(BUCKET, key)
}

pub fn removal(key: &str, at: Timestamp) -> Removal {
    Removal {
        key: key.to_owned(),
        version: None,
        condition: Precondition::default(),
        guard: LockGuard { now: at, bypass: false },
        owner: String::new(),
        expired: false,
    }
}

/// What is found out about a server when it is mounted, and that all rules
/// hold then, in a bucket and below a prefix of it.
pub async fn rules_hold(place: &Place, prefix: &str, found: &[(&str, &str)]) {
    for url in [place.url.clone(), format!("{}/{prefix}", place.url)] {
        let embedded = Embedded::new().await;
        let mounts = embedded.mounts(1, &[]);
        let bucket = mounts.mount(new_bucket(BUCKET), &url, &place.options).await.expect("mounted");
        place.shows_no_secret(&format!("{bucket:?}"));
        let (known, settled) = mounts.described(&bucket).expect("described").expect("a mount");
        assert_eq!(known, url);
        for (name, word) in found {
            assert_eq!(settled.get(*name).map(String::as_str), Some(*word), "{name}");
        }
        suite_with(mounts.clone(), Keys::Files, false).await;
        mounts.unmount(BUCKET).await.expect("unmounted");
    }
}

pub async fn headers_and_sums_are_kept(place: &Place) {
    let store = place.open();
    let pairs = [("content-type", "text/x-test"), ("x-amz-meta-team", "vision"), ("cache-control", "no-store")];
    let headers: BTreeMap<String, String> = pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let new = NewObject { headers: headers.clone(), algorithm: Some(Algorithm::Crc32c), ..Default::default() };
    for size in [10, 9_000_000] {
        let put = store.put(target("headers"), new.clone(), body(&vec![7; size]), no_check()).await.expect("put");
        assert!(matches!(&put.sum, Some((Algorithm::Crc32c, ChecksumType::FullObject, _))), "{put:?}");
        let found = store.get(BUCKET, "headers", None).await.expect("asked").expect("there");
        has_headers(&found, &headers);
        let copy = store.copy(
            &found,
            None,
            target("copied"),
            NewObject { headers: found.headers.clone(), ..Default::default() },
        );
        copy.await.expect("copied");
        let copied = store.get(BUCKET, "copied", None).await.expect("asked").expect("there");
        assert_eq!((copied.size, copied.headers.get("x-amz-meta-team")), (size as u64, headers.get("x-amz-meta-team")));
        assert!(whole(&*store, &copied).await == vec![7; size]);
    }
}

fn has_headers(found: &ObjectVersion, headers: &BTreeMap<String, String>) {
    for (name, value) in headers {
        assert_eq!(found.headers.get(name), Some(value), "{name} of {} bytes", found.size);
    }
}

pub async fn uploads_in_parts_keep_their_sums(place: &Place) {
    let store = place.open();
    let headers = pairs(&[("content-type", "text/x-test"), ("x-amz-meta-team", "vision")]);
    let new = NewObject {
        headers: headers.clone(),
        algorithms: [Algorithm::Crc32].into(),
        algorithm: Some(Algorithm::Crc32),
        checksum_type: Some(ChecksumType::FullObject),
        ..Default::default()
    };
    let upload = store.upload_create(target("parts"), new.clone()).await.expect("begun");
    let parts: [Vec<u8>; 2] = [vec![1; 5 << 20], vec![2; 1000]];
    let mut listed = Vec::new();
    // As clients may, the last one first.
    for (part, number) in parts.iter().zip([1, 2]).rev() {
        let at = upload.started_at;
        let part = store.upload_part(&upload, number, body(part), no_check(), None, at).await.expect("a part");
        listed.insert(0, CompletedPart { number, etag: part.etag, sum: part.sum });
    }
    let plain = store.put(target("plain"), new, body(&parts.concat()), no_check()).await.expect("put");
    let (_, _, expected) = plain.sum.expect("a sum");
    let at = upload.started_at;
    let wrong =
        store.upload_complete(&upload, listed.clone(), Precondition::default(), Some("AAAAAA==".to_owned()), at);
    assert!(matches!(wrong.await, Err(Error::Checksum(_))));
    let done = store.upload_complete(&upload, listed, Precondition::default(), Some(expected.clone()), at).await;
    assert_eq!(done.expect("completed").sum.map(|(_, _, sum)| sum), Some(expected));
    let found = store.get(BUCKET, "parts", None).await.expect("asked").expect("there");
    has_headers(&found, &headers);
    assert!(whole(&*store, &found).await == parts.concat());
}

/// A mount is refused with a sentence that names the place and no secret,
/// and leaves nothing behind.
pub async fn refused(place: &Place, says: &[&str]) {
    let embedded = Embedded::new().await;
    let mounts = embedded.mounts(1, &[]);
    let answer = mounts.mount(new_bucket(BUCKET), &place.url, &place.options).await;
    let said = match answer {
        Err(MountError::Invalid(said)) => said,
        Err(MountError::Store(e)) => unavailable::<()>(place, Err(e)),
        other => panic!("{other:?}"),
    };
    place.shows_no_secret(&said);
    for word in says {
        assert!(said.contains(word), "no '{word}' in: {said}");
    }
    assert!(mounts.bucket(BUCKET).await.expect("asked").is_none(), "a bucket was made");
}

fn unavailable<T: std::fmt::Debug>(place: &Place, answer: Result<T>) -> String {
    match answer {
        Err(Error::Store(muonic_ports::Error::Unavailable(said) | muonic_ports::Error::NotFound(said))) => {
            place.shows_no_secret(&said);
            said
        }
        other => panic!("{other:?}"),
    }
}

pub async fn wrong_credentials_are_named(place: &Place) {
    refused(place, &["refuses the credentials", &place.url]).await;
    let store = place.open();
    unavailable(place, store.put(target("k"), NewObject::default(), body(b"x"), no_check()).await);
}

pub async fn a_missing_bucket_is_named(place: &Place) {
    refused(place, &["is not in", &place.url]).await;
    let said = unavailable(place, place.open().get(BUCKET, "k", None).await);
    assert!(said.contains(&place.url), "a bucket that is gone is not a key that is not there: {said}");
}

pub async fn a_missing_server_is_named(place: &Place) {
    refused(place, &["cannot be reached", &place.url]).await;
    let store = place.open();
    unavailable(place, store.put(target("k"), NewObject::default(), body(b"x"), no_check()).await);
}
