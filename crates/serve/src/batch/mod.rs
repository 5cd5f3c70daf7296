//! Who runs next, and with whom.
//!
//! ```text
//! submit ─▶ queue (by priority, then by age) ─▶ lane: takes the first and what goes with it ─▶ runtime
//! ```
//!
//! A lane that is free takes what is there at once: nothing waits for company.
//! Requests that come while all lanes are busy go together, as many as the
//! model was seen to gain by ([`curve`]), and only if the model was seen to
//! give each of them the same answer as alone ([`trust`]).

mod curve;
mod join;
mod lane;
mod trust;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use muonic_types::ErrorCode;
use tokio::sync::oneshot;

use crate::failure::Failure;
use crate::runtime::{Runtime, Stop};
use crate::tensor::Tensor;
use curve::Curve;
use trust::Trust;

/// What a batcher tells of each run.
pub trait Observer: Send + Sync {
    /// `waited`: each request's time in the queue.
    fn ran(&self, rows: usize, waited: &[Duration], took: Duration);
}

#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Rows that go together at most; 1 for none.
    pub rows_max: usize,
    /// For one run.
    pub run_time: Duration,
}

/// One request, as far as its turn is concerned.
pub struct Request<K> {
    pub inputs: Vec<Tensor>,
    /// Smaller numbers go first.
    pub priority: u32,
    /// Its turn must have come by then.
    pub turn_by: Instant,
    /// Its answer is of no use after that; `None` where the caller does not say.
    pub answer_by: Option<Instant>,
    /// What must live until its run has ended, also where nobody waits for it
    /// any more; it comes back with the answer.
    pub keep: K,
}

/// What a run gives, and what was kept.
pub type Answer<K> = (Result<Vec<Tensor>, Failure>, K);

pub struct Batcher<K: Send + 'static> {
    shared: Arc<Shared<K>>,
    lanes: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared<K> {
    runtime: Arc<dyn Runtime>,
    settings: Settings,
    observer: Arc<dyn Observer>,
    state: Mutex<State<K>>,
    woken: Condvar,
    lanes: usize,
}

struct State<K> {
    /// By priority and by number.
    queue: BTreeMap<(u32, u64), Waiting<K>>,
    /// Rows in the queue.
    rows: usize,
    next: u64,
    curve: Curve,
    trust: Trust,
    /// When the lanes that are busy will be free, as far as that is known.
    busy: Vec<Option<Instant>>,
    closed: bool,
}

struct Waiting<K> {
    request: Request<K>,
    /// `None` where it cannot go with others.
    rows: Option<usize>,
    since: Instant,
    began: oneshot::Sender<()>,
    answer: oneshot::Sender<Answer<K>>,
    interest: Arc<Interest>,
}

impl<K> Shared<K> {
    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether somebody still waits for the answer.
#[derive(Default)]
struct Interest {
    gone: AtomicBool,
    run: Mutex<Option<Arc<Run>>>,
}

/// A run, and how many wait for it: it is stopped when nobody does.
struct Run {
    stop: Arc<Stop>,
    left: AtomicUsize,
}

impl Interest {
    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    fn join(&self, run: &Arc<Run>) {
        *self.run.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(run));
        if self.is_gone() {
            self.leave();
        }
    }

    fn leave(&self) {
        self.gone.store(true, Ordering::SeqCst);
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(run) = run
            && run.left.fetch_sub(1, Ordering::SeqCst) == 1
        {
            run.stop.fire();
        }
    }
}

/// A place in the queue. Whoever drops it waits no longer.
pub struct Turn<K: Send + 'static> {
    shared: Arc<Shared<K>>,
    at: (u32, u64),
    began: Option<oneshot::Receiver<()>>,
    answer: oneshot::Receiver<Answer<K>>,
    interest: Arc<Interest>,
    answered: bool,
}

impl<K: Send + 'static> Turn<K> {
    /// Until its run has begun, or it was answered without one.
    pub async fn begun(&mut self) {
        if let Some(began) = self.began.take() {
            let _ = began.await;
        }
    }

    /// `None` where the batcher has ended.
    pub async fn answer(mut self) -> Option<Answer<K>> {
        let answer = (&mut self.answer).await.ok();
        self.answered = true;
        answer
    }
}

impl<K: Send + 'static> Drop for Turn<K> {
    fn drop(&mut self) {
        if !self.answered {
            self.interest.leave();
            let unrun = self.shared.lock().remove(self.at);
            // Outside of the lock: it may be large.
            drop(unrun);
        }
    }
}

