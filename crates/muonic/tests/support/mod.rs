//! A real server on free ports with a data folder of its own.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use muonic_client::{Client, Error, UploadRules};
use muonic_types::blob::TreeSummary;
use muonic_types::endpoint::{Endpoint, EndpointState, NewRevision};
use muonic_types::job::{Job, JobSpec, NewJob};
use muonic_types::system::LocalFile;
use muonic_types::{JobId, Resources, VersionRef};
use muonic_unit::limits::end_groups;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longer than anything here takes on a slow, busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

const ANY_PORT: &str = "127.0.0.1:0";

pub const MUONIC: &str = env!("CARGO_BIN_EXE_muonic");

/// Tries until `look` answers something; panics with `what` when patience ends.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Repeats while the server is away or says to come back later, as a careful
/// client does.
pub fn insist<T>(what: &str, mut call: impl FnMut() -> Result<T, Error>) -> T {
    until(what, || match call() {
        Ok(value) => Some(value),
        Err(e) if e.is_transient() || matches!(e, Error::Protocol { .. }) => None,
        Err(e) => panic!("{what}: {e}"),
    })
}

pub struct Server {
    pub data: PathBuf,
    child: Option<Child>,
    flags: Vec<String>,
    /// A free port at first, the same one at every later start.
    listen: String,
    /// Programs in front of the server's own (a namespace, say).
    before: Vec<String>,
    _folder: Option<tempfile::TempDir>,
}

impl Server {
    pub fn start() -> Self {
        Self::with(&[])
    }

    pub fn with(flags: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("muonic-").tempdir().expect("a folder");
        let mut server = Self {
            data: folder.path().join("data"),
            child: None,
            flags: flags.iter().map(|f| (*f).to_owned()).collect(),
            listen: ANY_PORT.to_owned(),
            before: Vec::new(),
            _folder: Some(folder),
        };
        server.up();
        server
    }

    /// A server on this folder, started by the words in front.
    pub fn inside(data: &Path, before: Vec<String>) -> Self {
        let mut server = Self {
            data: data.to_owned(),
            child: None,
            flags: Vec::new(),
            listen: ANY_PORT.to_owned(),
            before,
            _folder: None,
        };
        server.up();
        server
    }

    /// Starts the process and waits until it is ready.
    pub fn up(&mut self) {
        if !self.try_up() {
            // Somebody else has got the port in between.
            self.listen = ANY_PORT.to_owned();
            assert!(self.try_up(), "the server ended:\n{}", self.log());
        }
        let url = self.local().url;
        self.listen = url.strip_prefix("http://").expect("http").to_owned();
    }

    fn try_up(&mut self) -> bool {
        let _ = fs::remove_file(self.data.join("local.json"));
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.data.with_extension("log")).expect("a log");
        let already = log.metadata().expect("a log").len() as usize;
        let mut words = self.before.clone();
        words.push(MUONIC.to_owned());
        let child = Command::new(&words[0])
            .args(&words[1..])
            .args([
                "--data",
                self.data.to_str().expect("UTF-8"),
                "up",
                "--listen",
                &self.listen,
                "--s3-listen",
                ANY_PORT,
            ])
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a handle"))
            .stderr(log)
            .spawn()
            .expect("the server starts");
        self.child = Some(child);
        until("the server is ready", || {
            if let Some(status) = self.child.as_mut().expect("just started").try_wait().expect("a child") {
                let log = self.log();
                assert!(log[already..].contains("cannot listen"), "the server ended with {status}:\n{log}");
                self.child = None;
                return Some(false);
            }
            let local = self.try_local()?;
            Client::new(&local.url, &local.token).status().ok().map(|_| true)
        })
    }

    fn try_local(&self) -> Option<LocalFile> {
        serde_json::from_slice(&fs::read(self.seen("local.json")).ok()?).ok()
    }

    /// A file of the data folder as the server sees it, whatever is mounted there.
    pub fn seen(&self, name: &str) -> PathBuf {
        let root = self.child.as_ref().map_or_else(String::new, |c| format!("/proc/{}/root", c.id()));
        PathBuf::from(format!("{root}{}", self.data.join(name).display()))
    }

    pub fn local(&self) -> LocalFile {
        self.try_local().expect("local.json")
    }

    pub fn client(&self) -> Client {
        let local = self.local();
        Client::new(&local.url, &local.token)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.data.with_extension("log")).unwrap_or_default()
    }

    pub fn pid(&self) -> i32 {
        self.child.as_ref().expect("running").id() as i32
    }

    /// The plug is pulled.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("running");
        child.kill().expect("a signal");
        child.wait().expect("a child");
    }

    /// SIGTERM, and the end it leads to.
    pub fn stop(&mut self) -> std::process::ExitStatus {
        kill(Pid::from_raw(self.pid()), Signal::SIGTERM).expect("a signal");
        let mut child = self.child.take().expect("running");
        until("the server has stopped", || child.try_wait().expect("a child"))
    }

    /// The CLI, told where the server is by the data folder alone.
    pub fn cli(&self, words: &[&str]) -> Output {
        Command::new(MUONIC)
            .arg("--data")
            .arg(&self.data)
            .args(words)
            .env_remove("MUONIC_SERVER")
            .env_remove("MUONIC_TOKEN")
            .stdin(Stdio::null())
            .output()
            .expect("the program starts")
    }

    /// The CLI's standard output, where it succeeds.
    pub fn ok(&self, words: &[&str]) -> String {
        let out = self.cli(words);
        assert!(
            out.status.success(),
            "muonic {words:?} ended with {}\n{}{}\nserver:\n{}",
            out.status,
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr),
            self.log(),
        );
        String::from_utf8(out.stdout).expect("UTF-8")
    }

    pub fn unit_folder(&self, unit: &str) -> muonic_unit::Folder {
        muonic_unit::Folder::new(self.data.join("local/units").join(unit))
    }
}

