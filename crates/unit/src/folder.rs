//! The unit folder.
//!
//! ```text
//! DATA/local/units/<unit>/
//!   launch.json   mode 0600: how to reach the server, the unit's key, settings
//!   lock          locked by the supervisor as long as it lives
//!   pid           process id of the supervisor, written once it has the lock
//!   begun         made, durably, before the user's program starts: a second
//!                 supervisor that finds it starts nothing
//!   cgroup        paths of the control groups of the unit, one a line,
//!                 written before they are made
//!   done          the supervisor is gone and so is every process of the
//!                 unit; nothing may be started here any more
//!   output.log    what the supervisor itself printed
//!   log           what of the program's output is kept
//!   socket        a replica listens here
//!   work/         the task's files
//! ```
//!
//! Who holds the lock owns the unit. The kernel drops it when the holder
//! dies, however it dies, so "is it alive?" is a question with one answer.
//! It is an open-file-description lock, not `flock`: those can be asked
//! about without taking them, so asking never makes a starting supervisor
//! believe that it came second.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use muonic_types::{Digest, Resources, UnitId};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use serde::{Deserialize, Serialize};

/// `launch.json`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    pub version: u32,
    pub unit: UnitId,
    pub resources: Resources,
    /// A file whose text is the server's present address. It is read again
    /// whenever the server does not answer: a restart may move the port. Beside
    /// it, ending in `.id`, is what that server calls itself in each answer.
    pub server_file: PathBuf,
    /// The unit's own key, `<id>.<secret>`.
    pub token: String,
    /// Shared by all units of this machine: Python environments, mode 0700.
    pub cache: PathBuf,
    pub settings: BTreeMap<String, String>,
}

impl Launch {
    pub const VERSION: u32 = 1;

    /// The server's address as it is written now.
    pub fn server(&self) -> io::Result<String> {
        Ok(fs::read_to_string(&self.server_file)?.trim().to_owned())
    }

    /// What the server at that address calls itself, where it told.
    pub fn server_id(&self) -> Option<String> {
        let text = fs::read_to_string(self.server_file.with_extension("id")).ok()?;
        Some(text.trim().to_owned()).filter(|id| !id.is_empty())
    }
}

/// A unit's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    path: PathBuf,
}

/// Held by the supervisor of a unit as long as it lives.
#[derive(Debug)]
pub struct Lock(File);

impl Drop for Lock {
    /// Closing the file is not enough: a process that another thread has
    /// forked a moment ago keeps it open until it becomes its program.
    fn drop(&mut self) {
        let mut free = whole_file();
        free.l_type = libc::F_UNLCK as libc::c_short;
        let _ = fcntl(&self.0, FcntlArg::F_OFD_SETLK(&free));
    }
}

