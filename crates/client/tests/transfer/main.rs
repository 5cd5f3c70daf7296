//! Sending and fetching folders when the transport or the other side fails.

mod fake;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use fake::{Fake, Fault};
use muonic_client::{Error, UploadRules, Uploaded};
use muonic_types::{Digest, Entry, ErrorCode, Tree};

const BLOBS: &str = "/api/v1/blobs";
const MISSING: &str = "/api/v1/blobs/missing";
const PACK: &str = "/api/v1/blobs/pack";
const TREES: &str = "/api/v1/trees";

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn upload(fake: &Fake, dir: &Path) -> muonic_client::Result<Uploaded> {
    fake.client().tree_upload(dir, UploadRules::Everything, &())
}

fn tree(files: &[(&str, &str, bool)]) -> Tree {
    let entry = |(path, text, executable): &(&str, &str, bool)| Entry {
        path: path.parse().unwrap(),
        size: text.len() as u64,
        digest: Digest::of(text.as_bytes()),
        executable: *executable,
    };
    Tree::new(files.iter().map(entry).collect()).unwrap()
}

#[test]
fn sending_again_after_one_change_sends_one_file() {
    let fake = Fake::start();
    let files: Vec<(String, String)> =
        (0..2_500).map(|n| (format!("d{}/f{n}", n % 7), format!("content {n}"))).collect();
    let dir = folder(&files.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect::<Vec<_>>());
    let first = upload(&fake, dir.path()).unwrap();
    assert_eq!((first.sent_files, first.tree.files), (2_500, 2_500));
    assert_eq!(fake.count("POST /api/v1/blobs"), 2, "many small files go in few packs");
    let again = upload(&fake, dir.path()).unwrap();
    assert_eq!((again.sent_files, again.sent_bytes, again.tree.digest), (0, 0, first.tree.digest));
    fs::write(dir.path().join("d0/f0"), "changed").unwrap();
    let changed = upload(&fake, dir.path()).unwrap();
    assert_eq!((changed.sent_files, changed.sent_bytes), (1, 7));
    assert_ne!(changed.tree.digest, first.tree.digest);
}

#[test]
fn equal_contents_are_sent_once_and_an_empty_folder_is_a_tree() {
    let fake = Fake::start();
    let dir = folder(&[("a", "same"), ("b/c", "same"), ("empty", "")]);
    let sent = upload(&fake, dir.path()).unwrap();
    assert_eq!((sent.sent_files, sent.sent_bytes, sent.tree.files, sent.tree.bytes), (2, 4, 3, 8));
    let empty = upload(&fake, folder(&[]).path()).unwrap();
    assert_eq!((empty.tree.files, empty.sent_files), (0, 0));
}

#[test]
fn what_is_transient_is_tried_again() {
    let fake = Fake::start();
    fake.fault(MISSING, Fault::Drop);
    fake.fault(BLOBS, Fault::Drop);
    fake.fault(BLOBS, Fault::Answer(ErrorCode::Unavailable));
    fake.fault(BLOBS, Fault::Cut(3));
    fake.fault(TREES, Fault::Answer(ErrorCode::TooManyRequests));
    let dir = folder(&[("a", "one"), ("b", "two")]);
    assert_eq!(
        upload(&fake, dir.path()).unwrap().tree.digest,
        tree(&[("a", "one", false), ("b", "two", false)]).digest()
    );
}

#[test]
fn what_is_final_is_told_at_once() {
    let fake = Fake::start();
    fake.fault(MISSING, Fault::Answer(ErrorCode::Unauthenticated));
    let dir = folder(&[("a", "one")]);
    let error = upload(&fake, dir.path()).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::Unauthenticated));
    assert_eq!(fake.count("POST /api/v1/blobs/missing"), 1);
}

#[test]
fn blobs_collected_before_the_tree_names_them_are_sent_again() {
    let fake = Fake::start();
    fake.fault(TREES, Fault::Answer(ErrorCode::MissingBlobs));
    let dir = folder(&[("a", "one")]);
    assert_eq!(upload(&fake, dir.path()).unwrap().tree.files, 1);
    assert_eq!(fake.count("POST /api/v1/trees"), 2);
}

#[test]
fn a_file_that_changes_while_it_is_sent_is_named() {
    for new in ["longer than before", "s", "same size!"] {
        let fake = Fake::start();
        let dir = folder(&[("stable", "x"), ("moving", "size same!")]);
        let moving = dir.path().join("moving");
        fake.state.lock().unwrap().hook = Some(Box::new(move |path| {
            if path == MISSING {
                fs::write(&moving, new).unwrap();
            }
        }));
        match upload(&fake, dir.path()).unwrap_err() {
            Error::Input { message, hint } => {
                assert!(message.contains("moving' changed while it was being sent"), "{new}: {message}");
                assert!(hint.is_some());
            }
            other => panic!("{new}: {other:?}"),
        }
    }
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let fake = Fake::start();
    let tree =
        tree(&[("run.sh", "#!/bin/sh", true), ("d/e/f", "same", false), ("d/g", "same", true), ("empty", "", false)]);
    let digest = fake.hold(&tree, &[b"#!/bin/sh", b"same", b""]);
    let dest = tempfile::tempdir().unwrap();
    let dest = dest.path().join("new");
    let summary = fake.client().tree_download(&digest, &dest, &()).unwrap();
    assert_eq!((summary.files, summary.bytes), (4, 17));
    assert_eq!(fs::read_to_string(dest.join("d/e/f")).unwrap(), "same");
    let executable = |path: &str| fs::metadata(dest.join(path)).unwrap().permissions().mode() & 0o100 != 0;
    assert_eq!(["run.sh", "d/e/f", "d/g", "empty"].map(executable), [true, false, true, false]);
    assert_eq!(fake.state.lock().unwrap().asked, [3], "equal contents are fetched once");
    // What came back makes the same tree.
    assert_eq!(upload(&fake, &dest).unwrap().tree.digest, digest);
}

