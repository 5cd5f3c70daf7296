//! A foreign server, started for a test and ended with it.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::process::{Child, Command};

pub struct Program {
    pub endpoint: String,
    child: Child,
    folder: TempDir,
}

/// A program that lies beside the Python with the tests' packages.
pub fn tool(name: &str) -> PathBuf {
    let python = match std::env::var_os("MUONIC_TEST_PYTHON") {
        Some(python) => PathBuf::from(python),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../build/venv/bin/python"),
    };
    there(python.with_file_name(name), "./test")
}

/// What `scripts/servers` installs, for a test that runs where `./test --long`
/// does. Elsewhere `None`, and the skipping can be seen.
pub fn server(path: &str, test: &str) -> Option<PathBuf> {
    use std::io::Write;
    if std::env::var_os("MUONIC_TEST_LONG").is_none() {
        // Not by a macro, whose output is kept from view where a test passes.
        writeln!(std::io::stderr(), "SKIPPED: {test}: its server is there with ./test --long only").ok();
        return None;
    }
    let servers = match std::env::var_os("MUONIC_TEST_SERVERS") {
        Some(servers) => PathBuf::from(servers),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../build/servers"),
    };
    Some(there(servers.join(path), "./test --long"))
}

fn there(path: PathBuf, preparing: &str) -> PathBuf {
    assert!(
        path.exists(),
        "{} is missing; run {preparing} in the repository's root, which prepares it",
        path.display()
    );
    path
}

/// Ports of this machine on which nobody listens, all different.
pub fn free_ports(count: usize) -> Vec<u16> {
    let bound: Vec<_> = (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port")).collect();
    bound.iter().map(|listener| listener.local_addr().expect("an address").port()).collect()
}

/// What a test asks a server of by itself, past the mount.
pub fn http() -> reqwest::Client {
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::new()
}

/// `program`, to be run in `folder` with next to nothing of this process's
/// environment.
pub fn command(program: impl AsRef<Path>, folder: &TempDir) -> Command {
    let mut command = Command::new(program.as_ref());
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder.path())
        .env("TMPDIR", folder.path())
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

impl Program {
    /// Waits until `ready`, which is given the endpoint, agrees.
    pub async fn start(
        mut command: Command,
        port: u16,
        folder: TempDir,
        ready: impl AsyncFn(&str) -> Result<(), String>,
    ) -> Self {
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        let child = command.spawn().expect("the program starts");
        let mut program = Self { endpoint: format!("http://127.0.0.1:{port}"), child, folder };
        let deadline = Instant::now() + Duration::from_secs(90);
        while let Err(answer) = ready(&program.endpoint).await {
            let ended = program.child.try_wait().expect("asked");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "no server ({ended:?}, {answer}):\n{}",
                std::fs::read_to_string(program.folder.path().join("log")).unwrap_or_default()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        program
    }
}
