//! Writing. A stream is taken in batches of a mebibyte: while one batch is
//! hashed and written, on two threads, the next is gathered. No thread is held
//! while a slow client sends, and an upload holds about two batches of memory.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, future::try_join_all};
use muonic_ports::blob_store::{Blob, ByteStream};
use muonic_ports::{Error, Result};
use muonic_types::{Digest, Hasher};

use super::{Disk, blocking, size_of};
use crate::gate::{failed, is_full};

pub(super) const BATCH_BYTES: usize = 1 << 20;
/// Pieces shorter than this are copied together, so that a stream of single
/// bytes does not become a million little allocations.
const PIECE_BYTES_MIN: usize = 16 << 10;
/// The disk begins its work each time this much has come, not at the end.
const FLUSH_BYTES: u64 = 8 << 20;
/// Threads that write one `put_batch`: enough that syncs meet in one journal
/// commit, few enough to leave threads to others.
const BATCH_THREADS: usize = 8;

/// Some bytes of a stream, in order.
#[derive(Default)]
struct Batch {
    pieces: Vec<Bytes>,
    /// Small pieces not yet in `pieces`.
    tail: BytesMut,
    len: usize,
}

impl Batch {
    fn push(&mut self, piece: Bytes) {
        self.len += piece.len();
        if piece.len() < PIECE_BYTES_MIN {
            self.tail.extend_from_slice(&piece);
        } else {
            self.flush();
            self.pieces.push(piece);
        }
    }

    fn flush(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(self.tail.split().freeze());
        }
    }
}

/// The next batch, and whether the stream has ended.
async fn gather(body: &mut ByteStream) -> Result<(Batch, bool)> {
    let mut batch = Batch::default();
    let mut ended = false;
    while batch.len < BATCH_BYTES {
        match body.next().await {
            Some(Ok(piece)) => batch.push(piece),
            Some(Err(e)) => return Err(Error::Body(e)),
            None => {
                ended = true;
                break;
            }
        }
    }
    batch.flush();
    Ok((batch, ended))
}

/// A file under tmp, open for writing.
struct Upload {
    file: File,
    temp: Temp,
    written: u64,
    /// Up to here the kernel has been told to begin writing to the disk.
    started: u64,
}

impl Upload {
    fn create(disk: &Arc<Disk>) -> Result<Self> {
        let path = disk.layout.temp()?;
        let file = disk.files.create(&path).map_err(|e| failed("create", &path, e))?;
        Ok(Self { file, temp: Temp { disk: disk.clone(), path, moved: false }, written: 0, started: 0 })
    }

    fn write(&mut self, pieces: &[Bytes]) -> Result<()> {
        let Temp { disk, path, .. } = &self.temp;
        for piece in pieces {
            disk.files.write(&mut self.file, path, piece).map_err(|e| failed("write", path, e))?;
            self.written += piece.len() as u64;
        }
        if self.written >= self.started + FLUSH_BYTES {
            disk.files.start_sync(&self.file, self.started, self.written - self.started);
            self.started = self.written;
        }
        Ok(())
    }

    /// Makes the content durable and closes the file.
    fn sync(self) -> Result<Temp> {
        let Temp { disk, path, .. } = &self.temp;
        match disk.files.sync_file(&self.file, path) {
            Ok(()) => Ok(self.temp),
            Err(e) if is_full(&e) => Err(Error::DiskFull),
            Err(e) => Err(disk.gate.sync_failed(path, &e)),
        }
    }
}

/// A file under tmp; gone when dropped, unless it was moved into place.
struct Temp {
    disk: Arc<Disk>,
    path: PathBuf,
    moved: bool,
}

impl Temp {
    /// Makes synced content visible, not yet durable by name.
    fn move_to(mut self, digest: &Digest) -> Result<()> {
        let target = self.disk.layout.blob(digest);
        self.disk.files.rename(&self.path, &target).map_err(|e| failed("rename a file to", &target, e))?;
        self.moved = true;
        Ok(())
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.moved
            && let Err(error) = self.disk.files.remove(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a temporary file stays until the next start");
        }
    }
}

impl Disk {
    fn sync_folder(&self, folder: &std::path::Path) -> Result<()> {
        self.files.sync_folder(folder).map_err(|e| self.gate.sync_failed(folder, &e))
    }

    /// True where the blob is there with this size. One of another size is
    /// damaged and is written over.
    fn holds(&self, digest: &Digest, size: u64) -> Result<bool> {
        Ok(size_of(&self.layout.blob(digest))? == Some(size))
    }

    /// The last steps of a put.
    fn keep(&self, upload: Upload, blob: Blob) -> Result<Blob> {
        self.gate.check()?;
        if self.holds(&blob.digest, blob.size)? {
            drop(upload);
        } else {
            upload.sync()?.move_to(&blob.digest)?;
        }
        self.sync_folder(&self.layout.folder(&blob.digest))?;
        Ok(blob)
    }
}

