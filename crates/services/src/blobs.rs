//! Blobs and trees: bytes by content address, sent once.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use muonic_ports::blob_store::{Blob, ByteStream};
use muonic_ports::{BlobStore, Clock, Metastore};
use muonic_types::blob::{
    DIGESTS_MAX, Digests, MissingBlobs, NewTree, PACK_HEAD_MAX, PackStored, TreeBody, TreeSummary, pack_head,
    parse_pack_head,
};
use muonic_types::key::Principal;
use muonic_types::{Digest, ErrorCode, Tree};
use tokio::sync::{OwnedSemaphorePermit, RwLock, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::auth::{Action, authorise};
use crate::{Error, Result};

/// Blobs up to this size are gathered and made durable together.
const SMALL: u64 = 256 << 10;
/// A gathering is stored once it has this many bytes or blobs.
const GATHER_BYTES: usize = 16 << 20;
const GATHER_BLOBS: usize = 1_000;
/// Largest stored tree that is read into memory (a million long paths).
const TREE_BYTES_MAX: u64 = 512 << 20;

/// Trees made or read at once, packs gathered at once; others wait this long.
const TREES_MAX: usize = 2;
const PACKS_MAX: usize = 32;
const PLACE_TIMEOUT: Duration = Duration::from_secs(60);

pub struct Blobs {
    meta: Arc<dyn Metastore>,
    store: Arc<dyn BlobStore>,
    clock: Arc<dyn Clock>,
    trees: Arc<Semaphore>,
    packs: Arc<Semaphore>,
    /// Steps in which blobs were freed. Who builds on blobs that are there
    /// holds it for reading while it does; the collector, for writing.
    pub(crate) collections: RwLock<u64>,
}

/// Held while a tree is made.
pub struct TreePlace(#[allow(dead_code)] OwnedSemaphorePermit);

impl Blobs {
    pub fn new(meta: Arc<dyn Metastore>, store: Arc<dyn BlobStore>, clock: Arc<dyn Clock>) -> Self {
        let (trees, packs) = (Arc::new(Semaphore::new(TREES_MAX)), Arc::new(Semaphore::new(PACKS_MAX)));
        Self { meta, store, clock, trees, packs, collections: RwLock::new(0) }
    }

    /// Stores blobs and records them. If blobs were freed in between, one that
    /// was there already may be gone with them: then the caller tries again.
    async fn stored(&self, put: impl Future<Output = Result<Vec<Blob>>>) -> Result<()> {
        let before = *self.collections.read().await;
        let blobs = put.await?;
        let now = self.collections.read().await;
        if *now != before {
            for blob in &blobs {
                if self.store.size(&blob.digest).await?.is_none() {
                    return Err(Error::new(ErrorCode::Unavailable, "unused blobs were freed during this upload")
                        .hint("send it again"));
                }
            }
        }
        Ok(self.meta.blobs_insert(&blobs, self.clock.now()).await?)
    }

    pub async fn missing(&self, caller: &Principal, ask: Digests) -> Result<MissingBlobs> {
        authorise(caller, Action::WriteData)?;
        check_count(&ask.digests)?;
        Ok(MissingBlobs { missing: self.meta.blobs_missing(&ask.digests).await? })
    }

    /// Stores every blob of a pack. Those before a bad record stay stored,
    /// which harms nobody: they are what their digest says.
    pub async fn put_pack(&self, caller: &Principal, body: ByteStream) -> Result<PackStored> {
        authorise(caller, Action::WriteData)?;
        let _place = place(&self.packs).await?;
        let mut reader = PackReader::new(body);
        let mut gathered: Vec<(Digest, Bytes)> = Vec::new();
        let mut gathered_bytes = 0;
        let mut stored = PackStored { blobs: 0, bytes: 0 };
        while let Some((digest, size)) = reader.head().await? {
            if size <= SMALL {
                let bytes = reader.exactly(size as usize).await?;
                gathered_bytes += bytes.len();
                gathered.push((digest, bytes));
            } else {
                self.put_large(&mut reader, digest, size).await?;
            }
            stored.blobs += 1;
            stored.bytes += size;
            if gathered_bytes >= GATHER_BYTES || gathered.len() >= GATHER_BLOBS {
                self.put_gathered(std::mem::take(&mut gathered)).await?;
                gathered_bytes = 0;
            }
        }
        self.put_gathered(gathered).await?;
        Ok(stored)
    }

    async fn put_gathered(&self, blobs: Vec<(Digest, Bytes)>) -> Result<()> {
        if blobs.is_empty() {
            return Ok(());
        }
        let records: Vec<Blob> =
            blobs.iter().map(|(digest, b)| Blob { digest: *digest, size: b.len() as u64 }).collect();
        self.stored(async {
            self.store.put_batch(blobs).await?;
            Ok(records)
        })
        .await
    }

    async fn put_large(&self, reader: &mut PackReader, digest: Digest, size: u64) -> Result<()> {
        let (sender, receiver) = mpsc::channel::<std::io::Result<Bytes>>(4);
        let body: ByteStream =
            Box::pin(futures_util::stream::unfold(
                receiver,
                |mut r| async move { r.recv().await.map(|item| (item, r)) },
            ));
        // The store stops reading where it refuses; then sending fails and
        // its own error is the one that counts.
        let stop = CancellationToken::new();
        let feed = async {
            let mut left = size;
            while left > 0 {
                let piece = tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    piece = reader.some(left) => piece,
                };
                match piece {
                    Ok(bytes) => {
                        left -= bytes.len() as u64;
                        if sender.send(Ok(bytes)).await.is_err() {
                            return Ok(());
                        }
                    }
                    Err(e) => {
                        let _ = sender.send(Err(std::io::Error::other(e.message.clone()))).await;
                        return Err(e);
                    }
                }
            }
            drop(sender);
            Ok(())
        };
        let put = async {
            let result = self.store.put(body, Some(digest)).await;
            stop.cancel();
            result
        };
        self.stored(async {
            let (fed, put) = tokio::join!(feed, put);
            fed?;
            Ok(vec![put?])
        })
        .await
    }

    /// A blob's size and bytes, or a range of them.
    pub async fn get(
        &self,
        caller: &Principal,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<(u64, ByteStream)> {
        authorise(caller, Action::ReadBlobs)?;
        Ok(self.store.get(digest, range).await?)
    }

    pub async fn size(&self, caller: &Principal, digest: &Digest) -> Result<u64> {
        authorise(caller, Action::ReadBlobs)?;
        self.store.size(digest).await?.ok_or_else(|| Error::not_found(format!("there is no blob {digest}")))
    }

    /// Many blobs as one pack, in the order asked for. Missing ones are named
    /// before the first byte is sent.
    pub async fn get_pack(&self, caller: &Principal, ask: Digests) -> Result<ByteStream> {
        authorise(caller, Action::ReadBlobs)?;
        check_count(&ask.digests)?;
        let sizes = self.meta.blob_sizes(&ask.digests).await?;
        if let Some(missing) = ask.digests.iter().find(|d| !sizes.contains_key(d)) {
            return Err(Error::not_found(format!("there is no blob {missing}")));
        }
        let store = self.store.clone();
        let wanted = futures_util::stream::iter(ask.digests);
        let records = wanted.then(move |digest| {
            let store = store.clone();
            async move {
                let (size, body) = store.get(&digest, None).await.map_err(std::io::Error::other)?;
                let head = Bytes::from(pack_head(&digest, size));
                Ok::<_, std::io::Error>(futures_util::stream::once(async { Ok(head) }).chain(body))
            }
        });
        let flat = records.flat_map(|record| match record {
            Ok(body) => body.left_stream(),
            Err(e) => futures_util::stream::once(async { Err(e) }).right_stream(),
        });
        Ok(Box::pin(flat))
    }

    /// A large tree takes memory and time before anything of it is known to be
    /// right: few are made at once, and only for those who may.
    pub async fn place_for_tree(&self, caller: &Principal) -> Result<TreePlace> {
        authorise(caller, Action::WriteData)?;
        Ok(TreePlace(place(&self.trees).await?))
    }

    /// Makes a tree of blobs that have been uploaded.
    pub async fn put_tree(&self, caller: &Principal, new: NewTree, _place: TreePlace) -> Result<TreeSummary> {
        authorise(caller, Action::WriteData)?;
        let tree = aside(move || Ok(Tree::new(new.entries)?)).await?;
        // What the tree names must still be there when the tree is.
        let _none_are_freed = self.collections.read().await;
        let mut sizes: HashMap<Digest, u64> = HashMap::new();
        let digests: Vec<Digest> = tree.entries().iter().map(|e| e.digest).collect();
        for chunk in digests.chunks(DIGESTS_MAX) {
            sizes.extend(self.meta.blob_sizes(chunk).await?);
        }
        for entry in tree.entries() {
            match sizes.get(&entry.digest) {
                None => {
                    return Err(muonic_ports::Error::MissingBlobs(format!(
                        "the blob {} of '{}' has not been uploaded",
                        entry.digest, entry.path
                    ))
                    .into());
                }
                Some(size) if *size != entry.size => {
                    return Err(Error::invalid(format!(
                        "'{}' is said to have {} bytes; its blob has {size}",
                        entry.path, entry.size
                    )));
                }
                Some(_) => {}
            }
        }
        let (encoded, blob, summary) = aside(move || {
            let encoded = Bytes::from(tree.encode());
            let blob = Blob { digest: Digest::of(&encoded), size: encoded.len() as u64 };
            let summary = TreeSummary { digest: blob.digest, files: tree.entries().len() as u64, bytes: tree.bytes() };
            Ok((encoded, blob, summary))
        })
        .await?;
        self.store.put_batch(vec![(blob.digest, encoded)]).await?;
        let now = self.clock.now();
        self.meta.blobs_insert(&[blob], now).await?;
        self.meta.tree_insert(&summary, now).await?;
        Ok(summary)
    }

    pub async fn get_tree(&self, caller: &Principal, digest: &Digest) -> Result<TreeBody> {
        authorise(caller, Action::ReadBlobs)?;
        self.meta.tree_get(digest).await?.ok_or_else(|| Error::not_found(format!("there is no tree {digest}")))?;
        let tree = self.read_tree(digest).await?;
        Ok(TreeBody { digest: *digest, entries: tree.entries().to_vec() })
    }

    /// A tree that is there.
    pub(crate) async fn read_tree(&self, digest: &Digest) -> Result<Tree> {
        let place = self.place_to_read().await?;
        self.read_tree_in(&place, digest).await
    }

    pub(crate) async fn place_to_read(&self) -> Result<TreePlace> {
        Ok(TreePlace(place(&self.trees).await?))
    }

    pub(crate) async fn read_tree_in(&self, _place: &TreePlace, digest: &Digest) -> Result<Tree> {
        let (size, mut body) = self.store.get(digest, None).await?;
        if size > TREE_BYTES_MAX {
            return Err(muonic_ports::Error::bug(format!("tree {digest} has {size} bytes")).into());
        }
        let mut bytes = Vec::with_capacity(size as usize);
        while let Some(piece) = body.next().await {
            bytes.extend_from_slice(
                &piece.map_err(|e| muonic_ports::Error::internal(format!("tree {digest} cannot be read"), e))?,
            );
        }
        let digest = *digest;
        aside(move || {
            let tree = Tree::decode(&bytes);
            Ok(tree.map_err(|e| muonic_ports::Error::internal(format!("tree {digest} is damaged"), e))?)
        })
        .await
    }
}

/// Work that would hold up the event loop.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(muonic_ports::Error::internal("work on a tree failed", e).into()))
}

async fn place(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    match tokio::time::timeout(PLACE_TIMEOUT, places.clone().acquire_owned()).await {
        Ok(Ok(place)) => Ok(place),
        _ => Err(Error::new(ErrorCode::TooManyRequests, "too many uploads are under way already")
            .hint("try again in a moment")),
    }
}

fn check_count(digests: &[Digest]) -> Result<()> {
    if digests.len() > DIGESTS_MAX {
        return Err(Error::invalid(format!(
            "{} digests are too many; at most {DIGESTS_MAX} fit in one request",
            digests.len()
        )));
    }
    Ok(())
}

/// Splits a pack into records as it arrives; holds at most one piece of the
/// body and what was asked for.
pub(crate) struct PackReader {
    body: ByteStream,
    buffer: BytesMut,
    ended: bool,
}

impl PackReader {
    pub(crate) fn new(body: ByteStream) -> Self {
        Self { body, buffer: BytesMut::new(), ended: false }
    }

    async fn fill(&mut self) -> Result<bool> {
        match self.body.next().await {
            Some(Ok(bytes)) => {
                self.buffer.extend_from_slice(&bytes);
                Ok(true)
            }
            Some(Err(e)) => Err(muonic_ports::Error::Body(e).into()),
            None => {
                self.ended = true;
                Ok(false)
            }
        }
    }

    pub(crate) async fn head(&mut self) -> Result<Option<(Digest, u64)>> {
        loop {
            let within = self.buffer.len().min(PACK_HEAD_MAX);
            if let Some(at) = self.buffer[..within].iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(at + 1);
                return Ok(Some(parse_pack_head(&line[..at])?));
            }
            if self.buffer.len() >= PACK_HEAD_MAX || (self.ended && !self.buffer.is_empty()) {
                return Err(Error::invalid("a pack record must begin with a line 'sha256:<hex> <size>'"));
            }
            if self.ended || (!self.fill().await? && self.buffer.is_empty()) {
                return Ok(None);
            }
        }
    }

    /// At least one and at most `most` bytes.
    pub(crate) async fn some(&mut self, most: u64) -> Result<Bytes> {
        while self.buffer.is_empty() {
            if self.ended || !self.fill().await? {
                return Err(Error::invalid("the pack ended in the middle of a blob"));
            }
        }
        let take = usize::try_from(most).unwrap_or(usize::MAX).min(self.buffer.len());
        Ok(self.buffer.split_to(take).freeze())
    }

    async fn exactly(&mut self, size: usize) -> Result<Bytes> {
        while self.buffer.len() < size {
            if self.ended || !self.fill().await? {
                return Err(Error::invalid("the pack ended in the middle of a blob"));
            }
        }
        Ok(self.buffer.split_to(size).freeze())
    }
}
