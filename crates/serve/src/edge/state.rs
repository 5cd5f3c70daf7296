//! What was served last of an alias, kept for when the server is away.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use muonic_types::{Digest, VersionRef};
use serde::{Deserialize, Serialize};

const FORMAT: &str = "muonic-follow 1";
const FILE: &str = "current.json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    format: String,
    pub server: String,
    pub model: VersionRef,
    pub version: u32,
    pub tree: Digest,
}

impl Current {
    pub fn new(server: &str, model: &VersionRef, version: u32, tree: Digest) -> Self {
        Self { format: FORMAT.to_owned(), server: server.to_owned(), model: model.clone(), version, tree }
    }
}

/// The folder of one that is followed.
#[derive(Clone)]
pub struct State {
    dir: PathBuf,
}

impl State {
    /// `root` holds the folders of all that this user follows.
    pub fn at(root: &Path, server: &str, model: &VersionRef) -> anyhow::Result<Self> {
        let name = Digest::of(format!("{server}\n{model}").as_bytes()).short();
        let dir = root.join(name);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self { dir })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `None` where nothing was served yet.
    pub fn read(&self) -> anyhow::Result<Option<Current>> {
        read(&self.dir.join(FILE))
    }

    pub fn write(&self, current: &Current) -> anyhow::Result<()> {
        let (file, part) = (self.dir.join(FILE), self.dir.join(format!("{FILE}.part-{}", std::process::id())));
        let text = serde_json::to_vec_pretty(current)?;
        fs::write(&part, text)
            .and_then(|()| fs::File::open(&part)?.sync_all())
            .and_then(|()| fs::rename(&part, &file))
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// The trees of all that is followed, which must not leave the cache.
    pub fn wanted(&self) -> Vec<Digest> {
        let root = self.dir.parent().unwrap_or(&self.dir);
        let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
        let tree = |dir: PathBuf| Some(read(&dir.join(FILE)).ok()??.tree);
        entries.flatten().filter_map(|entry| tree(entry.path())).collect()
    }
}

fn read(file: &Path) -> anyhow::Result<Option<Current>> {
    let bytes = match fs::read(file) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("cannot read {}", file.display()))?,
    };
    let current: Current =
        serde_json::from_slice(&bytes).with_context(|| format!("{} cannot be understood", file.display()))?;
    if current.format != FORMAT {
        bail!("{} is of the format '{}', and this program reads '{FORMAT}'", file.display(), current.format);
    }
    Ok(Some(current))
}