impl Folder {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// For a supervisor, before it has threads: in the folder that the server
    /// was started in it would keep that from being unmounted.
    #[allow(clippy::disallowed_methods, reason = "there is one thread")]
    pub fn enter(&self) -> io::Result<()> {
        std::env::set_current_dir(&self.path)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where the task's files are.
    pub fn work(&self) -> PathBuf {
        self.file("work")
    }

    /// What the program's output is kept in.
    pub fn log(&self) -> PathBuf {
        self.file("log")
    }

    /// A few letters that tell this folder from every other on the machine.
    pub fn mark(&self) -> String {
        Digest::of(self.path.as_os_str().as_bytes()).short()
    }

    /// Writes `launch.json` so that it is there whole or not at all. Not
    /// synced: should the machine die, whoever launched does it again.
    pub fn write_launch(&self, launch: &Launch) -> io::Result<()> {
        self.write_whole("launch.json", &serde_json::to_vec(launch)?)
    }

    pub fn read_launch(&self) -> io::Result<Launch> {
        let launch: Launch = serde_json::from_slice(&fs::read(self.file("launch.json"))?)?;
        if launch.version != Launch::VERSION {
            return Err(io::Error::other(format!(
                "{} has version {}; this program reads version {}",
                self.file("launch.json").display(),
                launch.version,
                Launch::VERSION
            )));
        }
        Ok(launch)
    }

    /// Takes the unit's lock, or `None` where another process holds it or the
    /// folder was removed meanwhile. The lock is not inherited by programs
    /// that this process starts.
    pub fn try_lock(&self) -> io::Result<Option<Lock>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(self.file("lock"))?;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())) {
            Ok(_) => Ok((file.metadata()?.nlink() > 0).then_some(Lock(file))),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether some process holds the lock. Takes nothing.
    pub fn is_locked(&self) -> io::Result<bool> {
        let file = match OpenOptions::new().write(true).open(self.file("lock")) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        };
        let mut asked = whole_file();
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut asked))?;
        Ok(asked.l_type != libc::F_UNLCK as libc::c_short)
    }

    /// Records, durably, that the unit's program is about to start. False
    /// where it was recorded before: then nothing may be started.
    pub fn begin(&self) -> io::Result<bool> {
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.file("begun")) {
            Ok(_) => {
                File::open(&self.path)?.sync_all()?;
                if let Some(parent) = self.path.parent() {
                    File::open(parent)?.sync_all()?;
                }
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(e),
        }
    }

    pub fn has_begun(&self) -> bool {
        self.file("begun").exists()
    }

    /// For the holder of the lock: leaves its process id.
    pub fn write_pid(&self) -> io::Result<()> {
        self.write_whole("pid", format!("{}\n", std::process::id()).as_bytes())
    }

    /// The process that last held the lock, alive or not.
    pub fn read_pid(&self) -> Option<i32> {
        fs::read_to_string(self.file("pid")).ok()?.trim().parse().ok().filter(|pid| *pid > 1)
    }

    /// For the holder of the lock: records that no process is left and none
    /// may follow.
    pub fn write_done(&self) -> io::Result<()> {
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(self.file("done")).map(drop)
    }

    pub fn is_done(&self) -> bool {
        self.file("done").exists()
    }

    /// Records control groups before they are made.
    pub fn write_groups(&self, groups: &[PathBuf]) -> io::Result<()> {
        let text: String = groups.iter().map(|g| format!("{}\n", g.display())).collect();
        self.write_whole("cgroup", text.as_bytes())
    }

    pub fn read_groups(&self) -> Vec<PathBuf> {
        let text = fs::read_to_string(self.file("cgroup")).unwrap_or_default();
        text.lines().filter(|l| !l.is_empty()).map(PathBuf::from).collect()
    }

    fn write_whole(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.file(&format!("{name}.new"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        fs::rename(&temporary, self.file(name))
    }
}

fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_lock_has_one_holder_and_asking_takes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        assert!(!folder.is_locked().unwrap());
        let lock = folder.try_lock().unwrap().expect("free");
        assert!(folder.is_locked().unwrap());
        assert!(folder.try_lock().unwrap().is_none());
        drop(lock);
        assert!(!folder.is_locked().unwrap());
        assert!(folder.try_lock().unwrap().is_some());
    }

    #[test]
    fn a_lock_that_was_let_go_is_free_though_a_fork_has_it_open() {
        use std::io::Read;
        use std::os::unix::process::CommandExt;

        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        let lock = folder.try_lock().unwrap().expect("free");
        let (mut forked, says) = io::pipe().unwrap();
        let (waits, go_on) = io::pipe().unwrap();
        let starts = std::thread::spawn(move || {
            let mut command = std::process::Command::new("true");
            let between = move || {
                nix::unistd::write(&says, b"x").map_err(io::Error::from)?;
                nix::unistd::read(&waits, &mut [0]).map_err(io::Error::from)?;
                Ok(())
            };
            // SAFETY: between fork and exec only `write` and `read` are called.
            unsafe { command.pre_exec(between) };
            command.status().unwrap()
        });
        forked.read_exact(&mut [0]).unwrap();
        drop(lock);
        let locked = folder.is_locked().unwrap();
        (&go_on).write_all(b"x").unwrap();
        assert!(starts.join().unwrap().success());
        assert!(!locked);
    }

    #[test]
    fn a_unit_begins_once() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        assert!(!folder.has_begun());
        assert!(folder.begin().unwrap());
        assert!(!folder.begin().unwrap());
        assert!(folder.has_begun());
    }

    #[test]
    fn what_is_written_is_read_and_secret() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        let launch = Launch {
            version: Launch::VERSION,
            unit: "task.train-1.1".parse().unwrap(),
            resources: Resources::default(),
            server_file: dir.path().join("server"),
            token: "MKABCDEFGHIJKLMNOPQR.secret".into(),
            cache: dir.path().join("cache"),
            settings: BTreeMap::from([("python".into(), "/usr/bin/python3".into())]),
        };
        folder.write_launch(&launch).unwrap();
        assert_eq!(folder.read_launch().unwrap().token, launch.token);
        assert_eq!(fs::metadata(folder.file("launch.json")).unwrap().permissions().mode() & 0o777, 0o600);
        folder.write_pid().unwrap();
        assert_eq!(folder.read_pid(), Some(std::process::id() as i32));
        folder.write_groups(&["/a/muonic-1".into(), "/b/muonic-1".into()]).unwrap();
        assert_eq!(folder.read_groups().len(), 2);
    }
}
