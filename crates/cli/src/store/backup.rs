//! `muonic store backup`, `snapshots` and `restore`. The last two need no
//! server: the program does them itself, through [`Offline`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muonic_types::Timestamp;
use muonic_types::backup::{Backup, BackupProgress, BackupStage, BackupState, NewBackup, Snapshot, SnapshotKeys};

use crate::context::{Context, note, on_terminal};
use crate::failure::{Exit, Failure, Outcome, Result};
use crate::link::{Link, ask};
use crate::progress::Steps;
use crate::render::{Screen, Table, human, word};
use crate::store::options::{StoreOptions, read_secret};

const POLL: Duration = Duration::from_millis(250);

/// What is done without a server.
pub trait Offline {
    /// The oldest first.
    fn snapshots(&self, place: &str, options: &BTreeMap<String, String>) -> Result<Vec<Snapshot>, Failure>;

    /// Into a folder that is empty or not there. Answers whether the keys are
    /// there too.
    fn restore(&self, restore: Restore<'_>) -> Result<(Snapshot, bool), Failure>;
}

pub struct Restore<'a> {
    pub place: &'a str,
    pub options: &'a BTreeMap<String, String>,
    /// The newest without.
    pub snapshot: Option<&'a str>,
    pub data: &'a Path,
    pub passphrase: Option<String>,
    pub progress: std::sync::Arc<dyn Fn(BackupProgress) + Send + Sync>,
}

/// Where backups lie.
#[derive(Debug, clap::Args)]
pub struct PlaceArgs {
    /// The absolute path of a folder, or a URL such as s3://bucket/prefix
    #[arg(value_name = "DEST")]
    place: String,
    #[command(flatten)]
    options: StoreOptions,
}

/// Back up everything while the server runs; only what is new is sent
///
/// A snapshot holds buckets, datasets, models, jobs, endpoints, logs and keys,
/// as they were at one time. DEST is seen from the server's machine.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  muonic store backup /mnt/backups --keep 14
  muonic store backup s3://backups/muonic --option endpoint=https://s3.example.org \\
    --option access_key_id=AK --secret-file secret_access_key=./secret --passphrase-file ./passphrase")]
pub struct BackupArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Remove older snapshots but for so many, this one among them
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// Seal the keys with the passphrase in this file
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Leave master.key and store.keys out; keep them elsewhere
    #[arg(long, conflicts_with = "passphrase_file")]
    without_keys: bool,
}

/// List the snapshots at a destination
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic store snapshots /mnt/backups")]
pub struct SnapshotsArgs {
    #[command(flatten)]
    place: PlaceArgs,
}

/// Restore a snapshot into an empty data folder, every file checked by its hash
///
/// No server is needed, and none may use the folder, which --data names. One
/// that was cut off goes on when it is run again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic store restore /mnt/backups --data ./restored
  muonic --data ./restored up")]
pub struct RestoreArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// The snapshot by name, or 'latest'
    #[arg(long, value_name = "TIME", default_value = "latest")]
    snapshot: String,
    /// The passphrase that the keys are sealed with
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl PlaceArgs {
    fn options(&self) -> Result<BTreeMap<String, String>> {
        self.options.gather(|name| std::env::var(name).ok())
    }
}

fn passphrase(path: Option<&PathBuf>) -> Result<Option<String>> {
    path.map(|path| read_secret(path)).transpose()
}

impl BackupArgs {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let new = NewBackup {
            destination: self.place.place.clone(),
            options: self.place.options()?,
            keep: self.keep,
            passphrase: passphrase(self.passphrase_file.as_ref())?,
            without_keys: self.without_keys,
        };
        let started = context.client()?.backup_create(&new)?;
        let link = Link::new(context)?;
        let mut steps = Steps::new("starting");
        let ended = loop {
            let now = ask(&link, |client| client.backup(&started.id))?;
            if now.state != BackupState::Running {
                break now;
            }
            steps.say(state(&now.progress));
            std::thread::sleep(POLL);
        };
        drop(steps);
        if let Some(error) = &ended.error {
            return Err(Failure::new(Exit::Failed, format!("the backup failed: {error}"))
                .hint("what was sent is not sent again by the next one"));
        }
        context.show(&ended, || made_text(&ended))?;
        if let Some(warning) = &ended.warning {
            note(format!("warning: {warning}"));
        }
        Ok(Exit::Ok)
    }
}

