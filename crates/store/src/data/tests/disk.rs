//! A disk that fails at a chosen step, or that forgets what was not synced. It
//! takes the files of the data layer, and (`db_*`) those of SQLite.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use nix::errno::Errno;

use crate::data::files::{Files, RealFiles};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Create,
    Write,
    SyncFile,
    SyncFolder,
    Truncate,
    Unlink,
}

#[derive(Default)]
pub(crate) struct TestDisk {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    done: Vec<Step>,
    /// The step that fails, how, and whether all that follow fail too.
    fails: Option<(usize, Errno, bool)>,
    healed: bool,
    /// Names that no sync of a folder has made durable.
    unnamed: Vec<PathBuf>,
    /// Writes not synced: what was there before, and the file's length then.
    unsynced: HashMap<PathBuf, Vec<Before>>,
}

struct Before {
    at: u64,
    bytes: Vec<u8>,
    len: u64,
    now: Vec<u8>,
}

impl TestDisk {
    /// The nth step fails once, or with `forever` everything from it on.
    pub(crate) fn failing(n: usize, errno: Errno, forever: bool) -> Arc<Self> {
        let disk = Self::default();
        disk.state.lock().unwrap().fails = Some((n, errno, forever));
        Arc::new(disk)
    }

    /// What has failed, if the step was reached.
    pub(crate) fn failed(&self) -> Option<Step> {
        let state = self.state.lock().unwrap();
        state.fails.and_then(|(n, ..)| state.done.get(n).copied())
    }

    /// Whoever wants to do a step waits until what is answered is dropped.
    pub(crate) fn hold(&self) -> impl Drop + '_ {
        self.state.lock().unwrap()
    }

    pub(crate) fn count(&self, step: Step) -> usize {
        self.state.lock().unwrap().done.iter().filter(|done| **done == step).count()
    }

    /// How many were done or tried.
    pub(crate) fn steps(&self) -> usize {
        self.state.lock().unwrap().done.len()
    }

    /// No step fails any more.
    pub(crate) fn heal(&self) {
        self.state.lock().unwrap().healed = true;
    }

    pub(crate) fn db_create(&self, path: &Path) -> io::Result<()> {
        let work = |state: &mut State| {
            state.unnamed.push(path.to_owned());
            Ok(())
        };
        self.step(Step::Create, work, |_| {})
    }

    pub(crate) fn db_write(
        &self,
        path: &Path,
        at: u64,
        bytes: Vec<u8>,
        len: u64,
        now: &[u8],
        real: &mut dyn FnMut(&[u8]) -> i32,
    ) -> io::Result<i32> {
        let real = std::cell::RefCell::new(real);
        let write = |state: &mut State, now: &[u8]| {
            let before = Before { at, bytes: bytes.clone(), len, now: now.to_vec() };
            state.unsynced.entry(path.to_owned()).or_default().push(before);
            (*real.borrow_mut())(now)
        };
        self.step(
            Step::Write,
            |state| Ok(write(state, now)),
            |state| {
                write(state, &now[..now.len() / 2]);
            },
        )
    }

    /// With `names`, the names in its folder become durable too.
    pub(crate) fn db_sync(&self, path: &Path, names: bool) -> io::Result<()> {
        let work = |state: &mut State| {
            state.unsynced.remove(path);
            state.unnamed.retain(|name| !names || name.parent() != path.parent());
            Ok(())
        };
        self.step(Step::SyncFile, work, |_| {})
    }

    pub(crate) fn db_truncate(&self, real: impl FnOnce() -> i32) -> io::Result<i32> {
        self.step(Step::Truncate, |_| Ok(real()), |_| {})
    }

    pub(crate) fn db_delete(&self, path: &Path, real: impl FnOnce() -> i32) -> io::Result<i32> {
        let work = |state: &mut State| {
            state.unsynced.remove(path);
            state.unnamed.retain(|name| name != path);
            Ok(real())
        };
        self.step(Step::Unlink, work, |_| {})
    }

    fn step<T>(
        &self,
        step: Step,
        work: impl FnOnce(&mut State) -> io::Result<T>,
        instead: impl FnOnce(&mut State),
    ) -> io::Result<T> {
        let mut state = self.state.lock().unwrap();
        let n = state.done.len();
        state.done.push(step);
        match state.fails {
            Some((at, errno, forever)) if !state.healed && (n == at || forever && n > at) => {
                instead(&mut state);
                Err(errno.into())
            }
            _ => work(&mut state),
        }
    }

    /// What the disk holds after the lights went out. Of what was not synced
    /// some writes are there, some in part, some not, as `luck` has it.
    pub(crate) fn forget(&self, mut luck: u64) {
        let mut state = self.state.lock().unwrap();
        let unnamed = std::mem::take(&mut state.unnamed);
        for (path, befores) in std::mem::take(&mut state.unsynced) {
            if !path.exists() || unnamed.contains(&path) {
                continue;
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            for before in befores.iter().rev() {
                luck = luck.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                file.write_all_at(&before.bytes, before.at).unwrap();
                file.set_len(before.len).unwrap();
                let kept = match (luck >> 33) % 3 {
                    0 => 0,
                    1 => before.now.len() / 2,
                    _ => before.now.len(),
                };
                file.write_all_at(&before.now[..kept], before.at).unwrap();
            }
        }
        for path in unnamed {
            let _ = fs::remove_file(path);
        }
    }
}

fn write(state: &mut State, file: &File, path: &Path, bytes: &[u8], at: u64) -> io::Result<()> {
    let len = file.metadata()?.len();
    let mut before = vec![0; bytes.len().min(len.saturating_sub(at) as usize)];
    file.read_exact_at(&mut before, at)?;
    let before = Before { at, bytes: before, len, now: bytes.to_vec() };
    state.unsynced.entry(path.to_owned()).or_default().push(before);
    RealFiles.write_at(file, path, bytes, at)
}

impl Files for Arc<TestDisk> {
    fn create(&self, path: &Path, mode: u32) -> io::Result<File> {
        let work = |state: &mut State| {
            state.unnamed.push(path.to_owned());
            RealFiles.create(path, mode)
        };
        self.step(Step::Create, work, |_| {})
    }

    fn write_at(&self, file: &File, path: &Path, bytes: &[u8], at: u64) -> io::Result<()> {
        // One that fails may have been done in part.
        self.step(
            Step::Write,
            |state| write(state, file, path, bytes, at),
            |state| write(state, file, path, &bytes[..bytes.len() / 2], at).unwrap(),
        )
    }

    fn start_sync(&self, _file: &File, _from: u64, _len: u64) {}

    fn sync_file(&self, _file: &File, path: &Path) -> io::Result<()> {
        let work = |state: &mut State| {
            state.unsynced.remove(path);
            Ok(())
        };
        self.step(Step::SyncFile, work, |_| {})
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let work = |state: &mut State| {
            state.unnamed.retain(|name| name.parent() != Some(path));
            Ok(())
        };
        self.step(Step::SyncFolder, work, |_| {})
    }

    fn truncate(&self, file: &File, path: &Path, len: u64) -> io::Result<()> {
        self.step(Step::Truncate, |_| RealFiles.truncate(file, path, len), |_| {})
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.step(Step::Unlink, |_| RealFiles.unlink(path), |_| {})
    }
}
