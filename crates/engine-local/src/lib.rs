//! The local engine: units are processes of this machine, one folder each.
//!
//! A unit is a supervisor (`muonic shim` or `muonic serve`) in a session of
//! its own that outlives the server. Whether it lives is asked of the
//! kernel: it holds the lock of its folder ([`muonic_unit::Folder`]). The
//! engine keeps nothing that it could not find again in the folders, so a
//! restart adopts what runs.
//!
//! Invariants:
//! - A unit is told to have ended only when no process of it is left and the
//!   folder is marked `done`, under its lock, so that none can follow. A
//!   supervisor that another server spawned a moment ago finds the mark.
//! - A folder that no supervisor ever held is an unstarted unit: launching
//!   again is safe, since the supervisors settle by the lock who runs it, and
//!   so is forgetting it: a late one finds the mark, or no folder.

mod capacity;
mod ending;
mod spawn;
mod watch;

pub use capacity::of_this_machine;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use muonic_ports::engine::{Feature, Launch, UnitState, UnitStatus};
use muonic_ports::{Engine, Error, Result};
use muonic_types::{Resources, UnitId};
use muonic_unit::{Folder, Limiter, remove_tree};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use tokio::sync::watch as notice;

use watch::Watched;

/// Time a supervisor gets after the grace period to send the last of the log
/// and its report.
const STOP_MARGIN: Duration = Duration::from_secs(10);

/// Begins the names of folders that are being removed.
const GONE: &str = ".gone-";

#[derive(Debug, Clone)]
pub struct Config {
    /// Folder of the units' folders.
    pub units: PathBuf,
    /// Shared by the units: Python environments.
    pub cache: PathBuf,
    /// File with the server's present address.
    pub server_file: PathBuf,
    /// The program that knows `shim` and `serve`.
    pub exe: PathBuf,
    /// Instead of what is found on the machine.
    pub capacity: Option<Resources>,
}

/// A handle; cheap to clone. Dropping the last one lets units run on.
#[derive(Clone)]
pub struct Local {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    capacity: Resources,
    runtime: tokio::runtime::Handle,
    units: Mutex<HashMap<UnitId, Watched>>,
    /// One launch at a time: devices are given out and folders judged under it.
    launching: Mutex<()>,
    changed: notice::Sender<u64>,
}

impl Local {
    /// Makes the folders and adopts the units that run. Call it inside a
    /// tokio runtime.
    pub fn new(config: Config) -> io::Result<Self> {
        for folder in [&config.units, &config.cache] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        spread(&config.units);
        // Supervisors run in their own folder: relative paths would break.
        let absolute = |p: &PathBuf| std::path::absolute(p);
        let config = Config {
            units: fs::canonicalize(&config.units)?,
            cache: fs::canonicalize(&config.cache)?,
            server_file: absolute(&config.server_file)?,
            exe: absolute(&config.exe)?,
            capacity: config.capacity,
        };
        let capacity = config.capacity.unwrap_or_else(capacity::of_this_machine);
        let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        let inner = Inner {
            config,
            capacity,
            runtime,
            units: Mutex::default(),
            launching: Mutex::default(),
            changed: notice::Sender::new(0),
        };
        let local = Self { inner: Arc::new(inner) };
        local.inner.remove_leftovers()?;
        for (unit, folder) in local.inner.folders()? {
            if folder.is_locked()? {
                Inner::adopt(&local.inner, &unit, &folder);
            }
        }
        Ok(local)
    }

    /// Runs blocking work beside the event loop.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Inner>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = self.inner.clone();
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.unwrap_or_else(|e| Err(Error::internal("a task of the local engine failed", e)))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for watched in self.units().values() {
            watched.unwatch();
        }
    }
}