fn check(digest: &Digest, expect: Option<&Digest>) -> Result<()> {
    match expect {
        Some(expect) if expect != digest => {
            Err(Error::Checksum(format!("the bytes are {digest}, not {expect} as announced")))
        }
        _ => Ok(()),
    }
}

pub(super) async fn put(disk: &Arc<Disk>, mut body: ByteStream, expect: Option<Digest>) -> Result<Blob> {
    disk.gate.check()?;
    let (mut batch, mut ended) = gather(&mut body).await?;
    let disk = disk.clone();
    if ended {
        return blocking(move || put_small(&disk, &batch.pieces, expect.as_ref())).await;
    }

    let mut hasher = Hasher::new();
    let mut upload = blocking({
        let disk = disk.clone();
        move || Upload::create(&disk)
    })
    .await?;
    let mut size = 0;
    loop {
        size += batch.len as u64;
        let pieces: Arc<[Bytes]> = batch.pieces.into();
        let hash = blocking({
            let pieces = pieces.clone();
            move || {
                pieces.iter().for_each(|piece| hasher.update(piece));
                Ok(hasher)
            }
        });
        let write = blocking(move || {
            upload.write(&pieces)?;
            Ok(upload)
        });
        let next = async { if ended { Ok((Batch::default(), true)) } else { gather(&mut body).await } };
        let was_last = ended;
        (hasher, upload, (batch, ended)) = futures_util::future::try_join3(hash, write, next).await?;
        if was_last {
            break;
        }
    }
    blocking(move || {
        let digest = hasher.finish();
        check(&digest, expect.as_ref())?;
        disk.keep(upload, Blob { digest, size })
    })
    .await
}

/// A body of one batch: all of it on one thread, hashed before a file is made.
fn put_small(disk: &Arc<Disk>, pieces: &[Bytes], expect: Option<&Digest>) -> Result<Blob> {
    let mut hasher = Hasher::new();
    pieces.iter().for_each(|piece| hasher.update(piece));
    let digest = hasher.finish();
    check(&digest, expect)?;
    let blob = Blob { digest, size: pieces.iter().map(|piece| piece.len() as u64).sum() };
    disk.gate.check()?;
    if disk.holds(&digest, blob.size)? {
        disk.sync_folder(&disk.layout.folder(&digest))?;
        return Ok(blob);
    }
    let mut upload = Upload::create(disk)?;
    upload.write(pieces)?;
    disk.keep(upload, blob)
}

pub(super) async fn put_batch(disk: &Arc<Disk>, mut blobs: Vec<(Digest, Bytes)>) -> Result<()> {
    disk.gate.check()?;
    let mut seen = HashSet::new();
    blobs.retain(|(digest, _)| seen.insert(*digest));
    if blobs.is_empty() {
        return Ok(());
    }

    // Digests first, so that one wrong blob keeps all of them out.
    let mut shares: Vec<Vec<(Digest, Bytes)>> = vec![Vec::new(); BATCH_THREADS.min(blobs.len())];
    let count = shares.len();
    for (at, blob) in blobs.into_iter().enumerate() {
        shares[at % count].push(blob);
    }
    let shares = try_join_all(shares.into_iter().map(|share| {
        blocking(move || {
            for (digest, bytes) in &share {
                check(&Digest::of(bytes), Some(digest))?;
            }
            Ok(share)
        })
    }))
    .await?;

    let mut folders = BTreeSet::new();
    for (digest, _) in shares.iter().flatten() {
        folders.insert(disk.layout.folder(digest));
    }
    let folders: Vec<PathBuf> = folders.into_iter().collect();

    let written = try_join_all(shares.into_iter().map(|share| {
        let disk = disk.clone();
        blocking(move || {
            let mut temps = Vec::with_capacity(share.len());
            for (digest, bytes) in share {
                if disk.holds(&digest, bytes.len() as u64)? {
                    continue;
                }
                let mut upload = Upload::create(&disk)?;
                upload.write(&[bytes])?;
                temps.push((digest, upload.sync()?));
            }
            Ok(temps)
        })
    }))
    .await?;

    let disk_of_renames = disk.clone();
    blocking(move || {
        disk_of_renames.gate.check()?;
        for (digest, temp) in written.into_iter().flatten() {
            temp.move_to(&digest)?;
        }
        Ok(())
    })
    .await?;

    let per_thread = folders.len().div_ceil(BATCH_THREADS);
    try_join_all(folders.chunks(per_thread).map(|share| {
        let disk = disk.clone();
        let share = share.to_vec();
        blocking(move || share.iter().try_for_each(|folder| disk.sync_folder(folder)))
    }))
    .await?;
    Ok(())
}
