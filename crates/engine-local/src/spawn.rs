//! Starting a supervisor.

use std::env;
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use muonic_types::UnitId;
use muonic_unit::{Folder, UNIT_DIR_VARIABLE, UNIT_VARIABLE};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Launch setting: numbers of the graphics processors given to the unit.
pub const GPUS_SETTING: &str = "gpus";

/// What of the server's environment a supervisor needs: where programs and
/// the user's folders are, how packages are fetched, and where drivers lie.
/// All else, such as the server's own secrets, stays out.
const KEPT: [&str; 28] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "MUONIC_ONNXRUNTIME",
    "RUST_LOG",
    "RUST_BACKTRACE",
    "CUDA_HOME",
    "CUDA_PATH",
];
const KEPT_BEGINNINGS: [&str; 6] = ["LC_", "PIP_", "UV_", "PYENV_", "NVIDIA_", "CUDA_DEVICE_"];

fn is_kept(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    KEPT.contains(&name) || KEPT_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

/// Starts the unit's supervisor and answers a descriptor of its process.
pub fn supervisor(exe: &Path, folder: &Folder, unit: &UnitId) -> io::Result<OwnedFd> {
    let output = OpenOptions::new().append(true).create(true).mode(0o600).open(folder.file("output.log"))?;
    let mut command = Command::new(exe);
    command
        .arg(match unit {
            UnitId::Task(_) => "shim",
            UnitId::Replica(_) => "serve",
        })
        .arg("--unit")
        .arg(folder.path())
        .current_dir(folder.path())
        .env_clear()
        .envs(env::vars_os().filter(|(name, _)| is_kept(name)))
        .env(UNIT_VARIABLE, unit.to_string())
        .env(UNIT_DIR_VARIABLE, folder.path())
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    // SAFETY: between fork and exec only three system calls are made; they
    // allocate nothing and take no lock.
    unsafe {
        command.pre_exec(|| {
            // A session of its own: signals to the server's terminal or group
            // do not reach it.
            nix::unistd::setsid()?;
            // Nor does what the server's threads have blocked.
            nix::sys::signal::SigSet::empty().thread_set_mask()?;
            // Descriptors that some library opened without close-on-exec stay
            // here. Old kernels lack the call; then only ours are closed.
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
            Ok(())
        });
    }
    let child =
        command.spawn().map_err(|e| io::Error::new(e.kind(), format!("{} does not start: {e}", exe.display())))?;
    descriptor(child, |pid| Ok(pidfd_open(pid, PidfdFlags::empty())?))
}

/// A descriptor of a child. One that cannot be watched must not run on.
fn descriptor(mut child: Child, open: impl FnOnce(Pid) -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    // Not reaped before this, so the number cannot be another process's.
    open(Pid::from_child(&child)).inspect_err(|_| {
        // It was ours a moment ago: neither can fail in a way to act on.
        let _ = child.kill();
        let _ = child.wait();
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
        let child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let pid = Pid::from_child(&child);
        let error = descriptor(child, |_| Err(io::Error::other("too many open files"))).unwrap_err();
        assert_eq!(error.to_string(), "too many open files");
        assert!(pidfd_open(pid, PidfdFlags::empty()).is_err(), "it is still there");
    }
}