impl SnapshotsArgs {
    pub(crate) fn run(self, context: &Context, offline: &dyn Offline) -> Outcome {
        let snapshots = offline.snapshots(&self.place.place, &self.place.options()?)?;
        let all = serde_json::json!({ "snapshots": snapshots });
        context.show(&all, || list_text(&snapshots, context.now(), context.screen()))?;
        Ok(Exit::Ok)
    }
}

impl RestoreArgs {
    pub(crate) fn run(self, context: &Context, offline: &dyn Offline) -> Outcome {
        let data = context.global.data_dir().ok_or_else(|| {
            Failure::bad_input("no home folder is known, so the data folder is not either").hint("name it with --data")
        })?;
        let steps = std::sync::Mutex::new(Steps::new("looking at the backups"));
        let progress = move |now: BackupProgress| {
            if let Ok(mut steps) = steps.lock() {
                steps.say(restoring(&now));
            }
        };
        let (snapshot, has_keys) = offline.restore(Restore {
            place: &self.place.place,
            options: &self.place.options()?,
            snapshot: Some(self.snapshot.as_str()).filter(|name| *name != "latest"),
            data: &data,
            passphrase: passphrase(self.passphrase_file.as_ref())?,
            progress: std::sync::Arc::new(progress),
        })?;
        context.show(&snapshot, || format!("{} is restored to {}\n", snapshot.name, data.display()))?;
        match has_keys {
            true => note(format!("start it with: muonic up --data {}", data.display())),
            false => note(format!("put master.key and store.keys into {} before 'muonic up'", data.display())),
        }
        Ok(Exit::Ok)
    }
}

/// In a pipe only what is done now, not how far it has come.
fn state(now: &BackupProgress) -> String {
    let what = match now.stage {
        BackupStage::Looking => "looking at the destination",
        BackupStage::Copying => "copying what is known",
        BackupStage::Sending => "sending",
        BackupStage::Pruning => "removing older snapshots",
    };
    if now.stage == BackupStage::Sending && on_terminal() { format!("{what} {}", share(now)) } else { what.to_owned() }
}

fn restoring(now: &BackupProgress) -> String {
    if on_terminal() { format!("restoring {}", share(now)) } else { "restoring".to_owned() }
}

fn share(now: &BackupProgress) -> String {
    let (done, all) = (human::size(now.bytes_done), human::size(now.bytes));
    format!("{} of {} files, {done} of {all}", now.files_done, now.files)
}

fn made_text(ended: &Backup) -> String {
    let Some(snapshot) = &ended.snapshot else { return String::new() };
    format!(
        "{}  {} in {}, of which {} in {} were sent\n",
        snapshot.name,
        human::size(snapshot.bytes),
        human::count(snapshot.files, "file"),
        human::size(snapshot.bytes_sent),
        human::count(snapshot.files_sent, "file"),
    )
}

fn list_text(snapshots: &[Snapshot], now: Timestamp, screen: Screen) -> String {
    let mut table = Table::new(screen, ["SNAPSHOT", "MADE", ">FILES", ">SIZE", ">SENT", "KEYS", "VERSION"]);
    for snapshot in snapshots {
        let keys = match snapshot.keys {
            SnapshotKeys::None => "not in it".to_owned(),
            keys => word(&keys),
        };
        table.row([
            snapshot.name.clone(),
            human::ago(snapshot.at, now),
            snapshot.files.to_string(),
            human::size(snapshot.bytes),
            human::size(snapshot.bytes_sent),
            keys,
            snapshot.version.clone(),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_listed_with_what_they_took() {
        let snapshot = Snapshot {
            name: "20261103T120000.000Z".to_owned(),
            at: "2026-11-03T12:00:00Z".parse().unwrap(),
            version: "0.1.0".to_owned(),
            keys: SnapshotKeys::Sealed,
            files: 40,
            bytes: 3 << 30,
            files_sent: 1,
            bytes_sent: 2 << 20,
        };
        let now = "2026-11-03T13:00:00Z".parse().unwrap();
        assert_eq!(
            list_text(&[snapshot], now, Screen::PIPE),
            "SNAPSHOT              MADE    FILES     SIZE     SENT  KEYS    VERSION
20261103T120000.000Z  1h ago     40  3.0 GiB  2.0 MiB  sealed  0.1.0
"
        );
    }
}
