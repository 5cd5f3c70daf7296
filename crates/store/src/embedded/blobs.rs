//! The port of blobs.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use muonic_ports::blob_store::{Blob, ByteStream, StoreHealth};
use muonic_ports::object_store::{Algorithm, NewEncryption};
use muonic_ports::{BlobStore, Error, Result};
use muonic_types::Digest;

use super::{EmbeddedStore, plain};
use crate::content::Extent;

#[async_trait]
impl BlobStore for EmbeddedStore {
    async fn put(&self, body: ByteStream, expect: Option<Digest>) -> Result<Blob> {
        self.must_be_writable()?;
        let (seal, _) = self.sealing(&NewEncryption::Store).map_err(plain)?;
        let sums = BTreeSet::from([Algorithm::Sha256]);
        let (written, sums) = self.data().write(body, &sums, seal).await.map_err(plain)?;
        let found = sums.found.get(&Algorithm::Sha256).and_then(|sum| <[u8; 32]>::try_from(sum.as_slice()).ok());
        let digest = Digest::from_bytes(found.ok_or_else(|| Error::bug("a blob has no digest"))?);
        check(&digest, expect.as_ref())?;
        let (index, extent) = (self.index().clone(), written.extent().clone());
        let named = self.named(written, |extent| async move { index.blob_put_many(vec![(digest, extent)]).await });
        let named = named.await.map_err(plain)?;
        if named != [true] {
            self.free(extent).await;
        }
        Ok(Blob { digest, size: sums.size })
    }

    async fn put_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Result<()> {
        self.must_be_writable()?;
        let mut seen = HashSet::new();
        let mut new = Vec::with_capacity(blobs.len());
        for (digest, bytes) in blobs {
            if seen.insert(digest) {
                new.push((digest, bytes));
            }
        }
        // Digests first, so that one wrong blob keeps all of them out.
        let new = crate::data::blocking(move || {
            new.iter().try_for_each(|(digest, bytes)| check(&Digest::of(bytes), Some(digest)))?;
            Result::Ok(new)
        })
        .await?;
        let (mut digests, mut bodies) = (Vec::new(), Vec::new());
        for (digest, bytes) in new {
            if self.index().blob(&digest).map_err(plain)?.is_none() {
                digests.push(digest);
                bodies.push(bytes);
            }
        }
        if digests.is_empty() {
            return Ok(());
        }
        let (seal, _) = self.sealing(&NewEncryption::Store).map_err(plain)?;
        let written = self.data().write_many(bodies, seal).await.map_err(plain)?;
        let (extents, pending): (Vec<_>, Vec<_>) = written.into_iter().map(|w| w.hand_over()).unzip();
        let index = self.index().clone();
        let rows: Vec<_> = digests.into_iter().zip(extents.iter().cloned()).collect();
        let named = tokio::spawn(async move {
            let answer = index.blob_put_many(rows).await;
            drop(pending);
            answer
        });
        let named = named.await.map_err(|e| Error::internal("blobs could not be named", e))?.map_err(plain)?;
        for (extent, _) in extents.into_iter().zip(named).filter(|(_, new)| !new) {
            self.free(extent).await;
        }
        Ok(())
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.index().blob(digest).map_err(plain)?.map(|extent| extent.size))
    }

    async fn get(&self, digest: &Digest, range: Option<Range<u64>>) -> Result<(u64, ByteStream)> {
        let extent = self.index().blob(digest).map_err(plain)?;
        let extent = extent.ok_or_else(|| Error::NotFound(format!("there is no blob {digest}")))?;
        let body = self.data().read(&extent, range, None).await.map_err(plain)?;
        Ok((extent.size, body))
    }

    async fn blobs(&self, after: Option<Digest>, max: u32) -> Result<Vec<Blob>> {
        let found = self.index().blobs(after, max).await.map_err(plain)?;
        Ok(found.into_iter().map(|(digest, size)| Blob { digest, size }).collect())
    }

    async fn remove(&self, digest: &Digest) -> Result<()> {
        self.must_be_writable()?;
        // A backup that has copied the metastore and not yet the index.
        let _allowed = self.inner.backup.removals.read().await;
        self.index().blob_remove(digest).await.map_err(plain)?;
        Ok(())
    }

    async fn health(&self) -> StoreHealth {
        self.health_now().await
    }
}

impl EmbeddedStore {
    /// Frees an extent of a blob that was there already.
    async fn free(&self, extent: Extent) {
        let data = self.data().clone();
        if let Err(error) = crate::data::blocking(move || data.free(&extent)).await {
            tracing::warn!(%error, "a file that nobody needs stays until it is swept");
        }
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
