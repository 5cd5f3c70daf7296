//! Wake-ups inside the process. An event says "look again", never what is
//! true: whoever is woken reads the state for itself, so a lost or doubled
//! event costs at most one tick of the clock.

use std::time::Duration;

use muonic_types::{JobId, UnitId};
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

/// Events that a slow listener may fall behind by before it just looks again.
const BACKLOG: usize = 4096;

#[derive(Debug)]
pub struct Events {
    dispatch: Notify,
    release: Notify,
    deferred: Notify,
    jobs: broadcast::Sender<JobId>,
    logs: broadcast::Sender<UnitId>,
    /// Set when the server drains: nobody waits any longer.
    closing: CancellationToken,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            dispatch: Notify::new(),
            release: Notify::new(),
            deferred: Notify::new(),
            jobs: broadcast::channel(BACKLOG).0,
            logs: broadcast::channel(BACKLOG).0,
            closing: CancellationToken::new(),
        }
    }
}

impl Events {
    /// The queue or an attempt changed.
    pub fn wake_dispatcher(&self) {
        self.dispatch.notify_one();
    }

    /// An endpoint or a replica changed.
    pub fn wake_releaser(&self) {
        self.release.notify_one();
    }

    /// A request that is answered later has come.
    pub(crate) fn wake_deferred(&self) {
        self.deferred.notify_one();
    }

    pub(crate) async fn deferred_woken(&self) {
        self.deferred.notified().await;
    }

    /// Ends every wait and every follow, so that the server can drain.
    pub fn close(&self) {
        self.closing.cancel();
    }

    pub(crate) async fn closed(&self) {
        self.closing.cancelled().await;
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    pub(crate) async fn dispatcher_woken(&self) {
        self.dispatch.notified().await;
    }

    pub(crate) async fn releaser_woken(&self) {
        self.release.notified().await;
    }

    pub(crate) fn job_changed(&self, job: &JobId) {
        // No listener is no fault.
        let _ = self.jobs.send(job.clone());
    }

    pub(crate) fn log_grew(&self, unit: &UnitId) {
        let _ = self.logs.send(unit.clone());
    }

    pub(crate) fn job_listener(&self) -> Listener<JobId> {
        Listener { events: self.jobs.subscribe(), closing: self.closing.clone() }
    }

    pub(crate) fn log_listener(&self) -> Listener<UnitId> {
        Listener { events: self.logs.subscribe(), closing: self.closing.clone() }
    }
}

/// Subscribe first, read the state, then wait: no change is missed.
#[derive(Debug)]
pub(crate) struct Listener<T> {
    events: broadcast::Receiver<T>,
    closing: CancellationToken,
}

impl<T: Clone + PartialEq> Listener<T> {
    /// Returns when something happened to `subject`, when the listener fell
    /// behind, when the server drains, or after `at_most`.
    pub(crate) async fn changed(&mut self, subject: &T, at_most: Duration) {
        let wait = async {
            loop {
                match self.events.recv().await {
                    Ok(event) if event == *subject => return,
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Lagged(_)) => return,
                    Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            () = wait => {}
            () = self.closing.cancelled() => {}
            () = tokio::time::sleep(at_most) => {}
        }
    }
}
