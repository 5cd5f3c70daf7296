//! Mounts of local folders.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use common::{body, new_bucket};
use futures_util::{StreamExt, TryStreamExt, stream};
use muonic_mounts::Remote;
use muonic_ports::ObjectStore;
use muonic_ports::conformance::object_store::{BUCKET, Keys, suite_with};
use muonic_ports::object_store::*;
use proptest::prelude::*;

fn open(folder: &Path) -> Arc<Remote> {
    common::remote(&format!("file://{}", folder.display()), &BTreeMap::new(), new_bucket(BUCKET))
}

fn target(key: &str) -> Target {
    common::target(BUCKET, key)
}

async fn put(store: &Remote, key: &str, bytes: &[u8]) -> Result<ObjectVersion> {
    store.put(target(key), NewObject::default(), body(bytes), no_check()).await
}

fn files_below(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).expect("read").map(|e| e.expect("an entry").path());
    entries.map(|path| if path.is_dir() { files_below(&path) } else { 1 }).sum()
}

#[tokio::test]
async fn a_folder_is_a_bucket() {
    let folder = tempfile::tempdir().expect("a folder");
    suite_with(open(folder.path()), Keys::Files, false).await;
    assert_eq!(files_below(folder.path()), 0, "nothing is left behind");
}

#[tokio::test]
async fn files_are_objects_and_objects_are_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    std::fs::create_dir_all(folder.path().join("a/b")).expect("made");
    std::fs::write(folder.path().join("a/b/c.txt"), "hello").expect("written");
    let found = store.get(BUCKET, "a/b/c.txt", None).await.expect("asked").expect("there");
    assert_eq!((found.size, found.owner.as_str()), (5, "default"));
    let bytes: Vec<Bytes> = store.read(&found, Some(1..3), None).await.expect("read").try_collect().await.expect("all");
    assert_eq!(bytes.concat(), b"el");
    assert!(store.get(BUCKET, "a/b", None).await.expect("asked").is_none(), "a folder is no object");

    put(&store, "d/e", &[7; 9_000_000]).await.expect("put");
    assert_eq!(std::fs::read(folder.path().join("d/e")).expect("read"), [7; 9_000_000]);

    std::fs::write(folder.path().join("a/b/c.txt"), "other words").expect("written");
    let stale = store.read(&found, None, None).await;
    assert!(matches!(stale, Err(Error::NoSuchVersion)), "what was replaced is not given for what it was");
}

#[tokio::test]
async fn nothing_leads_out_of_the_folder() {
    let (folder, outside) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let store = open(folder.path());
    std::fs::write(outside.path().join("secret"), "secret").expect("written");
    std::os::unix::fs::symlink(outside.path(), folder.path().join("link")).expect("linked");
    std::os::unix::fs::symlink(outside.path().join("secret"), folder.path().join("file")).expect("linked");
    for key in ["link/secret", "file", "link/new"] {
        assert!(matches!(store.get(BUCKET, key, None).await, Err(Error::NotSupported(_))), "{key}");
        assert!(matches!(put(&store, key, b"x").await, Err(Error::NotSupported(_))), "{key}");
    }
    for key in ["../x", "a/../../x", "a//b", "/a", "a/", "", "a\0b", "a\nb", "x#12"] {
        assert!(matches!(put(&store, key, b"x").await, Err(Error::NotSupported(_))), "{key:?}");
        assert!(store.get(BUCKET, key, None).await.expect("asked").is_none(), "{key:?}");
    }
    let listed = store.list(BUCKET, &ListQuery { max: 10, ..Default::default() }).await.expect("listed");
    assert!(listed.objects.is_empty() && listed.prefixes.is_empty(), "{listed:?}");
    let absolute = format!("{}/", outside.path().display());
    for prefix in ["link/", "..", "../", "a/../../", "/", &absolute, "./", "link", "file"] {
        for delimiter in [None, Some("/".to_owned())] {
            let query = ListQuery { prefix: prefix.to_owned(), delimiter, max: 10, ..Default::default() };
            let listed = store.list(BUCKET, &query).await.expect("listed");
            assert!(listed.objects.is_empty() && listed.prefixes.is_empty(), "{prefix}: {listed:?}");
        }
    }
    assert_eq!(std::fs::read(outside.path().join("secret")).expect("there"), b"secret");
}

