//! Replicas as processes of their own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub const PATIENCE: Duration = Duration::from_secs(60);

/// Ends the process with the test, however that ends.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }

    pub fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the replica does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The program that `cargo test` builds beside the tests.
pub fn program() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let path = exe.parent().unwrap().parent().unwrap().join("examples/replica");
    assert!(path.is_file(), "{} is missing: run the tests with cargo test, which builds it", path.display());
    path
}

pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One that serves `model` on a free port, and its address.
pub fn alone(model: &Path, adapt: impl FnOnce(&mut Command)) -> (Process, String) {
    let mut command = Command::new(program());
    command.arg(model).args(["--port", "0", "--python"]).arg(super::python());
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    adapt(&mut command);
    let mut replica = Process(command.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(replica.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let (_, rest) = line.split_once("' at http://").unwrap_or_else(|| panic!("{line}"));
    let address = rest.split(['/', ',']).next().unwrap().trim().to_owned();
    (replica, address)
}
