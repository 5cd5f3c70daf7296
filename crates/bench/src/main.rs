//! A load generator for S3 servers, for `bench/store.py`, and for models behind
//! HTTP and gRPC, for `bench/serving.py`. Linked by nothing.
//!
//! One run is one phase: it repeats one operation on keep-alive connections, one
//! request at a time on each, and prints one JSON object. Signatures and digests
//! are made before the clock starts, so that the generator takes little of the
//! cores that the server needs too. It runs on one thread; another sleeps until requests are due.

mod body;
mod connection;
mod list;
mod multipart;
mod objects;
mod pace;
mod post;
mod report;
mod sign;
mod wire;

use clap::{Args, Parser, Subcommand};

use crate::connection::Target;
use crate::report::Report;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0} is no address: say http://HOST:PORT")]
    Address(String),
    #[error("{0} does not make a request: {1}")]
    Request(String, http::Error),
    #[error("connection: {0}")]
    Io(#[from] std::io::Error),
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("{what} answered {status}: {text}")]
    Status { what: &'static str, status: u16, text: String },
    #[error("{0} answered without {1}")]
    Answer(&'static str, &'static str),
    #[error("{0}: {1}")]
    Body(std::path::PathBuf, std::io::Error),
    #[error("'{0}' is no header: say NAME:VALUE")]
    Header(String),
    #[error("the answer is no HTTP/1.1 with a content-length: {0}")]
    NotHttp(String),
}

/// Load on a server; prints one JSON object.
#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    target: TargetArgs,
    #[command(subcommand)]
    work: Work,
}

#[derive(Debug, Args)]
struct TargetArgs {
    /// The S3 server, as http://HOST:PORT
    #[arg(long, default_value = "")]
    endpoint: String,
    #[arg(long, default_value = "")]
    bucket: String,
    /// Without: requests are not signed
    #[arg(long, env = "BENCH_KEY_ID")]
    key_id: Option<String>,
    #[arg(long, env = "BENCH_SECRET", default_value = "", hide_env_values = true)]
    secret: String,
}

#[derive(Debug, Subcommand)]
enum Work {
    /// Make the bucket
    Bucket,
    /// Write objects
    Put(ObjectArgs),
    /// Read objects that a put of the same keys wrote
    Get(ObjectArgs),
    /// Ask for objects' headers
    Head(ObjectArgs),
    /// Remove objects
    Delete(ObjectArgs),
    /// Page through the keys
    List(ListArgs),
    /// Upload one object in parts
    Multipart(MultipartArgs),
    /// Post one body to one URL again and again; needs neither endpoint nor bucket
    Post(post::Args),
}

#[derive(Debug, Args, Clone)]
pub struct ObjectArgs {
    /// Bytes of an object
    #[arg(long, default_value_t = 4096)]
    size: usize,
    /// Distinct keys; operations go round them
    #[arg(long, default_value_t = 1000)]
    keys: usize,
    /// What every key begins with
    #[arg(long, default_value = "k/")]
    prefix: String,
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Go on for this long after the warm-up
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Do so many, however long it takes, instead
    #[arg(long)]
    count: Option<usize>,
    /// Seconds of the same work before, not counted
    #[arg(long, default_value_t = 0.3)]
    warmup: f64,
    /// Cut off what is under way when the time is over
    #[arg(long)]
    cut: bool,
    /// Sign the SHA-256 of a body, not UNSIGNED-PAYLOAD
    #[arg(long)]
    signed: bool,
    /// Take the keys in an order that jumps about
    #[arg(long)]
    scatter: bool,
    /// Makes bodies differ from those of another run
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    #[arg(long, default_value = "k/")]
    prefix: String,
    /// Keys of a page
    #[arg(long, default_value_t = 1000)]
    page: usize,
    /// Pages of one round; all without
    #[arg(long)]
    pages: Option<usize>,
    /// Begin after this key
    #[arg(long)]
    start_after: Option<String>,
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
}

#[derive(Debug, Args)]
pub struct MultipartArgs {
    #[arg(long, default_value_t = 64 << 20)]
    part_size: usize,
    #[arg(long, default_value_t = 4)]
    parts: usize,
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Uploads, one after the other
    #[arg(long, default_value_t = 3)]
    count: usize,
    #[arg(long, default_value = "multipart/")]
    prefix: String,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let TargetArgs { endpoint, bucket, key_id, secret } = cli.target;
    let target = || Target::new(endpoint, bucket, key_id, secret);
    let report: Report = runtime.block_on(async {
        match cli.work {
            Work::Bucket => objects::make_bucket(&target()?).await,
            Work::Put(args) => objects::run(&target()?, http::Method::PUT, args).await,
            Work::Get(args) => objects::run(&target()?, http::Method::GET, args).await,
            Work::Head(args) => objects::run(&target()?, http::Method::HEAD, args).await,
            Work::Delete(args) => objects::run(&target()?, http::Method::DELETE, args).await,
            Work::List(args) => list::run(&target()?, &args).await,
            Work::Multipart(args) => multipart::run(&target()?, &args).await,
            Work::Post(args) => post::run(&args).await,
        }
    })?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}
