//! `muonic store`, and what of it works on a data folder that no server uses:
//! buckets to plain files and back. The folder's lock keeps a server away.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use muonic_cli::{Exit, Failure, Global, OutputFormat};
use muonic_mounts::DOCUMENT;
use muonic_ports::ObjectStore;
use muonic_ports::object_store::{Error, NewBucket};
use muonic_store::EmbeddedStore;
use muonic_transfer::Report;
use muonic_types::{ProjectId, Timestamp};

use crate::config::{Config, from_environment};
use crate::folder::Folder;
use crate::take_over;

/// Between two lines of progress.
const TOLD_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Subcommand)]
pub enum StoreCommand {
    #[command(flatten)]
    Online(muonic_cli::StoreCommand),
    Export(ExportArgs),
    Import(ImportArgs),
}

/// Write buckets as plain files; the server of the data folder must be stopped
///
/// FOLDER/BUCKET/objects has the latest version of each object, with its key
/// as its path; keys that can be no path lie in FOLDER/BUCKET/escaped. The file
/// FOLDER/BUCKET/manifest.jsonl says where each object lies and what is known
/// of it. Datasets, models and mounted buckets are not among them. Run again,
/// it copies what is missing or has changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic store export --data ./cloud --to ./plain --bucket photos")]
pub struct ExportArgs {
    /// Where the files go
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
    /// Which bucket; may be given many times; all without
    #[arg(long = "bucket", value_name = "BUCKET")]
    buckets: Vec<String>,
}

/// Put plain files into a bucket; the server of the data folder must be stopped
///
/// FOLDER is that of a bucket in an export, whose manifest is minded, or any
/// other, whose files get their paths as keys. The bucket is made where there
/// is none, in the project 'default'. Run again, it passes by what is there. A
/// server that runs takes files from any S3 client instead.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic store import --data ./cloud --from ./plain/photos --bucket photos")]
pub struct ImportArgs {
    /// Where the files lie
    #[arg(long, value_name = "FOLDER")]
    from: PathBuf,
    /// The bucket they go to
    #[arg(long, value_name = "BUCKET")]
    bucket: String,
}

pub fn run(command: StoreCommand, global: &Global) -> ExitCode {
    let work = match command {
        StoreCommand::Online(command) => return muonic_cli::run_store(global, command, &crate::restore::Backups),
        StoreCommand::Export(args) => Work::Export(args),
        StoreCommand::Import(args) => Work::Import(args),
    };
    let Some(data) = global.data_dir() else {
        return Failure::new(Exit::BadInput, "no home folder is known, so the data folder is not either")
            .hint("name it with --data or MUONIC_DATA")
            .print(global.output);
    };
    match offline(work, &data) {
        Ok(reports) => show(&reports, global.output),
        Err(e) => {
            let bad = e.is::<crate::config::Error>() || e.is::<Refused>();
            Failure::new(if bad { Exit::BadInput } else { Exit::Failed }, format!("{e:#}")).print(global.output)
        }
    }
}

enum Work {
    Export(ExportArgs),
    Import(ImportArgs),
}

/// What was asked for cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

fn offline(work: Work, data: &Path) -> anyhow::Result<BTreeMap<String, Report>> {
    // A folder of ours is not made by looking into it.
    if !data.join("metastore.sqlite").exists() {
        bail!(Refused(format!("there is no data folder of a server at {}; name it with --data", data.display())));
    }
    if let Work::Import(args) = &work
        && !args.from.is_dir()
    {
        bail!(Refused(format!("there is no folder {}", args.from.display())));
    }
    let file = data.join("config.toml");
    let config = Config::load(file.exists().then_some(file.as_path()), &from_environment(std::env::vars_os())?)?;
    let folder = Folder::open(data)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let options = muonic_store::Options { encrypt: config.store.encrypt, sync: config.store.sync };
        let (store, _) = muonic_store::open(&folder.join("store"), &folder.join("store.keys"), &options).await?;
        let meta = muonic_metastore::open(&folder.join("metastore.sqlite")).await?;
        take_over::buckets(&meta, &store).await?;
        match work {
            Work::Export(args) => export(&store, args).await,
            Work::Import(args) => import(&store, args).await,
        }
    })
}

