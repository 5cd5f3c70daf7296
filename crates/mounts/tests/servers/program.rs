//! A foreign server, started for a test and ended with it.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::process::{Child, Command};

pub const KEY: &str = "AKTEST";
pub const SECRET: &str = "secret-of-the-test";

pub struct Program {
    pub endpoint: String,
    child: Child,
    folder: TempDir,
}

/// A program that lies beside the Python with the tests' packages.
fn tool(name: &str) -> PathBuf {
    let python = match std::env::var_os("MUONIC_TEST_PYTHON") {
        Some(python) => PathBuf::from(python),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../build/venv/bin/python"),
    };
    let tool = python.with_file_name(name);
    assert!(tool.exists(), "{} is missing; run ./test in the repository's root, which prepares it", tool.display());
    tool
}

/// Ports of this machine on which nobody listens, all different.
pub fn free_ports(count: usize) -> Vec<u16> {
    let bound: Vec<_> = (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port")).collect();
    bound.iter().map(|listener| listener.local_addr().expect("an address").port()).collect()
}

impl Program {
    pub async fn rclone() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(folder.path().join("data/conformance")).expect("made");
        let port = free_ports(1)[0];
        let mut command = Command::new(tool("rclone"));
        command
            .args(["serve", "s3", "--auth-key", &format!("{KEY},{SECRET}"), "--addr", &format!("127.0.0.1:{port}")])
            .args(["--config", "none"])
            .arg(folder.path().join("data"));
        Self::start(command, port, folder).await
    }

    pub async fn seaweedfs() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name).display().to_string();
        std::fs::create_dir_all(at("data")).expect("made");
        let identities = format!(
            r#"{{"identities":[{{"name":"test","credentials":[{{"accessKey":"{KEY}","secretKey":"{SECRET}"}}],"actions":["Admin","Read","List","Tagging","Write"]}}]}}"#
        );
        std::fs::write(at("identities.json"), identities).expect("written");
        let names = ["master", "volume", "filer", "s3", "admin"];
        let ports = free_ports(2 * names.len());
        let mut command = Command::new(tool("weed"));
        command
            .args(["mini", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-bucket=conformance"])
            .args(["-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"])
            .args([format!("-dir={}", at("data")), format!("-s3.config={}", at("identities.json"))]);
        for (n, name) in names.iter().enumerate() {
            command.arg(format!("-{name}.port={}", ports[2 * n]));
            command.arg(format!("-{name}.port.grpc={}", ports[2 * n + 1]));
        }
        Self::start(command, ports[6], folder).await
    }

    async fn start(mut command: Command, port: u16, folder: TempDir) -> Self {
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let child = command
            .env_clear()
            .env("HOME", folder.path())
            .env("TMPDIR", folder.path())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let mut program = Self { endpoint: format!("http://127.0.0.1:{port}"), child, folder };
        program.wait_until_it_answers().await;
        program
    }

    async fn wait_until_it_answers(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(90);
        loop {
            let store = crate::open("s3://conformance", &crate::options(&self.endpoint, &[]));
            let answer = store.check().await;
            if answer.is_ok() {
                return;
            }
            let ended = self.child.try_wait().expect("asked");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "no server ({ended:?}, {answer:?}):\n{}",
                std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
