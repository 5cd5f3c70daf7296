//! A tree: an immutable list of content-addressed files. Code snapshots,
//! dataset versions and model artifacts are all trees, and a tree is itself
//! stored as a blob, so its digest covers every path and byte.
//!
//! Format `muonic-tree 1`: the line `muonic-tree 1`, then for each entry, in
//! byte order of paths, one line of compact JSON `["path",size,"sha256:…",exec]`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::digest::clip;
use crate::serde_str::{serde_as_str, string_schema};
use crate::{Digest, Invalid};

const HEADER: &str = "muonic-tree 1";

/// A relative path inside a tree: `/` between parts, no empty, `.` or `..`
/// part, no NUL and no control character, at most 1,024 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePath(String);

impl FilePath {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for FilePath {
    type Err = Invalid;
    fn from_str(s: &str) -> Result<Self, Invalid> {
        let ok = !s.is_empty()
            && s.len() <= 1024
            && !s.chars().any(char::is_control)
            && s.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && part.len() <= 255);
        if ok {
            Ok(Self(s.to_owned()))
        } else {
            Err(Invalid::new(format!(
                "'{}' is not a file path: use a relative path of at most 1024 bytes without '.', '..', empty parts or control characters",
                clip(s).escape_debug()
            )))
        }
    }
}

serde_as_str!(FilePath);
string_schema!(FilePath, "FilePath", None, "train/images.npy", "A relative path with / between its parts");

/// One file of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub path: FilePath,
    /// Bytes.
    pub size: u64,
    pub digest: Digest,
    /// Whether the owner may execute it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

/// Entries in byte order of their paths; no path twice, and none that is the
/// folder of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    entries: Vec<Entry>,
}

impl Tree {
    /// Most files a tree may hold.
    pub const FILES_MAX: usize = 1_000_000;

    pub fn new(mut entries: Vec<Entry>) -> Result<Self, Invalid> {
        if entries.len() > Self::FILES_MAX {
            return Err(Invalid::new(format!(
                "a tree holds at most {} files; this one has {}",
                Self::FILES_MAX,
                entries.len()
            )));
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let mut names = std::collections::HashSet::with_capacity(entries.len());
        for entry in &entries {
            if !names.insert(entry.path.as_str()) {
                return Err(Invalid::new(format!("the path '{}' stands twice in the tree", entry.path)));
            }
        }
        for entry in &entries {
            for (at, _) in entry.path.as_str().match_indices('/') {
                if names.contains(&entry.path.as_str()[..at]) {
                    return Err(Invalid::new(format!(
                        "'{}' is both a file and a folder in the tree",
                        &entry.path.as_str()[..at]
                    )));
                }
            }
        }
        let total = entries.iter().try_fold(0u64, |sum, e| sum.checked_add(e.size));
        if total.is_none_or(|t| t > i64::MAX as u64) {
            return Err(Invalid::new("the sizes in the tree add up to more than 2^63 bytes".to_owned()));
        }
        Ok(Self { entries })
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Bytes of all files together.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(|e| e.size).sum()
    }

    /// The stored form; its digest is the tree's digest.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER.len() + 1 + self.entries.len() * 128);
        out.extend_from_slice(HEADER.as_bytes());
        out.push(b'\n');
        for e in &self.entries {
            serde_json::to_writer(&mut out, &(e.path.as_str(), e.size, e.digest, e.executable)).expect("plain data");
            out.push(b'\n');
        }
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        let text = std::str::from_utf8(bytes).map_err(|_| Invalid::new("a stored tree is not UTF-8"))?;
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            return Err(Invalid::new(format!("a stored tree does not begin with '{HEADER}'")));
        }
        let entries = lines
            .map(|line| {
                let (path, size, digest, executable): (FilePath, u64, Digest, bool) = serde_json::from_str(line)
                    .map_err(|e| Invalid::new(format!("a stored tree has a bad line: {e}")))?;
                Ok(Entry { path, size, digest, executable })
            })
            .collect::<Result<Vec<_>, Invalid>>()?;
        Self::new(entries)
    }

    pub fn digest(&self) -> Digest {
        Digest::of(&self.encode())
    }
}
