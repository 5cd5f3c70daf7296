//! A model out of a bundle: unpacked into the cache once, and served from there.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::Context;
use muonic_bundle::Reader;
use muonic_types::model::{ModelSource, ModelVersion};

use super::models::{Lease, Models};

pub struct Bundle {
    file: PathBuf,
    reader: Reader<BufReader<File>>,
}

impl Bundle {
    /// `None` where the file is none.
    pub fn find(file: &Path) -> anyhow::Result<Option<Self>> {
        if !file.is_file()
            || !muonic_bundle::is_bundle(file).with_context(|| format!("cannot read {}", file.display()))?
        {
            return Ok(None);
        }
        let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
        let reader = Reader::new(BufReader::with_capacity(1 << 20, opened))
            .with_context(|| format!("{} cannot be served", file.display()))?;
        Ok(Some(Self { file: file.to_owned(), reader }))
    }

    pub fn version(&self) -> &ModelVersion {
        self.reader.manifest().version()
    }

    /// Its files, checked: those in the cache, or unpacked to there.
    pub fn open(self, models: &Models) -> anyhow::Result<Lease> {
        let version = self.version();
        let from = match &version.source {
            ModelSource::Upload => "uploaded".to_owned(),
            ModelSource::Attempt { attempt, .. } => format!("made by {attempt}"),
        };
        let digest = version.tree.digest;
        tracing::info!("{}@{}, {from}, of the tree {digest}", version.name, version.version);
        let unfinished = match models.begin(&digest)? {
            Ok(unfinished) => unfinished,
            Err(lease) => return Ok(lease),
        };
        let tree = self.reader.manifest().tree().clone();
        // What a try before has left was not checked yet.
        std::fs::remove_dir_all(&unfinished.folder)
            .and_then(|()| std::fs::create_dir(&unfinished.folder))
            .with_context(|| format!("cannot empty {}", unfinished.folder.display()))?;
        self.reader.unpack(&unfinished.folder).with_context(|| format!("{} cannot be served", self.file.display()))?;
        models.keep(unfinished, &tree, &[])
    }
}
