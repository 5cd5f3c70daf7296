//! Sends log, metrics and progress to the server, in a thread of its own so
//! that neither the program nor its supervisor ever waits for the server.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use muonic_client::task::{LOG_BYTES_MAX, METRIC_POINTS_MAX};
use muonic_types::job::MetricPoint;
use muonic_types::task::{NewMetricPoints, TaskProgress};

use crate::control::Waker;
use crate::link::{About, Fault, Link};
use crate::log::Log;
use crate::metrics::Found;
use crate::points::Points;

/// Least time between two sendings: a busy program fills bigger chunks.
const PAUSE: Duration = Duration::from_millis(50);
/// Longest sleep without anything to send; nothing depends on it.
const NAP: Duration = Duration::from_secs(60);
/// A phase that is over sooner is not told: short tasks cost the server less.
const PHASE_MIN: Duration = Duration::from_millis(100);
/// Points that wait for the server; more are dropped and counted.
const POINTS_MAX: usize = 100_000;

#[derive(Default)]
struct Queue {
    /// What has become a point so far.
    made: Points,
    points: VecDeque<MetricPoint>,
    dropped: u64,
    /// With the instant from which it is worth telling.
    progress: Option<(TaskProgress, Instant)>,
}

pub struct Outbox {
    log: Arc<Log>,
    queue: Mutex<Queue>,
}

impl Outbox {
    pub fn new(log: Arc<Log>) -> Self {
        Self { log, queue: Mutex::default() }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn metric(&self, found: Found) {
        let mut queue = self.queue();
        let Some(point) = queue.made.admit(found) else { return };
        if queue.points.len() < POINTS_MAX {
            queue.points.push_back(point);
        } else {
            queue.dropped += 1;
        }
        drop(queue);
        self.log.nudge();
    }

    /// Only the newest counts.
    pub fn progress(&self, progress: TaskProgress) {
        self.queue().progress = Some((progress, Instant::now() + PHASE_MIN));
        self.log.nudge();
    }

    /// Sentences about points that will not be there.
    pub fn troubles(&self) -> Vec<String> {
        let queue = self.queue();
        let dropped = (queue.dropped > 0)
            .then(|| format!("{} metric points were dropped while the server was away", queue.dropped));
        dropped.into_iter().chain(queue.made.trouble()).collect()
    }

    fn has_points(&self) -> bool {
        !self.queue().points.is_empty()
    }

    /// When there is a phase to tell.
    fn progress_due(&self) -> Option<Instant> {
        self.queue().progress.as_ref().map(|(_, due)| *due)
    }

    fn take_due_progress(&self) -> Option<TaskProgress> {
        let now = Instant::now();
        self.queue().progress.take_if(|(_, due)| *due <= now).map(|(progress, _)| progress)
    }

    /// Sends until the log is finished and everything is there, or the
    /// attempt is over.
    pub fn start(self: &Arc<Self>, link: Arc<Link>, waker: Waker) -> std::io::Result<JoinHandle<()>> {
        let outbox = self.clone();
        std::thread::Builder::new().name("sender".into()).spawn(move || {
            if outbox.send_all(&link).is_err() {
                // Whoever supervises must see that the attempt is over.
                waker.wake();
            }
        })
    }

    fn send_all(&self, link: &Link) -> Result<(), ()> {
        let (mut sent, mut points_sent) = (0, 0);
        let mut refused = false;
        let mut buffer = vec![0; LOG_BYTES_MAX];
        loop {
            let due = || self.progress_due().unwrap_or_else(|| Instant::now() + NAP);
            let (len, finished) = self.log.wait(sent, || !self.has_points(), due);
            if let Some(progress) = self.take_due_progress().filter(|_| !finished) {
                told(
                    link.call(About::Attempt, &|| link.flags.closed(), |c| {
                        c.attempt_progress(&link.attempt, &progress)
                    }),
                )?;
            }
            self.send_points(link, &mut points_sent)?;
            if refused {
                sent = len;
            }
            if sent < len {
                let wanted = buffer.len().min(usize::try_from(len - sent).unwrap_or(usize::MAX));
                match self.log.read(sent, &mut buffer[..wanted]) {
                    Ok(0) | Err(_) => refused = true,
                    Ok(read) => match told(send_log(link, sent, &buffer[..read]))? {
                        Some(next) => sent = next.min(len),
                        None => refused = true,
                    },
                }
            }
            if finished && sent >= len && !self.has_points() {
                return Ok(());
            }
            // What little there was has gone; more may gather for a moment.
            // Full chunks and the end are not held back.
            if len.saturating_sub(sent) < LOG_BYTES_MAX as u64 {
                self.log.rest(PAUSE);
            }
        }
    }

    fn send_points(&self, link: &Link, sent: &mut u64) -> Result<(), ()> {
        loop {
            let points: Vec<MetricPoint> = self.queue().points.iter().take(METRIC_POINTS_MAX).cloned().collect();
            if points.is_empty() {
                return Ok(());
            }
            let batch = NewMetricPoints { first: *sent, points };
            let answer =
                told(link.call(About::Attempt, &|| link.flags.closed(), |c| c.attempt_metrics(&link.attempt, &batch)))?;
            self.queue().points.drain(..batch.points.len());
            // Points that were refused are not counted as sent.
            if answer.is_some() {
                *sent += batch.points.len() as u64;
            }
        }
    }
}

/// Sends bytes of the log and answers where the next ones belong.
fn send_log(link: &Link, offset: u64, bytes: &[u8]) -> Result<u64, Fault> {
    let closed = || link.flags.closed();
    let answer = link.call(About::Content, &closed, |c| c.attempt_logs(&link.attempt, offset, bytes));
    match answer {
        // Either the attempt is over or the server's machine lost bytes that
        // it had taken: an empty append tells which, and where its end is.
        Err(Fault::Refused(muonic_client::Error::Api { status: 404 | 409, .. })) => {
            link.call(About::Attempt, &closed, |c| c.attempt_logs(&link.attempt, 0, &[])).map(|a| a.next_offset)
        }
        other => other.map(|a| a.next_offset),
    }
}

/// What was refused is told once, in our own output, and passed over.
fn told<T>(answer: Result<T, Fault>) -> Result<Option<T>, ()> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Fault::Stopped) => Err(()),
        Err(Fault::Refused(e)) => {
            crate::say(format_args!("the server refused something: {e}"));
            Ok(None)
        }
    }
}
