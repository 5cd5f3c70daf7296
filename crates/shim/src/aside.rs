//! Work beside the supervising thread.

use std::sync::mpsc::{TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use crate::control::Control;
use crate::ending::Stop;

/// Runs work in a thread of its own, which is left to itself once there is a
/// reason to stop.
pub fn aside<T: Send + 'static>(
    control: &mut Control,
    deadline: Option<Instant>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Stop> {
    let (send, done) = sync_channel(1);
    let waker = control.waker();
    let flags = control.flags();
    std::thread::spawn(move || {
        let _ = send.send(work());
        waker.wake();
    });
    loop {
        match done.try_recv() {
            Ok(value) => return Ok(value),
            Err(TryRecvError::Disconnected) => panic!("a thread of the shim panicked"),
            Err(TryRecvError::Empty) => (),
        }
        if flags.closed() {
            return Err(Stop::Closed);
        }
        if flags.cancelled() {
            return Err(Stop::Cancelled);
        }
        if deadline.is_some_and(|at| at <= Instant::now()) {
            return Err(Stop::TimeLimit);
        }
        // Without signals or wake-ups this ends after a minute at most.
        if control.wait(deadline).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
