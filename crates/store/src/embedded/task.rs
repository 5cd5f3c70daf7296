//! Long work that runs by itself, one at a time, and says how it goes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muonic_ports::{Error, Result};
use muonic_types::Timestamp;
use muonic_types::store::Run;

pub(super) struct Task<R> {
    /// For people, with its article.
    name: &'static str,
    state: Mutex<(Run, R)>,
    one: Arc<tokio::sync::Mutex<()>>,
}

/// The right to run it. Dropped without an end, it was cut off.
pub(super) type Turn = tokio::sync::OwnedMutexGuard<()>;

impl<R: Clone> Task<R> {
    pub(super) fn new(name: &'static str, run: Run, report: R) -> Self {
        Self { name, state: Mutex::new((run, report)), one: Arc::default() }
    }

    // A panic leaves the state as it was: it is replaced in one assignment.
    fn state(&self) -> MutexGuard<'_, (Run, R)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `Conflict` while it runs already.
    pub(super) fn begin(&self, report: R) -> Result<Turn> {
        let turn = self.turn()?;
        self.restart(report);
        Ok(turn)
    }

    pub(super) fn turn(&self) -> Result<Turn> {
        let running = |_| Error::Conflict(format!("{} runs already", self.name));
        self.one.clone().try_lock_owned().map_err(running)
    }

    /// Begins anew, for one who has the turn.
    pub(super) fn restart(&self, report: R) {
        *self.state() = (Run { started_at: Some(Timestamp::now()), ..Run::default() }, report);
    }

    pub(super) fn set(&self, report: R) {
        self.state().1 = report;
    }

    pub(super) fn report(&self) -> (Run, R) {
        let running = self.one.try_lock().is_err();
        let (run, report) = self.state().clone();
        (Run { running, ..run }, report)
    }

    /// Says how it ended, and lets the next one begin.
    pub(super) fn end<E: std::fmt::Display>(&self, turn: Turn, result: &Result<(), E>) {
        {
            let mut state = self.state();
            match result {
                Ok(()) => {
                    state.0.finished_at = Some(Timestamp::now());
                    state.0.error = None;
                }
                Err(error) => state.0.error = Some(error.to_string()),
            }
        }
        if let Err(error) = result {
            tracing::warn!(%error, "{} was cut off", self.name);
        }
        drop(turn);
    }
}
