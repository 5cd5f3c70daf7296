//! The releaser: keeps replicas and routes in agreement with what endpoints
//! should serve. Woken by event and by clock; every step may be repeated. The
//! gateway sees its work through the route table alone.
//!
//! What it keeps in memory (failure counts, drain times) is rebuilt after a
//! restart: forgetting costs a few more tries or a longer drain, nothing else.

mod learned;
mod scale;
mod stepwise;
mod table;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use muonic_ports::Engine;
use muonic_ports::engine::{Launch, UnitState};
use muonic_ports::metastore::ReplicaRecord;
use muonic_ports::routes::RouteTable;
use muonic_scheduler::release::{Live, Step, View, Wanted, plan};
use muonic_types::endpoint::{Endpoint, EndpointState, ReplicaState, Revision};
use muonic_types::{Name, ReplicaId, Resources, UnitId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::scale::Scalers;
use self::stepwise::{Next, Stepwise};
use crate::{Endpoints, Keys, Result};

const TICK: Duration = Duration::from_secs(1);
/// While a replica drains, its end is looked for this often.
const DRAIN_TICK: Duration = Duration::from_millis(50);
/// While traffic comes to a revision step by step, it is judged this often.
const JUDGE_TICK: Duration = Duration::from_millis(250);
/// What is learned of when requests come is kept this often.
const KEEP_EVERY: Duration = Duration::from_secs(60);
/// Long enough to build a Python environment.
const READY_TIMEOUT_S: f64 = 900.0;
const DRAIN_TIMEOUT_S: f64 = 60.0;
/// From SIGTERM to the end; a replica finishes what it has.
const STOP_GRACE: Duration = Duration::from_secs(30);
/// Of readiness, until earlier failures no longer count.
const WELL_AFTER: Duration = Duration::from_secs(60);

#[derive(Debug, Default, Clone)]
struct Failures {
    count: u32,
    last: Option<Instant>,
    reason: Option<String>,
}

pub struct Releaser {
    endpoints: Arc<Endpoints>,
    keys: Arc<Keys>,
    engine: Arc<dyn Engine>,
    routes: watch::Sender<Arc<RouteTable>>,
    /// Settings handed to every replica.
    settings: BTreeMap<String, String>,
    failures: HashMap<(Name, u32), Failures>,
    in_flight: HashMap<ReplicaId, Arc<AtomicUsize>>,
    /// Since when a replica is known to be in a state.
    seen: HashMap<(ReplicaId, ReplicaState), Instant>,
    stopping: HashSet<ReplicaId>,
    /// Failed replicas that have been counted, until their units are gone.
    counted: HashSet<ReplicaId>,
    published: bool,
    scalers: Scalers,
    stepwise: Stepwise,
    kept: Instant,
}

impl Releaser {
    /// Also answers where the gateway reads its routes.
    pub fn new(
        endpoints: Arc<Endpoints>,
        keys: Arc<Keys>,
        engine: Arc<dyn Engine>,
        settings: BTreeMap<String, String>,
    ) -> (Self, watch::Receiver<Arc<RouteTable>>) {
        let scalers = Scalers::new(Vec::new(), endpoints.clock.now());
        let (routes, receiver) = watch::channel(Arc::new(RouteTable::default()));
        let releaser = Self {
            endpoints,
            keys,
            engine,
            routes,
            settings,
            failures: HashMap::new(),
            in_flight: HashMap::new(),
            seen: HashMap::new(),
            stopping: HashSet::new(),
            counted: HashSet::new(),
            published: false,
            scalers,
            stepwise: Stepwise::default(),
            kept: Instant::now(),
        };
        (releaser, receiver)
    }

    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut changed = self.engine.changed();
        match self.endpoints.meta.endpoints_learned().await {
            Ok(learned) => self.scalers = Scalers::new(learned, self.endpoints.clock.now()),
            Err(e) => tracing::warn!(error = %e, "what was learned of when requests come cannot be read"),
        }
        let wanted = Arc::clone(&self.scalers.wanted);
        loop {
            let rest = match self.round().await {
                Ok(again) if again => Duration::ZERO,
                Ok(_) if self.seen.keys().any(|(_, state)| *state == ReplicaState::Draining) => DRAIN_TICK,
                Ok(_) if self.stepwise.is_empty() => TICK,
                Ok(_) => JUDGE_TICK,
                Err(e) => {
                    tracing::error!(error = %e, "the releaser's round failed; it tries again");
                    TICK
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = wanted.notified() => {}
                () = self.endpoints.events.releaser_woken() => {}
                Ok(()) = changed.changed() => {}
                () = tokio::time::sleep(rest) => {}
            }
        }
        self.keep_learned().await;
    }

    async fn keep_learned(&mut self) {
        self.kept = Instant::now();
        let learned = self.scalers.learned();
        if learned.is_empty() {
            return;
        }
        if let Err(e) = self.endpoints.meta.endpoints_learn(&learned).await {
            tracing::warn!(error = %e, "what was learned of when requests come could not be kept");
        }
    }

    /// One round; true where it changed something that asks for another.
    async fn round(&mut self) -> Result<bool> {
        // The metastore first: a replica that was ready before the engine looked
        // has a unit unless that is gone.
        let replicas = self.endpoints.meta.replicas_live().await?;
        if !self.published {
            // At the start: looking at every unit may take a while, and those
            // that run can serve meanwhile.
            let endpoints = self.endpoints.meta.endpoints_all().await?;
            self.publish(&endpoints, &replicas);
        }
        let units: HashMap<UnitId, UnitState> =
            self.engine.list().await?.into_iter().map(|u| (u.unit, u.state)).collect();
        let mut acted = self.observe(&units, &replicas).await;
        let before = replicas;
        let replicas = self.endpoints.meta.replicas_live().await?;
        for gone in before.iter().filter(|r| replicas.iter().all(|live| live.id != r.id)) {
            // It may have said meanwhile that it failed: that counts before
            // another is launched in its place.
            self.note_failure(&gone.id).await;
        }
        let endpoints = self.endpoints.meta.endpoints_all().await?;
        self.publish(&endpoints, &replicas);
        for endpoint in &endpoints {
            match self.advance(endpoint, &replicas).await {
                Ok(more) => acted |= more,
                // It must not hold up the others.
                Err(e) => {
                    tracing::error!(endpoint = %endpoint.name, error = %e, "an endpoint could not be moved on; it is tried again");
                }
            }
        }
        self.seen.retain(|(id, _), _| replicas.iter().any(|r| r.id == *id));
        self.in_flight.retain(|id, _| replicas.iter().any(|r| r.id == *id));
        let has_unit = |id: &ReplicaId| units.contains_key(&UnitId::Replica(id.clone()));
        self.stopping.retain(has_unit);
        self.counted.retain(has_unit);
        self.scalers.forget_all_but(&endpoints);
        self.stepwise.forget_all_but(&endpoints);
        self.endpoints.releases.forget_all_but(&endpoints);
        if self.kept.elapsed() > KEEP_EVERY {
            self.keep_learned().await;
        }
        Ok(acted)
    }

    /// Brings what the engine says into the metastore. One replica that cannot
    /// be helped must not hold up the others.
    async fn observe(&mut self, units: &HashMap<UnitId, UnitState>, replicas: &[ReplicaRecord]) -> bool {
        let mut acted = false;
        for replica in replicas {
            match self.observe_one(units.get(&UnitId::Replica(replica.id.clone())), replica).await {
                Ok(more) => acted |= more,
                Err(e) => {
                    tracing::error!(replica = %replica.id, error = %e, "a replica could not be looked after; it is tried again");
                }
            }
        }
        let live: HashSet<&ReplicaId> = replicas.iter().map(|r| &r.id).collect();
        for (unit, state) in units {
            let UnitId::Replica(id) = unit else { continue };
            if live.contains(id) {
                continue;
            }
            if !self.stopping.contains(id) {
                // It may have said itself that it failed.
                self.keys.forget_replica(id);
                self.note_failure(id).await;
            }
            let done = match state {
                UnitState::Unstarted | UnitState::Ended(_) => self.engine.forget(unit).await,
                UnitState::Running => self.stop(id).await,
            };
            if let Err(e) = done {
                tracing::warn!(%unit, error = %e, "a unit that nobody wants could not be ended; it is tried again");
            }
        }
        acted
    }

    async fn observe_one(&mut self, unit: Option<&UnitState>, replica: &ReplicaRecord) -> Result<bool> {
        let how = match unit {
            None | Some(UnitState::Unstarted) if replica.state == ReplicaState::Launching => {
                self.launch(replica).await?;
                return Ok(false);
            }
            Some(UnitState::Running) => {
                self.note_success(replica);
                return Ok(false);
            }
            Some(UnitState::Ended(how)) => how,
            None | Some(UnitState::Unstarted) => "nothing is left of it",
        };
        let (state, reason) = match replica.state {
            ReplicaState::Draining => (ReplicaState::Stopped, None),
            _ => (ReplicaState::Failed, Some(how)),
        };
        self.end(&replica.id, state, reason).await?;
        Ok(true)
    }

    async fn end(&mut self, id: &ReplicaId, state: ReplicaState, reason: Option<&str>) -> Result<()> {
        self.endpoints.meta.replica_end(id, state, reason, self.endpoints.clock.now()).await?;
        self.keys.forget_replica(id);
        if let Err(e) = self.endpoints.logs.sync(&UnitId::Replica(id.clone())).await {
            tracing::warn!(replica = %id, error = %e, "the log of a replica could not be made durable");
        }
        self.note_failure(id).await;
        Ok(())
    }

    /// Asks once, however often it is wanted.
    async fn stop(&mut self, id: &ReplicaId) -> muonic_ports::Result<()> {
        if !self.stopping.contains(id) {
            self.engine.stop(&UnitId::Replica(id.clone()), STOP_GRACE).await?;
            self.stopping.insert(id.clone());
        }
        Ok(())
    }

    /// A revision is well again once a replica that became ready after the
    /// last failure has stayed so: one that only starts well keeps its pauses.
    fn note_success(&mut self, replica: &ReplicaRecord) {
        let since = self.seen_since(&replica.id, replica.state);
        let key = (replica.endpoint.clone(), replica.revision);
        let well = |f: &Failures| f.last.is_none_or(|at| since > at);
        if replica.state == ReplicaState::Ready
            && since.elapsed() > WELL_AFTER
            && self.failures.get(&key).is_some_and(well)
        {
            self.failures.remove(&key);
        }
    }

    /// Since when the replica is known to be in this state. By a clock that
    /// stands still while the server does not run.
    fn seen_since(&mut self, id: &ReplicaId, state: ReplicaState) -> Instant {
        *self.seen.entry((id.clone(), state)).or_insert_with(Instant::now)
    }

    /// Counts a replica that failed, once.
    async fn note_failure(&mut self, id: &ReplicaId) {
        if self.counted.contains(id) {
            return;
        }
        let Ok(record) = self.endpoints.meta.replica_get(id).await else { return };
        if record.state == ReplicaState::Failed {
            self.counted.insert(id.clone());
            let failures = self.failures.entry((record.endpoint, record.revision)).or_default();
            failures.count += 1;
            failures.last = Some(Instant::now());
            failures.reason = record.reason;
        }
    }

    /// The routes as they are now.
    fn publish(&mut self, endpoints: &[Endpoint], replicas: &[ReplicaRecord]) {
        let Self { in_flight, seen, scalers, stepwise, .. } = self;
        let table = table::table(endpoints, replicas, in_flight, seen, scalers, stepwise);
        self.routes.send_replace(Arc::new(table));
        self.published = true;
    }

    async fn advance(&mut self, endpoint: &Endpoint, replicas: &[ReplicaRecord]) -> Result<bool> {
        let guard = self.endpoints.admission.clone();
        let guard = guard.enter().await;
        let view = self.view(endpoint, replicas).await?;
        let steps = plan(&view);
        let mut acted = false;
        for step in steps {
            acted |= self.perform(endpoint, step).await?;
        }
        drop(guard);
        acted |= self.judge(endpoint, &view).await?;
        Ok(acted)
    }

    /// Moves a release on whose traffic comes step by step.
    async fn judge(&mut self, endpoint: &Endpoint, view: &View) -> Result<bool> {
        let (Some(target), Some(wanted)) = (stepwise::target(endpoint), &view.target) else { return Ok(false) };
        let is_ready = |r: &&Live| r.revision == target.number && r.state == ReplicaState::Ready;
        if target.step == 0 && view.live.iter().filter(is_ready).count() < wanted.replicas as usize {
            return Ok(false);
        }
        let now = (Instant::now(), self.endpoints.clock.now());
        let releases = &self.endpoints.releases;
        let metric = |name: &str, since| releases.mean(&endpoint.name, target.number, name, since);
        let (next, progress) = self.stepwise.next(endpoint, target, metric, now);
        releases.show(&endpoint.name, progress);
        match next {
            Next::Nothing => return Ok(false),
            Next::Step(step) => {
                self.endpoints.meta.revision_step(&endpoint.name, target.number, step).await?;
                tracing::info!(endpoint = %endpoint.name, revision = target.number, step, "traffic comes to this revision");
            }
            Next::Promote => return self.perform(endpoint, Step::Activate { revision: target.number }).await,
            Next::RollBack(reason) => {
                return self.perform(endpoint, Step::Fail { revision: target.number, reason }).await;
            }
        }
        Ok(true)
    }

    async fn view(&mut self, endpoint: &Endpoint, replicas: &[ReplicaRecord]) -> Result<View> {
        let now = scale::Now { wall: self.endpoints.clock.now(), instant: Instant::now() };
        let (of_active, of_target) = self.scalers.wanted(endpoint, replicas, now);
        let wanted = |number: Option<u32>, replicas: u32| {
            let revision = endpoint.revisions.iter().find(|r| Some(r.number) == number)?;
            Some(self.wanted(&endpoint.name, revision, replicas))
        };
        let (active, target) = (wanted(endpoint.active, of_active), wanted(endpoint.target, of_target));
        let own = replicas.iter().filter(|r| r.endpoint == endpoint.name);
        let live = own.map(|r| {
            let in_state_s = self.seen_since(&r.id, r.state).elapsed().as_secs_f64();
            let in_flight = self.in_flight.get(&r.id).map_or(0, |n| n.load(Ordering::SeqCst));
            Live { id: r.id.clone(), revision: r.revision, state: r.state, in_flight, in_state_s }
        });
        let live: Vec<Live> = live.collect();
        // What is free is only asked for where a replica may be launched.
        let short = [&active, &target]
            .into_iter()
            .flatten()
            .any(|w| live.iter().filter(|r| r.revision == w.number).count() < w.replicas as usize);
        let free = if short { self.endpoints.admission.free().await? } else { Resources::default() };
        Ok(View {
            active,
            target,
            stepwise: stepwise::target(endpoint).is_some(),
            deleting: endpoint.state == EndpointState::Deleting,
            live,
            free,
            ready_timeout_s: READY_TIMEOUT_S,
            drain_timeout_s: DRAIN_TIMEOUT_S,
        })
    }

    fn wanted(&self, endpoint: &Name, revision: &Revision, replicas: u32) -> Wanted {
        let failures = self.failures.get(&(endpoint.clone(), revision.number)).cloned().unwrap_or_default();
        Wanted {
            number: revision.number,
            replicas,
            resources: revision.resources,
            failures: failures.count,
            last_failure_s: failures.last.map(|at| at.elapsed().as_secs_f64()),
            last_reason: failures.reason,
        }
    }

    async fn perform(&mut self, endpoint: &Endpoint, step: Step) -> Result<bool> {
        let meta = self.endpoints.meta.clone();
        let now = self.endpoints.clock.now();
        match step {
            Step::Launch { revision } => self.add_replica(endpoint, revision).await?,
            Step::Waits { revision, reason } => {
                let shown = endpoint.revisions.iter().find(|r| r.number == revision).and_then(|r| r.reason.as_deref());
                if shown != Some(&reason) {
                    meta.revision_waits(&endpoint.name, revision, Some(&reason)).await?;
                }
                return Ok(false);
            }
            Step::Activate { revision } => {
                meta.revision_activate(&endpoint.name, revision, now).await?;
                tracing::info!(endpoint = %endpoint.name, revision, "traffic moves to this revision");
            }
            Step::Fail { revision, reason } => {
                meta.revision_failed(&endpoint.name, revision, &reason, now).await?;
                self.failures.remove(&(endpoint.name.clone(), revision));
                tracing::warn!(endpoint = %endpoint.name, revision, reason, "the release was given up");
            }
            Step::Drain { replica } => meta.replica_drain(&replica).await?,
            Step::Stop { replica } => {
                self.stop(&replica).await?;
                return Ok(false);
            }
            Step::TimedOut { replica } => {
                let reason = format!("was not ready within {READY_TIMEOUT_S} s");
                self.end(&replica, ReplicaState::Failed, Some(&reason)).await?;
            }
            Step::Remove => {
                meta.endpoint_remove(&endpoint.name).await?;
                self.failures.retain(|(name, _), _| *name != endpoint.name);
            }
        }
        Ok(true)
    }

    async fn add_replica(&mut self, endpoint: &Endpoint, number: u32) -> Result<()> {
        let Some(revision) = endpoint.revisions.iter().find(|r| r.number == number) else { return Ok(()) };
        let meta = &self.endpoints.meta;
        let version = muonic_types::VersionSelector::Number(revision.model.version);
        let tree = meta.model_version(&endpoint.project, &revision.model.name, &version).await?.tree.digest;
        let id = ReplicaId::new(&endpoint.name, number, meta.replica_next(&endpoint.name, number).await?);
        let record = ReplicaRecord {
            key: self.keys.for_replica(&endpoint.project, &id)?,
            id,
            endpoint: endpoint.name.clone(),
            project: endpoint.project.clone(),
            revision: number,
            model: revision.model.clone(),
            tree,
            state: ReplicaState::Launching,
            reason: None,
            address: None,
            resources: revision.resources,
            price: self.endpoints.admission.price(&revision.resources),
            launched_at: self.endpoints.clock.now(),
            ready_at: None,
            ended_at: None,
        };
        meta.replica_insert(&record).await?;
        if revision.reason.is_some() {
            meta.revision_waits(&endpoint.name, number, None).await?;
        }
        self.launch(&record).await
    }

    async fn launch(&mut self, replica: &ReplicaRecord) -> Result<()> {
        self.keys.remember(replica.key.clone());
        let launch = Launch {
            unit: UnitId::Replica(replica.id.clone()),
            resources: replica.resources,
            token: self.keys.token(&replica.key.id),
            settings: self.settings.clone(),
        };
        if let Err(e) = self.engine.launch(&launch).await {
            self.end(&replica.id, ReplicaState::Failed, Some(&format!("could not be launched: {e}"))).await?;
        }
        Ok(())
    }
}
