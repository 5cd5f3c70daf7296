//! The server about itself: status, readiness, and what `muonic doctor` asks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use muonic_ports::blob_store::StoreHealth;
use muonic_ports::engine::Feature;
use muonic_ports::{BlobStore, Engine, Metastore};
use muonic_types::key::Principal;
use muonic_types::system::{Check, CheckResult, DoctorReport, Status};
use muonic_types::{ErrorCode, Timestamp};
use tokio::sync::Mutex;

use crate::auth::{Action, authorise};
use crate::{Admission, Error, Result};

/// Below this the disk counts as nearly full.
const FREE_BYTES_WARN: u64 = 1 << 30;
/// How long an answer about readiness holds.
const READY_FOR: Duration = Duration::from_secs(1);
/// A disk that takes longer to answer is not ready.
const READY_PATIENCE: Duration = Duration::from_secs(3);

/// Where the server lives; known once it is bound.
#[derive(Debug, Clone)]
pub struct Place {
    pub version: String,
    pub data: String,
    pub url: String,
    pub s3_url: String,
    pub started_at: Timestamp,
}

/// Checks that need to look at the machine (Python, onnxruntime), handed in by
/// the composition root. May block.
pub type MachineChecks = Arc<dyn Fn() -> Vec<Check> + Send + Sync>;

pub struct System {
    meta: Arc<dyn Metastore>,
    store: Arc<dyn BlobStore>,
    engine: Arc<dyn Engine>,
    admission: Arc<Admission>,
    place: Place,
    machine: MachineChecks,
    readiness: Mutex<Option<(Instant, bool)>>,
}

impl System {
    pub fn new(
        meta: Arc<dyn Metastore>,
        store: Arc<dyn BlobStore>,
        engine: Arc<dyn Engine>,
        admission: Arc<Admission>,
        place: Place,
        machine: MachineChecks,
    ) -> Self {
        Self { meta, store, engine, admission, place, machine, readiness: Mutex::default() }
    }

    pub async fn status(&self, caller: &Principal) -> Result<Status> {
        authorise(caller, Action::Read)?;
        let counts = self.meta.counts().await?;
        let health = self.store.health().await;
        let place = self.place.clone();
        Ok(Status {
            version: place.version,
            data: place.data,
            url: place.url,
            s3_url: place.s3_url,
            started_at: place.started_at,
            capacity: self.admission.capacity().await?,
            free: self.admission.free().await?,
            jobs_queued: counts.jobs_queued,
            jobs_running: counts.jobs_running,
            endpoints: counts.endpoints,
            datasets: counts.datasets,
            models: counts.models,
            stored_bytes: counts.stored_bytes,
            writable: health.writable,
            reason: health.reason,
        })
    }

    /// Whether requests can be served, for load balancers. Needs no key, so
    /// the disk is asked at most once a second, however many ask, and why it
    /// is not ready is for the doctor to say.
    pub async fn ready(&self) -> Result<()> {
        let mut last = self.readiness.lock().await;
        if last.as_ref().is_none_or(|(at, _)| at.elapsed() > READY_FOR) {
            let look = tokio::time::timeout(READY_PATIENCE, self.can_write()).await;
            *last = Some((Instant::now(), look == Ok(true)));
        }
        match &*last {
            Some((_, true)) => Ok(()),
            _ => Err(Error::new(ErrorCode::Unavailable, "nothing can be written now")
                .hint("'muonic doctor' says what is wrong")),
        }
    }

    async fn can_write(&self) -> bool {
        self.meta.check().await.is_ok() && self.store.health().await.writable
    }

    pub async fn doctor(&self, caller: &Principal) -> Result<DoctorReport> {
        authorise(caller, Action::Read)?;
        let mut checks = vec![self.metastore_check().await, store_check(&self.store.health().await)];
        checks.push(match self.admission.capacity().await {
            Ok(capacity) => check("engine", CheckResult::Ok, format!("{}: {capacity}", self.engine.name())),
            Err(e) => check("engine", CheckResult::Failed, e.message),
        });
        checks.extend(self.engine.features().await.into_iter().map(feature_check));
        let machine = self.machine.clone();
        match tokio::task::spawn_blocking(move || machine()).await {
            Ok(more) => checks.extend(more),
            Err(e) => checks.push(check("machine", CheckResult::Failed, format!("the checks themselves failed: {e}"))),
        }
        Ok(DoctorReport { checks })
    }

    async fn metastore_check(&self) -> Check {
        match self.meta.check().await {
            Ok(()) => check("metastore", CheckResult::Ok, "answers and can be written".to_owned()),
            Err(e) => check("metastore", CheckResult::Failed, e.to_string()),
        }
    }
}

fn check(name: &str, result: CheckResult, detail: String) -> Check {
    Check { name: name.to_owned(), result, detail, hint: None }
}

fn unwritable(health: &StoreHealth) -> String {
    health.reason.clone().unwrap_or_else(|| "the store cannot be written".to_owned())
}

fn store_check(health: &StoreHealth) -> Check {
    let free = format!("{:.1} GiB free", health.free_bytes as f64 / (1u64 << 30) as f64);
    if !health.writable {
        let mut failed = check("store", CheckResult::Failed, unwritable(health));
        failed.hint = Some("mend the disk, then start the server again".to_owned());
        failed
    } else if health.free_bytes < FREE_BYTES_WARN {
        let mut low = check("store", CheckResult::Warning, free);
        low.hint = Some("free some space: uploads are refused when the disk is full".to_owned());
        low
    } else {
        check("store", CheckResult::Ok, free)
    }
}

fn feature_check(feature: Feature) -> Check {
    let result = if feature.available { CheckResult::Ok } else { CheckResult::Warning };
    check(feature.name, result, feature.detail)
}
