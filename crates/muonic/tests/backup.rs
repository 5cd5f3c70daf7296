//! Backup and restore by the command line alone: into a folder, into another
//! server's S3 door, and after the plug was pulled.

mod support;

use std::fs;
use std::path::Path;

use muonic_ports::object_store::{NewBucket, NewObject, Precondition, Target, no_check};
use muonic_ports::{BlobStore, ObjectStore};
use muonic_store::Options;
use muonic_types::backup::{BackupState, NewBackup};
use muonic_types::{ProjectId, Timestamp};
use serde_json::Value;
use support::{MUONIC, Server, log_of, model_file, ready, run, shell, until, write};

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime").block_on(work)
}

/// One of them is sent in parts.
fn size_of(number: u8) -> usize {
    if number == 7 { (20 << 20) + 5 } else { 1 << 20 }
}

/// A bucket in a data folder that no server uses yet, with so many objects.
fn make_bucket(data: &Path, name: &str, objects: u8) {
    fs::create_dir_all(data).expect("a folder");
    block_on(async {
        let (store, _) = muonic_store::open(&data.join("store"), &data.join("store.keys"), &Options::default())
            .await
            .expect("a store");
        let bucket = NewBucket {
            name: name.to_owned(),
            project: ProjectId::default_project(),
            at: Timestamp::now(),
            lock: false,
            documents: Default::default(),
        };
        store.bucket_create(bucket).await.expect("a bucket");
        for number in 0..objects {
            let bytes = vec![number; size_of(number)].into();
            let body = Box::pin(futures_util::stream::iter([Ok(bytes)]));
            let (key, condition) = (format!("object-{number}"), Precondition::default());
            let target = Target { bucket: name.to_owned(), key, condition, at: Timestamp::now() };
            ObjectStore::put(&store, target, NewObject::default(), body, no_check()).await.expect("stored");
        }
    });
}

fn snapshots(server: &Server, place: &[&str]) -> Vec<String> {
    let words = [&["store", "snapshots", "--output", "json"], place].concat();
    let all: Value = serde_json::from_str(&server.ok(&words)).expect("JSON");
    let all = all["snapshots"].as_array().expect("a list");
    all.iter().map(|s| s["name"].as_str().expect("a name").to_owned()).collect()
}