impl Inner {
    fn units(&self) -> MutexGuard<'_, HashMap<UnitId, Watched>> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self, unit: &UnitId) -> Folder {
        Folder::new(self.config.units.join(unit.to_string()))
    }

    /// Every unit's folder; other names are passed over.
    fn folders(&self) -> io::Result<Vec<(UnitId, Folder)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.config.units)? {
            let entry = entry?;
            if let Some(unit) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                found.push((unit, Folder::new(entry.path())));
            }
        }
        Ok(found)
    }

    /// Removes what is no unit any more. What cannot be removed is tried again
    /// at the next start.
    fn remove_aside(&self, gone: PathBuf) {
        self.runtime.spawn_blocking(move || {
            if let Err(e) = remove_tree(&gone) {
                tracing::warn!(folder = %gone.display(), error = %e, "what an ended unit left could not be removed");
            }
        });
    }

    fn remove_leftovers(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.config.units)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(GONE)) {
                self.remove_aside(entry.path());
            }
        }
        Ok(())
    }

    fn tick(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    fn launch(inner: &Arc<Self>, launch: &Launch) -> io::Result<()> {
        let _one = inner.launching.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.units().contains_key(&launch.unit) {
            return Ok(());
        }
        let folder = inner.folder(&launch.unit);
        match fs::DirBuilder::new().mode(0o700).create(folder.path()) {
            Ok(()) => (),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if folder.is_done() || folder.has_begun() || folder.is_locked()? {
                    return Ok(());
                }
            }
            Err(e) => return Err(e),
        }
        let mut settings = launch.settings.clone();
        if launch.resources.gpu > 0 {
            settings.insert(spawn::GPUS_SETTING.into(), inner.free_gpus(launch.resources.gpu as usize)?);
        }
        folder.write_launch(&muonic_unit::Launch {
            version: muonic_unit::Launch::VERSION,
            unit: launch.unit.clone(),
            resources: launch.resources,
            server_file: inner.config.server_file.clone(),
            token: launch.token.clone(),
            cache: inner.config.cache.clone(),
            settings,
        })?;
        let supervisor = spawn::supervisor(&inner.config.exe, &folder, &launch.unit)?;
        Self::follow(inner, &launch.unit, &folder, supervisor);
        Ok(())
    }

    /// Numbers of graphics processors that no running unit has, as `0,3`.
    fn free_gpus(&self, wanted: usize) -> io::Result<String> {
        let running: Vec<UnitId> =
            self.units().iter().filter(|(_, w)| w.ended().is_none()).map(|(u, _)| u.clone()).collect();
        let taken: Vec<String> = running
            .iter()
            .filter_map(|unit| self.folder(unit).read_launch().ok()?.settings.remove(spawn::GPUS_SETTING))
            .flat_map(|list| list.split(',').map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let free: Vec<String> =
            (0..self.capacity.gpu).map(|n| n.to_string()).filter(|n| !taken.contains(n)).take(wanted).collect();
        if free.len() < wanted {
            return Err(io::Error::other(format!(
                "{wanted} graphics processors are asked for and {} are free",
                free.len()
            )));
        }
        Ok(free.join(","))
    }

    /// What is known of the unit. Ends what a dead supervisor left.
    fn state(inner: &Arc<Self>, unit: &UnitId, folder: &Folder) -> io::Result<UnitState> {
        if let Some(watched) = inner.units().get(unit) {
            return Ok(watched.ended().map_or(UnitState::Running, |how| UnitState::Ended(how.to_owned())));
        }
        if folder.is_locked()? {
            Self::adopt(inner, unit, folder);
            return Ok(UnitState::Running);
        }
        if !(folder.is_done() || folder.has_begun() || folder.file("pid").exists()) {
            return Ok(UnitState::Unstarted);
        }
        let shortage = ending::shortage(unit, folder);
        if !ending::end(folder)? {
            return Ok(UnitState::Running);
        }
        let how = watch::describe(None, shortage);
        inner.units().insert(unit.clone(), Watched::gone(&how));
        Ok(UnitState::Ended(how))
    }

    fn stop(inner: &Arc<Self>, unit: &UnitId, grace: Duration) -> io::Result<()> {
        let folder = inner.folder(unit);
        if !folder.path().exists() {
            return Ok(());
        }
        if !inner.units().contains_key(unit) && folder.is_locked()? {
            Self::adopt(inner, unit, &folder);
        }
        if let Some(watched) = inner.units().get_mut(unit) {
            if watched.ended().is_none() {
                watched.stop(&inner.runtime, &folder, grace + STOP_MARGIN);
            }
            return Ok(());
        }
        // Never held by a supervisor, or held by one that is dead.
        if ending::end(&folder)? {
            inner.units().insert(unit.clone(), Watched::gone("it was stopped before it began"));
            inner.tick();
        }
        Ok(())
    }

    fn forget(&self, unit: &UnitId) -> Result<()> {
        let folder = self.folder(unit);
        let runs = || Error::Conflict(format!("the unit {unit} still runs"));
        if self.units().get(unit).is_some_and(|w| w.ended().is_none()) {
            return Err(runs());
        }
        if folder.path().exists() {
            if !ending::end(&folder).map_err(|e| fault(unit, "ended", e))? {
                return Err(runs());
            }
            let _lock = folder.try_lock().map_err(|e| fault(unit, "locked", e))?.ok_or_else(runs)?;
            // Out of the way at once: what a job leaves may take long to remove.
            let gone = self.config.units.join(format!("{GONE}{unit}"));
            fs::rename(folder.path(), &gone).map_err(|e| fault(unit, "removed", e))?;
            self.remove_aside(gone);
        }
        self.units().remove(unit);
        Ok(())
    }
}

