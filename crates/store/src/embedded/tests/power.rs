//! The lights go out before the nth change of the disk, be it a file's, a
//! segment's or the index's: of what was not synced some is there, some in
//! part, some not. What was acknowledged is there, and the rest is there
//! wholly or not at all.

use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;

use super::dice::Dice;
use super::kill::settle;
use super::ledger::Ledger;
use super::op::Op;
use super::seen::{look, nothing_is_left_over};
use super::vfs::Watch;
use super::{choose, folder, ops};
use crate::data::tests::disk::TestDisk;

/// Operations of a run; the store is opened anew in the middle.
const OPS: usize = 36;

/// Works until all is done or something fails; what was under way then.
/// `None`: all was done.
async fn work(root: &Path, disk: &Arc<TestDisk>, ledger: &mut Ledger, dice: &mut Dice) -> Option<Option<Op>> {
    for _ in 0..2 {
        let Ok((store, keys)) = super::open_on(root, true, Box::new(disk.clone())).await else { return Some(None) };
        for n in 0..OPS / 2 {
            let op = choose::next(dice, 0, ledger);
            match ops::execute(&store, &keys, ledger, &op).await {
                Ok(outcome) => ledger.apply(&op, &outcome),
                Err(_) => return Some(Some(op)),
            }
            if n % 6 == 5 && store.reclaim_now().await.is_err() {
                return Some(None);
            }
        }
    }
    None
}

/// One run, cut before step `n`; whether it came to its end.
fn cut(seed: u64, n: usize) -> bool {
    let root = folder();
    let mut ledgers = vec![Ledger::default()];
    let disk = TestDisk::failing(n, Errno::EIO, true);
    let watch = Watch::new(root.path(), &disk);
    // A runtime of its own: it ends when all that runs in it has ended.
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let under_way = runtime().block_on(work(root.path(), &disk, &mut ledgers[0], &mut Dice(seed)));
    drop(watch);
    let all = disk.failed().is_none();
    disk.forget(seed ^ n as u64);
    runtime().block_on(async {
        let (store, _) = super::open(root.path()).await;
        let wrong = store.index().check(true).await.unwrap();
        assert!(wrong.is_empty(), "step {n}: {wrong:?}");
        let seen = look(&store).await.unwrap_or_else(|why| panic!("step {n}: {why}"));
        settle(&seen, &mut ledgers, &[under_way.flatten()]);
        nothing_is_left_over(&store).await.unwrap_or_else(|why| panic!("step {n}: {why}"));
        let seen = look(&store).await.unwrap_or_else(|why| panic!("step {n}, reclaimed: {why}"));
        settle(&seen, &mut ledgers, &[None]);
    });
    all
}

#[test]
fn without_power_at_any_step_nothing_acknowledged_is_lost() {
    let all = std::env::var_os("MUONIC_TEST_LONG").is_some();
    let mut dice = Dice::seeded();
    let seed = dice.next();
    let (mut n, mut cuts) = (0, 0);
    while !cut(seed, n) {
        n += if all { 1 } else { 1 + dice.below(20) };
        cuts += 1;
    }
    println!("{cuts} cuts in {n} steps");
    assert!(n > 300, "{n}");
}

/// Behind what was synced may lie anything: half of a frame, another's bytes.
#[tokio::test]
async fn torn_ends_are_left_aside() {
    let root = folder();
    let (store, keys) = super::open(root.path()).await;
    let (mut ledger, mut dice) = (Ledger::default(), Dice::seeded());
    for _ in 0..40 {
        let op = choose::next(&mut dice, 0, &ledger);
        let done = ops::execute(&store, &keys, &ledger, &op).await.unwrap();
        ledger.apply(&op, &done);
    }
    // As a kill leaves it: the store is still open.
    let wal = std::fs::read(root.path().join("store/index.sqlite-wal")).unwrap();
    let frame = 4096 + 24;
    let ends: [Vec<u8>; 5] = [
        vec![0xff; 10_000],
        vec![0; 5000],
        wal[wal.len() - frame..].to_vec(),
        wal[wal.len() - frame..wal.len() - 700].to_vec(),
        wal[32..32 + 3 * frame].to_vec(),
    ];
    for (n, end) in ends.iter().enumerate() {
        let torn = folder();
        super::copy(root.path(), torn.path());
        let segments = std::fs::read_dir(torn.path().join("store/segments")).unwrap();
        let segments = segments.map(|entry| entry.unwrap().path());
        for path in segments.chain([torn.path().join("store/index.sqlite-wal")]) {
            let mut file = std::fs::File::options().append(true).open(path).unwrap();
            std::io::Write::write_all(&mut file, end).unwrap();
        }
        let (store, _) = super::open(torn.path()).await;
        assert_eq!(store.index().check(true).await.unwrap(), Vec::<String>::new());
        let mut ledgers = [ledger.clone()];
        let seen = look(&store).await.unwrap_or_else(|why| panic!("end {n}: {why}"));
        settle(&seen, &mut ledgers, &[None]);
        nothing_is_left_over(&store).await.unwrap_or_else(|why| panic!("end {n}: {why}"));
    }
}
