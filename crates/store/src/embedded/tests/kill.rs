//! Killed at any moment, the store keeps all that it acknowledged. A child
//! process (this test binary again) works on a store with four hands while it
//! is reclaimed, compacted and scrubbed, and prints each operation when it
//! begins and when it is acknowledged. It is killed, and the store must be
//! what its ledger says; of an operation that was under way it shows all or
//! nothing.
//!
//! `MUONIC_KILLS` sets how often (without: 40, and 200 in a long
//! run), `MUONIC_SEED` repeats a run's choices.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::dice::Dice;
use super::ledger::Ledger;
use super::op::{Op, Outcome};
use super::seen::{look, nothing_is_left_over};
use super::{choose, folder, ops};
use crate::data::files::RealFiles;

const CHILD: &str = "MUONIC_KILL_CHILD";
const WORKERS: usize = 4;
/// After so many kills a new store is begun.
const EPOCH: u64 = 40;

#[derive(Serialize, Deserialize)]
struct Task {
    root: PathBuf,
    seed: u64,
    encrypt: bool,
    ledgers: Vec<Ledger>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Line {
    Begin(usize, Op),
    Done(usize, Outcome),
    /// What must not happen.
    Wrong(String),
}

fn say(line: &Line) {
    let text = format!("\n#{}\n", serde_json::to_string(line).unwrap());
    let mut out = std::io::stdout().lock();
    // The parent may be gone.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// The child's part; does nothing when the tests are run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(task) = std::env::var_os(CHILD) else { return };
    std::panic::set_hook(Box::new(|panic| say(&Line::Wrong(panic.to_string()))));
    let task: Task = serde_json::from_slice(&std::fs::read(task).unwrap()).unwrap();
    let opened = super::open_on(&task.root, task.encrypt, Box::new(RealFiles)).await;
    let (store, keys) = match opened {
        Ok(opened) => opened,
        Err(error) => return say(&Line::Wrong(format!("it does not open: {error}"))),
    };
    for (worker, mut ledger) in task.ledgers.into_iter().enumerate() {
        let (store, keys) = (store.clone(), keys.clone());
        let mut dice = Dice(task.seed ^ ((worker as u64) << 32));
        tokio::spawn(async move {
            loop {
                let op = choose::next(&mut dice, worker, &ledger);
                say(&Line::Begin(worker, op.clone()));
                match ops::execute(&store, &keys, &ledger, &op).await {
                    Ok(outcome) => {
                        say(&Line::Done(worker, outcome.clone()));
                        ledger.apply(&op, &outcome);
                    }
                    // Nobody who reads is given the time that others have.
                    Err(error) if matches!(op, Op::Copy { .. }) && error.to_string().contains("cannot open") => {
                        say(&Line::Done(worker, Outcome::Refused(error.to_string())));
                        ledger.clock += 1;
                    }
                    Err(error) => return say(&Line::Wrong(format!("{op:?}: {error}"))),
                }
            }
        });
    }
    let scrubbed = store.clone();
    tokio::spawn(async move {
        loop {
            match scrubbed.scrub(0).await {
                Ok(report) if report.damaged.is_empty() => {}
                other => return say(&Line::Wrong(format!("a scrub: {other:?}"))),
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    });
    loop {
        if let Err(error) = store.reclaim_now().await {
            return say(&Line::Wrong(format!("reclaiming: {error}")));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
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

/// Runs a child until it has said `lines` lines, or not even until it has
/// opened, and kills it a little later.
fn round(task: &Task, lines: usize, later: Duration) -> Vec<Line> {
    let path = task.root.join("task.json");
    std::fs::write(&path, serde_json::to_vec(task).unwrap()).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["embedded::tests::kill::child", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let out = child.0.stdout.take().unwrap();
    let (told, heard) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        for line in BufReader::new(out).lines() {
            // The harness writes lines of its own, and the last may be cut.
            let line = line.unwrap_or_default();
            if let Some(line) = line.strip_prefix('#').and_then(|json| serde_json::from_str(json).ok()) {
                all.push(line);
                let _ = told.send(());
            }
        }
        all
    });
    for _ in 0..lines {
        if heard.recv_timeout(Duration::from_secs(60)).is_err() {
            break;
        }
    }
    std::thread::sleep(later);
    drop(child);
    reader.join().unwrap()
}

/// What each worker did last, if that was not acknowledged.
fn hear(lines: Vec<Line>, ledgers: &mut [Ledger]) -> Vec<Option<Op>> {
    let mut under_way = vec![None; ledgers.len()];
    for line in lines {
        match line {
            Line::Begin(worker, op) => under_way[worker] = Some(op),
            Line::Done(worker, outcome) => {
                let op = under_way[worker].take().expect("it was begun");
                ledgers[worker].apply(&op, &outcome);
            }
            Line::Wrong(what) => panic!("{what}"),
        }
    }
    under_way
}

/// Compares; the ledgers become what was found of what was under way.
async fn verify(root: &Path, ledgers: &mut [Ledger], under_way: &[Option<Op>], sweep: bool) {
    let (store, _) = super::open(root).await;
    let wrong = store.index().check(true).await.unwrap();
    assert!(wrong.is_empty(), "{wrong:?}");
    let seen = look(&store).await.unwrap_or_else(|why| panic!("{why}"));
    settle(&seen, ledgers, under_way);
    if sweep {
        nothing_is_left_over(&store).await.unwrap_or_else(|why| panic!("{why}"));
        let seen = look(&store).await.unwrap_or_else(|why| panic!("after reclaiming: {why}"));
        settle(&seen, ledgers, &vec![None; ledgers.len()]);
        let wrong = store.index().check(true).await.unwrap();
        assert!(wrong.is_empty(), "after reclaiming: {wrong:?}");
    }
}

/// Each ledger becomes the one of those it may be that was seen.
pub(super) fn settle(seen: &super::seen::Seen, ledgers: &mut [Ledger], under_way: &[Option<Op>]) {
    for (worker, (ledger, op)) in ledgers.iter_mut().zip(under_way).enumerate() {
        let mut may_be = ledger.may_be(op.as_ref());
        let blobs: BTreeSet<_> = may_be.iter().flat_map(|ledger| ledger.blobs.iter().copied()).collect();
        let prefix = format!("w{worker}-");
        let mut why = Vec::new();
        let found = may_be.iter_mut().find_map(|ledger| match seen.is(&prefix, ledger, &blobs) {
            Ok(()) => Some(ledger.clone()),
            Err(what) => {
                why.push(what);
                None
            }
        });
        *ledger = found.unwrap_or_else(|| panic!("worker {worker}, under way {op:?}: {why:#?}"));
    }
    seen.has_no_other_blobs(ledgers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_it_keeps_what_it_acknowledged() {
    let kills: Option<u64> = std::env::var("MUONIC_KILLS").ok().and_then(|text| text.parse().ok());
    let usual = if std::env::var_os("MUONIC_TEST_LONG").is_some() { 200 } else { 40 };
    let kills = kills.unwrap_or(usual);
    let mut dice = Dice::seeded();
    let (begun, mut acknowledged, mut cut) = (Instant::now(), 0, 0);
    let (mut root, mut ledgers) = (folder(), vec![Ledger::default(); WORKERS]);
    for kill in 0..kills {
        if kill % EPOCH == 0 {
            (root, ledgers) = (folder(), vec![Ledger::default(); WORKERS]);
        }
        let task = Task {
            root: root.path().to_owned(),
            seed: dice.next(),
            encrypt: !dice.one_in(4),
            ledgers: ledgers.clone(),
        };
        // Some die before they have opened the store.
        let lines = if dice.one_in(6) { 0 } else { 1 + dice.below(150) };
        let later = Duration::from_micros(dice.next() % if lines == 0 { 25_000 } else { 3_000 });
        let heard = tokio::task::spawn_blocking(move || round(&task, lines, later)).await.unwrap();
        acknowledged += heard.iter().filter(|line| matches!(line, Line::Done(..))).count();
        let under_way = hear(heard, &mut ledgers);
        cut += under_way.iter().flatten().count();
        verify(root.path(), &mut ledgers, &under_way, dice.one_in(3)).await;
    }
    println!("{kills} kills, {acknowledged} acknowledged, {cut} cut off, {:?}", begun.elapsed());
    assert!(kills < 10 || acknowledged > kills as usize);
}
