//! `muonic up`: the composition root. Everything is put together here, in
//! order of dependency, passed by constructor, nothing global; then announced,
//! run and drained.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use hyper_util::service::TowerToHyperService;
use muonic_api::{Metrics, Services};
use muonic_engine_local::Local;
use muonic_gateway::Gateway;
use muonic_listen::{Limits, Linger, Listener};
use muonic_mounts::{MasterSealer, Mounts};
use muonic_ports::{BlobStore, Clock, Engine, Logs, Metastore, ObjectStore, SystemClock};
use muonic_services::keys::MasterKey;
use muonic_services::system::Place;
use muonic_services::{self as services, Admission, Dispatcher, Events, Keys, Releaser};
use muonic_types::Digest;
use muonic_types::key::KeyCreated;
use muonic_types::system::LocalFile;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::callbacks::HttpCallbacks;
use crate::config::{self, Config, Override, from_environment};
use crate::folder::Folder;
use crate::{listen, log, machine, take_over};

/// For a request's head, and for a connection between two requests.
const IDLE: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(24 * 3600);
const RECONCILERS_TIMEOUT: Duration = Duration::from_secs(10);

/// Run the server.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muonic up\n  muonic up --data ./cloud --listen 127.0.0.1:0 --s3-listen 127.0.0.1:0\n  muonic up --set price.cpu_usd_per_hour=0.03"
)]
pub struct Args {
    /// A configuration file; DATA/config.toml is read where there is one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the native API and the endpoints [default: 127.0.0.1:7070].
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<String>,
    /// Address of the S3 door [default: 127.0.0.1:7071].
    #[arg(long, value_name = "IP:PORT")]
    s3_listen: Option<String>,
    /// Any configuration key; may be given many times.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    settings: Vec<String>,
}

/// Runs until SIGTERM or SIGINT; a second one ends it at once.
pub fn run(args: &Args, data: &std::path::Path) -> anyhow::Result<()> {
    let began = Instant::now();
    let config = configure(args, data)?;
    log::start(&config.log.filter, config.log.format);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve(config, data, began));
    // What still blocks a thread has had its time.
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}

fn configure(args: &Args, data: &std::path::Path) -> anyhow::Result<Config> {
    let mut overrides = from_environment(std::env::vars_os())?;
    for text in &args.settings {
        let (key, value) = text.split_once('=').ok_or_else(|| config::Error::of_flag(text))?;
        overrides.push(Override { key: key.to_owned(), value: value.to_owned(), source: format!("--set {key}") });
    }
    let flags = [("server.listen", "--listen", &args.listen), ("server.s3_listen", "--s3-listen", &args.s3_listen)];
    for (key, flag, value) in flags {
        if let Some(value) = value {
            overrides.push(Override { key: key.to_owned(), value: value.clone(), source: flag.to_owned() });
        }
    }
    let usual = data.join("config.toml");
    let file = args.config.clone().or_else(|| usual.exists().then_some(usual));
    Ok(Config::load(file.as_deref(), &overrides)?)
}

