//! What the index keeps about bytes, and the data layer needs to find, check
//! and open them. The contract between `index` and `data`.

use bytes::Bytes;

/// 16 random bytes: the name of an extent, and of its file. Part of what is
/// authenticated when it is encrypted.
pub(crate) type ExtentId = [u8; 16];

/// A run of bytes that is written once and never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Extent {
    pub id: ExtentId,
    /// Bytes of content.
    pub size: u64,
    pub place: Place,
    /// How it is encrypted; `None` where it is not.
    pub seal: Option<Seal>,
    /// CRC32C of each MiB of what lies on the disk, in order. Empty for
    /// `Legacy` until a scrub has filled it in.
    pub blocks: Vec<u32>,
}

/// Where it lies. `length` is what it takes on the disk: the content, and 16
/// bytes more for each frame where it is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the index itself.
    Inline(Bytes),
    Segment {
        segment: u64,
        offset: u64,
        length: u64,
    },
    File {
        length: u64,
    },
    /// A blob of format 1: a file named by its SHA-256, not encrypted.
    Legacy {
        digest: [u8; 32],
        length: u64,
    },
}

/// A data key, wrapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seal {
    pub by: SealedBy,
    pub wrapped: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SealedBy {
    /// A version of the store's own key.
    Store { version: u32 },
    /// A version of a key by name.
    Named { name: String, version: u32 },
    /// The customer's key; its MD5 in Base64 tells keys apart.
    Customer { key_md5: String },
}
