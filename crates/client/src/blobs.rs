//! Blobs and trees as single calls; whole folders are in `upload` and `download`.

use std::io::Read;

use muonic_types::blob::{DIGESTS_MAX, Digests, MissingBlobs, NewTree, TreeBody, TreeSummary};
use muonic_types::{Digest, Entry, Tree};

use crate::{Body, Client, Error, Result, Retry, url};

impl Client {
    /// Those of the digests that the store does not hold.
    pub fn blobs_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>> {
        let mut missing = Vec::new();
        for chunk in digests.chunks(DIGESTS_MAX) {
            let question = Digests { digests: chunk.to_vec() };
            let answer: MissingBlobs = Retry::SHORT.run(|| self.post("/api/v1/blobs/missing", &question))?;
            missing.extend(answer.missing);
        }
        Ok(missing)
    }

    /// One blob's bytes. The caller compares the digest.
    pub fn blob(&self, digest: &Digest) -> Result<impl Read + Send + use<>> {
        self.read("GET", &format!("/api/v1/blobs/{}", url::part(digest)), None)
    }

    /// One blob's bytes after the first `from`, to go on where a try broke off.
    pub fn blob_from(&self, digest: &Digest, from: u64) -> Result<impl Read + Send + use<>> {
        self.read_from(&format!("/api/v1/blobs/{}", url::part(digest)), from)
    }

    /// Many blobs as one pack, which begins to come at once.
    pub(crate) fn blobs_pack(&self, digests: Vec<Digest>) -> Result<impl Read + Send + use<>> {
        self.read("POST", "/api/v1/blobs/pack", Some(Body::json(&Digests { digests })?))
    }

    /// Makes a tree of blobs that the store holds.
    pub fn tree_create(&self, entries: Vec<Entry>) -> Result<TreeSummary> {
        let tree = NewTree { entries };
        Retry::SHORT.run(|| self.post("/api/v1/trees", &tree))
    }

    /// A tree, checked against its digest.
    pub fn tree(&self, digest: &Digest) -> Result<Tree> {
        let path = format!("/api/v1/trees/{}", url::part(digest));
        let body: TreeBody = Retry::SHORT.run(|| self.get(&path))?;
        let protocol = |reason: String| Error::Protocol { url: self.url().to_owned(), reason };
        let tree = Tree::new(body.entries).map_err(|e| protocol(e.0))?;
        if tree.digest() == *digest {
            Ok(tree)
        } else {
            Err(protocol(format!("the tree it sent for {digest} has the digest {}", tree.digest())))
        }
    }
}
