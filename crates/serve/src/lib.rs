//! One replica: a self-contained server of one model.
//!
//! ```text
//! managed     --unit DIR ─▶ lock, begin ─▶ claim ─▶ fetch model ─┐
//!                                                                ├▶ runtime, or program ─▶ listen ─▶ (report ready) ─▶ drain
//! stand-alone PATH ──────────────────────────────────────────────┤
//! edge        bundle, or --follow URL ─▶ cache ──────────────────┘
//! ```
//!
//! It needs nobody while it serves: when the server dies it stays up, and
//! what it has to tell the server waits until there is one again.

mod batch;
mod confined;
mod doors;
mod edge;
mod embed;
mod environment;
mod failure;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod limits;
mod link;
mod listen;
mod logs;
mod managed;
mod metrics;
mod model;
mod oip;
mod prints;
mod program;
mod replica;
mod runtime;
mod served;
mod standalone;
mod statistics;
mod tensor;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::confined::Confined;
use crate::edge::follow::Following;
use crate::embed::Embedder;
use crate::runtime::Runtime;
use crate::runtime::handler::Handler;
use crate::runtime::onnx::Onnx;
use crate::runtime::pool::Settings;
use crate::runtime::program::Program;
use crate::runtime::rten::Rten;

pub use doors::router;
pub use failure::Failure;
pub use limits::Limits;
pub use listen::{Listener, serve};
pub use replica::{Model, Replica};
pub use runtime::onnx::find_library;

/// What was named to be served cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotAModel(String);

/// `muonic serve`: serve one model.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  muonic serve model.onnx
  muonic serve ./handler --name digits --port 8080
  muonic serve digits-3.muonic
  muonic serve --follow http://cloud:7070 digits@live")]
pub struct Args {
    /// An .onnx file, a folder with one, handler.py, serve.toml or MLflow's MLmodel, or a bundle
    #[arg(required_unless_present = "unit")]
    pub path: Option<PathBuf>,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// Port to listen on, for HTTP and gRPC; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// The model's name in the paths of requests [default: the file's or folder's name]
    #[arg(long)]
    pub name: Option<String>,
    /// Threads for one request [default: all cores]
    #[arg(long)]
    pub threads: Option<usize>,
    /// onnxruntime's library, or none for the built-in runtime [default: $MUONIC_ONNXRUNTIME, else beside this program]
    #[arg(long, value_name = "FILE")]
    pub onnxruntime: Option<String>,
    /// Python that runs a Python model or builds its environment [default: python3]
    #[arg(long, value_name = "FILE")]
    pub python: Option<String>,
    /// Serve MODEL@ALIAS, given in the place of the path, of the server at this
    /// address, and what the alias comes to mean. Goes on with what it has while
    /// the server is away. The key is taken from MUONIC_TOKEN
    #[arg(long, value_name = "URL")]
    pub follow: Option<String>,
    /// Seconds between two looks at the alias
    #[arg(long, value_name = "SECONDS", default_value_t = 10, requires = "follow", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub every: u64,
    /// Put metrics into this bucket of the server, as BUCKET or BUCKET/PREFIX;
    /// they are kept on this machine while it is away
    #[arg(long, value_name = "BUCKET", requires = "follow")]
    pub metrics: Option<String>,
    /// The key for the server that is followed.
    #[arg(skip)]
    pub token: Option<String>,
    /// Processes that run a Python model, each one request at a time [default: Handler.workers, else 1]
    #[arg(long)]
    pub workers: Option<usize>,
    /// Serve as a replica that an engine launched: its unit's folder
    #[arg(long, value_name = "DIR", hide = true, conflicts_with = "path")]
    pub unit: Option<PathBuf>,
}

/// Serves until it is told to stop (SIGTERM, SIGINT).
pub fn run(args: Args) -> anyhow::Result<()> {
    // Where the caller has set up logging that stays.
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_target(false);
    // What cannot be written, as to a full disk, must not end us.
    let _ = log.log_internal_errors(false).try_init();
    match (&args.unit, &args.path) {
        (Some(dir), _) => managed::run(dir),
        (None, Some(path)) if args.follow.is_some() => edge::follow::run(following(path, &args)?),
        (None, Some(path)) => standalone::run(path, &args),
        (None, None) => {
            anyhow::bail!(
                "name a model: an .onnx file, a folder with one, handler.py, serve.toml or MLmodel, or a bundle"
            )
        }
    }
}

