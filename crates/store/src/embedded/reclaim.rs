//! Frees what no row names: extents of contents that are garbage, segments
//! that have become empty or mostly so, and files that a crash left behind.
//!
//! All of it goes in small steps, each of which may be the last before a kill.
//! Bytes go first and rows after, so what is done twice is done twice and
//! nothing is forgotten. Who has just been told where bytes lie has [`GRACE`]
//! to open them; who reads them is pinned.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use muonic_ports::Result as PortResult;
use muonic_ports::object_store::Result;

use super::{EmbeddedStore, plain};
use crate::data::{Data, blocking};
use crate::index::{Index, Moved, Segment};

/// Extents in one step.
const STEP: u32 = 256;
/// A segment is compacted when less than this share of it is live.
const LIVE_SHARE_MIN: f64 = 0.5;

/// What the reclaimer remembers between two rounds.
#[derive(Default)]
pub(super) struct Reclaimer {
    /// Marks with the time they were set: the oldest first.
    marks: Vec<(Instant, u64)>,
    /// Since when segments are known to be empty.
    empty: HashMap<u64, Instant>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reclaimed {
    pub extents: u64,
    pub bytes: u64,
    pub segments: u64,
    /// That nobody named.
    pub files: u64,
}

impl Reclaimer {
    /// One round over all that has been garbage for `grace`.
    pub(super) async fn round(&mut self, store: &EmbeddedStore, grace: Duration) -> Result<Reclaimed> {
        let mut done = Reclaimed::default();
        let now = Instant::now();
        let old = self.marks.iter().rposition(|(set, _)| now.duration_since(*set) >= grace);
        let mark = old.map(|at| self.marks[at].1);
        self.marks.drain(..old.unwrap_or(0));
        self.marks.push((now, store.index().mark().await?));
        let mark = if grace.is_zero() { self.marks.last().map(|(_, mark)| *mark) } else { mark };
        if let Some(mark) = mark {
            garbage(store, mark, &mut done).await?;
        }
        self.segments(store, grace, &mut done).await?;
        Ok(done)
    }

    async fn segments(&mut self, store: &EmbeddedStore, grace: Duration, done: &mut Reclaimed) -> Result<()> {
        let data = store.data().clone();
        // Closed ones first, their rows afterwards.
        let on_disk = blocking(move || data.segments()).await?;
        let known: HashMap<u64, Segment> = store.index().segments().await?.into_iter().map(|s| (s.id, s)).collect();
        let now = Instant::now();
        self.empty.retain(|id, _| on_disk.iter().any(|info| info.segment == *id));
        for info in on_disk.iter().filter(|info| info.closed) {
            let live = known.get(&info.segment).map_or(0, |segment| segment.live);
            if live == 0 {
                let since = *self.empty.entry(info.segment).or_insert(now);
                if now.duration_since(since) >= grace && store.index().segment_forget(info.segment).await? {
                    let (data, segment) = (store.data().clone(), info.segment);
                    blocking(move || data.remove_segment(segment)).await?;
                    done.segments += 1;
                    done.bytes += info.bytes;
                }
            } else if (live as f64) < LIVE_SHARE_MIN * info.bytes as f64 {
                compact(store, info.segment).await?;
            }
        }
        Ok(())
    }
}

async fn garbage(store: &EmbeddedStore, mark: u64, done: &mut Reclaimed) -> Result<()> {
    let mut before = None;
    loop {
        let found = store.index().garbage(mark, STEP).await?;
        let free: Vec<_> = found
            .into_iter()
            .filter(|garbage| !garbage.extents.iter().any(|(row, _)| store.inner.pins.holds(Index::content_of(*row))))
            .collect();
        if free.is_empty() {
            return Ok(());
        }
        // Rows that cannot be forgotten would be freed for ever.
        let first = free.first().and_then(|garbage| Some((garbage.number, garbage.extents.first()?.0)));
        if first == before {
            let what = format!("garbage {first:?} of the store's index does not go away; the index is damaged");
            return Err(muonic_ports::Error::bug(what).into());
        }
        before = first;
        let data = store.data().clone();
        let free = blocking(move || -> PortResult<_> {
            for (_, extent) in free.iter().flat_map(|garbage| &garbage.extents) {
                data.free(extent)?;
            }
            Ok(free)
        })
        .await?;
        for (_, extent) in free.iter().flat_map(|garbage| &garbage.extents) {
            done.extents += 1;
            done.bytes += extent.size;
        }
        store.index().garbage_done(free).await?;
    }
}

/// Moves what lives in a closed segment to the open one. The segment is empty
/// afterwards, unless some of it is damaged.
async fn compact(store: &EmbeddedStore, segment: u64) -> Result<()> {
    let mut from = 0;
    loop {
        let located = store.index().extents_of_segment(segment, from, STEP).await?;
        let Some(last) = located.last() else { return Ok(()) };
        let crate::content::Place::Segment { offset, .. } = last.extent.place else { return Ok(()) };
        from = offset + 1;
        let copies = store.data().copy_many(located.iter().map(|l| l.extent.clone()).collect()).await?;
        let (mut moved, mut pending) = (Vec::new(), Vec::new());
        for (old, copy) in located.iter().zip(copies) {
            match copy {
                Ok(copy) => {
                    let (extent, held) = copy.hand_over();
                    pending.push(held);
                    let (row, id) = (old.row, extent.id);
                    moved.push(Moved { row, id, old: old.extent.place.clone(), new: extent.place });
                }
                Err(error) => tracing::error!(%error, "a damaged extent keeps its segment from being compacted"),
            }
        }
        store.index().moved(moved).await?;
        drop(pending);
    }
}

/// Removes files that no row names; answers how many. Nothing where the store
/// takes no changes any more: what its last ones have left is in doubt.
pub(super) async fn sweep(store: &EmbeddedStore) -> Result<u64> {
    let data = store.data().clone();
    let mut files = blocking(move || data.files()).await?;
    let mut freed = 0;
    loop {
        let (rest, page) = blocking(move || -> PortResult<_> {
            let page = files.by_ref().take(STEP as usize).collect::<PortResult<Vec<_>>>()?;
            Ok((files, page))
        })
        .await?;
        files = rest;
        if page.is_empty() {
            return Ok(freed);
        }
        let named = store.index().files_named(page.clone()).await?;
        // A failed commit shows no row, and a new process may find one.
        store.must_be_writable()?;
        let unnamed: Vec<_> = page.into_iter().zip(named).filter(|(_, named)| !named).map(|(id, _)| id).collect();
        freed += unnamed.len() as u64;
        let data = store.data().clone();
        blocking(move || unnamed.iter().try_for_each(|id| data.free_file(id))).await?;
    }
}

/// Gives back the unused ends of segments that an earlier process was writing
/// when it ended. Blocks.
pub(super) async fn trim_segments(index: &Index, data: &Data) -> PortResult<()> {
    let used: HashMap<u64, u64> = index.segments().await.map_err(plain)?.into_iter().map(|s| (s.id, s.used)).collect();
    for info in data.segments()?.into_iter().filter(|info| info.closed) {
        if let Some(used) = used.get(&info.segment)
            && info.bytes > *used
        {
            data.seal_segment(info.segment, *used)?;
        }
    }
    Ok(())
}
