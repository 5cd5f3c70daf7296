//! The four settings that take public access away again.

use serde::{Deserialize, Serialize};

use crate::acl::Acl;
use crate::iam::Policy;
use crate::{Error, Result, first_version};

/// As stored. A setting that is not there is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicAccessBlock {
    #[serde(default = "first_version")]
    pub version: u32,
    /// Refuses requests that bring a public ACL.
    #[serde(default)]
    pub block_public_acls: bool,
    /// Takes grants of ACLs to the public for not given.
    #[serde(default)]
    pub ignore_public_acls: bool,
    /// Refuses public bucket policies.
    #[serde(default)]
    pub block_public_policy: bool,
    /// Lets a public policy allow things to the bucket's own project only.
    #[serde(default)]
    pub restrict_public_buckets: bool,
}

impl Default for PublicAccessBlock {
    fn default() -> Self {
        Self::all(false)
    }
}

impl PublicAccessBlock {
    pub fn all(on: bool) -> Self {
        Self {
            version: first_version(),
            block_public_acls: on,
            ignore_public_acls: on,
            block_public_policy: on,
            restrict_public_buckets: on,
        }
    }

    /// For every request that brings an ACL, canned ones too.
    ///
    /// # Errors
    /// `AccessDenied` for a public one where these are blocked.
    pub fn check_acl(&self, acl: &Acl) -> Result<()> {
        if self.block_public_acls && acl.is_public() {
            return Err(Error::AccessDenied(
                "public ACLs are blocked for this bucket (BlockPublicAcls); choose a private one".to_owned(),
            ));
        }
        Ok(())
    }

    /// For a bucket policy that is to be put.
    ///
    /// # Errors
    /// `AccessDenied` for a public one where these are blocked.
    pub fn check_policy(&self, policy: &Policy) -> Result<()> {
        if self.block_public_policy && policy.is_public() {
            return Err(Error::AccessDenied(
                "public policies are blocked for this bucket (BlockPublicPolicy); name principals".to_owned(),
            ));
        }
        Ok(())
    }
}
