//! Checking what lies on the disk, block by block; no key is needed.

use std::io;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use muonic_ports::Result;
use muonic_types::{Digest, Hasher};

use super::blocks::{self, BLOCK_BYTES, crc};
use super::source::{self, Source, check_block, check_form};
use super::{Disk, blocking};
use crate::content::{Extent, Place};
use crate::gate::failed;

/// What a check has found. Sentences are for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CheckOutcome {
    Good,
    /// A blob of format 1 without sums has the content it is named by; these
    /// are its sums, to be kept.
    Summed(Vec<u32>),
    /// By number; none where its row makes no sense, all where the whole is meant.
    Damaged {
        blocks: Vec<u64>,
        what: String,
    },
    /// There is no such file or segment.
    Missing {
        what: String,
    },
}

/// Called before each block with its length; the check goes on when it ends.
pub(crate) type Pace<'a> = &'a mut (dyn FnMut(u64) -> BoxFuture<'static, ()> + Send);

pub(super) async fn check(disk: &Arc<Disk>, extent: &Extent, pace: Pace<'_>) -> Result<CheckOutcome> {
    let count = blocks::count(source::length(extent));
    if let Err(e) = check_form(extent) {
        return Ok(CheckOutcome::Damaged { blocks: Vec::new(), what: e.to_string() });
    }
    let (opening, wanted) = (disk.clone(), extent.clone());
    let source = match blocking(move || Result::Ok(Source::open(&opening, &wanted))).await? {
        Ok(source) => Arc::new(source),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(CheckOutcome::Missing { what: e.to_string() }),
        Err(e) => return Err(muonic_ports::Error::internal(e.to_string(), e)),
    };
    let shared = Arc::new(extent.clone());
    let mut whole = match &extent.place {
        Place::Legacy { digest, .. } if extent.blocks.is_empty() => Some((Digest::from_bytes(*digest), Hasher::new())),
        _ => None,
    };
    let (mut sums, mut bad, mut what) = (Vec::new(), Vec::new(), None);
    for block in 0..count {
        let from = block * BLOCK_BYTES as u64;
        let len = (source::length(extent) - from).min(BLOCK_BYTES as u64);
        pace(len).await;
        let (disk, source, extent) = (disk.clone(), source.clone(), shared.clone());
        let (sum, kept) = blocking(move || {
            let mut buffer = disk.buffers.take(len as usize);
            let sum = source.read(&extent, buffer.as_mut(), from).and_then(|()| match &mut whole {
                Some((_, hasher)) => {
                    hasher.update(buffer.as_ref());
                    Ok(crc(buffer.as_ref()))
                }
                None => check_block(&extent, block, buffer.as_ref()).map(|()| 0),
            });
            Result::Ok((sum, whole))
        })
        .await?;
        whole = kept;
        match sum {
            Ok(sum) => sums.push(sum),
            Err(e) => {
                bad.push(block);
                what.get_or_insert(e.to_string());
            }
        }
    }
    if let Some(what) = what {
        return Ok(CheckOutcome::Damaged { blocks: bad, what });
    }
    let Some((digest, hasher)) = whole else { return Ok(CheckOutcome::Good) };
    if hasher.finish() != digest {
        let what = source::damaged(extent, format_args!("its content is not {digest}")).to_string();
        return Ok(CheckOutcome::Damaged { blocks: (0..count).collect(), what });
    }
    Ok(CheckOutcome::Summed(sums))
}

/// What of the extent is not on the disk at its size; content is not read.
pub(super) fn missing(disk: &Disk, extent: &Extent) -> Result<Option<String>> {
    let (path, end, exact) = match &extent.place {
        Place::Inline(_) => return Ok(None),
        Place::Segment { segment, offset, length } => {
            (disk.layout.segment(*segment), offset.saturating_add(*length), false)
        }
        Place::File { length } => (disk.layout.file(&extent.id), *length, true),
        Place::Legacy { digest, length } => (disk.layout.legacy(digest), *length, true),
    };
    let found = match std::fs::metadata(&path) {
        Ok(found) => found.len(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Some(format!("{} is missing", path.display()))),
        Err(e) => return Err(failed("look at", &path, e)),
    };
    if found == end || (!exact && found > end) {
        return Ok(None);
    }
    let wanted = if exact { "should have" } else { "should have at least" };
    Ok(Some(format!("{} has {found} bytes and {wanted} {end}", path.display())))
}
