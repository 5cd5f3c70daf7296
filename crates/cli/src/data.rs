//! `muonic data`

use std::path::PathBuf;

use muonic_client::{NewFolder, UploadRules, Uploaded};
use muonic_types::dataset::{Dataset, DatasetPut, DatasetVersion};
use muonic_types::{Name, Timestamp, VersionRef};
use serde::Serialize;

use crate::context::{Context, note};
use crate::failure::{Exit, Failure, Outcome, Result};
use crate::progress::Bar;
use crate::render::{Screen, Table, human};

#[derive(Debug, clap::Subcommand)]
pub enum DataCommand {
    Put(PutArgs),
    Ls(LsArgs),
    Get(GetArgs),
    Versions(VersionsArgs),
}

/// Upload a folder or a file as the next version of a dataset
///
/// Only contents that the server lacks are sent; equal content makes no new
/// version. Symbolic links that leave the folder are refused; empty folders
/// are not kept.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic data put digits ./data")]
pub struct PutArgs {
    /// The dataset's name
    name: Name,
    /// A folder, taken whole, or one file
    path: PathBuf,
}

/// List datasets
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic data ls --output json")]
pub struct LsArgs {}

/// Download a dataset version into an empty or new folder
///
/// Folders that were empty when it was put are not in it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic data get digits@1 ./copy")]
pub struct GetArgs {
    /// The dataset, with @VERSION or the latest without
    dataset: VersionRef,
    /// A folder that is empty or does not exist
    dest: PathBuf,
}

/// List the versions of a dataset, newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic data versions digits")]
pub struct VersionsArgs {
    /// The dataset's name
    name: Name,
}

impl DataCommand {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Put(args) => args.run(context),
            Self::Ls(_) => ls(context),
            Self::Get(args) => args.run(context),
            Self::Versions(args) => args.run(context),
        }
    }
}

/// What `data put` prints as JSON.
#[derive(Serialize)]
struct PutResult {
    #[serde(flatten)]
    put: DatasetPut,
    sent_files: u64,
    sent_bytes: u64,
}

impl PutArgs {
    fn run(self, context: &Context) -> Outcome {
        let client = context.live_client()?;
        let uploaded = client.tree_upload(&self.path, UploadRules::Everything, &Bar::new())?;
        if uploaded.tree.files == 0 {
            return Err(Failure::bad_input(format!("'{}' holds no files", self.path.display()))
                .hint("a dataset has at least one file"));
        }
        let put = client.dataset_put(&self.name, uploaded.tree.digest)?;
        let result = PutResult { put, sent_files: uploaded.sent_files, sent_bytes: uploaded.sent_bytes };
        context.show(&result, || put_text(&result.put, &uploaded, context.screen()))?;
        Ok(Exit::Ok)
    }
}

fn put_text(put: &DatasetPut, uploaded: &Uploaded, screen: Screen) -> String {
    let version = &put.version;
    let unchanged = if put.created { "" } else { "  (unchanged: no new version)" };
    format!(
        "{}@{}  {}  {}  {}{unchanged}\n{}\n",
        version.name,
        version.version,
        human::count(version.tree.files, "file"),
        human::size(version.tree.bytes),
        screen.digest(&version.tree.digest),
        sent(uploaded)
    )
}

/// What an upload sent, in words.
pub(crate) fn sent(uploaded: &Uploaded) -> String {
    match uploaded.sent_files {
        0 => "sent nothing: the server has it all".to_owned(),
        n => format!("sent {}, {}", human::count(n, "file"), human::size(uploaded.sent_bytes)),
    }
}

impl GetArgs {
    fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let folder = NewFolder::at(&self.dest)?;
        undo_when_interrupted(&folder)?;
        let version = client.dataset_version(&self.dataset)?;
        client.tree_download(&version.tree.digest, folder.path(), &Bar::new())?;
        folder.keep()?;
        context.show(&version, || {
            format!(
                "{}@{}  {}  {}  written to {}\n",
                version.name,
                version.version,
                human::count(version.tree.files, "file"),
                human::size(version.tree.bytes),
                self.dest.display()
            )
        })?;
        Ok(Exit::Ok)
    }
}

