//! Waiting for supervisors to end: one small task for each.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use muonic_types::UnitId;
use muonic_unit::Folder;
use nix::sys::signal::Signal as Named;
use rustix::process::{Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_send_signal, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::{Inner, ending, spawn};

/// How often a lock is looked at whose holder cannot be told for certain.
const POLL: Duration = Duration::from_millis(50);
/// How often it is looked at beside a process that was found, not started.
/// Ids of processes are used again: it may be what a dead supervisor left.
const LOOK: Duration = Duration::from_secs(1);
/// Pause before ending leftovers is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A unit that the engine knows.
pub struct Watched {
    state: State,
    watcher: Option<AbortHandle>,
    /// When the supervisor is killed, once a stop was asked for.
    kill_at: Option<Instant>,
    killer: Option<AbortHandle>,
}

enum State {
    Runs(Option<Arc<OwnedFd>>),
    Ended(String),
}

impl Watched {
    pub fn gone(how: &str) -> Self {
        Self { state: State::Ended(how.to_owned()), watcher: None, kill_at: None, killer: None }
    }

    pub fn ended(&self) -> Option<&str> {
        match &self.state {
            State::Ended(how) => Some(how),
            State::Runs(_) => None,
        }
    }

    pub fn unwatch(&self) {
        for task in self.watcher.iter().chain(&self.killer) {
            task.abort();
        }
    }

    /// Asks the supervisor to stop now and kills it after `patience`. Asking
    /// again may only bring the end nearer.
    pub fn stop(&mut self, runtime: &Handle, folder: &Folder, patience: Duration) {
        let State::Runs(process) = &self.state else { return };
        let process = process.clone().or_else(|| spawn::holder(folder).map(Arc::new));
        signal(process.as_deref(), Signal::TERM);
        let at = Instant::now() + patience;
        if self.kill_at.is_some_and(|earlier| earlier <= at) {
            return;
        }
        self.kill_at = Some(at);
        if let Some(later) = self.killer.take() {
            later.abort();
        }
        let folder = folder.clone();
        let killer = runtime.spawn(async move {
            tokio::time::sleep_until(at.into()).await;
            // The watcher ends whatever the supervisor leaves.
            signal(process.or_else(|| spawn::holder(&folder).map(Arc::new)).as_deref(), Signal::KILL);
        });
        self.killer = Some(killer.abort_handle());
    }
}

fn signal(process: Option<&OwnedFd>, signal: Signal) {
    if let Some(process) = process {
        // One that is gone has what it was asked for.
        let _ = pidfd_send_signal(process, signal);
    }
}

impl Inner {
    /// Watches a unit that some process holds already.
    pub(crate) fn adopt(inner: &Arc<Self>, unit: &UnitId, folder: &Folder) {
        Self::watch(inner, unit, folder, Process::found(folder));
    }

    /// Watches a unit whose supervisor was just started.
    pub(crate) fn follow(inner: &Arc<Self>, unit: &UnitId, folder: &Folder, supervisor: OwnedFd) {
        Self::watch(inner, unit, folder, Process::Started(Arc::new(supervisor)));
    }

    fn watch(inner: &Arc<Self>, unit: &UnitId, folder: &Folder, supervisor: Process) {
        let mut units = inner.units();
        if units.get(unit).is_some_and(|w| w.ended().is_none()) {
            return;
        }
        let process = supervisor.descriptor();
        let task = inner.runtime.spawn(until_ended(Arc::downgrade(inner), unit.clone(), folder.clone(), supervisor));
        let watched =
            Watched { state: State::Runs(process), watcher: Some(task.abort_handle()), kill_at: None, killer: None };
        units.insert(unit.clone(), watched);
    }
}

/// What is known of the process that supervises a unit.
enum Process {
    /// Our child: it may not have taken the lock yet.
    Started(Arc<OwnedFd>),
    /// It seemed to hold the lock.
    Found(Arc<OwnedFd>),
    Unknown,
}

impl Process {
    fn found(folder: &Folder) -> Self {
        spawn::holder(folder).map_or(Self::Unknown, |process| Self::Found(Arc::new(process)))
    }

    fn descriptor(&self) -> Option<Arc<OwnedFd>> {
        match self {
            Self::Started(process) | Self::Found(process) => Some(process.clone()),
            Self::Unknown => None,
        }
    }

    /// Until it has ended, or its lock is worth a look; then how it ended,
    /// where that is known.
    async fn watch(&mut self, unit: &UnitId) -> Option<WaitIdStatus> {
        let ended = match self {
            Self::Started(process) => exited(process).await,
            Self::Found(process) => match tokio::time::timeout(LOOK, exited(process)).await {
                Ok(ended) => ended,
                Err(_) => return None,
            },
            Self::Unknown => {
                tokio::time::sleep(POLL).await;
                return None;
            }
        };
        *self = Self::Unknown;
        match ended {
            Ok(status) => status,
            Err(e) => {
                tracing::warn!(%unit, error = %e, "a supervisor cannot be waited for; its lock is looked at instead");
                tokio::time::sleep(LOOK).await;
                None
            }
        }
    }
}

async fn until_ended(inner: Weak<Inner>, unit: UnitId, folder: Folder, mut supervisor: Process) {
    let mut status = None;
    let shortage = loop {
        if let Some(ended) = supervisor.watch(&unit).await {
            status = Some(ended);
        }
        let (ending, whose) = (folder.clone(), unit.clone());
        let ended = tokio::task::spawn_blocking(move || {
            // Another supervisor may hold it: two servers may each have
            // launched one, and the lock chose.
            if ending.path().exists() && ending.is_locked()? {
                return Ok((false, None));
            }
            let shortage = ending::shortage(&whose, &ending);
            Ok::<_, io::Error>((ending::end(&ending)?, shortage))
        })
        .await;
        match ended {
            Ok(Ok((true, shortage))) => break shortage,
            Ok(Ok((false, _))) if matches!(supervisor, Process::Unknown) => supervisor = Process::found(&folder),
            Ok(Ok((false, _))) => (),
            Ok(Err(_)) if !folder.path().exists() => break None,
            Ok(Err(e)) => {
                tracing::warn!(%unit, error = %e, "the processes of a dead supervisor could not be ended; trying again");
                tokio::time::sleep(RETRY).await;
            }
            Err(_) => return,
        }
    };
    let Some(inner) = inner.upgrade() else { return };
    if let Some(watched) = inner.units().get_mut(&unit) {
        watched.state = State::Ended(describe(status.as_ref(), shortage));
        if let Some(killer) = watched.killer.take() {
            killer.abort();
        }
    }
    inner.tick();
}

/// Waits for a process to end and reaps it where it is our child; answers how
/// it ended, where that is known.
async fn exited(process: &Arc<OwnedFd>) -> io::Result<Option<WaitIdStatus>> {
    // SAFETY: the `Arc` keeps this one descriptor open and unchanged for as
    // long as the registration lives.
    let readable = unsafe { AsyncFd::register_with_interest(process.clone(), Interest::READABLE)? };
    let _ready = readable.readable().await?;
    // It fails where another server started it: not our child.
    Ok(waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).unwrap_or_default())
}

/// How a supervisor ended. That its memory ran out tells more than a signal,
/// but one that exited had something else to say.
pub fn describe(status: Option<&WaitIdStatus>, shortage: Option<String>) -> String {
    if let Some(code) = status.and_then(WaitIdStatus::exit_status) {
        return format!("its supervisor exited with code {code}");
    }
    if let Some(shortage) = shortage {
        return shortage;
    }
    match status.and_then(WaitIdStatus::terminating_signal) {
        Some(signal) => {
            let name = Named::try_from(signal).map_or("unknown", Named::as_str);
            format!("its supervisor was killed by signal {signal} ({name})")
        }
        None => "its supervisor is gone".to_owned(),
    }
}
