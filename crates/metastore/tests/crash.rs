//! What was acknowledged survives SIGKILL. A child process (this test binary
//! again) works on a store and prints what has been acknowledged; it is
//! killed at a random moment; then all that it printed must be there, and all
//! that is there must be whole.
//!
//! A failing run prints its seed; `MUONIC_SEED=<n>` repeats it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use muonic_ports::Metastore;
use muonic_ports::blob_store::Blob;
use muonic_ports::metastore::{Admission, Blobs, Finish, JobFilter, Jobs, Keys, Models, NewJobRecord, Next};
use muonic_types::blob::TreeSummary;
use muonic_types::job::{AttemptState, Exit, JobState};
use muonic_types::key::{Key, Role};
use muonic_types::task::ExitReport;
use muonic_types::{AttemptId, Digest, JobId, KeyId, Price, ProjectId, Timestamp};

const CHILD: &str = "MUONIC_CRASH_STORE";
const ROUNDS: u64 = 6;
const WORKERS: usize = 4;

/// A small generator (splitmix64): the same seed, the same run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

fn at() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("in range")
}

fn tree() -> Digest {
    Digest::of(b"a tree")
}

fn say(what: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    // The parent may be gone.
    let _ = writeln!(out, "{what}").and_then(|()| out.flush());
}

async fn work(store: Arc<muonic_metastore::Sqlite>) {
    let project = ProjectId::default_project();
    let spec = serde_json::json!({"name": "crash", "command": ["true"], "model": "crash"});
    let spec: muonic_types::job::JobSpec = serde_json::from_value(spec).expect("a spec");
    loop {
        let record = NewJobRecord {
            project: project.clone(),
            spec: spec.clone(),
            inputs: BTreeMap::new(),
            request_token: None,
            at: at(),
        };
        let id = store.job_submit(&record).await.expect("job_submit").id;
        say(format_args!("submitted {id}"));
        let attempt = AttemptId::new(&id, 1);
        let bytes = *Digest::of(attempt.as_str().as_bytes()).as_bytes();
        let key = Key {
            id: KeyId::from_random(bytes[..12].try_into().expect("12 of 32 bytes")),
            name: "crash".parse().expect("a name"),
            project: project.clone(),
            role: Role::Task,
            created_at: at(),
            expires_at: None,
            attempt: Some(attempt.clone()),
            replica: None,
            limits: Default::default(),
        };
        let admission = Admission { job: id.clone(), attempt: attempt.clone(), key, price: Price::default() };
        store.job_admit(&[admission], at()).await.expect("job_admit");
        let report = ExitReport {
            exit: Exit::Code { code: 0 },
            message: None,
            command_started_at: None,
            command_ended_at: None,
            ended_at: None,
            environment: None,
            model: Some(tree()),
            output: None,
        };
        let finish = Finish { attempt, report, next: Next::Succeeded, at: at() };
        let made = store.attempt_finish(&finish).await.expect("attempt_finish").expect("a model version");
        say(format_args!("finished {id} {}", made.version));
    }
}

/// The child's part; does nothing when the tests are run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let store = Arc::new(muonic_metastore::open(Path::new(&path)).await.expect("open"));
    store.blobs_insert(&[Blob { digest: tree(), size: 6 }], at()).await.expect("blobs_insert");
    store.tree_insert(&TreeSummary { digest: tree(), files: 0, bytes: 0 }, at()).await.expect("tree_insert");
    let workers: Vec<_> = (0..WORKERS).map(|_| tokio::spawn(work(Arc::clone(&store)))).collect();
    for worker in workers {
        worker.await.expect("a worker ended");
    }
}

/// Kills and reaps, whatever happens to the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a child until it has acknowledged `lines`, kills it a little later,
/// and answers all that it acknowledged.
fn round(path: &Path, lines: u64, later: Duration) -> Vec<String> {
    let child = Command::new(std::env::current_exe().expect("current_exe"))
        .args(["child", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("spawn");
    let mut child = Killed(child);
    let out = child.0.stdout.take().expect("piped");
    let (told, heard) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut acknowledged = Vec::new();
        for line in BufReader::new(out).lines() {
            let line = line.expect("a line");
            // The test harness writes lines of its own.
            if let Some(from) = line.find("submitted ").or_else(|| line.find("finished ")) {
                acknowledged.push(line[from..].to_owned());
                let _ = told.send(());
            }
        }
        acknowledged
    });
    for _ in 0..lines {
        heard.recv_timeout(Duration::from_secs(60)).expect("the child goes on working");
    }
    std::thread::sleep(later);
    child.0.kill().expect("kill");
    drop(child);
    reader.join().expect("joined")
}

/// All that was acknowledged is there, and what is there is whole.
async fn verify(path: &Path, acknowledged: &[String]) {
    let store = muonic_metastore::open(path).await.expect("open");
    let project = ProjectId::default_project();
    for line in acknowledged {
        let words: Vec<&str> = line.split(' ').collect();
        let id: JobId = words[1].parse().expect("a job id");
        let job = store.job_get(&project, &id).await.unwrap_or_else(|e| panic!("{line}: {e}"));
        if words[0] == "finished" {
            assert_eq!(job.state, JobState::Succeeded, "{line}");
            let version = job.model_version.map(|m| m.version.to_string());
            assert_eq!(version.as_deref(), Some(words[2]), "{line}");
        }
    }
    let filter = JobFilter { name: None, state: None, limit: u32::MAX };
    let jobs = store.job_list(&project, &filter).await.expect("job_list");
    let count = u32::try_from(jobs.len()).expect("few");
    let newest = JobId::new(&"crash".parse().expect("a name"), count);
    assert_eq!(jobs.first().map(|j| &j.id), Some(&newest), "numbers have no gaps");
    let mut versions = 0;
    let mut keys = 0;
    for job in &jobs {
        let states: Vec<_> = job.attempts.iter().map(|a| a.state).collect();
        match job.state {
            JobState::Queued => assert!(states.is_empty(), "{job:?}"),
            JobState::Starting => assert_eq!(states, [AttemptState::Launching], "{job:?}"),
            _ => assert_eq!((job.state, &*states), (JobState::Succeeded, &[AttemptState::Finished][..])),
        }
        keys += usize::from(job.state == JobState::Starting);
        versions += usize::from(job.model_version.is_some());
    }
    let registered = store.model_versions(&project, &"crash".parse().expect("a name")).await.expect("model_versions");
    assert_eq!(registered.len(), versions, "each version has its job and each job its version");
    assert_eq!(store.key_list().await.expect("key_list").len(), keys, "a key lives as long as its attempt");
    store.close().await;
}

#[tokio::test]
async fn acknowledged_work_survives_kill() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    let seed = std::env::var("MUONIC_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(now);
    println!("MUONIC_SEED={seed}");
    let mut random = Random(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("meta.sqlite");
    let mut acknowledged = Vec::new();
    for _ in 0..ROUNDS {
        let (lines, later) = (WORKERS as u64 * 2 + random.below(300), Duration::from_micros(random.below(5_000)));
        let path = path.clone();
        let path_of_child = path.clone();
        let heard = tokio::task::spawn_blocking(move || round(&path_of_child, lines, later)).await.expect("joined");
        acknowledged.extend(heard);
        verify(&path, &acknowledged).await;
    }
}
