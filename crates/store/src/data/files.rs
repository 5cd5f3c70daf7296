//! Every file operation that changes the disk, behind one small trait: the
//! real disk, and in tests one that fails at a chosen step or forgets what was
//! not synced.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

pub(crate) trait Files: Send + Sync + 'static {
    /// Makes a new file that must not exist, for reading and writing.
    fn create(&self, path: &Path, mode: u32) -> io::Result<File>;
    fn write_at(&self, file: &File, path: &Path, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Tells the kernel to begin writing a range to the disk, without waiting
    /// for it. A hint: nothing depends on it.
    fn start_sync(&self, file: &File, from: u64, len: u64) {
        // On Linux this advice begins the write-back of dirty pages and drops
        // clean ones, of which a range just written has none.
        let (Ok(from), Ok(len)) = (from.try_into(), len.try_into()) else { return };
        let _ = posix_fadvise(file, from, len, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }
    /// Content, and the size.
    fn sync_file(&self, file: &File, path: &Path) -> io::Result<()>;
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes a file shorter.
    fn truncate(&self, file: &File, path: &Path, len: u64) -> io::Result<()>;
    fn unlink(&self, path: &Path) -> io::Result<()>;
}

#[derive(Debug)]
pub(crate) struct RealFiles;

impl Files for RealFiles {
    fn create(&self, path: &Path, mode: u32) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path)
    }

    fn write_at(&self, file: &File, _path: &Path, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn sync_file(&self, file: &File, _path: &Path) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn truncate(&self, file: &File, _path: &Path, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

/// The real disk, which is not waited for: fast, and nothing of it is certain
/// to survive a power loss.
#[derive(Debug)]
pub(crate) struct Unsynced;

impl Files for Unsynced {
    fn create(&self, path: &Path, mode: u32) -> io::Result<File> {
        RealFiles.create(path, mode)
    }

    fn write_at(&self, file: &File, path: &Path, bytes: &[u8], at: u64) -> io::Result<()> {
        RealFiles.write_at(file, path, bytes, at)
    }

    fn start_sync(&self, _file: &File, _from: u64, _len: u64) {}

    fn sync_file(&self, _file: &File, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_folder(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, file: &File, path: &Path, len: u64) -> io::Result<()> {
        RealFiles.truncate(file, path, len)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        RealFiles.unlink(path)
    }
}
