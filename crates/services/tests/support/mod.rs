//! The services on backends in memory, with an engine whose units live and die
//! as the test says and a clock whose hands it turns.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use muonic_ports::engine::{Feature, Launch, UnitState, UnitStatus};
use muonic_ports::routes::{Authenticator, RouteTable};
use muonic_ports::{BlobStore, Clock, Engine, Logs, Metastore};
use muonic_services::keys::MasterKey;
use muonic_services::{Admission, Blobs, Dispatcher, Endpoints, Error, Events, Jobs, Keys, Releaser};
use muonic_types::blob::{NewTree, TreeSummary};
use muonic_types::cost::Flavor;
use muonic_types::job::NewJob;
use muonic_types::key::Principal;
use muonic_types::{Cpu, Digest, Entry, Memory, Resources, Timestamp, UnitId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Stands at an instant until it is moved.
pub struct TestClock(AtomicI64);

impl TestClock {
    pub fn forward(&self, by: Duration) {
        self.0.fetch_add(by.as_micros() as i64, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.0.load(Ordering::SeqCst)).expect("an instant")
    }
}

/// Units are what the test makes of them.
pub struct TestEngine {
    pub units: Mutex<BTreeMap<UnitId, UnitState>>,
    pub launches: Mutex<Vec<Launch>>,
    pub stops: Mutex<Vec<UnitId>>,
    /// While set, nothing is launched and nothing is forgotten.
    pub broken: AtomicBool,
    capacity: Resources,
    changed: watch::Sender<u64>,
}

impl TestEngine {
    pub fn end(&self, unit: &UnitId, how: &str) {
        self.units.lock().expect("units").insert(unit.clone(), UnitState::Ended(how.to_owned()));
        self.changed.send_modify(|n| *n += 1);
    }

    /// A launch that the server's death cut short.
    pub fn leave_unstarted(&self, unit: &UnitId) {
        self.units.lock().expect("units").insert(unit.clone(), UnitState::Unstarted);
        self.changed.send_modify(|n| *n += 1);
    }

    fn works(&self) -> muonic_ports::Result<()> {
        match self.broken.load(Ordering::SeqCst) {
            true => Err(muonic_ports::Error::Unavailable("the engine is broken".into())),
            false => Ok(()),
        }
    }

    pub fn launched(&self) -> Vec<UnitId> {
        self.launches.lock().expect("launches").iter().map(|l| l.unit.clone()).collect()
    }

    pub fn token(&self, unit: &UnitId) -> String {
        let launches = self.launches.lock().expect("launches");
        launches.iter().rev().find(|l| l.unit == *unit).expect("launched").token.clone()
    }
}

#[async_trait]
impl Engine for TestEngine {
    fn name(&self) -> &'static str {
        "test"
    }
    async fn capacity(&self) -> muonic_ports::Result<Resources> {
        Ok(self.capacity)
    }
    async fn launch(&self, launch: &Launch) -> muonic_ports::Result<()> {
        self.works()?;
        let mut units = self.units.lock().expect("units");
        if matches!(units.get(&launch.unit), None | Some(UnitState::Unstarted)) {
            units.insert(launch.unit.clone(), UnitState::Running);
            self.launches.lock().expect("launches").push(launch.clone());
        }
        Ok(())
    }
    fn may_serve_at(&self, _: &UnitId, address: &str) -> bool {
        address.starts_with("unix:/run/")
    }
    async fn list(&self) -> muonic_ports::Result<Vec<UnitStatus>> {
        let units = self.units.lock().expect("units");
        Ok(units.iter().map(|(unit, state)| UnitStatus { unit: unit.clone(), state: state.clone() }).collect())
    }
    async fn stop(&self, unit: &UnitId, _grace: Duration) -> muonic_ports::Result<()> {
        self.stops.lock().expect("stops").push(unit.clone());
        Ok(())
    }
    async fn forget(&self, unit: &UnitId) -> muonic_ports::Result<()> {
        self.works()?;
        self.units.lock().expect("units").remove(unit);
        Ok(())
    }
    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
    async fn features(&self) -> Vec<Feature> {
        Vec::new()
    }
}

pub struct Cloud {
    pub clock: Arc<TestClock>,
    pub engine: Arc<TestEngine>,
    pub meta: Arc<dyn Metastore>,
    pub store: Arc<dyn BlobStore>,
    pub keys: Arc<Keys>,
    pub jobs: Arc<Jobs>,
    pub endpoints: Arc<Endpoints>,
    pub admission: Arc<Admission>,
    pub blobs: Arc<Blobs>,
    pub events: Arc<Events>,
    pub routes: watch::Receiver<Arc<RouteTable>>,
    pub admin: Principal,
    running: CancellationToken,
}

