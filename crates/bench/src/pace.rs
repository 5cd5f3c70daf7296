//! When the next request is due.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// Hands out the times of requests, to all connections together.
pub struct Pace {
    until: Instant,
    /// None in a closed loop, where each connection's next is due when its last was answered.
    open: Option<Open>,
}

struct Open {
    begin: Instant,
    gap: Duration,
    next: Cell<u32>,
    /// Requests that are due and not handed out yet.
    due: Arc<Semaphore>,
}

impl Pace {
    pub fn new(begin: Instant, until: Instant, rate: Option<f64>) -> Self {
        let open = rate.filter(|r| *r > 0.0).map(|rate| {
            let due = Arc::new(Semaphore::new(0));
            let gap = Duration::from_secs_f64(1.0 / rate);
            let clock = Arc::clone(&due);
            std::thread::spawn(move || tick(begin, until, gap, &clock));
            Open { begin, gap, next: Cell::new(0), due }
        });
        Self { until, open }
    }

    /// Waits until the next request is due, and answers when that was; none once all are handed out.
    pub async fn due(&self) -> Option<Instant> {
        let Some(open) = &self.open else {
            let now = Instant::now();
            return (now < self.until).then_some(now);
        };
        open.due.acquire().await.ok()?.forget();
        let due = open.begin + open.gap * open.next.replace(open.next.get().saturating_add(1));
        (due < self.until).then_some(due)
    }
}

/// Says so for each request when it is due. A thread of its own: tokio's clock
/// ticks in milliseconds, which is as long as an answer takes.
fn tick(begin: Instant, until: Instant, gap: Duration, due: &Semaphore) {
    for n in 0.. {
        let next = begin + gap * n;
        if next >= until {
            // As many as there may be connections that wait still.
            return due.add_permits(Semaphore::MAX_PERMITS / 2);
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        due.add_permits(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_open_loop_keeps_its_times_however_late_it_is_asked() {
        let begin = Instant::now();
        let pace = Pace::new(begin, begin + Duration::from_millis(35), Some(100.0));
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut due = Vec::new();
        while let Some(time) = pace.due().await {
            due.push((time - begin).as_millis());
        }
        assert_eq!(due, [0, 10, 20, 30]);
        assert_eq!(pace.due().await, None);
    }

    #[tokio::test]
    async fn an_open_loop_waits() {
        let begin = Instant::now();
        let pace = Pace::new(begin, begin + Duration::from_millis(10), Some(500.0));
        while let Some(time) = pace.due().await {
            assert!(Instant::now() >= time);
        }
        assert!(begin.elapsed() >= Duration::from_millis(8));
    }

    #[tokio::test]
    async fn a_closed_loop_is_due_at_once_until_it_is_over() {
        let begin = Instant::now();
        let pace = Pace::new(begin, begin + Duration::from_secs(60), None);
        assert!(pace.due().await.is_some());
        assert_eq!(Pace::new(begin, begin, None).due().await, None);
    }
}