/// Ctrl-C leaves nothing behind.
fn undo_when_interrupted(folder: &NewFolder) -> Result<()> {
    let failed = |e| Failure::new(Exit::Failed, format!("signals cannot be watched: {e}"));
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGINT]).map_err(failed)?;
    let undo = folder.undo();
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            undo();
            std::process::exit(Exit::Interrupted as i32);
        }
    });
    Ok(())
}

fn ls(context: &Context) -> Outcome {
    let list = context.client()?.datasets()?;
    if list.datasets.is_empty() && !context.json() {
        note("there are no datasets yet; store one with: muonic data put NAME PATH");
        return Ok(Exit::Ok);
    }
    context.show(&list, || ls_text(&list.datasets, context.now(), context.screen()))?;
    Ok(Exit::Ok)
}

fn ls_text(datasets: &[Dataset], now: Timestamp, screen: Screen) -> String {
    let mut table = Table::new(screen, ["NAME", ">LATEST", ">FILES", ">SIZE", "CHANGED", "DIGEST"]);
    for dataset in datasets {
        let latest = &dataset.latest;
        table.row([
            dataset.name.to_string(),
            latest.version.to_string(),
            latest.tree.files.to_string(),
            human::size(latest.tree.bytes),
            human::ago(latest.created_at, now),
            screen.digest(&latest.tree.digest),
        ]);
    }
    table.render()
}

impl VersionsArgs {
    fn run(self, context: &Context) -> Outcome {
        let list = context.client()?.dataset_versions(&self.name)?;
        context.show(&list, || versions_text(&list.versions, context.now(), context.screen()))?;
        Ok(Exit::Ok)
    }
}

fn versions_text(versions: &[DatasetVersion], now: Timestamp, screen: Screen) -> String {
    let mut table = Table::new(screen, ["VERSION", ">FILES", ">SIZE", "MADE", "DIGEST"]);
    for version in versions {
        table.row([
            format!("{}@{}", version.name, version.version),
            version.tree.files.to_string(),
            human::size(version.tree.bytes),
            human::ago(version.created_at, now),
            screen.digest(&version.tree.digest),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use muonic_types::Digest;
    use muonic_types::blob::TreeSummary;

    fn version(number: u32) -> DatasetVersion {
        DatasetVersion {
            name: "digits".parse().unwrap(),
            version: number,
            tree: TreeSummary { digest: Digest::of(b""), files: 2, bytes: 2048 },
            created_at: "2026-11-03T12:00:00Z".parse().unwrap(),
        }
    }

    fn now() -> Timestamp {
        "2026-11-03T12:03:00Z".parse().unwrap()
    }

    #[test]
    fn lists() {
        let dataset = Dataset { name: "digits".parse().unwrap(), created_at: now(), latest: version(3) };
        assert_eq!(
            ls_text(&[dataset], now(), Screen::PIPE),
            "NAME    LATEST  FILES     SIZE  CHANGED  DIGEST\n\
             digits       3      2  2.0 KiB  3m ago   \
             sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n"
        );
        let dataset = Dataset { name: "digits".parse().unwrap(), created_at: now(), latest: version(3) };
        assert!(ls_text(&[dataset], now(), Screen::terminal(80)).ends_with("  3m ago   e3b0c44298fc\n"));
        assert!(versions_text(&[version(3)], now(), Screen::PIPE).ends_with(
            "digits@3      2  2.0 KiB  3m ago  sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n"
        ));
    }

    #[test]
    fn a_put_says_what_was_sent() {
        let uploaded = |n| Uploaded { tree: version(1).tree, sent_files: n, sent_bytes: n * 1024 };
        let put = DatasetPut { version: version(1), created: false };
        let text = put_text(&put, &uploaded(0), Screen::PIPE);
        assert!(text.starts_with("digits@1  2 files  2.0 KiB  sha256:e3b0"), "{text}");
        assert!(text.ends_with("(unchanged: no new version)\nsent nothing: the server has it all\n"), "{text}");
        assert_eq!(sent(&uploaded(2)), "sent 2 files, 2.0 KiB");
    }
}
