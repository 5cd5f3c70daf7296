//! `muonic store`: what its operator asks of a running server, and backups.

pub(crate) mod backup;
mod care;
mod events;
mod key;
mod mount;
mod options;

use std::time::Duration;

use muonic_client::Result as ClientResult;
use muonic_types::store::{Run, StoreStats};

use crate::context::Context;
use crate::failure::{Exit, Failure, Outcome, Result};
use crate::progress::Steps;
use crate::render::human;

/// Between two looks at long work.
const PAUSE: Duration = Duration::from_millis(300);

#[derive(Debug, clap::Subcommand)]
pub enum StoreCommand {
    Stats(StatsArgs),
    Backup(backup::BackupArgs),
    Snapshots(backup::SnapshotsArgs),
    Restore(backup::RestoreArgs),
    Scrub(care::ScrubArgs),
    Check(care::CheckArgs),
    Reclaim(care::ReclaimArgs),
    /// Make, list and rotate the keys that the store encrypts with
    #[command(subcommand)]
    Key(key::KeyCommand),
    Mount(mount::MountArgs),
    Unmount(mount::UnmountArgs),
    Mounts(mount::MountsArgs),
    Events(events::EventsArgs),
}

/// Show how much is stored, and where
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic store stats --output json")]
pub struct StatsArgs {}

impl StoreCommand {
    pub(crate) fn run(self, context: &Context, offline: &dyn backup::Offline) -> Outcome {
        match self {
            Self::Stats(_) => {
                let stats = context.client()?.store_stats()?;
                context.show(&stats, || stats_text(&stats))?;
                Ok(Exit::Ok)
            }
            Self::Backup(args) => args.run(context),
            Self::Snapshots(args) => args.run(context, offline),
            Self::Restore(args) => args.run(context, offline),
            Self::Scrub(args) => args.run(context),
            Self::Check(args) => args.run(context),
            Self::Reclaim(args) => args.run(context),
            Self::Key(command) => command.run(context),
            Self::Mount(args) => args.run(context),
            Self::Unmount(args) => args.run(context),
            Self::Mounts(args) => args.run(context),
            Self::Events(args) => args.run(context),
        }
    }
}

/// Waits until long work has ended; its report then.
fn awaited<R>(
    steps: &mut Steps,
    mut ask: impl FnMut() -> ClientResult<R>,
    run: impl Fn(&R) -> &Run,
    say: impl Fn(&R) -> String,
) -> Result<R> {
    loop {
        let report = ask()?;
        if !run(&report).running {
            return Ok(report);
        }
        steps.say(say(&report));
        std::thread::sleep(PAUSE);
    }
}

/// A failure where it was cut off.
fn whole(run: &Run, what: &str) -> Result<()> {
    match &run.error {
        Some(error) => Err(Failure::new(Exit::Failed, format!("{what} was cut off: {error}"))
            .hint("look into the server's log, and begin it again: it goes on from there")),
        None => Ok(()),
    }
}

fn stats_text(stats: &StoreStats) -> String {
    let taken = stats.inline_bytes + stats.segments_on_disk_bytes + stats.file_bytes + stats.legacy_bytes;
    let dead = stats.segments_on_disk_bytes.saturating_sub(stats.segment_bytes);
    let mut text = format!(
        "buckets   {}\nobjects   {}, in {}\nuploads   {} open\nblobs     {}\non disk   {}\n",
        stats.buckets,
        stats.objects,
        human::count(stats.versions, "version"),
        stats.uploads,
        stats.blobs,
        human::size(taken)
    );
    let places = [
        ("in the index", stats.inline_bytes),
        ("in segments", stats.segment_bytes),
        ("dead or spare in segments", dead),
        ("in files of their own", stats.file_bytes),
        ("in files of the first format", stats.legacy_bytes),
    ];
    for (place, bytes) in places.into_iter().filter(|(_, bytes)| *bytes > 0) {
        text.push_str(&format!("  {:>10}  {place}\n", human::size(bytes)));
    }
    if stats.garbage > 0 {
        text.push_str(&format!("{} to be freed\n", human::count(stats.garbage, "deleted content")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stats_add_up() {
        let stats = StoreStats {
            buckets: 2,
            objects: 3,
            versions: 4,
            uploads: 0,
            blobs: 1,
            inline_bytes: 512,
            segment_bytes: 1 << 20,
            file_bytes: 1 << 30,
            legacy_bytes: 0,
            garbage: 1,
            segments_on_disk_bytes: 3 << 20,
        };
        assert_eq!(
            stats_text(&stats),
            "buckets   2
objects   3, in 4 versions
uploads   0 open
blobs     1
on disk   1.0 GiB
       512 B  in the index
     1.0 MiB  in segments
     2.0 MiB  dead or spare in segments
     1.0 GiB  in files of their own
1 deleted content to be freed
"
        );
    }
}
