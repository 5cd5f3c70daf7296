//! What a bundle says of itself.

use muonic_types::model::ModelVersion;
use muonic_types::{Digest, Entry, Tree};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::header::MANIFEST;

pub const FORMAT: &str = "muonic-bundle 1";
/// Of a manifest: a million files with long names.
pub(crate) const BYTES_MAX: u64 = 1 << 30;

/// Its files make the tree that its version has.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    version: ModelVersion,
    tree: Tree,
}

#[derive(Serialize, Deserialize)]
struct Written {
    format: String,
    version: ModelVersion,
    files: Vec<Entry>,
}

/// Before anything else of one is believed.
#[derive(Deserialize)]
struct Named {
    format: String,
}

impl Manifest {
    /// # Errors
    /// Where the tree is not the version's.
    pub fn new(version: ModelVersion, tree: Tree) -> Result<Self, Error> {
        let (said, is) = (&version.tree, tree.digest());
        if said.digest != is {
            return Err(Error::Wrong(format!("the tree {is} is not that of {}@{}", version.name, version.version)));
        }
        Ok(Self { version, tree })
    }

    pub fn version(&self) -> &ModelVersion {
        &self.version
    }

    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let written =
            Written { format: FORMAT.to_owned(), version: self.version.clone(), files: self.tree.entries().to_vec() };
        let mut bytes = serde_json::to_vec_pretty(&written).expect("plain data");
        bytes.push(b'\n');
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let damaged = |e: &dyn std::fmt::Display| Error::Damaged(format!("its manifest cannot be understood: {e}"));
        let Named { format } = serde_json::from_slice(bytes).map_err(|e| damaged(&e))?;
        if format != FORMAT {
            return Err(Error::Newer(format.chars().take(80).collect()));
        }
        let Written { version, files, .. } = serde_json::from_slice(bytes).map_err(|e| damaged(&e))?;
        let tree = Tree::new(files).map_err(|e| damaged(&e.0))?;
        Self::new(version, tree).map_err(|e| damaged(&e))
    }
}

/// What stands in the file of a manifest's digest.
pub(crate) fn sum(manifest: &[u8]) -> String {
    format!("{}  {MANIFEST}\n", Digest::of(manifest).hex())
}
