//! Open segments, for reading.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const OPEN_MAX: usize = 128;

#[derive(Default)]
pub(super) struct Handles {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    files: HashMap<u64, (Arc<File>, u64)>,
    /// Counts uses, to tell which file has not been used for longest.
    uses: u64,
}

impl Handles {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, segment: u64, path: &Path) -> io::Result<Arc<File>> {
        if let Some(file) = self.known(segment) {
            return Ok(file);
        }
        let file = Arc::new(File::open(path)?);
        self.put(segment, file.clone());
        Ok(file)
    }

    pub(super) fn known(&self, segment: u64) -> Option<Arc<File>> {
        let mut open = self.open();
        open.uses += 1;
        let now = open.uses;
        let (file, used) = open.files.get_mut(&segment)?;
        *used = now;
        Some(file.clone())
    }

    pub(super) fn put(&self, segment: u64, file: Arc<File>) {
        let mut open = self.open();
        open.uses += 1;
        let now = open.uses;
        if open.files.len() >= OPEN_MAX
            && let Some(oldest) = open.files.iter().min_by_key(|(_, (_, used))| *used).map(|(number, _)| *number)
        {
            open.files.remove(&oldest);
        }
        open.files.insert(segment, (file, now));
    }

    pub(super) fn forget(&self, segment: u64) {
        self.open().files.remove(&segment);
    }
}
