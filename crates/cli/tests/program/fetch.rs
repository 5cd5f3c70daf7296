//! Fetching a dataset, cut short.

use std::process::Command;
use std::time::Duration;
use std::{fs, thread};

use muonic_types::{Digest, Entry, Tree};

use super::fake::{Answer, Fake, Gate, json};
use super::{ended, muonic};

#[test]
fn a_fetch_that_was_interrupted_leaves_nothing_in_the_way() {
    let bytes = vec![b'x'; 1 << 20];
    let (size, digest) = (bytes.len() as u64, Digest::of(&bytes));
    let entry = |path: &str| Entry { path: path.parse().unwrap(), size, digest, executable: false };
    let tree = Tree::new(vec![entry("a/b"), entry("c")]).unwrap();
    let body = serde_json::json!({"digest": tree.digest(), "entries": tree.entries()});
    let (tree, whole) = (tree.digest(), Gate::default());
    let server = Fake::start({
        let whole = whole.clone();
        move |request| match request.split(' ').nth(1).unwrap() {
            "/api/v1/blobs/pack" => {
                let (bytes, whole) = (bytes.clone(), whole.clone());
                Answer::Stream(Box::new(move |to| {
                    let _ = writeln!(to, "{digest} {size}").and_then(|()| to.write_all(&bytes[1..]));
                    whole.wait();
                    let _ = to.write_all(&bytes[..1]);
                }))
            }
            path if path.starts_with("/api/v1/trees/") => json(&body),
            _ => json(&serde_json::json!({
                "name": "set", "version": 1, "created_at": "2026-11-03T12:00:00Z",
                "tree": {"digest": tree, "files": 2, "bytes": 2 * size},
            })),
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let dest = dir.path().join("dest");
    let begun = || {
        let mut child = muonic(&server.url, &["data", "get", "set@1", dest.to_str().unwrap()]).spawn().unwrap();
        let has_bytes = || {
            let parts = fs::read_dir(&dest).ok()?.flatten();
            let files = parts.filter_map(|p| fs::read_dir(p.path().join("a")).ok()).flat_map(|files| files.flatten());
            files.filter_map(|f| f.metadata().ok()).any(|meta| meta.len() > 0).then_some(())
        };
        while has_bytes().is_none() {
            assert!(child.try_wait().unwrap().is_none(), "it ended early");
            thread::sleep(Duration::from_millis(5));
        }
        child
    };
    let mut child = begun();
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!dest.exists());
    let mut child = begun();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(dest.exists(), "nothing tidies up after a kill");
    whole.open();
    assert_eq!(ended(&server.url, &["data", "get", "set@1", dest.to_str().unwrap()]).0, 0);
    let mut names: Vec<_> = fs::read_dir(&dest).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a", "c"]);
    assert_eq!(fs::metadata(dest.join("a/b")).unwrap().len(), size);
}
