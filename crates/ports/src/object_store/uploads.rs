use muonic_types::Timestamp;

use super::{Algorithm, ChecksumType, Encryption, NewObject};

/// An upload in parts that has not ended.
#[derive(Debug, Clone)]
pub struct Upload {
    pub bucket: String,
    pub key: String,
    /// Cannot be guessed.
    pub id: String,
    pub started_at: Timestamp,
    /// What the object will be; a customer's key is not in it.
    pub new: NewObject,
    pub encryption: Encryption,
}

impl Upload {
    /// An upload of which nothing but its name is known: one that has been
    /// completed, to be completed again.
    pub fn named(bucket: &str, key: &str, id: &str) -> Self {
        Self {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            id: id.to_owned(),
            started_at: Timestamp::UNIX_EPOCH,
            new: NewObject::default(),
            encryption: Encryption::None,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub number: u16,
    pub size: u64,
    /// Without quotes: the MD5 of its bytes in hexadecimal.
    pub etag: String,
    /// In Base64.
    pub sum: Option<(Algorithm, String)>,
    pub modified_at: Timestamp,
}

/// A part as the one who completes an upload names it.
#[derive(Debug, Clone)]
pub struct CompletedPart {
    pub number: u16,
    pub etag: String,
    /// Compared where it is given, in Base64.
    pub sum: Option<(Algorithm, String)>,
}

/// Of which kind the sum of an object in parts is, if nobody says.
impl Algorithm {
    pub fn usual_type(self) -> ChecksumType {
        match self {
            Self::Crc64Nvme => ChecksumType::FullObject,
            _ => ChecksumType::Composite,
        }
    }
}
