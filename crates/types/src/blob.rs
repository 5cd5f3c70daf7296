//! Bodies about blobs and trees, and the pack: the stream that carries many
//! blobs in one request.
//!
//! A pack is a sequence of records: a line `sha256:<hex> <size>\n`, then
//! exactly `size` bytes. It ends where the stream ends, between records.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Digest, Entry, Invalid, object};

/// Media type of a pack.
pub const PACK_MEDIA_TYPE: &str = "application/octet-stream";
/// Longest record head: `sha256:` + 64 + space + 20 digits + newline.
pub const PACK_HEAD_MAX: usize = 7 + 64 + 1 + 20 + 1;
/// Most digests in one question or one pack.
pub const DIGESTS_MAX: usize = 10_000;

/// The head of a pack record.
pub fn pack_head(digest: &Digest, size: u64) -> String {
    format!("{digest} {size}\n")
}

/// Parses a head without its newline.
pub fn parse_pack_head(line: &[u8]) -> Result<(Digest, u64), Invalid> {
    let bad = || Invalid::new("a pack record must begin with a line 'sha256:<hex> <size>'");
    let line = std::str::from_utf8(line).map_err(|_| bad())?;
    let (digest, size) = line.split_once(' ').ok_or_else(bad)?;
    Ok((digest.parse()?, size.parse().map_err(|_| bad())?))
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Digests {
    /// At most 10,000.
    #[schema(max_items = 10_000)]
    pub digests: Vec<Digest>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MissingBlobs {
    /// Those of the digests asked for that the store does not hold.
    pub missing: Vec<Digest>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PackStored {
    /// Blobs in the pack.
    pub blobs: u64,
    /// Bytes of content in the pack.
    pub bytes: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTree {
    /// The files; every blob must have been uploaded before. At most 1,000,000.
    #[serde(deserialize_with = "object::each")]
    pub entries: Vec<Entry>,
}

/// A tree in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TreeSummary {
    pub digest: Digest,
    pub files: u64,
    /// Bytes of all files together.
    pub bytes: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TreeBody {
    pub digest: Digest,
    pub entries: Vec<Entry>,
}