#[test]
fn an_empty_tree_is_an_empty_folder() {
    let fake = Fake::start();
    let digest = fake.hold(&tree(&[]), &[]);
    let dest = tempfile::tempdir().unwrap();
    assert_eq!(fake.client().tree_download(&digest, &dest.path().join("x/y"), &()).unwrap().files, 0);
    assert!(dest.path().join("x/y").is_dir());
}

#[test]
fn a_cut_download_goes_on_with_what_is_missing() {
    let fake = Fake::start();
    let tree = tree(&[("a", "0123456789", false), ("b", "abcdefghij", false), ("c", "ABCDEFGHIJ", false)]);
    let digest = fake.hold(&tree, &[b"0123456789", b"abcdefghij", b"ABCDEFGHIJ"]);
    // One whole record of 85 bytes and a part of the next.
    fake.fault(PACK, Fault::Cut(130));
    fake.fault(PACK, Fault::Drop);
    let dest = tempfile::tempdir().unwrap();
    fake.client().tree_download(&digest, dest.path(), &()).unwrap();
    assert_eq!(fake.state.lock().unwrap().asked, [3, 2]);
    assert_eq!(upload(&fake, dest.path()).unwrap().tree.digest, digest);
}

#[test]
fn wrong_bytes_are_refused_and_not_left_there() {
    let fake = Fake::start();
    let digest = fake.hold(&tree(&[("a", "0123456789", false)]), &[b"0123456789"]);
    fake.fault(PACK, Fault::Flip);
    let dest = tempfile::tempdir().unwrap();
    let error = fake.client().tree_download(&digest, dest.path(), &()).unwrap_err();
    assert!(matches!(&error, Error::Protocol { reason, .. } if reason.contains("'a'")), "{error:?}");
    assert!(!dest.path().join("a").exists());
}

/// Names in a folder, in order.
fn listing(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_download_that_fails_leaves_what_was_there() {
    let faults: [fn() -> Vec<Fault>; 2] =
        // The pack breaks off within the file, and the server refuses to go on; then wrong bytes.
        [|| vec![Fault::Cut(80), Fault::Answer(ErrorCode::Forbidden)], || vec![Fault::Flip]];
    for faults in faults {
        let fake = Fake::start();
        let digest = fake.hold(&tree(&[("a", "0123456789", false)]), &[b"0123456789"]);
        faults().into_iter().for_each(|fault| fake.fault(PACK, fault));
        let dest = folder(&[("a", "an older copy")]);
        fake.client().tree_download(&digest, dest.path(), &()).unwrap_err();
        assert_eq!(listing(dest.path()), ["a"], "nothing is left beside it");
        assert_eq!(fs::read_to_string(dest.path().join("a")).unwrap(), "an older copy");
        fake.client().tree_download(&digest, dest.path(), &()).unwrap();
        assert_eq!(fs::read_to_string(dest.path().join("a")).unwrap(), "0123456789");
        assert_eq!(listing(dest.path()), ["a"]);
    }
}

#[test]
fn a_file_that_cannot_be_put_in_place_is_named_and_leaves_nothing() {
    let fake = Fake::start();
    let digest = fake.hold(&tree(&[("a", "same", false), ("b", "same", true)]), &[b"same"]);
    let dest = folder(&[("b/in the way", "x")]);
    let error = fake.client().tree_download(&digest, dest.path(), &()).unwrap_err();
    assert!(matches!(&error, Error::File { path, .. } if path.ends_with("/b")), "{error:?}");
    assert_eq!(listing(dest.path()), ["a", "b"]);
}

#[test]
fn nothing_is_written_through_a_link() {
    let fake = Fake::start();
    let digest = fake.hold(&tree(&[("d/a", "new", false), ("f", "new", false)]), &[b"new"]);
    let outside = folder(&[("a", "old"), ("f", "old")]);
    let dest = tempfile::tempdir().unwrap();
    symlink(outside.path(), dest.path().join("d")).unwrap();
    symlink(outside.path().join("f"), dest.path().join("f")).unwrap();
    let error = fake.client().tree_download(&digest, dest.path(), &()).unwrap_err();
    assert!(error.to_string().contains("is in the way"), "{error}");
    fs::remove_file(dest.path().join("d")).unwrap();
    fake.client().tree_download(&digest, dest.path(), &()).unwrap();
    assert_eq!(fs::read_to_string(dest.path().join("f")).unwrap(), "new");
    for file in ["a", "f"] {
        assert_eq!(fs::read_to_string(outside.path().join(file)).unwrap(), "old");
    }
}

#[test]
fn nobody_at_the_address_is_a_connection_error() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let client = muonic_client::Client::new(&format!("http://127.0.0.1:{port}"), "t");
    assert!(matches!(client.status(), Err(Error::Connection { .. })));
}
