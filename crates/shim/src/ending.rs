//! How an attempt ended, in its own terms and in a sentence.

use muonic_types::Memory;
use muonic_types::job::Exit;
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;

/// Why the supervisor ended the command, where it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    Cancelled,
    TimeLimit,
    /// Measured by the supervisor, where the kernel does not limit.
    OutOfMemory,
    /// The attempt is over for the server.
    Closed,
}

/// What is known when the command has ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    pub status: WaitStatus,
    pub stop: Option<Stop>,
    /// Processes that the kernel ended for want of memory.
    pub oom_kills: u64,
}

impl Ended {
    pub fn exit(&self) -> Exit {
        match self.stop {
            Some(Stop::Cancelled | Stop::Closed) => Exit::Cancelled,
            Some(Stop::TimeLimit) => Exit::TimeLimit,
            Some(Stop::OutOfMemory) => Exit::OutOfMemory,
            None => match self.status {
                WaitStatus::Exited(_, 0) => Exit::Code { code: 0 },
                // A command that lost a child for want of memory and went on
                // to succeed is a success; one that failed failed of that.
                _ if self.oom_kills > 0 => Exit::OutOfMemory,
                WaitStatus::Signaled(_, signal, _) => Exit::Signal { signal: signal as i32 },
                WaitStatus::Exited(_, code) => Exit::Code { code },
                _ => Exit::Lost,
            },
        }
    }
}

/// A part of a sentence about it: "exited with code 3".
pub fn words(exit: &Exit, memory: Memory, time_limit_s: Option<u64>) -> String {
    match exit {
        Exit::Code { code: 0 } => "succeeded".into(),
        Exit::Code { code: 126 } => "exited with code 126 (a program in it is not executable)".into(),
        Exit::Code { code: 127 } => "exited with code 127 (a program in it was not found)".into(),
        // What a shell makes of a program that a signal ended.
        Exit::Code { code } if (129..=159).contains(code) => match Signal::try_from(code - 128) {
            Ok(signal) => format!("exited with code {code} (128 + signal {}, {signal})", code - 128),
            Err(_) => format!("exited with code {code}"),
        },
        Exit::Code { code } => format!("exited with code {code}"),
        Exit::Signal { signal } => match Signal::try_from(*signal) {
            Ok(name) => format!("killed by signal {signal} ({name})"),
            Err(_) => format!("killed by signal {signal}"),
        },
        Exit::OutOfMemory => format!("used more than its {memory} of memory"),
        Exit::TimeLimit => format!("ran longer than its limit of {} s", time_limit_s.unwrap_or_default()),
        Exit::Cancelled => "cancelled".into(),
        Exit::EnvironmentFailed => "its Python environment could not be built".into(),
        Exit::SetupFailed => "could not be started".into(),
        Exit::Lost => "its supervisor died".into(),
    }
}

#[cfg(test)]
mod tests {
    use nix::unistd::Pid;

    use super::*;

    fn exit(status: WaitStatus, stop: Option<Stop>, oom_kills: u64) -> Exit {
        Ended { status, stop, oom_kills }.exit()
    }

    #[test]
    fn the_cause_goes_before_the_status() {
        let p = Pid::from_raw(9);
        let killed = WaitStatus::Signaled(p, Signal::SIGKILL, false);
        assert_eq!(exit(WaitStatus::Exited(p, 0), None, 3), Exit::Code { code: 0 });
        assert_eq!(exit(WaitStatus::Exited(p, 3), None, 0), Exit::Code { code: 3 });
        assert_eq!(exit(WaitStatus::Exited(p, 1), None, 1), Exit::OutOfMemory);
        assert_eq!(exit(killed, None, 0), Exit::Signal { signal: 9 });
        assert_eq!(exit(killed, None, 1), Exit::OutOfMemory);
        assert_eq!(exit(killed, Some(Stop::TimeLimit), 0), Exit::TimeLimit);
        assert_eq!(exit(WaitStatus::Exited(p, 0), Some(Stop::Cancelled), 0), Exit::Cancelled);
    }

    #[test]
    fn sentences_name_what_happened() {
        let say = |exit| words(&exit, Memory::mib(512), Some(60));
        assert_eq!(say(Exit::Code { code: 3 }), "exited with code 3");
        assert_eq!(say(Exit::Signal { signal: 9 }), "killed by signal 9 (SIGKILL)");
        assert_eq!(say(Exit::OutOfMemory), "used more than its 512Mi of memory");
        assert_eq!(say(Exit::Code { code: 137 }), "exited with code 137 (128 + signal 9, SIGKILL)");
        assert_eq!(say(Exit::TimeLimit), "ran longer than its limit of 60 s");
    }
}
