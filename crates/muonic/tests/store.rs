//! `muonic store` against a real server: its care, its keys and its mounts.

mod support;

use muonic_types::ErrorCode;
use muonic_types::key::{NewKey, Role};
use muonic_types::store::{NewRotation, NewScrub};
use serde_json::Value;
use support::{Server, until, upload, write};

fn json(server: &Server, words: &[&str]) -> Value {
    let words: Vec<&str> = words.iter().copied().chain(["--output", "json"]).collect();
    let text = server.ok(&words);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("muonic {words:?} printed no JSON ({e}):\n{text}"))
}

fn fails(server: &Server, words: &[&str], code: i32, word: &str) {
    let out = server.cli(words);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "muonic {words:?}: {said}");
    assert!(said.contains(word), "muonic {words:?} does not say '{word}': {said}");
}

/// A tree, and its contents: in the index, in a segment and in a file of its own.
fn fill(server: &Server) {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &[("a", &[1; 100]), ("b", &[2; 10_000]), ("c", &[3; 400_000])]);
    upload(&server.client(), folder.path()).expect("uploaded");
}

#[test]
fn the_store_is_looked_after() {
    let server = Server::start();
    fill(&server);
    assert_eq!(json(&server, &["store", "stats"])["blobs"], 4);
    assert!(server.ok(&["store", "stats"]).contains("blobs     4\n"));
    let report = json(&server, &["store", "scrub", "--wait", "--rate", "1GiB"]);
    assert_eq!((&report["extents"], &report["running"]), (&4.into(), &false.into()), "{report}");
    assert!(report["finished_at"].is_string() && report["damaged"] == serde_json::json!([]), "{report}");
    assert!(server.ok(&["store", "scrub", "--report"]).ends_with("nothing is damaged\n"));
    assert!(server.ok(&["store", "check"]).starts_with("the index is sound"));
    assert!(server.ok(&["store", "reclaim"]).starts_with("freed "));
    fails(&server, &["store", "scrub", "--rate", "fast"], 2, "50MiB");

    let files = std::fs::read_dir(server.data.join("store/files")).expect("files").flatten();
    let file = files.flat_map(|f| std::fs::read_dir(f.path()).expect("a folder").flatten()).next().expect("a file");
    std::fs::OpenOptions::new().write(true).open(file.path()).expect("opened").set_len(5).expect("cut");
    fails(&server, &["store", "check"], 1, "");
    let said = server.cli(&["store", "check"]);
    let said = String::from_utf8_lossy(&said.stdout);
    assert!(said.contains("has 5 bytes") && said.contains("blob sha256:") && said.contains("1 problem in"), "{said}");
    let said = server.cli(&["store", "scrub", "--wait"]);
    assert_eq!(said.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&said.stdout).contains("damaged: blob sha256:"), "{said:?}");
}

#[test]
fn encryption_keys_are_made_and_rotated() {
    let server = Server::start();
    fill(&server);
    server.ok(&["store", "key", "create", "team vision"]);
    fails(&server, &["store", "key", "create", "team vision"], 1, "there is a key 'team vision' already");
    fails(&server, &["store", "key", "create", ""], 2, "1 to 256 characters");
    assert!(server.ok(&["store", "key", "ls"]).contains("team vision"));
    let report = json(&server, &["store", "key", "rotate"]);
    assert_eq!((&report["version"], &report["rewrapped"]), (&2.into(), &4.into()), "{report}");
    let text = server.ok(&["store", "key", "rotate", "team vision"]);
    assert!(
        text.contains("the key 'team vision' has version 2: 0 data keys wrapped anew; version 1 is gone"),
        "{text}"
    );
    fails(&server, &["store", "key", "rotate", "nobody"], 3, "nobody");
    let keys = json(&server, &["store", "key", "ls"]);
    let keys = keys["keys"].as_array().expect("keys");
    assert_eq!(keys.len(), 3, "{keys:?}");
    let secrets = std::fs::read_to_string(server.data.join("store.keys")).expect("keys");
    let secrets: Value = serde_json::from_str(&secrets).expect("JSON");
    let shown = server.ok(&["store", "key", "ls", "-o", "json"]);
    for key in secrets["keys"].as_array().expect("keys") {
        assert!(!shown.contains(key["key"].as_str().expect("a key")));
    }
}

/// The plug is pulled in the middle; the next start goes on.
#[test]
fn a_rotation_survives_the_server() {
    let mut server = Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    let files: Vec<(String, Vec<u8>)> = (0..3000).map(|n: u32| (n.to_string(), n.to_be_bytes().to_vec())).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    write(folder.path(), &files);
    let tree = upload(&server.client(), folder.path()).expect("uploaded");
    for round in 2..5_u32 {
        let began = server.client().store_rotate(&NewRotation::default()).expect("begun");
        assert!(began.run.running || began.run.finished_at.is_some(), "{began:?}");
        server.kill();
        server.up();
        let own = until("the rotation has ended", || {
            let keys = server.client().store_keys().expect("keys").keys;
            let own = keys.into_iter().find(|key| key.name.is_none()).expect("the store's own");
            let running = server.client().store_rotation_report().expect("a report").run.running;
            (own.versions.len() == 1 && !running).then_some(own)
        });
        assert_eq!(own.versions[0].version, round);
    }
    let copy = tempfile::tempdir().expect("a folder");
    server.client().tree_download(&tree.digest, copy.path(), &()).expect("all can be read");
    assert_eq!(std::fs::read(copy.path().join("2999")).expect("there"), 2999_u32.to_be_bytes());
}

