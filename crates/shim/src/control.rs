//! What wakes the supervising thread: signals, other threads, deadlines.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Longest sleep without a look around; nothing depends on it.
const NAP_MAX: Duration = Duration::from_secs(60);

/// What every thread may see and set.
#[derive(Debug, Default)]
pub struct Flags {
    cancelled: AtomicBool,
    closed: AtomicBool,
}

impl Flags {
    /// Someone asked for the unit to stop.
    pub fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// The server said that the attempt is over.
    pub fn closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub fn stopping(&self) -> bool {
        self.cancelled() || self.closed()
    }
}

pub struct Control {
    signals: SignalFd,
    bell: PipeReader,
    waker: Waker,
    flags: Arc<Flags>,
}

/// Wakes the supervising thread from another.
#[derive(Clone)]
pub struct Waker(Arc<PipeWriter>);

impl Waker {
    pub fn wake(&self) {
        // Few wake-ups are ever pending, so the pipe does not fill.
        let _ = (&*self.0).write_all(&[1]);
    }
}

impl Control {
    /// Takes over SIGTERM, SIGINT and SIGCHLD. Call it before any thread is
    /// made.
    pub fn new() -> io::Result<Self> {
        let mask: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD].into_iter().collect();
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let (bell, rope) = io::pipe()?;
        Ok(Self { signals, bell, waker: Waker(Arc::new(rope)), flags: Arc::default() })
    }

    pub fn flags(&self) -> Arc<Flags> {
        self.flags.clone()
    }

    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Sleeps until a signal, a wake-up or the instant; may wake early.
    pub fn wait(&mut self, until: Option<Instant>) -> io::Result<()> {
        let nap = until.map_or(NAP_MAX, |at| at.saturating_duration_since(Instant::now())).min(NAP_MAX);
        // Rounded up, so that the instant has passed on waking.
        let timeout =
            PollTimeout::try_from(nap.as_millis() as u64 + u64::from(!nap.is_zero())).unwrap_or(PollTimeout::MAX);
        let mut both =
            [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN), PollFd::new(self.bell.as_fd(), PollFlags::POLLIN)];
        match poll(&mut both, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => (),
            Err(errno) => return Err(errno.into()),
        }
        let rang = both[1].any().unwrap_or(false);
        if rang {
            let _ = self.bell.read(&mut [0; 64])?;
        }
        while let Some(signal) = self.signals.read_signal()? {
            if signal.ssi_signo != Signal::SIGCHLD as u32 {
                self.flags.cancelled.store(true, Ordering::Release);
            }
        }
        Ok(())
    }
}