async fn serve(config: Config, data: &std::path::Path, began: Instant) -> anyhow::Result<()> {
    // The ground: a folder for this server alone, and sockets. Bound early, served when ready.
    let folder = Folder::open(data)?;
    let native = listen::bind(config.server.listen, "--listen").await?;
    let s3 = listen::bind(config.server.s3_listen, "--s3-listen").await?;
    let url = format!("http://{}", native.local_addr()?);
    let s3_url = format!("http://{}", s3.local_addr()?);
    let master = folder.master_key()?;

    // The backends behind the ports.
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let sqlite = Arc::new(muonic_metastore::open(&folder.join("metastore.sqlite")).await?);
    let meta: Arc<dyn Metastore> = sqlite.clone();
    let options = muonic_store::Options { encrypt: config.store.encrypt, sync: config.store.sync };
    let (embedded, _) = muonic_store::open(&folder.join("store"), &folder.join("store.keys"), &options).await?;
    take_over::buckets(&*meta, &embedded).await?;
    let store: Arc<dyn BlobStore> = Arc::new(embedded.clone());
    let sealer = Arc::new(MasterSealer::new(master.derive("muonic mounts 1")));
    let mounts = Arc::new(Mounts::new(Arc::new(embedded.clone()), sealer, config.store.mount_folders.clone()));
    let objects: Arc<dyn ObjectStore> = mounts.clone();
    let version = env!("CARGO_PKG_VERSION");
    let backups = muonic_backup::Backups::new(folder.path(), embedded.clone(), sqlite, &master.0, version);
    let logs: Arc<dyn Logs> = Arc::new(muonic_store::open_logs(&folder.join("logs"))?);
    // New at each start: a copy of the data folder makes another server.
    let id = Digest::of(&MasterKey::generate()?.0).hex();
    folder.write_address(&url, &id)?;
    let engine: Arc<dyn Engine> = Arc::new(Local::new(muonic_engine_local::Config {
        units: folder.join("local/units"),
        cache: folder.join("local/cache"),
        server_file: folder.join("local/server"),
        exe: std::env::current_exe()?,
        capacity: Some(config.capacity(muonic_engine_local::of_this_machine())),
    })?);

    // The services.
    let (keys, admin, first_start) = Keys::open(meta.clone(), clock.clone(), &master).await?;
    let events = Arc::new(Events::default());
    let admission = Arc::new(Admission::new(engine.clone(), meta.clone(), config.flavor()));
    let jobs = Arc::new(services::Jobs::new(
        meta.clone(),
        clock.clone(),
        keys.clone(),
        events.clone(),
        logs.clone(),
        admission.clone(),
        services::jobs::Settings { log_bytes_max: config.jobs.log_bytes_max },
    ));
    let blobs = Arc::new(services::Blobs::new(meta.clone(), store.clone(), clock.clone()));
    let endpoints = Arc::new(services::Endpoints::new(
        meta.clone(),
        clock.clone(),
        events.clone(),
        logs,
        admission.clone(),
        blobs.clone(),
    ));
    let place = Place {
        version: version.to_owned(),
        data: folder.path().display().to_string(),
        url: url.clone(),
        s3_url: s3_url.clone(),
        started_at: clock.now(),
    };
    let checks = machine::checks(config.python.interpreter.clone(), config.serving.onnxruntime.clone());
    let system = services::System::new(meta.clone(), store.clone(), engine.clone(), admission.clone(), place, checks);

    // The reconcilers, and the routes they publish.
    let dispatcher = Dispatcher::new(jobs.clone(), engine.clone(), task_settings(&config, &s3_url));
    let (releaser, routes) = Releaser::new(endpoints.clone(), keys.clone(), engine, replica_settings(&config));

    let scrub_every = Duration::from_secs(config.store.scrub_every_days.saturating_mul(DAY.as_secs()));
    let storage = services::Storage::new(
        Arc::new(embedded.clone()),
        mounts,
        objects.clone(),
        clock.clone(),
        config.store.scrub_bytes_per_s,
    );
    let upkeep = muonic_store::Upkeep::new(embedded, scrub_every, config.store.scrub_bytes_per_s);
    let collector = services::Collector::new(meta.clone(), store.clone(), blobs.clone(), clock.clone());

    let lifecycle = services::Lifecycle::new(objects.clone(), clock.clone(), DAY);

    // The doors.
    let metrics = Arc::new(Metrics::new());
    let mut gateway = None;
    metrics.register(|registry| gateway = Some(Gateway::new(routes, keys.clone(), registry)));
    let gateway = gateway.context("the gateway was not made")?;
    let buckets = Arc::new(services::Buckets::new(objects, clock.clone(), events.clone()));
    let deferred =
        Arc::new(services::Deferred::new(meta.clone(), clock.clone(), events.clone(), keys.clone(), buckets.clone()));
    let callbacks = Arc::new(HttpCallbacks::new());
    let runner = services::DeferredRunner::new(deferred.clone(), Arc::new(gateway.clone()), callbacks);
    let s3_door = muonic_s3::service(buckets.clone(), keys.clone());
    let doors = Services {
        keys: keys.clone(),
        backups: services::Backups::new(Arc::new(backups), clock.clone()),
        blobs,
        buckets,
        datasets: services::Datasets::new(meta.clone(), clock.clone()),
        jobs,
        models: services::Models::new(meta.clone(), clock.clone()),
        endpoints,
        deferred,
        lineage: services::Lineage::new(meta.clone()),
        costs: services::Costs::new(meta.clone(), clock, admission),
        storage,
        system,
    };
    let router = muonic_api::router(Arc::new(doors), metrics, gateway.router());
    let router = muonic_api::named(router, &id)?;

    // Run.
    let shutdown = CancellationToken::new();
    let working = CancellationToken::new();
    let drain = Duration::from_secs(config.server.drain_timeout_s);
    let limits = Limits { connections_max: config.server.connections_max, idle: IDLE, drain };
    let mut doors = JoinSet::new();
    let router = Linger(TowerToHyperService::new(muonic_gateway::by_host(router, config.serving.domains.clone())));
    doors.spawn(muonic_listen::serve_both(Listener::Tcp(native), router, limits, shutdown.clone().cancelled_owned()));
    doors.spawn(muonic_listen::serve(Listener::Tcp(s3), s3_door, limits, shutdown.clone().cancelled_owned()));
    let mut reconcilers = JoinSet::new();
    reconcilers.spawn(dispatcher.run(working.clone()));
    reconcilers.spawn(releaser.run(working.clone()));
    reconcilers.spawn(runner.run(working.clone()));
    reconcilers.spawn(collector.run(working.clone()));
    reconcilers.spawn(upkeep.run(working.clone()));
    reconcilers.spawn(lifecycle.run(working.clone()));
    folder.write_local_file(&LocalFile {
        version: 1,
        url: url.clone(),
        s3_url: s3_url.clone(),
        key_id: admin.key.id.to_string(),
        secret: admin.secret.clone(),
        token: admin.token.clone(),
        pid: std::process::id(),
    })?;
    // Nobody may be reading; the server does not need a reader.
    let _ = std::io::stdout()
        .write_all(announcement(&folder, &url, &s3_url, first_start.then_some(&admin), began).as_bytes());

    // Drain: doors first, then those who work behind them, then the ground.
    let ended = tokio::select! {
        signal = wait_for_signal() => signal,
        // A server without one of these would look well and do nothing.
        _ = doors.join_next() => Err(anyhow!("a door ended, which is a fault of the server; its log says more")),
        _ = reconcilers.join_next() => {
            Err(anyhow!("a reconciler ended, which is a fault of the server; its log says more"))
        }
    };
    tracing::info!("stopping; jobs and endpoints go on and are found again at the next start");
    events.close();
    shutdown.cancel();
    while doors.join_next().await.is_some() {}
    working.cancel();
    let rest = async { while reconcilers.join_next().await.is_some() {} };
    if tokio::time::timeout(RECONCILERS_TIMEOUT, rest).await.is_err() {
        tracing::warn!("a reconciler did not stop in time");
    }
    meta.close().await;
    ended
}

