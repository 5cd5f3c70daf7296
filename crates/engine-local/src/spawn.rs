//! Starting a supervisor.
//!
//! By `posix_spawn` and not by a fork: that would copy the server's page
//! tables, and every page the server writes to afterwards, for each job.

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use muonic_types::UnitId;
use muonic_unit::{Folder, HEAP_VARIABLE, UNIT_DIR_VARIABLE, UNIT_VARIABLE, is_for_all};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::waitpid;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Launch setting: numbers of the graphics processors given to the unit.
pub const GPUS_SETTING: &str = "gpus";

/// What a supervisor needs of the server's environment beside what is for
/// all: its caches, how packages are fetched, and how it logs. The rest, such
/// as the server's own secrets, stays out.
const KEPT: [&str; 5] = ["TMPDIR", "XDG_CACHE_HOME", "MUONIC_ONNXRUNTIME", "RUST_LOG", "RUST_BACKTRACE"];
const KEPT_BEGINNINGS: [&str; 5] = ["PIP_", "UV_", "PYENV_", "NVIDIA_", "CUDA_DEVICE_"];

fn is_kept(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    is_for_all(name) || KEPT.contains(&name) || KEPT_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

/// Starts the unit's supervisor and answers a descriptor of its process.
pub fn supervisor(exe: &Path, folder: &Folder, unit: &UnitId) -> io::Result<OwnedFd> {
    let output = OpenOptions::new().append(true).create(true).mode(0o600).open(folder.file("output.log"))?;
    let nothing = File::open("/dev/null")?;
    let mut files = PosixSpawnFileActions::init()?;
    files.add_dup2(nothing.as_raw_fd(), 0)?;
    files.add_dup2(output.as_raw_fd(), 1)?;
    files.add_dup2(output.as_raw_fd(), 2)?;
    // SAFETY: a plain system call that leaves every descriptor open. What some
    // library opened without close-on-exec stays here; old kernels lack the
    // call, and then only ours are closed.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };

    let mut attributes = PosixSpawnAttr::init()?;
    // A session of its own: signals to the server's terminal or group do not
    // reach it. Nor does what the server's threads have blocked.
    let session = PosixSpawnFlags::from_bits_retain(libc::POSIX_SPAWN_SETSID.into());
    attributes.set_flags(session | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF)?;
    attributes.set_sigmask(&SigSet::empty())?;
    // Rust's programs ignore it; those that they start should not.
    attributes.set_sigdefault(&SigSet::from_iter([Signal::SIGPIPE]))?;

    let command = match unit {
        UnitId::Task(_) => "shim",
        UnitId::Replica(_) => "serve",
    };
    let words = [exe.as_os_str(), command.as_ref(), "--unit".as_ref(), folder.path().as_os_str()];
    let own = [(UNIT_VARIABLE, OsString::from(unit.to_string())), (UNIT_DIR_VARIABLE, folder.path().into())];
    let heap = matches!(unit, UnitId::Replica(_)).then(|| (HEAP_VARIABLE.0.into(), HEAP_VARIABLE.1.into()));
    let variables = env::vars_os()
        .filter(|(name, _)| is_kept(name))
        .chain(heap)
        .chain(own.map(|(name, value)| (name.into(), value)))
        .map(|(mut pair, value)| {
            pair.push("=");
            pair.push(value);
            pair
        });
    let words = words.map(OsStr::to_owned).into_iter().map(text).collect::<io::Result<Vec<_>>>()?;
    let variables = variables.map(text).collect::<io::Result<Vec<_>>>()?;
    let process = posix_spawn(exe, &files, &attributes, &words, &variables).map_err(|errno| {
        let e = io::Error::from(errno);
        io::Error::new(e.kind(), format!("{} does not start: {e}", exe.display()))
    })?;
    descriptor(process, |pid| Ok(pidfd_open(pid, PidfdFlags::empty())?))
}

fn text(text: OsString) -> io::Result<CString> {
    Ok(CString::new(text.into_vec())?)
}

/// A descriptor of a child. One that cannot be watched must not run on.
fn descriptor(child: nix::unistd::Pid, open: impl FnOnce(Pid) -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    // Not reaped before this, so the number cannot be another process's.
    let number = Pid::from_raw(child.as_raw()).ok_or_else(|| io::Error::other("the process has no number"))?;
    open(number).inspect_err(|_| {
        // It was ours a moment ago: neither can fail in a way to act on.
        let _ = kill(child, Signal::SIGKILL);
        let _ = waitpid(child, None);
    })
}

/// A descriptor of the process that holds the folder's lock, where that can
/// be told for certain.
pub fn holder(folder: &Folder) -> Option<OwnedFd> {
    let number = folder.read_pid()?;
    let process = pidfd_open(Pid::from_raw(number)?, PidfdFlags::empty()).ok()?;
    // The number may be an old one that another program has now.
    let is_it = muonic_unit::processes::carries(number, folder.path())
        && folder.is_locked().ok()?
        && folder.read_pid() == Some(number);
    is_it.then_some(process)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn secrets_of_the_server_stay_out() {
        for kept in ["PATH", "LC_ALL", "PIP_INDEX_URL"] {
            assert!(is_kept(OsStr::new(kept)));
        }
        for dropped in ["MUONIC_TOKEN", "AWS_SECRET_ACCESS_KEY", "MUONIC_UNIT", "SSH_AUTH_SOCK"] {
            assert!(!is_kept(OsStr::new(dropped)));
        }
    }

    #[test]
    fn a_child_without_a_descriptor_is_ended_and_reaped() {
        let mut child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let number = nix::unistd::Pid::from_raw(child.id() as i32);
        let error = descriptor(number, |_| Err(io::Error::other("too many open files"))).unwrap_err();
        assert_eq!(error.to_string(), "too many open files");
        assert_eq!(child.wait().unwrap_err().raw_os_error(), Some(libc::ECHILD), "it is still there");
    }
}
