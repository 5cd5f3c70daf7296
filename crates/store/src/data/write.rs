//! Writing. Small bodies are sealed where they arrive and go to the index or
//! to a segment. A long one is taken in batches: while the next is gathered,
//! MD5 runs on one thread, everything else on another. No thread is held while
//! a slow client sends.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join3;
use muonic_ports::blob_store::ByteStream;
use muonic_ports::object_store::{Algorithm, Result, Sums};
use muonic_ports::{Error, Result as PortResult};
use tokio::sync::mpsc;

use super::append::{Record, append};
use super::batch::{Batch, gather};
use super::blocks::crc;
use super::frames::{FRAME_BYTES, FrameKey, TAG_BYTES};
use super::held::Written;
use super::seal::{self, SealWith};
use super::sums::{Md5Sum, Others};
use super::upload::Upload;
use super::{Data, Disk, blocking};
use crate::content::{Extent, ExtentId, Place, Seal};
use crate::keys::random;

/// Many blobs in one call: files are written by so many at a time.
const FILES_AT_ONCE: usize = 4;

pub(super) async fn write(
    data: &Data,
    mut body: ByteStream,
    algorithms: &BTreeSet<Algorithm>,
    with: SealWith<'_>,
) -> Result<(Written, Sums)> {
    let disk = data.disk();
    disk.gate.check()?;
    let writing = disk.writes.begin();
    let id: ExtentId = random()?;
    let key = seal::make(&disk.keys, id, with).await?;
    let (first, ended) = gather(&mut body).await?;
    if ended && first.len <= disk.settings.segment_content_max {
        let (mut md5, mut others) = (Md5Sum::new(), Others::new(algorithms));
        for piece in &first.pieces {
            md5.update(piece);
            others.update(piece);
        }
        let sums = Sums { size: first.len as u64, md5: md5.finish(), found: others.finish().into_iter().collect() };
        let small = Small::seal(id, &first.pieces, key)?;
        return Ok((small.store(data).await?.within(writing), sums));
    }
    let (written, sums) = stream(disk, id, key, first, ended, body, Others::new(algorithms)).await?;
    Ok((written.within(writing), sums))
}

enum Step {
    Pieces(Arc<[Bytes]>),
    /// The body has ended as it should; a queue that merely closes has not.
    End,
}

async fn stream(
    disk: &Arc<Disk>,
    id: ExtentId,
    key: Option<(FrameKey, Seal)>,
    first: Batch,
    mut ended: bool,
    mut body: ByteStream,
    others: Others,
) -> Result<(Written, Sums)> {
    let (to_md5, from_md5) = mpsc::channel(1);
    let (to_file, from_file) = mpsc::channel(1);
    let feed = async move {
        let (mut batch, mut size) = (first, 0u64);
        loop {
            size += batch.len as u64;
            let pieces: Arc<[Bytes]> = batch.pieces.into();
            // A lane that has gone has an error of its own.
            let _ = to_md5.send(Step::Pieces(pieces.clone())).await;
            let _ = to_file.send(Step::Pieces(pieces)).await;
            if ended {
                break;
            }
            (batch, ended) = gather(&mut body).await?;
        }
        let _ = to_md5.send(Step::End).await;
        let _ = to_file.send(Step::End).await;
        Ok(size)
    };
    let (size, md5, (written, found)) =
        try_join3(feed, md5_lane(from_md5), file_lane(disk, id, key, from_file, others)).await?;
    Ok((written, Sums { size, md5, found: found.into_iter().collect() }))
}

async fn md5_lane(mut steps: mpsc::Receiver<Step>) -> PortResult<[u8; 16]> {
    let mut md5 = Md5Sum::new();
    while let Some(step) = steps.recv().await {
        let Step::Pieces(pieces) = step else { return Ok(md5.finish()) };
        md5 = blocking(move || {
            pieces.iter().for_each(|piece| md5.update(piece));
            PortResult::Ok(md5)
        })
        .await?;
    }
    Err(cut_off())
}

async fn file_lane(
    disk: &Arc<Disk>,
    id: ExtentId,
    key: Option<(FrameKey, Seal)>,
    mut steps: mpsc::Receiver<Step>,
    mut others: Others,
) -> PortResult<(Written, Vec<(Algorithm, Vec<u8>)>)> {
    let disk = disk.clone();
    let mut upload = blocking(move || Upload::create(&disk, id, key)).await?;
    while let Some(step) = steps.recv().await {
        let Step::Pieces(pieces) = step else {
            return blocking(move || Ok((upload.finish()?, others.finish()))).await;
        };
        (upload, others) = blocking(move || {
            for piece in &*pieces {
                others.update(piece);
                upload.write(piece)?;
            }
            PortResult::Ok((upload, others))
        })
        .await?;
    }
    Err(cut_off())
}

