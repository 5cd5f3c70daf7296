//! Extents that are on the disk and that no row names yet. A sweep for
//! garbage must pass them by; [`Held`] knows them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Disk;
use super::writes::Writing;
use crate::content::{Extent, ExtentId, Place};

#[derive(Default)]
pub(super) struct Held {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    files: HashSet<ExtentId>,
    /// How many extents of a segment.
    segments: HashMap<u64, usize>,
    /// The segment that is being appended to.
    open: Option<u64>,
}

impl Held {
    // Every change is one step of a collection: a panic leaves nothing half done.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn file(self: &Arc<Self>, id: ExtentId) -> Guard {
        self.state().files.insert(id);
        Guard { held: self.clone(), what: What::File(id) }
    }

    pub(super) fn segment(self: &Arc<Self>, segment: u64) -> Guard {
        *self.state().segments.entry(segment).or_default() += 1;
        Guard { held: self.clone(), what: What::Segment(segment) }
    }

    pub(super) fn set_open(&self, segment: Option<u64>) {
        self.state().open = segment;
    }

    pub(super) fn holds_file(&self, id: &ExtentId) -> bool {
        self.state().files.contains(id)
    }

    /// Whether nothing more will be in the segment than rows name now. Once
    /// true it stays true.
    pub(super) fn is_closed(&self, segment: u64) -> bool {
        let state = self.state();
        state.open != Some(segment) && !state.segments.contains_key(&segment)
    }
}

enum What {
    File(ExtentId),
    Segment(u64),
}

pub(super) struct Guard {
    held: Arc<Held>,
    what: What,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut state = self.held.state();
        match &self.what {
            What::File(id) => {
                state.files.remove(id);
            }
            What::Segment(segment) => {
                if let Some(count) = state.segments.get_mut(segment) {
                    *count -= 1;
                    if *count == 0 {
                        state.segments.remove(segment);
                    }
                }
            }
        }
    }
}

/// An extent that is durable, and that nobody names. Dropped, it is freed in
/// the background.
#[must_use = "an extent that is dropped is freed"]
pub(crate) struct Written {
    extent: Extent,
    disk: Arc<Disk>,
    guard: Option<Guard>,
    writing: Option<Writing>,
    handed_over: bool,
}

impl Written {
    pub(super) fn new(extent: Extent, disk: Arc<Disk>, guard: Option<Guard>) -> Self {
        Self { extent, disk, guard, writing: None, handed_over: false }
    }

    /// It counts as being written until a row names it.
    pub(super) fn within(mut self, writing: Writing) -> Self {
        self.writing = Some(writing);
        self
    }

    pub(crate) fn extent(&self) -> &Extent {
        &self.extent
    }

    /// The extent, to be named by a row. `Pending` is held until it is known
    /// how the transaction ended, in the place that learns it even if the
    /// caller has gone: so long no sweep takes the extent for garbage, and
    /// afterwards nothing but its row protects it.
    pub(crate) fn hand_over(mut self) -> (Extent, Pending) {
        self.handed_over = true;
        (self.extent.clone(), Pending { _guard: self.guard.take(), _writing: self.writing.take() })
    }

    /// The extent, where a row names it already.
    #[cfg(test)]
    pub(crate) fn keep(self) -> Extent {
        self.hand_over().0
    }
}

/// Protects an extent from being swept while its row is being committed.
pub(crate) struct Pending {
    _guard: Option<Guard>,
    _writing: Option<Writing>,
}

impl Drop for Written {
    fn drop(&mut self) {
        // In a segment the bytes are simply dead.
        if self.handed_over || !matches!(self.extent.place, Place::File { .. }) {
            return;
        }
        let (extent, disk, guard) = (self.extent.clone(), self.disk.clone(), self.guard.take());
        let free = move || {
            if let Err(error) = disk.free(&extent) {
                tracing::warn!(%error, "a file that nobody needs stays until it is swept");
            }
            drop(guard);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(free)),
            Err(_) => free(),
        }
    }
}