fn following(path: &Path, args: &Args) -> anyhow::Result<Following> {
    let server = args.follow.clone().unwrap_or_default();
    let model = Following::parse(&server, &path.to_string_lossy())?;
    let metrics = args.metrics.as_deref().map(str::parse).transpose().map_err(NotAModel)?;
    let token = args.token.as_deref().map(str::trim).filter(|token| !token.is_empty());
    let Some(token) = token else {
        anyhow::bail!(NotAModel(format!("no key is given for the server {server}: set MUONIC_TOKEN to one")));
    };
    Ok(Following {
        name: args.name.clone().unwrap_or_else(|| model.name.to_string()),
        token: token.to_owned(),
        every: Duration::from_secs(args.every),
        address: SocketAddr::new(args.host, args.port),
        options: standalone::options(args),
        limits: Limits::default(),
        server,
        model,
        metrics,
    })
}

/// What is needed to load a model, wherever it came from.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    pub threads: usize,
    pub onnxruntime: Option<String>,
    pub python: Option<String>,
    /// Workers of a Python model, instead of what its class says.
    pub workers: Option<usize>,
    /// Built Python environments are kept here.
    pub cache: PathBuf,
    /// Bytes of a Python worker's prints that are kept.
    pub log_bytes_max: u64,
}

/// Loads the model at `path`; takes as long as the model takes.
pub fn load(path: &Path, options: &LoadOptions) -> anyhow::Result<Model> {
    load_within(path, options, || Ok(None))
}

/// Calls `confine` between what is not the model's own, the building of its
/// environment, and the model itself.
fn load_within(
    path: &Path,
    options: &LoadOptions,
    confine: impl FnOnce() -> anyhow::Result<Option<Arc<Confined>>>,
) -> anyhow::Result<Model> {
    match model::find(path)? {
        model::Kind::Onnx(file) => {
            let library = find_library(options.onnxruntime.as_deref())?;
            confine()?;
            let runtime: Arc<dyn Runtime> = match library {
                Some(library) => Arc::new(Onnx::load(&file, &library, options.threads)?),
                None => {
                    tracing::info!("without onnxruntime: the built-in runtime (rten) runs the model");
                    Arc::new(Rten::load(&file, options.threads)?)
                }
            };
            // Of a file that was named, what lies beside it is not meant.
            let embedder = if path.is_dir() { Embedder::find(path, &*runtime)? } else { None };
            Ok(Model { runtime, embedder })
        }
        model::Kind::Handler(folder) => {
            let program = Program::of(std::path::absolute(folder.join("handler.py"))?);
            python(&folder, program, options, confine)
        }
        model::Kind::Mlflow(folder) => {
            let program = Program::mlflow().context("cannot hold a program in memory")?;
            python(&folder, program, options, confine)
        }
        model::Kind::Program(folder) => anyhow::bail!("{} is served by a program of its own", folder.display()),
    }
}

fn python(
    folder: &Path,
    program: Program,
    options: &LoadOptions,
    confine: impl FnOnce() -> anyhow::Result<Option<Arc<Confined>>>,
) -> anyhow::Result<Model> {
    let model = std::path::absolute(folder).with_context(|| format!("cannot find {}", folder.display()))?;
    let python = environment::python_for(&model, &options.cache, options.python.as_deref())?;
    let (log_bytes_max, workers, confined) = (options.log_bytes_max, options.workers, confine()?);
    let settings = Settings { python, model, program, log_bytes_max, workers, confined };
    let runtime: Arc<dyn Runtime> = Arc::new(Handler::load(settings)?);
    Ok(runtime.into())
}

/// Bytes of a worker's prints that are kept.
const LOG_BYTES_MAX: u64 = 64 << 20;

/// Waits for SIGTERM or SIGINT. Made before anything that takes time, so that
/// no signal is missed.
struct Terminated {
    term: Signal,
    int: Signal,
}

impl Terminated {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
            int: signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

/// The async threads of a replica only move bytes; runs happen elsewhere.
fn async_threads() -> anyhow::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.clamp(1, 4))
        // Slots bound what runs; the rest parses and writes.
        .max_blocking_threads(64)
        .enable_all()
        .build()
        .context("cannot start the async threads")
}
