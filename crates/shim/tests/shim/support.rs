//! A unit with its shim.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use muonic_types::task::ExitReport;
use muonic_types::{Digest, Entry, Resources};
use muonic_unit::limits::end_groups;
use muonic_unit::{Folder, Launch, UNIT_DIR_VARIABLE, processes};
use serde_json::{Value, json};

use crate::server::{Attempt, SERVER_ID, Server, Shared, store_tree};

pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Bed {
    pub dir: tempfile::TempDir,
    pub folder: Folder,
    pub shared: Shared,
    pub server: Option<Server>,
}

pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < end, "this did not happen in {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Bed {
    /// A unit whose task runs a shell script from `files` or of one line.
    pub fn new(script: &str, files: &[(&str, &str)], spec: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shared = Shared::default();
        let server = Server::start(&shared);
        let folder = Folder::new(dir.path().join("units/task.t-1.1"));
        fs::create_dir_all(folder.path()).unwrap();
        let bed = Self { dir, folder, shared, server: Some(server) };
        bed.write_server();
        let mut entries = Vec::new();
        for (name, content) in files {
            let digest = Digest::of(content.as_bytes());
            bed.attempt().blobs.insert(digest, content.as_bytes().to_vec());
            entries.push(Entry { path: name.parse().unwrap(), size: content.len() as u64, digest, executable: true });
        }
        let code = store_tree(&mut bed.attempt(), entries).digest;
        let mut whole = json!({
            "name": "t", "command": ["bash", "-c", script], "code": code, "grace_s": 3600,
            "resources": {"cpu": "1", "memory": "0"},
        });
        for (key, value) in spec.as_object().unwrap() {
            whole[key] = value.clone();
        }
        let task = json!({"attempt": "t-1.1", "spec": whole, "inputs": {"train": code}, "log_bytes_max": 1 << 20});
        bed.attempt().task = Some(serde_json::from_value(task).unwrap());
        let launch = Launch {
            version: Launch::VERSION,
            unit: "task.t-1.1".parse().unwrap(),
            resources: Resources::default(),
            server_file: bed.server_file(),
            token: "MKABCDEFGHIJKLMNOPQR.secret".into(),
            cache: bed.dir.path().join("cache"),
            settings: BTreeMap::new(),
        };
        bed.folder.write_launch(&launch).unwrap();
        bed
    }

    pub fn script(script: &str) -> Self {
        Self::new(script, &[], json!({}))
    }

    fn server_file(&self) -> PathBuf {
        self.dir.path().join("server")
    }

    pub fn write_server(&self) {
        self.write_address(&self.server.as_ref().map(Server::url).unwrap_or_default());
    }

    pub fn write_address(&self, url: &str) {
        fs::write(self.server_file().with_extension("id"), SERVER_ID).unwrap();
        fs::write(self.server_file(), url).unwrap();
    }

    pub fn attempt(&self) -> MutexGuard<'_, Attempt> {
        self.shared.lock().unwrap()
    }

    pub fn start(&self) -> Shim {
        let child = Command::new(env!("CARGO_BIN_EXE_muonic-shim-alone"))
            .args(["shim", "--unit"])
            .arg(self.folder.path())
            .env(UNIT_DIR_VARIABLE, self.folder.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Shim(child)
    }

    /// Runs the shim to its end and answers its report.
    pub fn run(&self) -> ExitReport {
        self.start().ended();
        self.report()
    }

    /// The report of a shim that has ended and left nothing.
    pub fn report(&self) -> ExitReport {
        assert!(self.folder.is_done());
        assert_eq!(processes::of_unit(self.folder.path()), Vec::<i32>::new());
        assert!(self.folder.read_groups().iter().all(|g| !g.exists()));
        assert!(!self.folder.work().exists());
        self.attempt().report.clone().expect("a report")
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.attempt().log).into_owned()
    }

    pub fn wait_for_log(&self, text: &str) {
        until(text, || self.log().contains(text).then_some(()));
    }

    /// What an engine does about a dead supervisor.
    pub fn end_leftovers(&self) {
        end_groups(&self.folder.read_groups(), PATIENCE).unwrap();
        processes::kill_until_none(|| processes::of_unit(self.folder.path()), || (), PATIENCE).unwrap();
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = end_groups(&self.folder.read_groups(), Duration::from_secs(5));
        let _ = processes::kill_until_none(|| processes::of_unit(self.folder.path()), || (), Duration::from_secs(5));
    }
}

pub struct Shim(pub Child);

impl Shim {
    pub fn signal(&self, name: &str) {
        let sent = Command::new("bash").args(["-c", &format!("kill -{name} {}", self.0.id())]).status().unwrap();
        assert!(sent.success());
    }

    pub fn ended(mut self) {
        let status = until("the shim ends", || self.0.try_wait().unwrap());
        assert!(status.success(), "{status}");
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