#[tokio::test]
async fn what_a_folder_cannot_do_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let abilities = store.abilities(BUCKET);
    assert!(!abilities.conditions && !abilities.multipart && !abilities.versions && !abilities.attributes);
    let create = Precondition { if_none_match: Some(EtagMatch::Any), ..Default::default() };
    let conditional = Target { condition: create, ..target("k") };
    let text = |text: &str| text.to_owned();
    let with = |new: NewObject| (target("k"), new);
    for (target, new) in [
        (conditional, NewObject::default()),
        with(NewObject { headers: [(text("x-amz-meta-a"), text("b"))].into(), ..Default::default() }),
        with(NewObject { tags: [(text("a"), text("b"))].into(), ..Default::default() }),
        with(NewObject { acl: Some(text("{}")), ..Default::default() }),
        with(NewObject { legal_hold: true, ..Default::default() }),
        with(NewObject { encryption: NewEncryption::Named(None), ..Default::default() }),
    ] {
        let refused = store.put(target, new, body(b"x"), no_check()).await;
        assert!(matches!(refused, Err(Error::NotSupported(_))), "{refused:?}");
    }
    let refused = store.upload_create(target("k"), NewObject::default()).await;
    assert!(matches!(refused, Err(Error::NotSupported(_))), "{refused:?}");
    put(&store, "file", b"x").await.expect("put");
    let refused = put(&store, "file/below", b"x").await;
    assert!(matches!(refused, Err(Error::NotSupported(_))), "{refused:?}");
    assert_eq!(files_below(folder.path()), 1);
}

#[tokio::test]
async fn an_upload_whose_caller_goes_away_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let (sender, receiver) = tokio::sync::mpsc::channel::<std::io::Result<Bytes>>(1);
    let body = stream::unfold(receiver, |mut r| async move { r.recv().await.map(|piece| (piece, r)) }).boxed();
    let putting = tokio::spawn({
        let store = store.clone();
        async move { store.put(target("k"), NewObject::default(), body, no_check()).await }
    });
    // Once these are taken, the first part is on its way.
    for _ in 0..40 {
        sender.send(Ok(Bytes::from(vec![1; 1 << 20]))).await.expect("taken");
    }
    assert_eq!(files_below(folder.path()), 1, "a file that has no name yet");
    assert!(store.get(BUCKET, "k", None).await.expect("asked").is_none());
    let listed = store.list(BUCKET, &ListQuery { max: 10, ..Default::default() }).await.expect("listed");
    assert!(listed.objects.is_empty(), "{listed:?}");
    putting.abort();
    assert!(putting.await.expect_err("aborted").is_cancelled());
    let gone = async {
        while files_below(folder.path()) > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), gone).await.expect("the file goes");
}

#[tokio::test]
async fn a_folder_that_is_gone_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    store.check().await.expect("there");
    let path = folder.path().to_owned();
    drop(folder);
    for error in [store.check().await.err(), store.get(BUCKET, "k", None).await.err()] {
        let Some(Error::Store(muonic_ports::Error::NotFound(said))) = error else { panic!("{error:?}") };
        assert!(said.contains(&*path.to_string_lossy()), "{said}");
    }
}

/// What a naive reader of the rules would list.
fn expected(keys: &[String], prefix: &str, delimiter: &str) -> Vec<String> {
    let names = keys.iter().filter_map(|key| {
        let rest = key.strip_prefix(prefix)?;
        let end = rest.find(delimiter).map_or(key.len(), |at| prefix.len() + at + delimiter.len());
        Some(key[..end].to_owned())
    });
    names.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]
    #[test]
    fn listings_are_those_of_a_sorted_list(
        keys in proptest::collection::btree_set("[ab!0](/?[ab!0-]){0,5}", 1..25),
        prefix in "/?[ab!0]?(/?[ab]/?)?",
        delimiter in prop_oneof![Just("/"), Just("b"), Just("!"), Just("a/")],
        max in 1u32..6,
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(folder.path().join("a/empty/folder")).expect("made");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let store = open(folder.path());
            let mut kept = Vec::new();
            for key in &keys {
                // Some cannot be files because others are folders.
                if put(&store, key, b"x").await.is_ok() {
                    kept.push(key.clone());
                }
            }
            let delimiter = Some(delimiter.to_owned());
            let mut query = ListQuery { prefix: prefix.clone(), delimiter, max, ..Default::default() };
            let mut found = Vec::new();
            loop {
                let page = store.list(BUCKET, &query).await.expect("listed");
                let mut names: Vec<String> = page.objects.into_iter().map(|o| o.key).chain(page.prefixes).collect();
                names.sort();
                assert!(names.len() <= max as usize);
                found.extend(names);
                match page.next {
                    Some(next) => query.after = next,
                    None => break,
                }
            }
            assert_eq!(found, expected(&kept, &prefix, query.delimiter.as_deref().unwrap_or_default()), "{kept:?}");
        });
    }
}
