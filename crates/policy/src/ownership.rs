//! Who owns what is put into a bucket, and whether ACLs count in it.

use serde::{Deserialize, Serialize};

use crate::acl::{Acl, CannedAcl, Grantee, Permission};
use crate::{Error, Result, first_version};

/// As stored. A bucket without it has what the caller takes for the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnershipControls {
    #[serde(default = "first_version")]
    pub version: u32,
    pub object_ownership: ObjectOwnership,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ObjectOwnership {
    /// The bucket's owner owns all; ACLs are off.
    BucketOwnerEnforced,
    /// The bucket's owner owns what comes with `bucket-owner-full-control`.
    BucketOwnerPreferred,
    /// Who writes an object owns it.
    ObjectWriter,
}

impl ObjectOwnership {
    /// `Malformed` for a word that is none of them.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "BucketOwnerEnforced" => Self::BucketOwnerEnforced,
            "BucketOwnerPreferred" => Self::BucketOwnerPreferred,
            "ObjectWriter" => Self::ObjectWriter,
            _ => return Err(Error::Malformed(format!("there is no object ownership {text:?}"))),
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::BucketOwnerEnforced => "BucketOwnerEnforced",
            Self::BucketOwnerPreferred => "BucketOwnerPreferred",
            Self::ObjectWriter => "ObjectWriter",
        }
    }

    pub fn acls_enabled(self) -> bool {
        self != Self::BucketOwnerEnforced
    }

    /// The canonical id of who will own a new object. A writer without a key
    /// leaves it to the bucket's owner.
    pub fn owner_of_new<'a>(
        self,
        writer: Option<&'a str>,
        bucket_owner: &'a str,
        canned: Option<CannedAcl>,
    ) -> &'a str {
        match self {
            Self::BucketOwnerEnforced => bucket_owner,
            Self::BucketOwnerPreferred if canned == Some(CannedAcl::BucketOwnerFullControl) => bucket_owner,
            Self::BucketOwnerPreferred | Self::ObjectWriter => writer.unwrap_or(bucket_owner),
        }
    }

    /// For a request that brings an ACL, as canned one or in full. Where ACLs
    /// are off, one that says what is so anyway passes.
    ///
    /// # Errors
    /// `AclNotSupported`.
    pub fn check_acl(self, canned: Option<CannedAcl>, acl: &Acl, bucket_owner: &str) -> Result<()> {
        let same = match canned {
            Some(canned) => canned == CannedAcl::BucketOwnerFullControl,
            None => {
                let full = |g: &crate::acl::Grant| {
                    g.permission == Permission::FullControl
                        && matches!(&g.grantee, Grantee::User(id) if id == bucket_owner)
                };
                !acl.grants.is_empty() && acl.grants.iter().all(full)
            }
        };
        if self.acls_enabled() || same {
            return Ok(());
        }
        Err(Error::AclNotSupported(
            "the bucket does not allow ACLs (BucketOwnerEnforced); leave them out, or use a bucket policy".to_owned(),
        ))
    }

    /// For ownership controls that are to be put, with the ACL that the bucket has.
    ///
    /// # Errors
    /// `InvalidBucketAcl` where ACLs would be switched off while the bucket's
    /// grants something to others.
    pub fn check_bucket_acl(self, acl: &Acl) -> Result<()> {
        if self.acls_enabled() || acl.is_private() {
            return Ok(());
        }
        Err(Error::InvalidBucketAcl(
            "the bucket's ACL grants access to others; make it private before BucketOwnerEnforced".to_owned(),
        ))
    }
}