#[test]
fn folders_are_mounted_where_that_is_allowed() {
    let folder = tempfile::tempdir().expect("a folder");
    let inside = folder.path().join("inside");
    std::fs::create_dir(&inside).expect("made");
    let allowed = format!("store.mount_folders=[{:?}]", folder.path().to_str().expect("UTF-8"));
    let mut server = Server::with(&["--set", &allowed]);
    let url = format!("file://{}", inside.display());
    assert_eq!(json(&server, &["store", "mount", &url, "outer"])["url"], url.as_str());
    fails(&server, &["store", "mount", &url, "outer"], 1, "there is a bucket 'outer' already");
    fails(&server, &["store", "mount", &url, "No_Name"], 2, "not a bucket name");
    fails(
        &server,
        &["store", "mount", "file:///etc", "etc-etc"],
        2,
        "not in a folder that this server lets be mounted",
    );
    fails(&server, &["store", "mount", "ftp://x/y", "ftp-ftp"], 2, "s3, gs, az");
    let secret = ["store", "mount", "s3://b", "s3-s3", "--option", "secret_access_key=hush"];
    fails(&server, &secret, 2, "--secret-file secret_access_key=FILE");

    let key = folder.path().join("key");
    std::fs::write(&key, "hush-hush\n").expect("written");
    let file = format!("secret_access_key={}", key.display());
    let gone = [
        &["store", "mount", "s3://b", "s3-s3", "--option", "access_key_id=AK", "--secret-file", &file][..],
        &["--option", "endpoint=http://127.0.0.1:1", "--option", "allow_http=true"],
    ];
    let out = server.cli(&gone.concat());
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(5) && said.contains("s3://b") && !said.contains("hush"), "{said}");

    let listed = server.ok(&["store", "mounts"]);
    assert!(listed.contains("outer") && listed.contains(&url) && !listed.contains("s3-s3"), "{listed}");
    server.stop();
    server.up();
    assert_eq!(json(&server, &["store", "mounts"])["mounts"][0]["bucket"], "outer");
    server.ok(&["store", "unmount", "outer"]);
    fails(&server, &["store", "unmount", "outer"], 3, "outer");
    assert_eq!(json(&server, &["store", "mounts"])["mounts"], serde_json::json!([]));
}

#[test]
fn buckets_become_plain_files_and_back() {
    let mut server = Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    let plain = folder.path().join("plain");
    write(&plain, &[("a.txt", b"one"), ("b/c.bin", &[7; 300_000])]);
    let (from, to) = (plain.to_str().expect("UTF-8"), folder.path().join("out"));
    let import = ["store", "import", "--from", from, "--bucket", "taken-in"];
    fails(&server, &import, 1, "another server (process");
    fails(&server, &["store", "export", "--to", from], 1, "stop it");
    server.stop();
    fails(
        &server,
        &["store", "import", "--from", "/nowhere", "--bucket", "taken-in"],
        2,
        "there is no folder /nowhere",
    );
    fails(&server, &["store", "import", "--from", from, "--bucket", "No_Name"], 2, "not a bucket name");
    assert_eq!(server.ok(&import), "taken-in: 2 objects copied, 300003 bytes\n");
    assert_eq!(json(&server, &import)["buckets"]["taken-in"]["unchanged"], 2);
    let out = to.to_str().expect("UTF-8");
    fails(&server, &["store", "export", "--to", out, "--bucket", "nobody"], 2, "there is no bucket 'nobody'");
    assert!(server.ok(&["store", "export", "--to", out]).starts_with("taken-in: 2 objects copied"));
    assert_eq!(std::fs::read(to.join("taken-in/objects/b/c.bin")).expect("there"), [7; 300_000]);
    assert_eq!(json(&server, &["store", "export", "--to", out])["buckets"]["taken-in"]["unchanged"], 2);
    let back = to.join("taken-in");
    let again = ["store", "import", "--from", back.to_str().expect("UTF-8"), "--bucket", "another"];
    assert!(server.ok(&again).starts_with("another: 2 objects copied"));
    server.up();
    assert_eq!(json(&server, &["store", "stats"])["objects"], 4);
    let none = server.data.join("none");
    let out = std::process::Command::new(support::MUONIC)
        .args(["--data", none.to_str().expect("UTF-8"), "store", "export", "--to", out])
        .output()
        .expect("it starts");
    assert!(out.status.code() == Some(2) && !none.exists(), "{out:?}");
}

#[test]
fn only_administrators_of_the_first_project_run_the_store() {
    let server = Server::start();
    let key = |name: &str, role, project: Option<&str>| {
        let project = project.map(|p| p.parse().expect("a project"));
        let new = NewKey {
            name: name.parse().expect("a name"),
            role,
            expires_in_s: None,
            project,
            limits: Default::default(),
        };
        let made = server.client().key_create(&new).expect("a key");
        muonic_client::Client::new(&server.local().url, &made.token)
    };
    for client in [key("member", Role::Member, None), key("other", Role::Admin, Some("other"))] {
        let refused = [
            client.store_stats().map(drop),
            client.store_scrub(&NewScrub::default()).map(drop),
            client.store_check_report().map(drop),
            client.store_reclaim().map(drop),
            client.store_keys().map(drop),
            client.store_rotate(&NewRotation::default()).map(drop),
            client.store_mounts().map(drop),
            client.store_unmount("x"),
        ];
        for answer in refused {
            assert_eq!(answer.unwrap_err().code(), Some(ErrorCode::Forbidden));
        }
    }
    assert!(server.client().store_stats().is_ok());
}