impl<K: Send + 'static> Batcher<K> {
    pub fn new(runtime: Arc<dyn Runtime>, settings: Settings, observer: Arc<dyn Observer>) -> std::io::Result<Self> {
        let lanes = runtime.slots().max(1);
        let state = State {
            queue: BTreeMap::new(),
            rows: 0,
            next: 0,
            curve: Curve::new(if runtime.batches() { settings.rows_max } else { 1 }),
            trust: Trust::default(),
            busy: vec![None; lanes],
            closed: false,
        };
        let shared =
            Arc::new(Shared { runtime, settings, observer, state: Mutex::new(state), woken: Condvar::new(), lanes });
        let start = |lane: usize| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name(format!("lane-{lane}")).spawn(move || lane::run(&shared, lane))
        };
        let lanes = (0..lanes).map(start).collect::<std::io::Result<Vec<_>>>();
        // What has started must not wait for ever.
        let lanes = lanes.inspect_err(|_| close(&shared))?;
        Ok(Self { shared, lanes: Mutex::new(lanes) })
    }

    /// Queues a request. How many may be in here is for the caller to bound.
    ///
    /// # Errors
    /// `TooManyRequests` at once where it will not make its time.
    pub fn submit(&self, request: Request<K>) -> Result<Turn<K>, Failure> {
        let now = Instant::now();
        let rows = if self.shared.runtime.batches() { join::rows(&request.inputs) } else { None };
        let (to_begin, began) = oneshot::channel();
        let (to_answer, answer) = oneshot::channel();
        let interest = Arc::new(Interest::default());
        let at = {
            let mut state = self.shared.lock();
            if state.closed {
                return Err(Failure::new(ErrorCode::Unavailable, "the replica is stopping"));
            }
            if let Some(late) = state.late(&request, rows, self.shared.lanes, now) {
                return Err(late);
            }
            state.next += 1;
            let at = (request.priority, state.next);
            state.rows += rows.unwrap_or(1);
            let waiting = Waiting {
                request,
                rows,
                since: now,
                began: to_begin,
                answer: to_answer,
                interest: Arc::clone(&interest),
            };
            state.queue.insert(at, waiting);
            at
        };
        self.shared.woken.notify_one();
        Ok(Turn { shared: Arc::clone(&self.shared), at, began: Some(began), answer, interest, answered: false })
    }

    /// Ends the lanes; what is in the queue is not run.
    pub fn close(&self) {
        close(&self.shared);
        let lanes = std::mem::take(&mut *self.lanes.lock().unwrap_or_else(PoisonError::into_inner));
        for lane in lanes {
            let _ = lane.join();
        }
    }
}

fn close<K>(shared: &Shared<K>) {
    let mut state = shared.lock();
    state.closed = true;
    state.queue.clear();
    state.rows = 0;
    drop(state);
    shared.woken.notify_all();
}

impl<K: Send + 'static> Drop for Batcher<K> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<K> State<K> {
    fn remove(&mut self, at: (u32, u64)) -> Option<Waiting<K>> {
        let waiting = self.queue.remove(&at)?;
        self.rows = self.rows.saturating_sub(waiting.rows.unwrap_or(1));
        Some(waiting)
    }

    /// Why a request would be late, from what runs have taken so far.
    fn late(&self, request: &Request<K>, rows: Option<usize>, lanes: usize, now: Instant) -> Option<Failure> {
        let wait = self.wait(request.priority, lanes, now)?;
        let run = self.curve.run(rows.unwrap_or(1))?;
        let (turn, answer) = (now + wait, now + wait + run);
        let late = turn > request.turn_by || request.answer_by.is_some_and(|by| answer > by);
        late.then(|| {
            let left = request.answer_by.unwrap_or(request.turn_by).saturating_duration_since(now);
            Failure::new(
                ErrorCode::TooManyRequests,
                format!(
                    "the model is busy: an answer would take about {:.1} s, {:.1} s are left; try again later",
                    (wait + run).as_secs_f64(),
                    left.as_secs_f64()
                ),
            )
        })
    }

    /// How long a new request of this priority will wait; `None` where that is
    /// not known.
    fn wait(&self, priority: u32, lanes: usize, now: Instant) -> Option<Duration> {
        let free = self.busy.iter().map(|until| until.map_or(Duration::ZERO, |u| u.saturating_duration_since(now)));
        let first = free.min().unwrap_or_default();
        let before = match self.queue.last_key_value() {
            Some((last, _)) if last.0 <= priority => self.rows,
            _ => self.queue.range(..(priority, u64::MAX)).map(|(_, waiting)| waiting.rows.unwrap_or(1)).sum(),
        };
        if before == 0 {
            return Some(first);
        }
        // Of a large one nobody knows how long it takes.
        if self.queue.values().any(|waiting| self.curve.run(waiting.rows.unwrap_or(1)).is_none()) {
            return None;
        }
        Some(first + self.curve.queue(before, lanes)?)
    }
}

#[cfg(test)]
mod tests;