fn cut_off() -> Error {
    Error::bug("a body ended without an end")
}

/// Content of at most one frame, in its stored form.
struct Small {
    id: ExtentId,
    size: usize,
    seal: Option<Seal>,
    stored: Bytes,
}

impl Small {
    fn seal(id: ExtentId, pieces: &[Bytes], key: Option<(FrameKey, Seal)>) -> PortResult<Self> {
        let size = pieces.iter().map(Bytes::len).sum();
        // Copied: a piece may keep a large buffer of the network alive.
        let mut stored = Vec::with_capacity(size + TAG_BYTES);
        pieces.iter().for_each(|piece| stored.extend_from_slice(piece));
        let (key, seal) = key.unzip();
        if let Some(key) = key
            && size > 0
        {
            key.seal(0, true, &mut stored)?;
        }
        Ok(Self { id, size, seal, stored: stored.into() })
    }

    fn extent(self, place: Place) -> Extent {
        let blocks = if self.stored.is_empty() { Vec::new() } else { vec![crc(&self.stored)] };
        Extent { id: self.id, size: self.size as u64, place, seal: self.seal, blocks }
    }

    async fn store(self, data: &Data) -> PortResult<Written> {
        let mut all = store_small(data, vec![self]).await?;
        all.pop().ok_or_else(|| Error::bug("an extent has no place"))
    }
}

/// Those for segments are made durable together.
async fn store_small(data: &Data, smalls: Vec<Small>) -> PortResult<Vec<Written>> {
    let disk = data.disk();
    let inline = |small: &Small| small.size <= disk.settings.inline_max;
    let records: Vec<Record> = smalls
        .iter()
        .filter(|small| !inline(small))
        .map(|small| Record { id: small.id, stored: small.stored.clone() })
        .collect();
    let places = if records.is_empty() { Vec::new() } else { append(data.sender()?, records).await? };
    let mut places = places.into_iter();
    smalls
        .into_iter()
        .map(|small| {
            let (place, guard) = if inline(&small) {
                (Place::Inline(small.stored.clone()), None)
            } else {
                let (place, guard) = places.next().ok_or_else(|| Error::bug("an extent has no place"))?;
                (place, Some(guard))
            };
            Ok(Written::new(small.extent(place), disk.clone(), guard))
        })
        .collect()
}

pub(super) async fn write_many(data: &Data, blobs: Vec<Bytes>, with: SealWith<'_>) -> Result<Vec<Written>> {
    let disk = data.disk();
    disk.gate.check()?;
    let writing = disk.writes.begin();
    let mut smalls = Vec::new();
    let mut large = Vec::new();
    let mut is_small = Vec::with_capacity(blobs.len());
    for blob in blobs {
        let id: ExtentId = random()?;
        let key = seal::make(&disk.keys, id, with).await?;
        is_small.push(blob.len() <= disk.settings.segment_content_max);
        if blob.len() <= disk.settings.segment_content_max {
            smalls.push(Small::seal(id, &[blob], key)?);
        } else {
            large.push((id, key, blob));
        }
    }
    let mut files = Vec::with_capacity(large.len());
    let mut large = large.into_iter();
    loop {
        let tasks: Vec<_> = large
            .by_ref()
            .take(FILES_AT_ONCE)
            .map(|(id, key, blob)| {
                let disk = disk.clone();
                blocking(move || {
                    let mut upload = Upload::create(&disk, id, key)?;
                    upload.write(&blob)?;
                    upload.finish()
                })
            })
            .collect();
        if tasks.is_empty() {
            break;
        }
        files.extend(futures_util::future::try_join_all(tasks).await?);
    }
    let (mut files, mut smalls) = (files.into_iter(), store_small(data, smalls).await?.into_iter());
    let written = is_small.into_iter().filter_map(|small| if small { smalls.next() } else { files.next() });
    Ok(written.map(|written| written.within(writing.clone())).collect())
}

// One frame is all that a small extent may be.
const _: () = assert!(super::SEGMENT_CONTENT_MAX <= FRAME_BYTES);
