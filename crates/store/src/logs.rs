//! Logs on a local disk: one file per unit, `ROOT/<unit>.log`. Files are
//! opened for each call and closed again, so the number of open files is that
//! of the calls under way; appends to one unit take turns.

use std::fs::{self, File, OpenOptions};
use std::hash::BuildHasher;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use muonic_ports::{Error, Logs, Result};
use muonic_types::UnitId;

use crate::data::blocking;
use crate::data::layout::make_folder;
use crate::gate::{Gate, failed};

/// Units share this many locks.
const LOCKS: usize = 64;
/// Most bytes one read answers, whatever was asked for.
const READ_BYTES_MAX: usize = 8 << 20;

struct Folder {
    root: PathBuf,
    gate: Gate,
    locks: [Mutex<()>; LOCKS],
    hash: std::hash::RandomState,
}

/// The disk backend of [`Logs`]. Cheap to clone.
#[derive(Clone)]
pub struct DiskLogs {
    folder: Arc<Folder>,
}

impl DiskLogs {
    pub(crate) fn open(root: &Path) -> Result<Self> {
        make_folder(root)?;
        let folder = Folder {
            root: root.to_owned(),
            gate: Gate::default(),
            locks: std::array::from_fn(|_| Mutex::new(())),
            hash: std::hash::RandomState::new(),
        };
        Ok(Self { folder: Arc::new(folder) })
    }

    async fn run<T: Send + 'static>(
        &self,
        unit: &UnitId,
        work: impl FnOnce(&Folder, &UnitId) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let folder = self.folder.clone();
        let unit = unit.clone();
        blocking(move || work(&folder, &unit)).await
    }
}

impl Folder {
    fn path(&self, unit: &UnitId) -> PathBuf {
        self.root.join(format!("{unit}.log"))
    }

    fn lock(&self, unit: &UnitId) -> MutexGuard<'_, ()> {
        let at = (self.hash.hash_one(unit) % LOCKS as u64) as usize;
        self.locks[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, unit: &UnitId, offset: u64, bytes: &[u8]) -> Result<u64> {
        self.gate.check()?;
        let _turn = self.lock(unit);
        let path = self.path(unit);
        // O_APPEND: what is added goes to the end even where a file was cut.
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| failed("open", &path, e))?;
        let end = length(&file, &path)?;
        let new = unseen(unit, end, offset, bytes)?;
        file.write_all(new).map_err(|e| failed("write", &path, e))?;
        Ok(end + new.len() as u64)
    }

    fn read(&self, unit: &UnitId, offset: u64, max: usize) -> Result<Bytes> {
        let path = self.path(unit);
        let Some(file) = open(&path)? else { return Ok(Bytes::new()) };
        let left = length(&file, &path)?.saturating_sub(offset);
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(max).min(READ_BYTES_MAX);
        let mut bytes = vec![0; want];
        let mut filled = 0;
        while filled < want {
            match file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(failed("read", &path, e)),
            }
        }
        bytes.truncate(filled);
        Ok(bytes.into())
    }

    fn sync(&self, unit: &UnitId) -> Result<()> {
        self.gate.check()?;
        let path = self.path(unit);
        let Some(file) = open(&path)? else { return Ok(()) };
        file.sync_data().map_err(|e| self.gate.sync_failed(&path, &e))?;
        File::open(&self.root).and_then(|folder| folder.sync_all()).map_err(|e| self.gate.sync_failed(&self.root, &e))
    }

    fn remove(&self, unit: &UnitId) -> Result<()> {
        let _turn = self.lock(unit);
        let path = self.path(unit);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path, e)),
            _ => Ok(()),
        }
    }
}

fn open(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("open", path, e)),
    }
}

fn length(file: &File, path: &Path) -> Result<u64> {
    Ok(file.metadata().map_err(|e| failed("look at", path, e))?.len())
}

/// The part of `bytes`, sent for `offset`, that a stream of length `end` has
/// not got yet.
pub(crate) fn unseen<'a>(unit: &UnitId, end: u64, offset: u64, bytes: &'a [u8]) -> Result<&'a [u8]> {
    let Some(seen) = end.checked_sub(offset) else {
        return Err(Error::Conflict(format!(
            "the log of {unit} ends at {end}, bytes for {offset} would leave a gap; send from {end}"
        )));
    };
    Ok(usize::try_from(seen).ok().and_then(|seen| bytes.get(seen..)).unwrap_or_default())
}

#[async_trait]
impl Logs for DiskLogs {
    async fn append(&self, unit: &UnitId, offset: u64, bytes: Bytes) -> Result<u64> {
        self.run(unit, move |folder, unit| folder.append(unit, offset, &bytes)).await
    }

    async fn read(&self, unit: &UnitId, offset: u64, max: usize) -> Result<Bytes> {
        self.run(unit, move |folder, unit| folder.read(unit, offset, max)).await
    }

    async fn len(&self, unit: &UnitId) -> Result<u64> {
        self.run(unit, |folder, unit| {
            let path = folder.path(unit);
            open(&path)?.map_or(Ok(0), |file| length(&file, &path))
        })
        .await
    }

    async fn sync(&self, unit: &UnitId) -> Result<()> {
        self.run(unit, Folder::sync).await
    }

    async fn remove(&self, unit: &UnitId) -> Result<()> {
        self.run(unit, Folder::remove).await
    }
}
