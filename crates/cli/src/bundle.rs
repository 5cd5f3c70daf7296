//! `muonic bundle`

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use muonic_bundle::{Manifest, Writer};
use muonic_client::{Client, Progress, Stage};
use muonic_types::model::ModelVersion;
use muonic_types::{Tree, VersionRef};

use crate::context::Context;
use crate::failure::{Exit, Failure, Outcome, Result};
use crate::progress::Bar;
use crate::render::human;

/// Write a model version as one file, to serve it where no server is
///
/// 'muonic serve FILE' serves it with nothing else. The file is a tar archive
/// with the model's files, its lineage and their digests.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  muonic bundle digits@3
  muonic bundle digits@live /media/stick/digits.muonic")]
pub struct BundleArgs {
    /// The model's version
    #[arg(value_name = "MODEL@VERSION")]
    pub model: VersionRef,
    /// File to write [default: MODEL-VERSION.muonic]
    pub file: Option<PathBuf>,
}

impl BundleArgs {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let version = client.model_version(&self.model)?;
        let tree = client.tree(&version.tree.digest)?;
        let file = self.file.unwrap_or_else(|| format!("{}-{}.muonic", version.name, version.version).into());
        let bytes = write(client, &version, &tree, &file, &Bar::new())?;
        context.show(&version, || {
            let (name, number) = (&version.name, version.version);
            format!("{name}@{number}  {}  written to {}\n", human::size(bytes), file.display())
        })?;
        Ok(Exit::Ok)
    }
}

/// Writes beside `file` and gives it its name at the end; its size.
fn write(client: &Client, version: &ModelVersion, tree: &Tree, file: &Path, progress: &dyn Progress) -> Result<u64> {
    let failed =
        |path: &Path, e: &dyn std::fmt::Display| Failure::new(Exit::Failed, format!("{}: {e}", path.display()));
    if file.exists() {
        return Err(Failure::bad_input(format!("{} is there already", file.display()))
            .hint("name another file, or remove that one"));
    }
    let mut part = file.as_os_str().to_owned();
    part.push(format!(".part-{}", std::process::id()));
    let part = Unfinished(part.into());
    let out = OpenOptions::new().write(true).create_new(true).open(&part.0).map_err(|e| failed(&part.0, &e))?;
    progress.begin(Stage::Receiving, tree.entries().len() as u64, tree.bytes());
    let out = fill(client, version, tree, out, progress).map_err(|failure| match failure {
        Stop::Client(e) => e.into(),
        Stop::Bundle(e) => failed(&part.0, &e),
    })?;
    let size = out.sync_all().and_then(|()| out.metadata()).map_err(|e| failed(&part.0, &e))?.len();
    // Unlike a renaming, this leaves alone what somebody has put there meanwhile.
    fs::hard_link(&part.0, file)
        .or_else(|e| match e.kind() {
            ErrorKind::AlreadyExists => Err(e),
            // File systems of sticks know no links.
            _ => fs::rename(&part.0, file),
        })
        .map_err(|e| failed(file, &e))?;
    Ok(size)
}

enum Stop {
    Client(muonic_client::Error),
    Bundle(muonic_bundle::Error),
}

fn fill(
    client: &Client,
    version: &ModelVersion,
    tree: &Tree,
    out: File,
    progress: &dyn Progress,
) -> std::result::Result<File, Stop> {
    let manifest = Manifest::new(version.clone(), tree.clone()).map_err(Stop::Bundle)?;
    let mut writer = Writer::new(BufWriter::with_capacity(1 << 20, out), manifest).map_err(Stop::Bundle)?;
    while let Some(digest) = writer.wanted().map(|entry| entry.digest) {
        let blob = client.blob(&digest).map_err(Stop::Client)?;
        writer.file(blob, |bytes| progress.advance(bytes)).map_err(Stop::Bundle)?;
    }
    let mut out = writer.finish().map_err(Stop::Bundle)?;
    out.flush().map_err(|e| Stop::Bundle(e.into()))?;
    out.into_inner().map_err(|e| Stop::Bundle(e.into_error().into()))
}

/// Gone again, however writing it ends.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
