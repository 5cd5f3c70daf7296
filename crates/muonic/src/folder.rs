//! The data folder: who may use it, and the files that belong to no backend.
//!
//! ```text
//! DATA/                mode 0700
//!   lock               flock held by the server
//!   master.key         mode 0600; all secrets derive from it
//!   metastore.sqlite   what the cloud knows
//!   store/             objects and blobs
//!   store.keys         mode 0600; what they are encrypted with
//!   logs/              logs of tasks and replicas
//!   local/             the local engine: units/, cache/, server (the address), server.id
//!   local.json         mode 0600; where the CLI finds the server and its key
//!   restore.unfinished while a snapshot is restored to it; no server starts then
//!   config.toml        read at start, if it is there
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use muonic_backup::UNFINISHED;
use muonic_services::keys::MasterKey;
use muonic_types::system::LocalFile;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// What a killed server had just forked holds its lock until it becomes
/// another program: moments, so a restart that meets it waits.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// An opened data folder; the lock goes with it.
pub struct Folder {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Folder {
    /// Makes the folder if need be and takes it for this server alone.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        if path.join(UNFINISHED).exists() {
            bail!(
                "{} was not restored to its end, and what is in it is not whole: run 'muonic store restore' again",
                path.display()
            );
        }
        Self::take(path)
    }

    /// One that a snapshot is restored to. From the first moment on no server
    /// starts on it.
    pub fn to_restore(path: &Path) -> anyhow::Result<Self> {
        let folder = Self::take(path)?;
        if !folder.join(UNFINISHED).exists() {
            folder.write_private(UNFINISHED, b"nothing yet\n")?;
        }
        Ok(folder)
    }

    fn take(path: &Path) -> anyhow::Result<Self> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.with_context(|| format!("the data folder {} cannot be made", path.display()))?;
        let path =
            path.canonicalize().with_context(|| format!("the data folder {} cannot be opened", path.display()))?;
        let lock = path.join("lock");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&lock);
        let file = file.with_context(|| format!("the data folder {} cannot be written", path.display()))?;
        let mut file = match lock_soon(file) {
            Ok(held) => held,
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                bail!(
                    "another server (process {}) uses the data folder {}: stop it, or choose another folder with --data",
                    pid.trim(),
                    path.display()
                );
            }
            Err((_, e)) => {
                return Err(io::Error::from(e)).with_context(|| format!("{} cannot be locked", lock.display()));
            }
        };
        prepare(&path, &mut file).with_context(|| format!("the data folder {} cannot be written", path.display()))?;
        Ok(Self { path, _lock: file })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The master key, made on the first start.
    pub fn master_key(&self) -> anyhow::Result<MasterKey> {
        let path = self.join("master.key");
        match fs::read(&path) {
            Ok(bytes) => match <[u8; 32]>::try_from(bytes) {
                Ok(key) => Ok(MasterKey(key)),
                Err(bytes) => {
                    bail!("{} has {} bytes; a master key has 32: restore it from a backup", path.display(), bytes.len())
                }
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if self.join("metastore.sqlite").exists() {
                    bail!(
                        "{} is missing, and without it no key of this data folder is valid: restore it from a backup",
                        path.display()
                    );
                }
                let key = MasterKey::generate()?;
                self.write_private("master.key", &key.0)?;
                Ok(key)
            }
            Err(e) => Err(e).with_context(|| format!("{} cannot be read", path.display())),
        }
    }

    pub fn write_local_file(&self, local: &LocalFile) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec_pretty(local)?;
        text.push(b'\n');
        self.write_private("local.json", &text)
    }

    /// Tells shims and replicas where the server is now and what it calls
    /// itself there.
    pub fn write_address(&self, url: &str, id: &str) -> anyhow::Result<()> {
        self.write_private("local/server.id", id.as_bytes())?;
        self.write_private("local/server", url.as_bytes())
    }

    /// Whole or not at all, durable, readable by the owner alone.
    fn write_private(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.join(name);
        let temporary = path.with_extension("new");
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(path.parent().unwrap_or(&self.path))?.sync_all()
        };
        write().with_context(|| format!("{} cannot be written", path.display()))
    }
}

/// Once it is ours. A folder that was there before may be open to others.
fn prepare(path: &Path, lock: &mut File) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())?;
    for name in ["local", "local/units", "local/cache"] {
        DirBuilder::new().recursive(true).mode(0o700).create(path.join(name))?;
    }
    Ok(())
}

fn lock_soon(mut file: File) -> Result<Flock<File>, (File, Errno)> {
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Err((held, Errno::EWOULDBLOCK)) if Instant::now() < until => file = held,
            other => return other,
        }
        std::thread::sleep(LOCK_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_about_to_be_dropped_is_waited_for() {
        let data = tempfile::tempdir().unwrap();
        let first = Folder::open(data.path()).unwrap();
        let holder = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(first);
        });
        Folder::open(data.path()).unwrap();
        holder.join().unwrap();
    }

    #[test]
    fn a_folder_that_others_could_read_is_closed_to_them() {
        let data = tempfile::tempdir().unwrap();
        fs::set_permissions(data.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Folder::open(data.path()).unwrap();
        assert_eq!(fs::metadata(data.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_folder_in_use_is_refused_with_the_process() {
        let data = tempfile::tempdir().unwrap();
        let _first = Folder::open(data.path()).unwrap();
        let error = Folder::open(data.path()).err().unwrap().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    }
}
