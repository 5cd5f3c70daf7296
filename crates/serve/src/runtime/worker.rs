//! One worker process: what is asked of it, and how it ends.

use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::fork_server::{ForkServer, describe};
use super::frames::{Broken, Channel, Frame};
use crate::confined::Confined;

/// For one that has closed its socket to end.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub enum CallError {
    /// The worker had ended before it took the request; how, in words.
    Gone(String),
    /// The worker ended with the request; how, in words.
    Died(String),
    TimedOut,
    /// It sent something that is no frame.
    Garbled(String),
}

pub struct Worker {
    number: u64,
    /// Zero until it has said it.
    pub pid: i32,
    channel: Channel,
    server: Arc<ForkServer>,
    /// With how many processes had been ended for want of memory before.
    confined: Option<(Arc<Confined>, u64)>,
    ended: bool,
    /// Requests that it has answered.
    pub answered: u64,
    pub wear: super::wear::Wear,
}

impl Worker {
    /// Has one forked; its first frame says whether that worked.
    pub fn fork(number: u64, server: &Arc<ForkServer>, confined: Option<&Arc<Confined>>) -> std::io::Result<Self> {
        let confined = confined.map(|c| (Arc::clone(c), c.oom_kills()));
        let (channel, given) = Channel::new()?;
        server.fork(number, &given)?;
        Ok(Self {
            number,
            pid: 0,
            channel,
            server: Arc::clone(server),
            confined,
            ended: false,
            answered: 0,
            wear: super::wear::Wear::default(),
        })
    }

    /// Its first words.
    pub fn greet(&mut self, deadline: Instant) -> Result<Frame, CallError> {
        let received = self.channel.receive(deadline);
        received.map_err(|broken| self.fault(broken))
    }

    /// One request and its answer.
    pub fn call(&mut self, json: &[u8], parts: &[&[u8]], deadline: Instant) -> Result<Frame, CallError> {
        let answer = self.channel.send(json, parts, deadline).and_then(|()| self.channel.receive(deadline));
        if answer.is_ok() {
            self.answered += 1;
        }
        answer.map_err(|broken| self.fault(broken))
    }

    /// Of one that nothing is asked of: whether it has ended, or is out of step.
    pub fn stirs(&self) -> bool {
        self.channel.stirs()
    }

    /// How it ended; it is ended if it has not.
    pub fn end_now(&mut self) -> String {
        self.end(PATIENCE)
    }

    fn fault(&mut self, broken: Broken) -> CallError {
        match broken {
            Broken::Gone => CallError::Gone(self.end(PATIENCE)),
            Broken::Closed => CallError::Died(self.end(PATIENCE)),
            Broken::TimedOut => CallError::TimedOut,
            Broken::Garbled(what) => CallError::Garbled(what),
        }
    }

    /// Ends it if it has not ended within this time, and says how it did.
    fn end(&mut self, patience: Duration) -> String {
        self.ended = true;
        let status = match self.server.end(self.number, patience) {
            Some(status) => Some(status),
            // It died with the process it was forked from, or was to be.
            None => self.server.ended_within(patience),
        };
        let Some(status) = status else { return "closed its socket".into() };
        let is_killed = status.signal() == Some(Signal::SIGKILL as i32);
        match &self.confined {
            Some((confined, before)) if is_killed && confined.oom_kills() > *before => confined.was_out_of_memory(),
            _ => describe(status),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.ended || self.server.is_over() || self.server.end(self.number, Duration::ZERO).is_some() {
            return;
        }
        // Without its server the kernel kills it, but not what it has started.
        self.server.stop();
        if self.server.is_over() {
            return;
        }
        if self.pid > 0 {
            let _ = killpg(Pid::from_raw(self.pid), Signal::SIGKILL);
        }
    }
}
