//! The care of segments and files, for those who collect garbage.
//!
//! What is *closed* gets no more extents: neither is it appended to, nor does
//! it hold one that is about to be named. Who asks for closed segments first
//! and looks for their rows afterwards, has seen all of them.

use std::fs::{self, OpenOptions};
use std::io;
use std::sync::Arc;

use muonic_ports::{Error, Result};

use super::append::{Record, append};
use super::held::Written;
use super::layout::{file_id, segment_number};
use super::source::{self, Source, check_block, check_form};
use super::{Data, Disk, blocking, segment};
use crate::content::{Extent, ExtentId, Place};
use crate::gate::failed;

/// A segment on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentInfo {
    pub segment: u64,
    /// What its file takes, with what is dead and with the unused end.
    pub bytes: u64,
    pub closed: bool,
}

impl Disk {
    pub(super) fn segments(&self) -> Result<Vec<SegmentInfo>> {
        let folder = self.layout.segments();
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).map_err(|e| failed("read", folder, e))? {
            let entry = entry.map_err(|e| failed("read", folder, e))?;
            let Some(segment) = entry.file_name().to_str().and_then(segment_number) else { continue };
            let bytes = match entry.metadata() {
                Ok(found) => found.len(),
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(failed("look at", &entry.path(), e)),
            };
            found.push(SegmentInfo { segment, bytes, closed: self.held.is_closed(segment) });
        }
        found.sort_by_key(|info| info.segment);
        Ok(found)
    }

    /// Gives back the unused end of a segment that an earlier process began.
    /// `used` is where its last extent ends.
    pub(super) fn seal_segment(&self, segment: u64, used: u64) -> Result<()> {
        self.gate.check()?;
        self.must_be_closed(segment)?;
        let path = self.layout.segment(segment);
        let trim = || -> io::Result<()> {
            let file = OpenOptions::new().write(true).open(&path)?;
            let used = used.max(segment::ALIGN);
            if file.metadata()?.len() > used {
                self.files.truncate(&file, &path, used)?;
            }
            Ok(())
        };
        trim().map_err(|e| failed("truncate", &path, e))
    }

    /// Removes a segment that no row names; one that is not there is a success.
    pub(super) fn remove_segment(&self, segment: u64) -> Result<()> {
        self.gate.check()?;
        self.must_be_closed(segment)?;
        self.handles.forget(segment);
        self.unlink(&self.layout.segment(segment))
    }

    fn must_be_closed(&self, segment: u64) -> Result<()> {
        if self.held.is_closed(segment) {
            return Ok(());
        }
        Err(Error::Conflict(format!("segment {segment:016x} is still in use")))
    }

    /// The ids of files that nobody holds; those that no row names, looked up
    /// afterwards, are garbage.
    pub(super) fn files(self: &Arc<Self>) -> Result<impl Iterator<Item = Result<ExtentId>> + Send + use<>> {
        let disk = self.clone();
        let folders = (0..=255u8).map(move |byte| disk.layout.files().join(format!("{byte:02x}")));
        let ids = folders.flat_map(|folder| match fs::read_dir(&folder) {
            Ok(entries) => entries
                .map(|entry| entry.map_err(|e| failed("read", &folder, e)))
                .filter_map(|entry| match entry {
                    Ok(entry) => entry.file_name().to_str().and_then(file_id).map(Ok),
                    Err(e) => Some(Err(e)),
                })
                .collect(),
            Err(e) => vec![Err(failed("read", &folder, e))],
        });
        let disk = self.clone();
        Ok(ids.filter(move |id| !id.as_ref().is_ok_and(|id| disk.held.holds_file(id))))
    }
}

/// Copies the stored bytes of extents of segments to the open segment, synced
/// together. Id, seal and sums stay. Each has an answer of its own where its
/// bytes are damaged; a copy that fails fails all.
pub(super) async fn copy_many(data: &Data, extents: Vec<Extent>) -> Result<Vec<Result<Written>>> {
    let disk = data.disk().clone();
    let found = blocking(move || Result::Ok(extents.into_iter().map(|e| stored(&disk, e)).collect::<Vec<_>>())).await?;
    let records: Vec<Record> =
        found.iter().flatten().map(|(extent, stored)| Record { id: extent.id, stored: stored.clone() }).collect();
    let places = if records.is_empty() { Vec::new() } else { append(data.sender()?, records).await? };
    let mut places = places.into_iter();
    let written = found.into_iter().map(|found| {
        let (extent, _) = found?;
        let (place, guard) = places.next().ok_or_else(|| Error::bug("an extent has no place"))?;
        Ok(Written::new(Extent { place, ..extent }, data.disk().clone(), Some(guard)))
    });
    Ok(written.collect())
}

fn stored(disk: &Disk, extent: Extent) -> Result<(Extent, bytes::Bytes)> {
    if !matches!(extent.place, Place::Segment { .. }) {
        return Err(Error::bug("only extents of segments are copied from segment to segment"));
    }
    let read = || -> io::Result<Vec<u8>> {
        check_form(&extent)?;
        let length = source::length(&extent);
        if length > super::SEGMENT_STORED_MAX {
            return Err(source::damaged(&extent, format_args!("{length} bytes are too many for a segment")));
        }
        let mut stored = vec![0; length as usize];
        Source::open(disk, &extent)?.read(&extent, &mut stored, 0)?;
        check_block(&extent, 0, &stored)?;
        Ok(stored)
    };
    match read() {
        Ok(stored) => Ok((extent, stored.into())),
        Err(e) => Err(Error::internal(e.to_string(), e)),
    }
}
