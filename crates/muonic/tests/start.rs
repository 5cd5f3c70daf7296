//! Starting and stopping: the data folder's lock, addresses, first key, bad
//! configuration, full and read-only disks.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::time::Duration;

use muonic_types::ErrorCode;
use muonic_types::job::JobState;
use support::{MUONIC, Server, finished, run, shell, until, upload, write};

fn up(data: &std::path::Path, flags: &[&str]) -> Output {
    Command::new(MUONIC).arg("--data").arg(data).arg("up").args(flags).output().expect("the program starts")
}

fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn the_first_start_shows_the_key_once_and_keeps_it_private() {
    let mut server = Server::start();
    let local = server.local();
    assert!(server.log().contains(&local.token));
    let mode = |name: &str| std::fs::metadata(server.data.join(name)).expect(name).permissions().mode() & 0o777;
    assert_eq!(
        (mode("local.json"), mode("master.key"), mode("metastore.sqlite"), mode("")),
        (0o600, 0o600, 0o600, 0o700)
    );
    assert!(server.stop().success());
    let shown = server.log().matches(&local.secret).count();
    server.up();
    assert_eq!(server.local().token, local.token);
    assert_eq!(server.log().matches(&local.secret).count(), shown, "the second start does not show it");
}

#[test]
fn a_second_server_on_the_same_folder_is_refused() {
    let server = Server::start();
    let out = up(&server.data, &["--listen", "127.0.0.1:0", "--s3-listen", "127.0.0.1:0"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(stderr(&out).contains("another server") && stderr(&out).contains("--data"), "{}", stderr(&out));
    assert!(server.client().status().is_ok());
}

#[test]
fn a_taken_port_is_named_with_the_way_out() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let out = up(folder.path(), &["--listen", &address]);
    assert_eq!(out.status.code(), Some(1));
    let said = stderr(&out);
    assert!(said.contains(&format!("cannot listen on {address}: Address already in use")), "{said}");
    assert!(said.ends_with("; choose another address with --listen, such as --listen 127.0.0.1:0\n"), "{said}");
}

#[test]
fn configuration_nobody_knows_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = up(folder.path(), &["--set", "server.lissten=x"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("lissten"), "{}", stderr(&out));
    write(folder.path(), &[("config.toml", b"[jobs]\nlog_bytes_max = \"much\"\n")]);
    let out = up(folder.path(), &[]);
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("config.toml") && stderr(&out).contains("log_bytes_max"), "{}", stderr(&out));
}

#[test]
fn a_lost_master_key_is_not_replaced_in_silence() {
    let mut server = Server::start();
    server.stop();
    std::fs::remove_file(server.data.join("master.key")).expect("removed");
    let out = up(&server.data, &["--listen", "127.0.0.1:0", "--s3-listen", "127.0.0.1:0"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(stderr(&out).contains("master.key"), "{}", stderr(&out));
}

/// In a mount namespace of its own, so that nothing outside sees the mount.
fn in_namespace(script: &str) -> Vec<String> {
    let script = format!("{script} && exec \"$0\" \"$@\"");
    ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &script].map(str::to_owned).to_vec()
}

#[test]
fn a_read_only_data_folder_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("a folder");
    let words = in_namespace(&format!("mount -t tmpfs -o ro tmpfs {}", data.display()));
    let out = Command::new(&words[0])
        .args(&words[1..])
        .arg(MUONIC)
        .arg("--data")
        .arg(&data)
        .args(["up", "--listen", "127.0.0.1:0"])
        .output();
    let out = out.expect("unshare starts");
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    assert!(stderr(&out).contains("cannot be written") && stderr(&out).contains("ead-only"), "{}", stderr(&out));
}

#[test]
fn a_full_disk_refuses_writes_and_keeps_what_it_has() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("a folder");
    // The namespace's init is the server; it ends with the test.
    let server = Server::inside(&data, in_namespace(&format!("mount -t tmpfs -o size=24m tmpfs {}", data.display())));
    let client = server.client();
    let input = tempfile::tempdir().expect("a folder");
    write(input.path(), &[("small", b"small")]);
    let small = upload(&client, input.path()).expect("uploaded");
    let name = "kept".parse().expect("a name");
    client.dataset_put(&name, small.digest).expect("put");

    write(input.path(), &[("large", &vec![7; 40 << 20])]);
    let e = upload(&client, input.path()).expect_err("the disk is full");
    assert_eq!(e.code(), Some(ErrorCode::DiskFull), "{e}");
    assert!(e.to_string().contains("full"), "{e}");

    std::fs::remove_file(input.path().join("large")).expect("removed");
    write(input.path(), &[("other", b"still works")]);
    let other = upload(&client, input.path()).expect("the server is well");
    client.dataset_put(&name, other.digest).expect("put");
    let back = tempfile::tempdir().expect("a folder");
    client.tree_download(&small.digest, &back.path().join("x"), &()).expect("kept");
    assert_eq!(finished(&client, &client.job_create(&shell("after", "true")).expect("submitted").id).attempts.len(), 1);
}

/// How long a full disk lasts after what is looked at has met it.
const FULL_FOR: Duration = Duration::from_millis(500);

#[test]
fn a_job_that_meets_a_full_disk_ends_once_there_is_room() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("a folder");
    let server = Server::inside(&data, in_namespace(&format!("mount -t tmpfs -o size=24m tmpfs {}", data.display())));
    let client = server.client();
    let filler = server.seen("filler");
    std::fs::write(&filler, vec![7; 12 << 20]).expect("written");
    let ended = folder.path().join("ended");
    let script = format!("head -c 20000000 /dev/zero; touch {}", ended.display());
    let job = client.job_create(&shell("chatty", &script)).expect("submitted");
    until("the command has ended", || ended.exists().then_some(()));
    std::thread::sleep(FULL_FOR);
    std::fs::remove_file(&filler).expect("removed");
    let job = finished(&client, &job.id);
    assert_eq!((job.state, job.attempts.len()), (JobState::Succeeded, 1), "{job:?}");

    // What nobody can store goes, so that the end can be recorded.
    let script = "head -c 40000000 /dev/zero > $SM_MODEL_DIR/x; exit 0";
    let job = finished(&client, &client.job_create(&shell("filler", script)).expect("submitted").id);
    assert_eq!((job.state, job.attempts.len()), (JobState::Failed, 1), "{job:?}");
    assert!(job.reason.as_deref().is_some_and(|r| r.contains("full")), "{job:?}");
}

#[test]
fn a_stop_drains_and_the_next_start_finds_everything() {
    let mut server = Server::start();
    let job = run(&server.client(), &shell("kept", "echo kept"));
    let client = server.client();
    let (heard, hears) = std::sync::mpsc::channel();
    let follower = std::thread::spawn(move || {
        let id = client.job_create(&shell("followed", "echo on; sleep 60")).expect("submitted").id;
        let range = muonic_client::LogRange { follow: true, ..Default::default() };
        let mut log = client.job_logs(&id, range).expect("a log");
        let mut first = [0; 3];
        std::io::Read::read_exact(&mut log, &mut first).expect("the first line");
        heard.send(first).expect("somebody waits");
        std::io::Read::read_to_end(&mut log, &mut Vec::new())
    });
    assert_eq!(hears.recv().expect("a line"), *b"on\n");
    assert!(server.stop().success(), "{}", server.log());
    follower.join().expect("no panic").expect("the follower was let go");
    server.up();
    assert_eq!(server.client().job(&job.id).expect("a job").id, job.id);
}
