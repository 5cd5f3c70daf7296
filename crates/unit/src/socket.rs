//! Unix sockets in folders whose path is too long for a socket address.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A path below 108 bytes for the unix socket in `folder`, whatever the
/// length of the folder's own path: it goes through the open folder's
/// descriptor. Keep the descriptor open while the path is in use.
pub fn socket_path(folder: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let dir =
        OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC).open(folder)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/socket", dir.as_raw_fd()));
    Ok((dir.into(), path))
}
