//! `muonic store key`: the keys that the store encrypts with. They never
//! leave the server: only names and versions are shown.

use muonic_types::store::{EncryptionKey, NewEncryptionKey, NewRotation, RotationReport};

use super::{awaited, whole};
use crate::context::{Context, note};
use crate::failure::{Exit, Outcome};
use crate::progress::Steps;
use crate::render::{Screen, Table, human};

#[derive(Debug, clap::Subcommand)]
pub enum KeyCommand {
    Create(CreateArgs),
    Ls(LsArgs),
    Rotate(RotateArgs),
}

/// Make a key that S3 requests can name (SSE-KMS)
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic store key create team-vision")]
pub struct CreateArgs {
    /// The key's name, 1 to 256 characters
    name: String,
}

/// List the keys with their versions
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic store key ls")]
pub struct LsArgs {}

/// Give a key a new version and wrap with it what older ones have wrapped
///
/// Contents are not written anew: only the data keys beside them are. The
/// older versions go when nothing needs them; save DATA/store.keys again then.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic store key rotate team-vision")]
pub struct RotateArgs {
    /// The key's name; the store's own key without
    name: Option<String>,
}

const SAVE: &str = "save the server's file store.keys: without it nothing that is encrypted can be read";

impl KeyCommand {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        match self {
            Self::Create(args) => {
                let key = client.store_key_create(&NewEncryptionKey { name: args.name })?;
                context.show(&key, || format!("{} is made\n", called(key.name.as_deref())))?;
                note(SAVE);
            }
            Self::Ls(_) => {
                let list = client.store_keys()?;
                context.show(&list, || ls_text(&list.keys, context.screen()))?;
            }
            Self::Rotate(args) => {
                client.store_rotate(&NewRotation { name: args.name })?;
                let mut steps = Steps::new("waiting for uploads that have begun before");
                let say = |report: &RotationReport| match report.extents {
                    0 => "waiting for uploads that have begun before".to_owned(),
                    n => format!("looking at data keys: {n} seen, {} wrapped anew", report.rewrapped),
                };
                let report = awaited(&mut steps, || client.store_rotation_report(), |report| &report.run, say)?;
                drop(steps);
                context.show(&report, || rotation_text(&report))?;
                whole(&report.run, "the rotation")?;
                note(SAVE);
            }
        }
        Ok(Exit::Ok)
    }
}

fn called(name: Option<&str>) -> String {
    name.map_or_else(|| "the store's own key".to_owned(), |name| format!("the key '{name}'"))
}

fn ls_text(keys: &[EncryptionKey], screen: Screen) -> String {
    let mut table = Table::new(screen, ["NAME", ">VERSION", "MADE", "OLDER"]);
    for key in keys {
        let Some((newest, older)) = key.versions.split_last() else { continue };
        let older: Vec<String> = older.iter().map(|version| version.version.to_string()).collect();
        table.row([
            key.name.clone().unwrap_or_else(|| "(the store's own)".to_owned()),
            newest.version.to_string(),
            human::instant(newest.created_at),
            older.join(", "),
        ]);
    }
    table.render()
}

fn rotation_text(report: &RotationReport) -> String {
    let retired: Vec<String> = report.retired.iter().map(u32::to_string).collect();
    let gone = match retired.len() {
        0 => String::new(),
        1 => format!("; version {} is gone", retired[0]),
        _ => format!("; versions {} are gone", retired.join(", ")),
    };
    format!(
        "{} has version {}: {} wrapped anew{gone}\n",
        called(report.name.as_deref()),
        report.version,
        human::count(report.rewrapped, "data key")
    )
}

#[cfg(test)]
mod tests {
    use muonic_types::store::EncryptionKeyVersion;

    use super::*;

    #[test]
    fn keys_are_listed_without_secrets() {
        let at = "2026-11-03T12:00:00Z".parse().unwrap();
        let version = |version| EncryptionKeyVersion { version, created_at: at };
        let keys = [
            EncryptionKey { name: None, versions: vec![version(1), version(2)] },
            EncryptionKey { name: Some("team".into()), versions: vec![version(1)] },
        ];
        let rows: Vec<String> = ls_text(&keys, Screen::PIPE).lines().map(|line| line.trim_end().to_owned()).collect();
        assert_eq!(rows[1], "(the store's own)        2  2026-11-03 12:00:00 UTC  1");
        assert_eq!(rows[2], "team                     1  2026-11-03 12:00:00 UTC");
        let report = RotationReport { version: 3, rewrapped: 1, retired: vec![1, 2], ..RotationReport::default() };
        let text = rotation_text(&report);
        assert_eq!(text, "the store's own key has version 3: 1 data key wrapped anew; versions 1, 2 are gone\n");
    }
}
