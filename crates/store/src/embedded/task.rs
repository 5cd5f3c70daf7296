//! Long work that runs by itself, one at a time, and says how it goes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muonic_ports::{Error, Result};
use muonic_types::Timestamp;
use muonic_types::store::Run;

pub(super) struct Task<R> {
    /// For people, with its article.
    name: &'static str,
    state: Arc<State<R>>,
}

struct State<R>(Mutex<(Run, R)>);

impl<R> State<R> {
    // A panic leaves it as it was: each change is one assignment.
    fn locked(&self) -> MutexGuard<'_, (Run, R)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to run it. Dropped without an end, it was cut off.
pub(super) struct Turn<R>(Arc<State<R>>);

impl<R> Drop for Turn<R> {
    fn drop(&mut self) {
        self.0.locked().0.running = false;
    }
}

impl<R: Clone> Task<R> {
    pub(super) fn new(name: &'static str, run: Run, report: R) -> Self {
        Self { name, state: Arc::new(State(Mutex::new((run, report)))) }
    }

    /// Begins anew. `Conflict` while it runs already.
    pub(super) fn begin(&self, report: R) -> Result<Turn<R>> {
        self.begin_or_go_on(report, |_| false)
    }

    /// Begins anew, but where the one before was cut off and is to go on.
    pub(super) fn begin_or_go_on(&self, report: R, go_on: impl FnOnce(&Run) -> bool) -> Result<Turn<R>> {
        let mut state = self.state.locked();
        if state.0.running {
            return Err(Error::Conflict(format!("{} runs already", self.name)));
        }
        if go_on(&state.0) {
            state.0.running = true;
            state.0.error = None;
        } else {
            *state = (Run { running: true, started_at: Some(Timestamp::now()), ..Run::default() }, report);
        }
        Ok(Turn(self.state.clone()))
    }

    pub(super) fn set(&self, report: R) {
        self.state.locked().1 = report;
    }

    pub(super) fn report(&self) -> (Run, R) {
        self.state.locked().clone()
    }

    /// Says how it ended, and lets the next one begin.
    pub(super) fn end<E: std::fmt::Display>(&self, turn: Turn<R>, result: &Result<(), E>) {
        match result {
            Ok(()) => self.state.locked().0.finished_at = Some(Timestamp::now()),
            Err(error) => {
                tracing::warn!(%error, "{} was cut off", self.name);
                self.state.locked().0.error = Some(error.to_string());
            }
        }
        drop(turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_runs_at_a_time_and_what_is_dropped_was_cut_off() {
        let task = Task::new("a test", Run::default(), 0);
        assert_eq!(task.report(), (Run::default(), 0));
        let turn = task.begin(1).unwrap();
        assert!(matches!(task.begin(9), Err(Error::Conflict(what)) if what == "a test runs already"));
        assert!(task.report().0.running && task.report().1 == 1);
        task.set(2);
        drop(turn);
        let (run, report) = task.report();
        assert!(!run.running && run.finished_at.is_none() && report == 2);
        let turn = task.begin_or_go_on(0, |run| run.finished_at.is_none()).unwrap();
        task.end(turn, &Err("the disk is gone"));
        assert_eq!((task.report().0.error.as_deref(), task.report().1), (Some("the disk is gone"), 2));
        let turn = task.begin(0).unwrap();
        task.end(turn, &Ok::<_, String>(()));
        assert!(task.report().0.finished_at.is_some() && task.report().0.error.is_none());
    }
}
