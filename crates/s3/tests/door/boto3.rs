//! boto3, and requests signed with its signer, against a real door. The
//! checks are in `tests/clients/s3.py`.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use crate::server::Server;

fn python() -> PathBuf {
    let python = match std::env::var_os("MUONIC_TEST_PYTHON") {
        Some(python) => PathBuf::from(python),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../build/venv/bin/python"),
    };
    assert!(
        python.exists(),
        "there is no Python with boto3 at {}; run ./test in the repository's root, which prepares it",
        python.display()
    );
    python
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boto3_works_unchanged() {
    let server = Server::start(64).await;
    let mut client = tokio::process::Command::new(python());
    client
        .arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/clients/s3.py"))
        .arg(format!("http://{}", server.address))
        .env_clear()
        // Signed in Python, as where the common runtime is not installed.
        .env("BOTO_DISABLE_CRT", "true")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    for (name, key) in [("ADMIN", &server.admin), ("VIEWER", &server.viewer), ("INVOKER", &server.invoker)] {
        client.env(format!("{name}_ID"), key.key.id.as_str()).env(format!("{name}_SECRET"), &key.secret);
    }
    let output = tokio::time::timeout(Duration::from_secs(240), client.output()).await;
    let output = output.expect("the client ends in time").expect("the client runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{failed}");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("all "), "{said}\n{failed}");
    server.stop().await;
}
