//! Bounded repetition of idempotent requests. A caller that must outlast a
//! restart of the server (a shim) wraps its own, longer policy around.

use std::time::Duration;

use crate::{Error, Result};

/// How often and how long to try again.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Tries in all, the first included.
    pub tries: u32,
    /// Wait before the second try; doubles each time.
    pub first: Duration,
    /// Longest single wait.
    pub wait_max: Duration,
}

impl Retry {
    /// About five seconds in all: long enough for a quick restart.
    pub const SHORT: Self = Self { tries: 7, first: Duration::from_millis(100), wait_max: Duration::from_secs(2) };

    /// The wait after the try with this number (from 0), if there is another.
    pub fn wait_after(&self, attempt: u32) -> Option<Duration> {
        (attempt + 1 < self.tries).then(|| self.first.saturating_mul(1 << attempt.min(16)).min(self.wait_max))
    }

    /// Repeats `call` while its error is transient. `call` must be idempotent.
    pub fn run<T>(&self, mut call: impl FnMut() -> Result<T>) -> Result<T> {
        let mut attempt = 0;
        loop {
            match call() {
                Err(error) => self.pause(attempt, error)?,
                ok => return ok,
            }
            attempt += 1;
        }
    }

    /// Sleeps before the next try, or gives the error back where it is final.
    pub fn pause(&self, attempt: u32, error: Error) -> Result<()> {
        match self.wait_after(attempt) {
            Some(wait) if error.is_transient() => {
                std::thread::sleep(wait);
                Ok(())
            }
            _ => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken() -> Error {
        Error::Connection { url: "http://x".into(), reason: "refused".into() }
    }

    const QUICK: Retry = Retry { tries: 3, first: Duration::ZERO, wait_max: Duration::ZERO };

    #[test]
    fn repeats_what_is_transient_and_stops_at_its_bound() {
        let mut calls = 0;
        let out: Result<()> = QUICK.run(|| {
            calls += 1;
            Err(broken())
        });
        assert!(matches!(out, Err(Error::Connection { .. })));
        assert_eq!(calls, 3);
    }

    #[test]
    fn never_repeats_what_is_final() {
        let mut calls = 0;
        let out: Result<()> = QUICK.run(|| {
            calls += 1;
            Err(Error::Protocol { url: "u".into(), reason: "r".into() })
        });
        assert!(out.is_err());
        assert_eq!(calls, 1);
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let r = Retry { tries: 6, first: Duration::from_millis(100), wait_max: Duration::from_millis(500) };
        let waits: Vec<_> = (0..7).map(|n| r.wait_after(n).map(|w| w.as_millis())).collect();
        assert_eq!(waits, [Some(100), Some(200), Some(400), Some(500), Some(500), None, None]);
    }
}
