//! A process that puts blobs is killed again and again, each time in the
//! middle of its work. Whatever it had been told was kept must read back, and
//! what is visible must be whole. `MUONIC_SEED=N` repeats a run's choices.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use futures_util::future::join_all;
use muonic_ports::BlobStore;
use muonic_ports::conformance::blob_store::{collect, noise, pieces};
use muonic_types::Digest;

const ROUNDS: u64 = 25;
const ROOT: &str = "MUONIC_TEST_CRASH_ROOT";
const SEED: &str = "MUONIC_SEED";

/// Not a test by itself: the process that `survives_kill` starts and kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(root) = std::env::var_os(ROOT) else { return };
    let seed: u64 = std::env::var(SEED).expect("a seed").parse().expect("a number");
    let store: Arc<dyn BlobStore> = Arc::new(muonic_store::open(Path::new(&root)).expect("open"));
    // Endless: only the kill ends it.
    join_all((0..4u64).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0.. {
                let seed = seed.wrapping_mul(1_000_003) ^ (writer << 32) ^ n;
                let acknowledged = put(&*store, seed, writer).await;
                let mut out = std::io::stdout().lock();
                for (digest, size) in acknowledged {
                    writeln!(out, "kept {digest} {size}").expect("the parent reads");
                }
                out.flush().expect("the parent reads");
            }
        })
    }))
    .await;
}

async fn put(store: &dyn BlobStore, seed: u64, writer: u64) -> Vec<(Digest, u64)> {
    if writer == 0 {
        let batch: Vec<_> =
            (0..30).map(|n| noise(seed ^ (n << 48), 200 + n as usize)).map(|b| (Digest::of(&b), b)).collect();
        let kept = batch.iter().map(|(digest, bytes)| (*digest, bytes.len() as u64)).collect();
        store.put_batch(batch).await.expect("put_batch");
        return kept;
    }
    let len = if writer == 1 { 3 << 20 } else { (seed % 100_000) as usize };
    let blob = store.put(pieces(&noise(seed, len), 64 << 10), None).await.expect("put");
    vec![(blob.digest, blob.size)]
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may be gone already; both results are then of no interest.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn survives_kill() {
    let seed: u64 = match std::env::var(SEED) {
        Ok(seed) => seed.parse().expect("MUONIC_SEED is a number"),
        Err(_) => u64::from(std::process::id()) << 20 ^ std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs(),
    };
    println!("{SEED}={seed}");
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("store");
    let mut ledger = HashMap::new();
    for round in 0..ROUNDS {
        let round_seed = seed.wrapping_add(round);
        let mut child = Killed(
            Command::new(std::env::current_exe().expect("this program"))
                .args(["child", "--exact", "--nocapture"])
                .env(ROOT, &root)
                .env(SEED, round_seed.to_string())
                .stdout(Stdio::piped())
                .spawn()
                .expect("start the child"),
        );
        let mut lines = BufReader::new(child.0.stdout.take().expect("piped")).lines();
        let mut until = 1 + u64::from(noise(round_seed, 1)[0]) % 97;
        let mut add = |line: String| {
            let mut words = line.split(' ').skip_while(|word| *word != "kept").skip(1);
            if let (Some(digest), Some(size)) = (words.next(), words.next()) {
                ledger.insert(digest.parse::<Digest>().expect("a digest"), size.parse::<u64>().expect("a size"));
                return true;
            }
            false
        };
        while until > 0 {
            let line = lines.next().expect("the child runs until it is killed").expect("text");
            until -= u64::from(add(line));
        }
        child.0.kill().expect("kill");
        // What it said between our last look and its death counts too; the
        // very last line may be cut.
        let mut rest: Vec<String> = lines.map_while(Result::ok).collect();
        rest.pop();
        rest.into_iter().for_each(|line| {
            add(line);
        });
        drop(child);
        check(&root, &ledger).await;
    }
    assert!(ledger.len() as u64 > ROUNDS, "{} blobs were acknowledged", ledger.len());
}

async fn check(root: &Path, ledger: &HashMap<Digest, u64>) {
    let store = muonic_store::open(root).expect("open after the kill");
    assert_eq!(std::fs::read_dir(root.join("tmp")).expect("tmp").count(), 0);
    for (digest, size) in ledger {
        let (found, body) = store.get(digest, None).await.expect("an acknowledged blob is there");
        assert_eq!(found, *size);
        collect(body).await.expect("an acknowledged blob is whole");
    }
    for folder in std::fs::read_dir(root.join("blobs")).expect("blobs") {
        for file in std::fs::read_dir(folder.expect("entry").path()).expect("folder") {
            let path = file.expect("entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            assert_eq!(Digest::of(&std::fs::read(&path).expect("read")).hex(), name, "a partial blob is visible");
        }
    }
}