/// The server's own program, without a server.
fn offline(data: &Path, words: &[&str]) -> (bool, String) {
    let out = std::process::Command::new(MUONIC).arg("--data").arg(data).args(words).output().expect("it starts");
    let text = [out.stdout, out.stderr].concat();
    (out.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// A job, a dataset, a model and an endpoint; answers what the job has logged.
fn fill(server: &Server, folder: &Path) -> String {
    let client = server.client();
    write(folder, &[("data/a.txt", b"one"), ("data/large.bin", &[7; 300_000])]);
    server.ok(&["data", "put", "numbers", folder.join("data").to_str().expect("UTF-8")]);
    let job = run(&client, &shell("train", "echo hello; sleep 0"));
    server.ok(&["model", "register", "tiny", model_file("add.onnx").to_str().expect("UTF-8")]);
    server.ok(&["deploy", "tiny", "--name", "tiny"]);
    // A replica ships its log when it comes to it.
    let served = || server.ok(&["endpoint", "logs", "tiny"]).contains("serving tiny@1").then_some(());
    until("the replica's log arrives", served);
    log_of(&client, &job.id)
}

#[test]
fn everything_comes_back_from_a_folder() {
    let server = Server::start();
    let temp = tempfile::tempdir().expect("a folder");
    let log = fill(&server, temp.path());
    assert!(log.contains("hello"), "{log}");
    let dest = temp.path().join("backups");
    let dest = dest.to_str().expect("UTF-8");
    let text = server.ok(&["store", "backup", dest, "--keep", "3"]);
    assert!(text.contains("were sent"), "{text}");
    // The next one sends nothing that has not changed.
    let again: Value = serde_json::from_str(&server.ok(&["store", "backup", dest, "--output", "json"])).expect("JSON");
    assert_eq!((&again["state"], &again["snapshot"]["bytes_sent"]), (&"done".into(), &0.into()), "{again}");
    assert_eq!(snapshots(&server, &[dest]).len(), 2);

    let new = temp.path().join("restored");
    let (ok, text) = offline(&new, &["store", "restore", dest]);
    assert!(ok && text.contains("is restored"), "{text}");
    let (ok, text) = offline(&new, &["store", "restore", dest]);
    assert!(!ok && text.contains("not empty"), "{text}");
    fs::write(new.join("restore.unfinished"), "x").expect("a mark");
    let (ok, text) = offline(&new, &["up", "--listen", "127.0.0.1:0", "--s3-listen", "127.0.0.1:0"]);
    assert!(!ok && text.contains("not restored to its end"), "{text}");
    fs::remove_file(new.join("restore.unfinished")).expect("removed");

    let token = server.local().token;
    let restored = Server::inside(&new, Vec::new());
    assert_eq!(restored.local().token, token, "keys are the same");
    let client = restored.client();
    assert_eq!(log_of(&client, &"train-1".parse().expect("an id")), log);
    let out = temp.path().join("out");
    restored.ok(&["data", "get", "numbers", out.to_str().expect("UTF-8")]);
    assert_eq!(fs::read(out.join("large.bin")).expect("read"), [7; 300_000]);
    assert_eq!(fs::read(out.join("a.txt")).expect("read"), b"one");
    // Its replica is started again, here too.
    ready(&client, "tiny");
}

#[test]
fn another_servers_s3_door_is_a_destination() {
    let temp = tempfile::tempdir().expect("a folder");
    let (there, here) = (temp.path().join("there"), temp.path().join("here"));
    make_bucket(&there, "backups", 0);
    make_bucket(&here, "photos", 12);
    let (depot, server) = (Server::inside(&there, Vec::new()), Server::inside(&here, Vec::new()));
    let local = depot.local();
    let secret = temp.path().join("secret");
    fs::write(&secret, format!("{}\n", local.secret)).expect("a file");
    let passphrase = temp.path().join("passphrase");
    fs::write(&passphrase, "correct horse battery\n").expect("a file");
    let option = |name: &str, value: &str| ["--option".to_owned(), format!("{name}={value}")];
    let mut place = vec!["s3://backups/of/here".to_owned()];
    place.extend(option("endpoint", &local.s3_url));
    place.extend(option("allow_http", "true"));
    place.extend(option("access_key_id", &local.key_id));
    place.extend(["--secret-file".to_owned(), format!("secret_access_key={}", secret.display())]);
    let place: Vec<&str> = place.iter().map(String::as_str).collect();
    let sealed = ["--passphrase-file", passphrase.to_str().expect("UTF-8")];

    let out = server.cli(&[&["store", "backup"], &place[..]].concat());
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && text.contains("give a passphrase"), "{text}");
    server.ok(&[&["store", "backup", "--keep", "1"], &place[..], &sealed].concat());
    server.ok(&[&["store", "backup", "--keep", "1"], &place[..], &sealed].concat());
    assert_eq!(snapshots(&server, &place).len(), 1);
    drop(server);

    let new = temp.path().join("restored");
    let (ok, text) = offline(&new, &[&["store", "restore"], &place[..], &sealed].concat());
    assert!(ok, "{text}");
    assert_eq!(fs::read(new.join("store.keys")).expect("keys"), fs::read(here.join("store.keys")).expect("keys"));
    assert_eq!(fs::read(new.join("master.key")).expect("keys"), fs::read(here.join("master.key")).expect("keys"));
    block_on(async {
        let (store, _) = muonic_store::open(&new.join("store"), &new.join("store.keys"), &Options::default())
            .await
            .expect("a store");
        for number in 0..12u8 {
            let object = ObjectStore::get(&store, "photos", &format!("object-{number}"), None).await;
            let object = object.expect("asked").expect("there");
            let mut body = ObjectStore::read(&store, &object, None, None).await.expect("read");
            let mut size = 0;
            while let Some(piece) = futures_util::StreamExt::next(&mut body).await {
                let piece = piece.expect("verified");
                assert!(piece.iter().all(|byte| *byte == number));
                size += piece.len();
            }
            assert_eq!(size, size_of(number));
        }
        assert!(BlobStore::health(&store).await.writable);
    });
}

#[test]
fn a_backup_that_the_plug_was_pulled_on_does_not_exist() {
    let temp = tempfile::tempdir().expect("a folder");
    let data = temp.path().join("data");
    make_bucket(&data, "photos", 120);
    let mut server = Server::inside(&data, Vec::new());
    for attempt in 0.. {
        assert!(attempt < 5, "no backup was met in its middle");
        let dest = temp.path().join(format!("backups-{attempt}"));
        let dest = dest.to_str().expect("UTF-8").to_owned();
        let client = server.client();
        let new = NewBackup {
            destination: dest.clone(),
            options: Default::default(),
            keep: None,
            passphrase: None,
            without_keys: false,
        };
        let id = client.backup_create(&new).expect("started").id;
        until("it sends", || {
            let now = client.backup(&id).expect("known");
            (now.state != BackupState::Running || now.progress.files_sent > 0).then_some(())
        });
        server.kill();
        server.up();
        let met = snapshots(&server, &[&dest]).is_empty();
        let ended: Value =
            serde_json::from_str(&server.ok(&["store", "backup", &dest, "--output", "json"])).expect("JSON");
        if met {
            let snapshot = &ended["snapshot"];
            assert!(snapshot["files_sent"].as_u64() < snapshot["files"].as_u64(), "what was sent is not sent again");
            assert_eq!(snapshots(&server, &[&dest]).len(), 1);
            let new = temp.path().join("restored");
            let (ok, text) = offline(&new, &["store", "restore", &dest]);
            assert!(ok, "{text}");
            break;
        }
    }
}
