use std::collections::BTreeMap;
use std::str::FromStr;

use super::{Error, Result};

/// The sums that S3 knows beside the MD5 of the ETag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

impl Algorithm {
    pub const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    /// As it ends the header `x-amz-checksum-`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "crc32",
            Self::Crc32c => "crc32c",
            Self::Crc64Nvme => "crc64nvme",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    /// Bytes of a sum.
    pub fn len(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    pub fn is_empty(self) -> bool {
        false
    }
}

impl FromStr for Algorithm {
    type Err = ();

    /// In any case, as clients write it in some headers.
    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        Self::ALL.into_iter().find(|a| a.name().eq_ignore_ascii_case(text)).ok_or(())
    }
}

/// What the sum of an object uploaded in parts is a sum of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChecksumType {
    /// Of all its bytes.
    FullObject,
    /// Of the sums of its parts.
    Composite,
}

/// What a store has found of a body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums {
    pub size: u64,
    pub md5: [u8; 16],
    /// Those that `NewObject::algorithms` asked for, big-endian.
    pub found: BTreeMap<Algorithm, Vec<u8>>,
}

/// Says whether a body is what its sender says. Its error is answered as it is:
/// `Checksum`, or `Refused` with whatever the caller wants back.
pub type Verify = Box<dyn FnOnce(&Sums) -> Result<(), Error> + Send>;

/// For a body about which nothing was said.
pub fn no_check() -> Verify {
    Box::new(|_| Ok(()))
}
