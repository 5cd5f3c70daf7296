//! `muonic store mount`: buckets whose objects lie in another store. Secrets
//! are read from files or from the environment: others on the machine can read
//! command lines.

use std::collections::BTreeMap;
use std::path::PathBuf;

use muonic_types::ProjectId;
use muonic_types::store::{Mount, NewMount};

use crate::context::Context;
use crate::failure::{Exit, Failure, Outcome, Result};
use crate::parse;
use crate::render::{Screen, Table};

/// Options that are secrets; each may also come from `MUONIC_MOUNT_<NAME>`.
const SECRETS: &[&str] =
    &["secret_access_key", "session_token", "service_account_key", "access_key", "sas_token", "client_secret"];
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Make a bucket of what lies in another store
///
/// URL is s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX,
/// abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PREFIX, hdfs://HOST:PORT/PATH
/// or file:///FOLDER (in a folder that the server's store.mount_folders names).
///
/// Secrets are no options of the command line: give them by --secret-file, or
/// in the environment as MUONIC_MOUNT_ and the option's name in capitals.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  muonic store mount s3://archive/2026 archive --option access_key_id=AKIA... --secret-file secret_access_key=./secret
  muonic store mount gs://public-data open --option anonymous=true
  muonic store mount s3://lake lake --option endpoint=https://s3.example.org --option access_key_id=lake \\
    --secret-file secret_access_key=./secret")]
pub struct MountArgs {
    /// Where the objects lie
    url: String,
    /// The bucket to make
    bucket: String,
    /// A setting of the store: endpoint, region, access_key_id, account,
    /// anonymous and others; may be given many times
    #[arg(long = "option", value_name = "NAME=VALUE", value_parser = parse::mount_option)]
    options: Vec<(String, String)>,
    /// An option whose value is the content of a file; may be given many times
    #[arg(long = "secret-file", value_name = "NAME=FILE", value_parser = parse::secret_file)]
    secret_files: Vec<(String, PathBuf)>,
    /// Another project whose bucket it is
    #[arg(long)]
    project: Option<ProjectId>,
}

/// Take a mounted bucket away; nothing in the mounted store is touched
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic store unmount archive")]
pub struct UnmountArgs {
    /// The bucket
    bucket: String,
}

/// List what is mounted, without secrets
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic store mounts")]
pub struct MountsArgs {}

impl MountArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let options = self.gather(|name| std::env::var(name).ok())?;
        let new = NewMount { bucket: self.bucket, url: self.url, options, project: self.project };
        let mount = client.store_mount(&new)?;
        context.show(&mount, || mount_text(&mount))?;
        Ok(Exit::Ok)
    }

    fn gather(&self, env: impl Fn(&str) -> Option<String>) -> Result<BTreeMap<String, String>> {
        let mut options = BTreeMap::new();
        let mut add = |name: &str, value: String| match options.insert(name.to_owned(), value) {
            None => Ok(()),
            Some(_) => Err(Failure::bad_input(format!("the option '{name}' is given twice"))),
        };
        for (name, value) in &self.options {
            if SECRETS.contains(&name.as_str()) {
                return Err(Failure::bad_input(format!("'{name}' is a secret, and others can read command lines"))
                    .hint(format!("write it to a file: --secret-file {name}=FILE")));
            }
            add(name, value.clone())?;
        }
        for (name, file) in &self.secret_files {
            add(name, read_secret(file)?)?;
        }
        for name in SECRETS {
            let variable = format!("MUONIC_MOUNT_{}", name.to_uppercase());
            if let Some(value) = env(&variable).filter(|value| !value.is_empty())
                && !self.secret_files.iter().any(|(given, _)| given == name)
            {
                add(name, value)?;
            }
        }
        Ok(options)
    }
}

/// A line end at the end is the editor's.
fn read_secret(path: &PathBuf) -> Result<String> {
    let failed = |e: &dyn std::fmt::Display| Failure::bad_input(format!("'{}' cannot be read: {e}", path.display()));
    let length = std::fs::metadata(path).map_err(|e| failed(&e))?.len();
    if length > SECRET_BYTES_MAX {
        return Err(failed(&format!("it has {length} bytes, and a secret has at most {SECRET_BYTES_MAX}")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| failed(&e))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

impl UnmountArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        context.client()?.store_unmount(&self.bucket)?;
        context.show(&serde_json::json!({"unmounted": self.bucket}), || {
            format!("{} is unmounted; what lies in the other store is as it was\n", self.bucket)
        })?;
        Ok(Exit::Ok)
    }
}

impl MountsArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let list = context.client()?.store_mounts()?;
        context.show(&list, || mounts_text(&list.mounts, context.screen()))?;
        Ok(Exit::Ok)
    }
}

fn mount_text(mount: &Mount) -> String {
    format!("the bucket {} is {}\n", mount.bucket, mount.url.as_deref().unwrap_or_default())
}

fn mounts_text(mounts: &[Mount], screen: Screen) -> String {
    let mut table = Table::new(screen, ["BUCKET", "PROJECT", "URL", "OPTIONS"]);
    for mount in mounts {
        let options: Vec<String> =
            mount.options.iter().map(|(name, value)| format!("{name}={}", short(value))).collect();
        let url = mount.url.clone().unwrap_or_else(|| mount.problem.clone().unwrap_or_default());
        table.row([mount.bucket.clone(), mount.project.to_string(), url, options.join(" ")]);
    }
    table.render()
}

/// Certificates fill pages.
fn short(value: &str) -> String {
    match value.char_indices().nth(40) {
        Some((at, _)) => format!("{}…", &value[..at]),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(options: &[(&str, &str)], secret_files: Vec<(String, PathBuf)>) -> MountArgs {
        let options = options.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        MountArgs { url: "s3://b".into(), bucket: "b-1".into(), options, secret_files, project: None }
    }

    #[test]
    fn secrets_come_from_files_and_the_environment_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, "hush\n").unwrap();
        let given = args(&[("access_key_id", "AK")], vec![("secret_access_key".into(), file.clone())]);
        let env = |name: &str| (name == "MUONIC_MOUNT_SESSION_TOKEN").then(|| "token".to_owned());
        let options = given.gather(env).unwrap();
        let expected = [("access_key_id", "AK"), ("secret_access_key", "hush"), ("session_token", "token")];
        assert_eq!(options, expected.map(|(n, v)| (n.to_owned(), v.to_owned())).into());

        let bare = args(&[("secret_access_key", "hush")], Vec::new()).gather(|_| None).unwrap_err();
        assert!(!bare.message.contains("hush") && bare.hint.unwrap().contains("--secret-file"));
        let twice = args(&[("region", "a"), ("region", "b")], Vec::new()).gather(|_| None).unwrap_err();
        assert!(twice.message.contains("given twice"));
        let missing = args(&[], vec![("access_key".into(), dir.path().join("none"))]).gather(|_| None).unwrap_err();
        assert!(missing.message.contains("none' cannot be read"));
    }
}