async fn export(store: &EmbeddedStore, args: ExportArgs) -> anyhow::Result<BTreeMap<String, Report>> {
    let all = store.buckets(None).await?;
    for wanted in &args.buckets {
        match all.iter().find(|bucket| bucket.name == *wanted) {
            None => bail!(Refused(format!("there is no bucket '{wanted}'"))),
            Some(bucket) if bucket.documents.contains_key(DOCUMENT) => {
                bail!(Refused(format!("the bucket '{wanted}' is mounted: its objects lie in another store")))
            }
            Some(_) => {}
        }
    }
    let mut reports = BTreeMap::new();
    for bucket in all {
        let wanted = args.buckets.is_empty() || args.buckets.contains(&bucket.name);
        if !wanted || bucket.documents.contains_key(DOCUMENT) {
            continue;
        }
        let mut told = progress(format!("exporting {}", bucket.name));
        let report = muonic_transfer::export(store, &bucket.name, &args.to.join(&bucket.name), &mut told).await?;
        reports.insert(bucket.name, report);
    }
    Ok(reports)
}

async fn import(store: &EmbeddedStore, args: ImportArgs) -> anyhow::Result<BTreeMap<String, Report>> {
    let bucket = match store.bucket(&args.bucket).await? {
        Some(bucket) if bucket.documents.contains_key(DOCUMENT) => {
            bail!(Refused(format!("the bucket '{}' is mounted: its objects lie in another store", args.bucket)))
        }
        Some(bucket) => bucket.project.clone(),
        None => {
            muonic_services::buckets::check_bucket_name(&args.bucket).map_err(|e| Refused(e.to_string()))?;
            let project = ProjectId::default_project();
            let new = NewBucket {
                name: args.bucket.clone(),
                project: project.clone(),
                at: Timestamp::now(),
                lock: false,
                documents: BTreeMap::new(),
            };
            store.bucket_create(new).await?;
            project
        }
    };
    let mut told = progress(format!("importing into {}", args.bucket));
    let report = muonic_transfer::import(store, &args.bucket, bucket.as_str(), &args.from, &mut told).await;
    let report = report.map_err(|error| match &error {
        muonic_transfer::Error::Store { source: Error::NoSuchEncryptionKey(name), .. } => {
            let hint = format!("make it on the running server with: muonic store key create '{name}'");
            anyhow::Error::new(error).context(hint)
        }
        _ => error.into(),
    });
    Ok(BTreeMap::from([(args.bucket, report.context("the import has ended early")?)]))
}

/// Says on a terminal how far it is.
fn progress(what: String) -> impl FnMut(&Report) + Send {
    let watched = std::io::stderr().is_terminal();
    let mut last = Instant::now();
    move |report: &Report| {
        if watched && last.elapsed() >= TOLD_EVERY {
            last = Instant::now();
            let mib = report.bytes as f64 / f64::from(1 << 20);
            let line = format!("{what}: {} objects, {mib:.1} MiB, {} as before\n", report.objects, report.unchanged);
            // Nobody needs to read it.
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }
}

fn show(reports: &BTreeMap<String, Report>, output: OutputFormat) -> ExitCode {
    let text = match output {
        OutputFormat::Json => match serde_json::to_string_pretty(&serde_json::json!({"buckets": reports})) {
            Ok(text) => text + "\n",
            Err(e) => return Failure::new(Exit::Failed, format!("the report cannot be written: {e}")).print(output),
        },
        OutputFormat::Text => reports.iter().map(|(bucket, report)| told(bucket, report)).collect(),
    };
    let written = std::io::stdout().write_all(text.as_bytes());
    let whole = reports.values().all(|report| report.left_out == 0);
    if whole && written.is_ok() { ExitCode::SUCCESS } else { Exit::Failed.into() }
}

fn told(bucket: &str, report: &Report) -> String {
    let mut text = format!("{bucket}: {} objects copied, {} bytes", report.objects, report.bytes);
    if report.unchanged > 0 {
        text.push_str(&format!(", {} as before", report.unchanged));
    }
    text.push('\n');
    for left in &report.left_out_names {
        text.push_str(&format!("  left out: {}: {}\n", left.name.escape_debug(), left.why));
    }
    if report.left_out > report.left_out_names.len() as u64 {
        text.push_str(&format!("  {} left out in all\n", report.left_out));
    }
    text
}
