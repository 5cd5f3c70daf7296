//! The file operations of a write, behind one small trait: the real disk, and
//! in tests a disk that fails at a chosen step or forgets what was not synced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

pub(crate) trait Files: Send + Sync + 'static {
    /// Makes a new file that must not exist.
    fn create(&self, path: &Path) -> io::Result<File>;
    fn write(&self, file: &mut File, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Tells the kernel to begin writing a range to the disk, without waiting
    /// for it. A hint: nothing depends on it.
    fn start_sync(&self, file: &File, from: u64, len: u64) {
        // On Linux this advice begins the write-back of dirty pages and drops
        // clean ones, of which a range just written has none.
        let (Ok(from), Ok(len)) = (from.try_into(), len.try_into()) else { return };
        let _ = posix_fadvise(file, from, len, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }
    fn sync_file(&self, file: &File, path: &Path) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
}

#[derive(Debug)]
pub(crate) struct RealFiles;

impl Files for RealFiles {
    fn create(&self, path: &Path) -> io::Result<File> {
        // Blobs never change: nobody needs the right to write one again.
        OpenOptions::new().write(true).create_new(true).mode(0o400).open(path)
    }

    fn write(&self, file: &mut File, _path: &Path, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync_file(&self, file: &File, _path: &Path) -> io::Result<()> {
        file.sync_data()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}
