//! What is asked of an endpoint, as the gateway sees it and the reconciler
//! reads it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// Bursts that are kept until somebody reads them; later ones lengthen the last.
const BURSTS_MAX: usize = 1024;

/// A time in which requests of an endpoint ran, without a pause.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Burst {
    pub began: Instant,
    /// None where it goes on.
    pub ended: Option<Instant>,
    pub requests: u64,
}

/// What is asked of one endpoint.
#[derive(Debug)]
pub struct Activity {
    inner: Mutex<Inner>,
    wanted: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Inner {
    arrived: u64,
    inside: u32,
    waiting: u32,
    /// Since when at least one waits.
    waiting_since: Option<Instant>,
    /// The longest time in a replica's queue since it was last read.
    queued_s: f64,
    bursts: Vec<Burst>,
}

/// At an instant.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Asked {
    /// Requests since the activity began.
    pub arrived: u64,
    /// Requests now, those that wait for a replica among them.
    pub inside: u32,
    pub waiting: u32,
    pub waiting_since: Option<Instant>,
    /// The longest time that replicas have told of in their queues, since it was last asked.
    pub queued_s: f64,
    /// Since it was last asked; one that went on then is there again.
    pub bursts: Vec<Burst>,
}

impl Activity {
    /// `wanted` is told when a request waits for a replica.
    pub fn new(wanted: Arc<Notify>) -> Self {
        Self { inner: Mutex::default(), wanted }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request comes, and stays until what is answered is dropped.
    pub fn enter(self: &Arc<Self>) -> Visit {
        let now = Instant::now();
        let mut inner = self.lock();
        inner.arrived += 1;
        inner.inside += 1;
        let Inner { inside, bursts, .. } = &mut *inner;
        let full = bursts.len() >= BURSTS_MAX;
        match bursts.last_mut() {
            Some(last) if *inside > 1 || full => {
                last.ended = None;
                last.requests += 1;
            }
            _ => bursts.push(Burst { began: now, ended: None, requests: 1 }),
        }
        Visit(Arc::clone(self))
    }

    /// A request waits for a replica until what is answered is dropped.
    pub fn wait(self: &Arc<Self>) -> Waiting {
        let mut inner = self.lock();
        inner.waiting += 1;
        inner.waiting_since.get_or_insert_with(Instant::now);
        drop(inner);
        self.wanted.notify_one();
        Waiting(Arc::clone(self))
    }

    /// A replica has told how long a request was in its queue.
    pub fn queued(&self, s: f64) {
        let mut inner = self.lock();
        inner.queued_s = inner.queued_s.max(s);
    }

    /// Reads it and begins anew.
    pub fn take(&self) -> Asked {
        let mut inner = self.lock();
        let bursts = std::mem::take(&mut inner.bursts);
        if let Some(last) = bursts.last().filter(|last| last.ended.is_none()) {
            inner.bursts.push(Burst { requests: 0, ..*last });
        }
        Asked {
            arrived: inner.arrived,
            inside: inner.inside,
            waiting: inner.waiting,
            waiting_since: inner.waiting_since,
            queued_s: std::mem::take(&mut inner.queued_s),
            bursts,
        }
    }

    /// Whether a request waits now.
    pub fn is_wanted(&self) -> bool {
        self.lock().waiting > 0
    }
}

/// See [`Activity::enter`].
#[derive(Debug)]
pub struct Visit(Arc<Activity>);

impl Drop for Visit {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.inside -= 1;
        if inner.inside == 0
            && let Some(last) = inner.bursts.last_mut()
        {
            last.ended = Some(Instant::now());
        }
    }
}

/// See [`Activity::wait`].
#[derive(Debug)]
pub struct Waiting(Arc<Activity>);

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.waiting -= 1;
        if inner.waiting == 0 {
            inner.waiting_since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_begin_and_end_and_are_told_once() {
        let activity = Arc::new(Activity::new(Arc::default()));
        let (one, two) = (activity.enter(), activity.enter());
        drop(one);
        let asked = activity.take();
        assert_eq!((asked.arrived, asked.inside, asked.bursts.len()), (2, 1, 1));
        assert_eq!((asked.bursts[0].requests, asked.bursts[0].ended), (2, None));
        drop(two);
        drop(activity.enter());
        let again = activity.take();
        assert_eq!(again.bursts.iter().map(|b| b.requests).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(again.bursts[0].began, asked.bursts[0].began);
        assert!(again.bursts.iter().all(|b| b.ended.is_some()));
        assert!(activity.take().bursts.is_empty());
    }

    #[test]
    fn their_number_is_bounded() {
        let activity = Arc::new(Activity::new(Arc::default()));
        for _ in 0..2 * BURSTS_MAX {
            drop(activity.enter());
        }
        let asked = activity.take();
        assert_eq!(asked.bursts.len(), BURSTS_MAX);
        assert_eq!(asked.bursts.iter().map(|b| b.requests).sum::<u64>(), 2 * BURSTS_MAX as u64);
    }

    #[tokio::test]
    async fn who_waits_is_heard() {
        let wanted = Arc::new(Notify::new());
        let activity = Arc::new(Activity::new(Arc::clone(&wanted)));
        let waiting = activity.wait();
        wanted.notified().await;
        assert!(activity.is_wanted() && activity.take().waiting_since.is_some());
        drop(waiting);
        assert!(!activity.is_wanted() && activity.take().waiting_since.is_none());
    }
}
