//! Whether a backend may still write. After a failed sync the kernel may have
//! dropped the bytes while it calls the pages clean, so trying again would
//! report a success that is none: the first failure closes the gate until the
//! process starts again and reads what the disk really holds.

use std::io;
use std::path::Path;
use std::sync::OnceLock;

use muonic_ports::{Error, Result};
use nix::errno::Errno;

#[derive(Debug, Default)]
pub(crate) struct Gate {
    reason: OnceLock<String>,
}

impl Gate {
    pub(crate) fn check(&self) -> Result<()> {
        match self.reason.get() {
            Some(reason) => Err(Error::ReadOnly(reason.clone())),
            None => Ok(()),
        }
    }

    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    /// Closes the gate after a failed sync.
    pub(crate) fn sync_failed(&self, path: &Path, error: &io::Error) -> Error {
        let reason = format!(
            "writing is off since a sync of {} failed ({error}); check the disk, then restart the server",
            path.display()
        );
        tracing::error!(path = %path.display(), %error, "a sync failed, the store is read-only until restart");
        Error::ReadOnly(self.reason.get_or_init(|| reason).clone())
    }
}

/// What a failed file operation, other than a sync, means to the caller.
pub(crate) fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    let errno = error.raw_os_error().map(Errno::from_raw);
    match errno {
        Some(Errno::ENOSPC | Errno::EDQUOT) => Error::DiskFull,
        Some(Errno::EROFS | Errno::EACCES | Errno::EPERM) => Error::ReadOnly(format!(
            "cannot {what} {}: {error}; make it writable for the user that runs the server",
            path.display()
        )),
        Some(Errno::EMFILE | Errno::ENFILE) => {
            Error::Unavailable(format!("cannot {what} {}: too many files are open", path.display()))
        }
        _ => Error::internal(format!("cannot {what} {}: {error}", path.display()), error),
    }
}

/// A disk that ran full at the sync of a file that nobody can see yet: the
/// file goes, and nothing else was harmed.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::ENOSPC | Errno::EDQUOT))
}
