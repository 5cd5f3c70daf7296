//! Mounts of S3 servers that others wrote: SeaweedFS and rclone's. Both come
//! as packages of the Python that `./test` sets up.

#[path = "../common/mod.rs"]
mod common;
mod program;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{Embedded, body, new_bucket, pairs, whole};
use muonic_mounts::Remote;
use muonic_ports::conformance::object_store::{BUCKET, Keys, suite_with};
use muonic_ports::object_store::*;
use muonic_ports::{Mounting, ObjectStore};
use program::{KEY, Program, SECRET};

fn options(endpoint: &str, more: &[(&str, &str)]) -> BTreeMap<String, String> {
    let known = [("endpoint", endpoint), ("allow_http", "true"), ("access_key_id", KEY), ("secret_access_key", SECRET)];
    let mut options = pairs(&known);
    options.extend(pairs(more));
    options
}

fn open(url: &str, options: &BTreeMap<String, String>) -> Arc<Remote> {
    common::remote(url, options, new_bucket(BUCKET))
}

fn target(key: &str) -> Target {
    common::target(BUCKET, key)
}

/// What is found out about a server when it is mounted, and that all rules
/// hold then, in a bucket and below a prefix of it.
async fn rules_hold(program: &Program, found: &[(&str, &str)]) {
    for url in ["s3://conformance", "s3://conformance/below/a%20prefix"] {
        let embedded = Embedded::new().await;
        let mounts = embedded.mounts(1, &[]);
        let bucket = mounts.mount(new_bucket(BUCKET), url, &options(&program.endpoint, &[])).await.expect("mounted");
        assert!(!format!("{bucket:?}").contains(SECRET));
        let (known, settled) = mounts.described(&bucket).expect("described").expect("a mount");
        assert_eq!(known, url);
        for (name, word) in found {
            assert_eq!(settled.get(*name).map(String::as_str), Some(*word), "{name}");
        }
        suite_with(mounts, Keys::Files, false).await;
    }
}

async fn headers_and_sums_are_kept(program: &Program) {
    let store = open("s3://conformance", &options(&program.endpoint, &[]));
    let pairs = [("content-type", "text/x-test"), ("x-amz-meta-team", "vision"), ("cache-control", "no-store")];
    let headers: BTreeMap<String, String> = pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let new = NewObject { headers: headers.clone(), algorithm: Some(Algorithm::Crc32c), ..Default::default() };
    for size in [10, 9_000_000] {
        let put = store.put(target("headers"), new.clone(), body(&vec![7; size]), no_check()).await.expect("put");
        assert!(matches!(&put.sum, Some((Algorithm::Crc32c, ChecksumType::FullObject, _))), "{put:?}");
        let found = store.get(BUCKET, "headers", None).await.expect("asked").expect("there");
        for (name, value) in &headers {
            assert_eq!(found.headers.get(name), Some(value), "{name} of {size} bytes");
        }
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

async fn uploads_in_parts_keep_their_sums(program: &Program) {
    let store = open("s3://conformance", &options(&program.endpoint, &[]));
    let new = NewObject {
        algorithms: [Algorithm::Crc32].into(),
        algorithm: Some(Algorithm::Crc32),
        checksum_type: Some(ChecksumType::FullObject),
        ..Default::default()
    };
    let upload = store.upload_create(target("parts"), new.clone()).await.expect("begun");
    let parts: [Vec<u8>; 2] = [vec![1; 5 << 20], vec![2; 1000]];
    let mut listed = Vec::new();
    for (part, number) in parts.iter().zip(1..) {
        let at = upload.started_at;
        let part = store.upload_part(&upload, number, body(part), no_check(), None, at).await.expect("a part");
        listed.push(CompletedPart { number, etag: part.etag, sum: part.sum });
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
    assert!(whole(&*store, &found).await == parts.concat());
}

fn unavailable<T: std::fmt::Debug>(answer: Result<T>) -> String {
    match answer {
        Err(Error::Store(muonic_ports::Error::Unavailable(said) | muonic_ports::Error::NotFound(said))) => {
            assert!(!said.contains(SECRET) && !said.contains("wrong-secret"), "{said}");
            said
        }
        other => panic!("{other:?}"),
    }
}

async fn failures_are_named(program: &Program) {
    let wrong = options(&program.endpoint, &[("secret_access_key", "wrong-secret")]);
    let store = open("s3://conformance", &wrong);
    let said = unavailable(store.check().await);
    assert!(said.contains("credentials") && said.contains("s3://conformance"), "{said}");
    unavailable(store.put(target("k"), NewObject::default(), body(b"x"), no_check()).await);

    let store = open("s3://vanished", &options(&program.endpoint, &[]));
    let said = unavailable(store.check().await);
    assert!(said.contains("s3://vanished"), "{said}");
    let said = unavailable(store.get(BUCKET, "k", None).await);
    assert!(said.contains("s3://vanished"), "a bucket that is gone is not a key that is not there: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rclone_is_mounted() {
    let program = Program::rclone().await;
    rules_hold(&program, &[("conditional_put", "disabled")]).await;
    headers_and_sums_are_kept(&program).await;
    uploads_in_parts_keep_their_sums(&program).await;
    failures_are_named(&program).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seaweedfs_is_mounted() {
    let program = Program::seaweedfs().await;
    rules_hold(&program, &[("conditional_put", "etag"), ("listing_order", "folders")]).await;
    headers_and_sums_are_kept(&program).await;
    uploads_in_parts_keep_their_sums(&program).await;
    failures_are_named(&program).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_without_a_server_is_named() {
    let endpoint = format!("http://127.0.0.1:{}", program::free_ports(1)[0]);
    let store = open("s3://conformance", &options(&endpoint, &[]));
    let said = unavailable(store.check().await);
    assert!(said.contains("cannot be reached") && said.contains("s3://conformance"), "{said}");
    unavailable(store.put(target("k"), NewObject::default(), body(b"x"), no_check()).await);
}