impl Cloud {
    pub async fn new(cpu_milli: u64) -> Self {
        let clock = Arc::new(TestClock(AtomicI64::new(1_700_000_000_000_000)));
        let capacity = Resources { cpu: Cpu::milli(cpu_milli), memory: Memory::mib(64 << 10), gpu: 0 };
        let engine = Arc::new(TestEngine {
            units: Mutex::default(),
            launches: Mutex::default(),
            stops: Mutex::default(),
            broken: AtomicBool::new(false),
            capacity,
            changed: watch::channel(0).0,
        });
        let meta: Arc<dyn Metastore> = Arc::new(muonic_metastore::in_memory().await.expect("a metastore"));
        let store: Arc<dyn BlobStore> = Arc::new(muonic_store::MemoryStore::default());
        let logs: Arc<dyn Logs> = Arc::new(muonic_store::MemoryLogs::default());
        let (keys, admin, _) = Keys::open(meta.clone(), clock.clone(), &MasterKey([7; 32])).await.expect("keys");
        let admin = keys.authenticate(&admin.token).expect("the administrator");
        let events = Arc::new(Events::default());
        let flavor =
            Flavor { name: "test".into(), cpu_usd_per_hour: 3.6, memory_gib_usd_per_hour: 0.0, gpu_usd_per_hour: 0.0 };
        let admission = Arc::new(Admission::new(engine.clone(), meta.clone(), flavor));
        let settings = muonic_services::jobs::Settings { log_bytes_max: 1 << 20 };
        let jobs = Arc::new(Jobs::new(
            meta.clone(),
            clock.clone(),
            keys.clone(),
            events.clone(),
            logs.clone(),
            admission.clone(),
            settings,
        ));
        let blobs = Arc::new(Blobs::new(meta.clone(), store.clone(), clock.clone()));
        let endpoints =
            Endpoints::new(meta.clone(), clock.clone(), events.clone(), logs, admission.clone(), blobs.clone());
        let endpoints = Arc::new(endpoints);
        let running = CancellationToken::new();
        tokio::spawn(Dispatcher::new(jobs.clone(), engine.clone(), BTreeMap::new()).run(running.clone()));
        let (releaser, routes) = Releaser::new(endpoints.clone(), keys.clone(), engine.clone(), BTreeMap::new());
        tokio::spawn(releaser.run(running.clone()));
        Self { clock, engine, meta, store, keys, jobs, endpoints, admission, blobs, events, routes, admin, running }
    }

    pub async fn put_tree(&self, new: NewTree) -> Result<TreeSummary, Error> {
        let place = self.blobs.place_for_tree(&self.admin).await.expect("a place");
        self.blobs.put_tree(&self.admin, new, place).await
    }

    /// A tree of files with nothing in them.
    pub async fn put_empty_files(&self, paths: &[&str]) -> TreeSummary {
        let empty = Digest::of(b"");
        let pack = bytes::Bytes::from(muonic_types::blob::pack_head(&empty, 0));
        let pack = Box::pin(futures_util::stream::once(async { Ok(pack) }));
        self.blobs.put_pack(&self.admin, pack).await.expect("a blob");
        let entry =
            |path: &&str| Entry { path: path.parse().expect("a path"), size: 0, digest: empty, executable: false };
        self.put_tree(NewTree { entries: paths.iter().map(entry).collect() }).await.expect("a tree")
    }

    /// The caller that a unit is.
    pub fn unit(&self, unit: &UnitId) -> Principal {
        self.keys.authenticate(&self.engine.token(unit)).expect("a key")
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.running.cancel();
    }
}

/// Tries until `look` answers something.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..6000 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited in vain: {what}");
}

pub fn job(name: &str, cpu: &str) -> NewJob {
    let text =
        format!(r#"{{"name": "{name}", "command": ["true"], "resources": {{"cpu": "{cpu}", "memory": "64Mi"}}}}"#);
    serde_json::from_str(&text).expect("a job")
}

pub fn task(id: &str) -> UnitId {
    UnitId::Task(id.parse().expect("an attempt"))
}

pub fn replica(id: &str) -> UnitId {
    UnitId::Replica(id.parse().expect("a replica"))
}
