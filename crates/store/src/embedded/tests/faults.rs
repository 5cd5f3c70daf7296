//! The nth change of the disk fails: it is full, or broken. What is asked then
//! is refused cleanly, what was there stays readable, and after a failed sync
//! nothing is written until the store is opened anew.

use std::sync::Arc;

use muonic_ports::object_store::Error;
use muonic_ports::{Error as Port, ObjectStore};
use nix::errno::Errno;

use super::body::Body;
use super::dice::Dice;
use super::kill::settle;
use super::ledger::{Ledger, Sealed};
use super::op::{Only, Op};
use super::seen::{look, nothing_is_left_over};
use super::vfs::Watch;
use super::{choose, folder, ops};
use crate::data::tests::disk::{Step, TestDisk};
use crate::embedded::{EmbeddedStore, reclaim};
use crate::keys::LocalKeys;

const OPS: usize = 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Once.
    Broken,
    /// Once: there is room again at the next try.
    Full,
    /// Until somebody makes room.
    StaysFull,
}

struct Run {
    disk: Arc<TestDisk>,
    store: EmbeddedStore,
    keys: Arc<LocalKeys>,
    ledgers: Vec<Ledger>,
    dice: Dice,
    errors: Vec<Port>,
    /// What the last error was about, and what was true before: a sync that
    /// failed leaves open which of both a new process will find.
    doubt: (Ledger, Option<Op>),
}

impl Run {
    async fn step(&mut self, n: usize) {
        let op = choose::next(&mut self.dice, 0, &self.ledgers[0]);
        self.doubt = (self.ledgers[0].clone(), None);
        let under_way = match ops::execute(&self.store, &self.keys, &self.ledgers[0], &op).await {
            Ok(outcome) => {
                self.ledgers[0].apply(&op, &outcome);
                self.doubt.0 = self.ledgers[0].clone();
                None
            }
            Err(error) => {
                self.note(error);
                self.doubt.1 = Some(op.clone());
                Some(op)
            }
        };
        if n % 6 == 5
            && let Err(error) = self.store.reclaim_now().await
        {
            self.note(error);
        }
        // Reading goes on, and nothing is half there.
        if !self.errors.is_empty() {
            self.look(&under_way).await;
        }
    }

    async fn look(&mut self, under_way: &Option<Op>) {
        let seen = look(&self.store).await.unwrap_or_else(|why| panic!("after {:?}: {why}", self.errors));
        settle(&seen, &mut self.ledgers, std::slice::from_ref(under_way));
    }

    fn note(&mut self, error: Error) {
        match error {
            Error::Store(error) => self.errors.push(error),
            error => panic!("{error}"),
        }
    }

    /// All kinds of changes are refused.
    async fn must_be_read_only(&mut self) {
        let bucket = "w0-off".to_owned();
        let (key, at, sealed, header) = ("new".to_owned(), 1, Sealed::Store, 1);
        let put = |len| Op::Put {
            bucket: bucket.clone(),
            key: key.clone(),
            at,
            body: Body { seed: 1, len },
            sealed,
            header,
            only: Only::Always,
        };
        let ops = [
            put(10),
            put(5000),
            put(50_000),
            Op::Document { bucket: bucket.clone(), name: "x".into(), text: None },
            Op::BucketCreate { bucket: "w0-new".into(), lock: false },
            Op::BlobPut { body: Body { seed: 1, len: 10 }, twice: false },
            Op::BlobBatch { bodies: vec![Body { seed: 1, len: 5000 }] },
            Op::UploadCreate { bucket: bucket.clone(), key: key.clone(), at, header, sealed },
            Op::Delete { bucket: bucket.clone(), at, removals: vec![("a".into(), None)], bypass: true },
        ];
        for op in ops {
            let steps = self.disk.count(Step::Write);
            match ops::execute(&self.store, &self.keys, &self.ledgers[0], &op).await {
                Err(Error::Store(Port::ReadOnly(_))) => {}
                other => panic!("{op:?} on a store that is read-only: {other:?}"),
            }
            assert_eq!(self.disk.count(Step::Write), steps, "{op:?} has written");
        }
        self.look(&None).await;
    }
}

