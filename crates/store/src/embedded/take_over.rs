//! From format 1: its blobs are named by the index where they lie, and its
//! objects, which the metastore kept, become versions. Each step may be
//! repeated, and is until all of it is done.

use std::fs;
use std::io;
use std::path::Path;

use data_encoding::{BASE64, HEXLOWER};
use muonic_ports::Result;
use muonic_ports::object_store::{Algorithm, Error, NewObject, Target};
use muonic_types::Digest;

use super::{EmbeddedStore, plain};
use crate::content::{Extent, Place};
use crate::gate::failed;
use crate::index::Index;
use crate::keys::random;

const STEP: usize = 1000;
const CHECKSUM: &str = "x-amz-checksum-";

/// Blocks, as all of opening does.
pub(super) async fn blobs_of_format_1(root: &Path, index: &Index) -> Result<()> {
    let temp = root.join("tmp");
    match fs::remove_dir_all(&temp) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &temp, e)),
        _ => {}
    }
    let blobs = root.join("blobs");
    let folders = match fs::read_dir(&blobs) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        folders => folders.map_err(|e| failed("read", &blobs, e))?,
    };
    let mut batch = Vec::new();
    for folder in folders {
        let folder = folder.map_err(|e| failed("read", &blobs, e))?.path();
        for file in fs::read_dir(&folder).map_err(|e| failed("read", &folder, e))? {
            let file = file.map_err(|e| failed("read", &folder, e))?;
            let path = file.path();
            let name = file.file_name();
            let digest = name.to_str().and_then(|hex| HEXLOWER.decode(hex.as_bytes()).ok());
            let digest = digest.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            let Some(digest) = digest else {
                tracing::warn!(path = %path.display(), "this is not a blob; it is left alone");
                continue;
            };
            let length = file.metadata().map_err(|e| failed("look at", &path, e))?.len();
            let place = Place::Legacy { digest, length };
            let id = random()?;
            batch
                .push((Digest::from_bytes(digest), Extent { id, size: length, place, seal: None, blocks: Vec::new() }));
            if batch.len() == STEP {
                name_all(index, std::mem::take(&mut batch)).await?;
            }
        }
    }
    name_all(index, batch).await
}

async fn name_all(index: &Index, batch: Vec<(Digest, Extent)>) -> Result<()> {
    index.blob_put_many(batch).await.map_err(plain)?;
    Ok(())
}

impl EmbeddedStore {
    /// Makes a blob the content of a version, once: where the key has one
    /// already, nothing is changed. `etag` is the MD5 of its bytes.
    pub async fn adopt(&self, digest: &Digest, etag: &str, target: Target, mut new: NewObject) -> Result<()> {
        // An ETag is opaque: where it is no MD5, part of the digest serves as well.
        let md5 = HEXLOWER.decode(etag.as_bytes()).ok().filter(|md5| md5.len() == 16);
        let md5 = md5.unwrap_or_else(|| digest.as_bytes()[..16].to_vec());
        let mut sum = None;
        for algorithm in Algorithm::ALL {
            // Where it was kept, it was one of the headers.
            if let Some(text) = new.headers.remove(&format!("{CHECKSUM}{}", algorithm.name())) {
                sum = BASE64.decode(text.as_bytes()).ok().map(|bytes| (algorithm, bytes)).or(sum);
            }
        }
        match self.index().adopt(*digest, md5, sum, target, new).await {
            Ok(_) | Err(Error::PreconditionFailed(_)) => Ok(()),
            Err(error) => Err(plain(error)),
        }
    }
}