/// Asks the filesystem to lay the units' folders far apart. Side by side, ext4
/// looks at every inode that went within the last five seconds before it
/// takes one for a new file, and units come and go by the thousand. Other
/// filesystems need nothing and may refuse.
fn spread(units: &Path) {
    let set = || -> io::Result<()> {
        let folder = fs::File::open(units)?;
        let flags = ioctl_getflags(&folder)?;
        Ok(ioctl_setflags(&folder, flags | IFlags::TOPDIR)?)
    };
    if let Err(e) = set() {
        tracing::debug!(units = %units.display(), error = %e, "the filesystem takes no hint about where units go");
    }
}

/// An error of the operating system as the port names it.
fn fault(unit: &UnitId, verb: &str, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull,
        io::ErrorKind::ReadOnlyFilesystem => {
            Error::ReadOnly(format!("the unit {unit} cannot be {verb}: the data folder is read-only"))
        }
        _ => Error::internal(format!("the unit {unit} could not be {verb}: {error}"), error),
    }
}

#[async_trait]
impl Engine for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    async fn capacity(&self) -> Result<Resources> {
        Ok(self.inner.capacity)
    }

    async fn launch(&self, launch: &Launch) -> Result<()> {
        let launch = launch.clone();
        self.blocking(move |inner| Inner::launch(inner, &launch).map_err(|e| fault(&launch.unit, "launched", e))).await
    }

    fn may_serve_at(&self, unit: &UnitId, address: &str) -> bool {
        address.strip_prefix("unix:").is_some_and(|path| Path::new(path) == self.inner.folder(unit).file("socket"))
    }

    async fn list(&self) -> Result<Vec<UnitStatus>> {
        self.blocking(|inner| {
            let folders =
                inner.folders().map_err(|e| Error::internal("the folder of the units could not be read", e))?;
            let mut list = Vec::with_capacity(folders.len());
            for (unit, folder) in folders {
                match Inner::state(inner, &unit, &folder) {
                    Ok(state) => list.push(UnitStatus { unit, state }),
                    // Not known to have ended, so not told to have.
                    Err(e) if folder.path().exists() => {
                        tracing::warn!(%unit, error = %e, "the state of a unit could not be found out");
                        list.push(UnitStatus { unit, state: UnitState::Running });
                    }
                    Err(_) => (),
                }
            }
            Ok(list)
        })
        .await
    }

    async fn stop(&self, unit: &UnitId, grace: Duration) -> Result<()> {
        let unit = unit.clone();
        self.blocking(move |inner| Inner::stop(inner, &unit, grace).map_err(|e| fault(&unit, "stopped", e))).await
    }

    async fn forget(&self, unit: &UnitId) -> Result<()> {
        let unit = unit.clone();
        self.blocking(move |inner| inner.forget(&unit)).await
    }

    fn changed(&self) -> notice::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    async fn features(&self) -> Vec<Feature> {
        let found = tokio::task::spawn_blocking(Limiter::probe).await.unwrap_or_default();
        let feature =
            |a: muonic_unit::limits::Ability| Feature { name: a.name, available: a.enforced, detail: a.detail };
        let isolation = Feature {
            name: "isolation",
            available: false,
            detail: "not implemented: isolation; jobs and models run with the server's own rights".to_owned(),
        };
        found.abilities().into_iter().map(feature).chain([isolation]).collect()
    }
}