/// Whether the run came to its end without a fault.
fn run(seed: u64, n: usize, fault: Fault) -> bool {
    let root = folder();
    let errno = if fault == Fault::Broken { Errno::EIO } else { Errno::ENOSPC };
    let disk = TestDisk::failing(n, errno, fault == Fault::StaysFull);
    let watch = Watch::new(root.path(), &disk);
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (ledger, doubt) = runtime().block_on(async {
        let (store, keys) = match super::open_on(root.path(), true, Box::new(disk.clone())).await {
            Ok(opened) => opened,
            Err(Port::DiskFull | Port::ReadOnly(_) | Port::Internal { .. }) if disk.failed().is_some() => {
                return (Ledger::default(), None);
            }
            Err(error) => panic!("{error}"),
        };
        let (ledgers, errors, doubt) = (vec![Ledger::default()], Vec::new(), Default::default());
        let mut run = Run { disk: disk.clone(), store, keys, ledgers, dice: Dice(seed), errors, doubt };
        for at in 0..OPS {
            run.step(at).await;
            let health = run.store.health().await;
            if !health.writable {
                assert!(!run.errors.is_empty() && health.reason.is_some());
                assert!(run.errors.iter().any(|e| matches!(e, Port::ReadOnly(_))), "{:?}", run.errors);
                run.must_be_read_only().await;
                return run.doubt;
            }
            if run.errors.len() > 3 {
                disk.heal();
            }
            let most = if fault == Fault::StaysFull { 6 } else { 2 };
            assert!(run.errors.len() <= most, "{fault:?} at {n}: {:?}", run.errors);
            if fault != Fault::Broken {
                assert!(run.errors.iter().all(|e| matches!(e, Port::DiskFull)), "{fault:?} at {n}: {:?}", run.errors);
            }
        }
        disk.heal();
        nothing_is_left_over(&run.store).await.unwrap_or_else(|why| panic!("{fault:?} at {n}: {why}"));
        run.look(&None).await;
        (run.ledgers.remove(0), None)
    });
    drop(watch);
    let all = disk.failed().is_none() && fault == Fault::Broken;
    let mut ledgers = vec![ledger];
    runtime().block_on(async {
        let (store, keys) = super::open(root.path()).await;
        let seen = look(&store).await.unwrap_or_else(|why| panic!("{fault:?} at {n}: {why}"));
        settle(&seen, &mut ledgers, &[doubt]);
        nothing_is_left_over(&store).await.unwrap_or_else(|why| panic!("{fault:?} at {n}: {why}"));
        let op = choose::next(&mut Dice(1), 0, &ledgers[0]);
        ops::execute(&store, &keys, &ledgers[0], &op).await.unwrap();
    });
    all
}

#[test]
fn a_disk_that_fails_at_any_step_loses_nothing_and_is_told_of() {
    let all = std::env::var_os("MUONIC_TEST_LONG").is_some();
    let mut dice = Dice::seeded();
    let seed = dice.next();
    let mut n = 0;
    loop {
        run(seed, n, Fault::Full);
        run(seed, n, Fault::StaysFull);
        if run(seed, n, Fault::Broken) {
            break;
        }
        n += if all { 1 } else { 1 + dice.below(30) };
    }
    assert!(n > 200, "{n}");
}

/// One put of a large object, failing at the nth step, then a sweep; answers
/// how many steps there were before the put, and with it.
async fn put_and_sweep(n: usize) -> (usize, usize) {
    let root = folder();
    let disk = TestDisk::failing(n, Errno::EIO, false);
    let watch = Watch::new(root.path(), &disk);
    let mut ledger = Ledger::default();
    let (store, keys) = super::open_on(root.path(), true, Box::new(disk.clone())).await.unwrap();
    let bucket = "w0-b".to_owned();
    let create = Op::BucketCreate { bucket: bucket.clone(), lock: false };
    let done = ops::execute(&store, &keys, &ledger, &create).await.unwrap();
    ledger.apply(&create, &done);
    let before = disk.steps();
    let body = Body { seed: 1, len: 100_000 };
    let (key, at, sealed, header, only) = ("k".to_owned(), 1, Sealed::Store, 1, Only::Always);
    let put = Op::Put { bucket, key, at, body, sealed, header, only };
    let done = ops::execute(&store, &keys, &ledger, &put).await;
    let steps = (before, disk.steps());
    let _ = reclaim::sweep(&store).await;
    drop((store, watch));
    let (store, _) = super::open(root.path()).await;
    let seen = look(&store).await.unwrap_or_else(|why| panic!("step {n}: {why}"));
    let under_way = match done {
        Ok(done) => {
            ledger.apply(&put, &done);
            None
        }
        Err(_) => Some(put),
    };
    settle(&seen, &mut [ledger], &[under_way]);
    steps
}

#[tokio::test]
async fn what_a_failed_sync_has_left_in_doubt_is_not_swept() {
    let (from, to) = put_and_sweep(usize::MAX).await;
    assert!(to - from > 5);
    for n in from..to {
        put_and_sweep(n).await;
    }
}
