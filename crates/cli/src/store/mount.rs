//! `muonic store mount`: buckets whose objects lie in another store.

use muonic_types::ProjectId;
use muonic_types::store::{Mount, NewMount};

use crate::context::Context;
use crate::failure::{Exit, Outcome};
use crate::render::{Screen, Table};
use crate::store::options::StoreOptions;

/// Make a bucket of what lies in another store
///
/// URL is s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX,
/// abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PREFIX, hdfs://HOST:PORT/PATH
/// or file:///FOLDER (in a folder that the server's store.mount_folders names).
///
/// Secrets are no options of the command line: give them by --secret-file, or
/// in the environment as MUONIC_STORE_ and the option's name in capitals.
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
    #[command(flatten)]
    options: StoreOptions,
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
        let options = self.options.gather(|name| std::env::var(name).ok())?;
        let new = NewMount { bucket: self.bucket, url: self.url, options, project: self.project };
        let mount = client.store_mount(&new)?;
        context.show(&mount, || mount_text(&mount))?;
        Ok(Exit::Ok)
    }
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
