//! Backups of everything, in the background: one at a time, the last few
//! remembered until the server stops. A backup that the server's end cuts off
//! does not exist; the next one goes on with what it has sent.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muonic_ports::backup::OnProgress;
use muonic_ports::{BackupEngine, Clock};
use muonic_types::ErrorCode;
use muonic_types::backup::{Backup, BackupList, BackupProgress, BackupState, NewBackup};
use muonic_types::key::Principal;

use crate::auth::runs_the_cloud;
use crate::auth::{Action, authorise};
use crate::{Error, Result};

/// Those that are remembered.
const REMEMBERED: usize = 16;

pub struct Backups {
    engine: Arc<dyn BackupEngine>,
    clock: Arc<dyn Clock>,
    /// The oldest first.
    known: Arc<Mutex<VecDeque<Backup>>>,
}

impl Backups {
    pub fn new(engine: Arc<dyn BackupEngine>, clock: Arc<dyn Clock>) -> Self {
        Self { engine, clock, known: Arc::default() }
    }

    /// Starts a backup. `Conflict` while another runs.
    pub async fn create(&self, caller: &Principal, new: NewBackup) -> Result<Backup> {
        allowed(caller)?;
        self.engine.check(&new).map_err(|e| Error::invalid(e.to_string()))?;
        let backup = {
            let mut known = lock(&self.known);
            if let Some(running) = known.iter().find(|b| b.state == BackupState::Running) {
                return Err(Error::conflict(format!("the backup {} is being made", running.id))
                    .hint("wait for its end: one is made at a time"));
            }
            let backup = Backup {
                id: self.new_id(&known),
                destination: new.destination.clone(),
                state: BackupState::Running,
                started_at: self.clock.now(),
                ended_at: None,
                progress: BackupProgress::default(),
                snapshot: None,
                warning: None,
                error: None,
            };
            if known.len() == REMEMBERED {
                known.pop_front();
            }
            known.push_back(backup.clone());
            backup
        };
        let (engine, clock, known, id) =
            (self.engine.clone(), self.clock.clone(), self.known.clone(), backup.id.clone());
        tokio::spawn(async move {
            // Set whatever becomes of the run, a panic of it included.
            let ended = Ended { known: known.clone(), clock, id: id.clone() };
            let progress: OnProgress = Arc::new(move |now| change(&known, &id, |backup| backup.progress = now));
            let done = engine.run(new, progress).await;
            match &done {
                Ok(made) => tracing::info!(snapshot = made.snapshot.name, "a backup was made"),
                Err(error) => tracing::warn!(%error, "a backup failed"),
            }
            ended.set(|backup| match done {
                Ok(made) => {
                    backup.state = BackupState::Done;
                    (backup.snapshot, backup.warning) = (Some(made.snapshot), made.warning);
                }
                Err(error) => backup.error = Some(error.to_string()),
            });
        });
        Ok(backup)
    }

    /// The newest first.
    pub async fn list(&self, caller: &Principal) -> Result<BackupList> {
        allowed(caller)?;
        Ok(BackupList { backups: lock(&self.known).iter().rev().cloned().collect() })
    }

    pub async fn get(&self, caller: &Principal, id: &str) -> Result<Backup> {
        allowed(caller)?;
        let found = lock(&self.known).iter().find(|backup| backup.id == id).cloned();
        found.ok_or_else(|| {
            let shown: String = id.chars().take(64).collect();
            Error::not_found(format!("there is no backup {shown}")).hint(
                "a server that was started anew forgets its backups; 'muonic store snapshots' lists what they made",
            )
        })
    }

    /// Names sort by time.
    fn new_id(&self, known: &VecDeque<Backup>) -> String {
        let id = |at: muonic_types::Timestamp| at.strftime("%Y%m%dT%H%M%S.%3fZ").to_string();
        let mut at = self.clock.now();
        while known.iter().any(|backup| backup.id == id(at)) {
            let Ok(later) = at.checked_add(std::time::Duration::from_millis(1)) else { break };
            at = later;
        }
        id(at)
    }
}

/// Everything is in a backup, so it is for those who look after everything.
fn allowed(caller: &Principal) -> Result<()> {
    authorise(caller, Action::Administer)?;
    if runs_the_cloud(caller) {
        return Ok(());
    }
    Err(Error::new(ErrorCode::Forbidden, "only an administrator of the project 'default' may make backups"))
}

/// A backup is never left running when its task has ended.
struct Ended {
    known: Arc<Mutex<VecDeque<Backup>>>,
    clock: Arc<dyn Clock>,
    id: String,
}

impl Ended {
    fn set(&self, how: impl FnOnce(&mut Backup)) {
        let now = self.clock.now();
        change(&self.known, &self.id, |backup| {
            backup.state = BackupState::Failed;
            backup.ended_at = Some(now);
            how(backup);
        });
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let running = lock(&self.known).iter().any(|b| b.id == self.id && b.state == BackupState::Running);
        if running {
            self.set(|backup| {
                backup.error = Some("it ended before its time; the server's log may say more".to_owned())
            });
        }
    }
}

// Every change is one assignment or a few; a panic in between harms no other.
fn lock(known: &Mutex<VecDeque<Backup>>) -> MutexGuard<'_, VecDeque<Backup>> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

fn change(known: &Mutex<VecDeque<Backup>>, id: &str, how: impl FnOnce(&mut Backup)) {
    if let Some(backup) = lock(known).iter_mut().find(|backup| backup.id == id) {
        how(backup);
    }
}