impl Drop for Server {
    /// Ends the server and everything its engine started.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        for _ in 0..50 {
            let left = processes_below(&self.data);
            if left.is_empty() {
                break;
            }
            for pid in left {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for folder in units_below(&self.data) {
            let _ = end_groups(&folder.read_groups(), Duration::from_secs(5));
        }
    }
}

/// The folders of all units whose data folder this is, also of those that are
/// being removed.
fn units_below(data: &Path) -> Vec<muonic_unit::Folder> {
    let entries = fs::read_dir(data.join("local/units")).into_iter().flatten();
    entries.filter_map(|e| Some(muonic_unit::Folder::new(e.ok()?.path()))).collect()
}

/// Processes whose command line or environment names this folder, apart from
/// this test itself.
pub fn processes_below(folder: &Path) -> Vec<i32> {
    let needle = folder.to_str().expect("UTF-8").as_bytes().to_vec();
    let holds = |file: PathBuf| fs::read(file).is_ok_and(|bytes| bytes.windows(needle.len()).any(|w| w == needle));
    let own = std::process::id() as i32;
    let entries = fs::read_dir("/proc").expect("/proc");
    let pids = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != own)
        .filter(|pid| holds(format!("/proc/{pid}/cmdline").into()) || holds(format!("/proc/{pid}/environ").into()))
        .collect()
}

pub fn write(folder: &Path, files: &[(&str, &[u8])]) {
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }
}

pub fn upload(client: &Client, folder: &Path) -> Result<TreeSummary, Error> {
    Ok(client.tree_upload(folder, UploadRules::Everything, &())?.tree)
}

pub fn shell(name: &str, script: &str) -> NewJob {
    let spec = format!(
        r#"{{"name": "{name}", "command": ["sh", "-c", ""], "resources": {{"cpu": "100m", "memory": "128Mi"}}}}"#
    );
    let mut spec: JobSpec = serde_json::from_str(&spec).expect("a spec");
    spec.command[2] = script.to_owned();
    NewJob { spec, request_token: None }
}

pub fn small() -> Resources {
    Resources { cpu: muonic_types::Cpu::milli(100), memory: muonic_types::Memory::mib(128), gpu: 0 }
}

/// A revision with so many replicas, of the smallest size.
pub fn revision(model: VersionRef, replicas: u32) -> NewRevision {
    NewRevision { model, replicas: Some(replicas), scale: None, resources: Some(small()), release: None }
}

/// Runs a job to its end.
pub fn run(client: &Client, new: &NewJob) -> Job {
    let job = client.job_create(new).expect("submitted");
    finished(client, &job.id)
}

pub fn finished(client: &Client, id: &JobId) -> Job {
    until(&format!("{id} has ended"), || {
        client.job_wait(id, Duration::from_secs(5)).ok().filter(|j| j.state.is_final())
    })
}

pub fn log_of(client: &Client, id: &JobId) -> String {
    let mut bytes = Vec::new();
    let mut reader = client.job_logs(id, Default::default()).expect("a log");
    std::io::Read::read_to_end(&mut reader, &mut bytes).expect("a log");
    String::from_utf8_lossy(&bytes).into_owned()
}

pub fn ready(client: &Client, name: &str) -> Endpoint {
    let name = name.parse().expect("a name");
    until(&format!("endpoint {name} is ready"), || {
        let endpoint = client.endpoint(&name).ok()?;
        assert_ne!(endpoint.state, EndpointState::Failed, "{endpoint:?}");
        (endpoint.state == EndpointState::Ready && endpoint.target.is_none()).then_some(endpoint)
    })
}

/// A small generator (xorshift64*), so that a failing run can be repeated from
/// its printed seed.
pub struct Dice(u64);

impl Dice {
    /// From `MUONIC_TEST_SEED`, or a fresh seed; printed either way.
    pub fn new() -> Self {
        let given = std::env::var("MUONIC_TEST_SEED").ok().and_then(|s| s.parse().ok());
        let fresh =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_nanos() as u64;
        let seed = given.unwrap_or(fresh) | 1;
        println!("seed: MUONIC_TEST_SEED={seed}");
        Self(seed)
    }

    pub fn split(&mut self) -> Self {
        Self(self.next() | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Where the shared test models lie.
pub fn model_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../serve/tests/models").join(name)
}

/// Says it to boto3, with a client called `s3`; what that prints.
pub fn s3(server: &Server, words: &str) -> String {
    let (local, url) = (server.local(), server.client().status().expect("a status").s3_url);
    let (id, secret) = local.token.split_once('.').expect("a token");
    let script = format!(
        "import boto3\ns3 = boto3.client('s3', endpoint_url='{url}', region_name='us-east-1', aws_access_key_id='{id}', aws_secret_access_key='{secret}')\n{words}"
    );
    let out = Command::new(python()).args(["-c", &script]).output().expect("it starts");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("UTF-8")
}

/// The interpreter with the clients that tests use.
pub fn python() -> PathBuf {
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../build/venv/bin/python");
    let python = std::env::var_os("MUONIC_TEST_PYTHON").map_or_else(usual, PathBuf::from);
    assert!(python.exists(), "{} is missing: run ./test, which sets it up", python.display());
    python
}