fn announcement(folder: &Folder, url: &str, s3_url: &str, admin: Option<&KeyCreated>, began: Instant) -> String {
    let mut text = format!(
        "Muonic {} is ready after {} ms
  API and endpoints  {url}
  S3                 {s3_url}
  data folder        {}
",
        env!("CARGO_PKG_VERSION"),
        began.elapsed().as_millis(),
        folder.path().display()
    );
    if let Some(admin) = admin {
        text.push_str(&format!(
            "The administrator's key, shown this once (also in {}):
  access key id      {}
  secret             {}
  token              {}
",
            folder.join("local.json").display(),
            admin.key.id,
            admin.secret,
            admin.token
        ));
    }
    text.push_str("Stop it with Ctrl-C. Try 'muonic status' in another terminal.\n");
    text
}

/// Returns at the first SIGTERM or SIGINT; a second one ends the process.
async fn wait_for_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(130);
    });
    Ok(())
}

fn task_settings(config: &Config, s3_url: &str) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::from([("s3_url".to_owned(), s3_url.to_owned())]);
    if let Some(python) = &config.python.interpreter {
        settings.insert("python".to_owned(), python.display().to_string());
    }
    settings
}

fn replica_settings(config: &Config) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    if let Some(python) = &config.python.interpreter {
        settings.insert("python".to_owned(), python.display().to_string());
    }
    if let Ok(Some(library)) = machine::find_library(config.serving.onnxruntime.clone()) {
        settings.insert("onnxruntime".to_owned(), library.display().to_string());
    }
    settings
}
