//! A replica that an engine launched.
//!
//! If the machine dies on any line the kernel drops the lock, the engine sees
//! the unit as ended, and the server launches another replica; nothing in
//! here has to be undone.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use muonic_types::UnitId;
use muonic_types::model::Serves;
use muonic_types::task::ReplicaSpec;
use muonic_unit::{Folder, Launch};
use tokio::net::UnixListener;

use crate::confined::Confined;
use crate::edge::models::{Lease, Models};
use crate::link::{Link, is_unwanted};
use crate::listen::{Listener, serve};
use crate::logs::Shipper;
use crate::served::{Identity, Served};
use crate::{LOG_BYTES_MAX, Limits, LoadOptions, Terminated, async_threads};

/// A server may be away this long before the replica gives up telling it
/// something; serving goes on meanwhile.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// For the last words of a replica that failed.
const PATIENCE_AT_END: Duration = Duration::from_secs(300);
const LOG_FLUSH: Duration = Duration::from_secs(5);

pub fn run(dir: &Path) -> anyhow::Result<()> {
    let dir = std::path::absolute(dir).with_context(|| format!("cannot find {}", dir.display()))?;
    let folder = Folder::new(dir);
    folder.enter().with_context(|| format!("cannot enter {}", folder.path().display()))?;
    let Some(_lock) = folder.try_lock().with_context(|| format!("cannot lock {}", folder.path().display()))? else {
        return Ok(());
    };
    folder.write_pid().context("cannot write the unit's pid")?;
    let launch = folder.read_launch().context("cannot read launch.json")?;
    let UnitId::Replica(id) = launch.unit.clone() else {
        bail!("the unit {} is no replica", launch.unit);
    };
    if folder.is_done() || !folder.begin().context("cannot mark the unit as begun")? {
        return Ok(());
    }
    let link = Link { launch, id };
    let shipper = Shipper::start(link.clone(), folder.file("output.log")).context("cannot start the log's thread")?;
    let threads = async_threads()?;
    let served = threads.block_on(serve_unit(&folder, &link));
    if let Err(e) = &served {
        tracing::error!("{e:#}");
    }
    // The log goes first: the server may revoke the key of a replica that has
    // failed.
    shipper.finish(LOG_FLUSH);
    let done = match served {
        Ok(()) => Ok(()),
        Err(e) => {
            let message = format!("{e:#}");
            match link.persist(PATIENCE_AT_END, |c| c.replica_failed(&link.id, &message)) {
                Err(refused) if !is_unwanted(&refused) => {
                    Err(e.context(format!("and the server could not be told: {refused}")))
                }
                _ => Err(e),
            }
        }
    };
    threads.shutdown_background();
    done
}

/// An error is a reason why the model cannot be served.
async fn serve_unit(folder: &Folder, link: &Link) -> anyhow::Result<()> {
    let mut terminated = Terminated::new()?;
    let prepared = {
        let (link, folder) = (link.clone(), folder.clone());
        tokio::task::spawn_blocking(move || prepare(&link, &folder))
    };
    let prepared = tokio::select! {
        prepared = prepared => prepared.context("loading the model panicked")??,
        () = terminated.wait() => return Ok(()),
    };
    // The model stays in the cache for as long as it is served.
    let Some((spec, served, _lease)) = prepared else { return Ok(()) };
    let listener = listen(folder)?;
    tracing::info!("serving {}@{} as '{}'", spec.model, spec.version, spec.endpoint);
    let ready = {
        let (link, address) = (link.clone(), format!("unix:{}", folder.file("socket").display()));
        tokio::task::spawn_blocking(move || link.persist(PATIENCE, |c| c.replica_ready(&link.id, &address)))
    };
    let stop = {
        let served = served.clone();
        async move {
            tokio::select! {
                () = terminated.wait() => {}
                () = refused(ready) => {}
            }
            served.stop();
        }
    };
    serve(listener, served.router(), limits(link).drain_time, stop).await;
    tokio::task::spawn_blocking(move || served.shut_down()).await.context("stopping the model panicked")
}

/// Ends where the server does not want this replica; pends otherwise.
async fn refused(ready: tokio::task::JoinHandle<Result<(), muonic_client::Error>>) {
    match ready.await {
        Ok(Err(e)) if is_unwanted(&e) => tracing::warn!("the server does not want this replica: {e}"),
        Ok(Err(e)) => {
            tracing::error!("the server could not be told that the replica is ready: {e}");
            std::future::pending().await
        }
        Ok(Ok(())) => std::future::pending().await,
        Err(e) => {
            tracing::error!("reporting panicked: {e}");
            std::future::pending().await
        }
    }
}

/// `None` where the server does not want this replica any more.
fn prepare(link: &Link, folder: &Folder) -> anyhow::Result<Option<(ReplicaSpec, Served, Lease)>> {
    let spec = match link.persist(PATIENCE, |c| c.replica_claim(&link.id)) {
        Ok(spec) => spec,
        Err(e) if is_unwanted(&e) => {
            tracing::warn!("the server does not want this replica: {e}");
            return Ok(None);
        }
        Err(e) => return Err(anyhow::Error::new(e).context("cannot claim the replica")),
    };
    let (lease, model) =
        files(link, folder, &spec).with_context(|| format!("cannot fetch {}@{}", spec.model, spec.version))?;
    let confine = || Ok(Some(Arc::new(Confined::enter(folder, &link.launch)?)));
    let identity = Identity { name: spec.endpoint.to_string(), version: spec.version.to_string() };
    let served = Served::open(&model, identity, &options(&link.launch, &spec), limits(link), confine)?;
    Ok(Some((spec, served, lease)))
}

/// The model's files: those of the machine's cache, or, for a model with code
/// of its own, which may write beside it, a copy in the unit's folder.
fn files(link: &Link, folder: &Folder, spec: &ReplicaSpec) -> anyhow::Result<(Lease, PathBuf)> {
    let models = Models::of_node(link.launch.cache.join("models"))?;
    let lease = match models.begin(&spec.tree)? {
        Err(lease) => lease,
        Ok(unfinished) => {
            link.persist(PATIENCE, |c| c.tree_download(&spec.tree, &unfinished.folder, &()))?;
            let tree = link.persist(PATIENCE, |c| c.tree(&spec.tree))?;
            models.keep(unfinished, &tree, &[])?
        }
    };
    let names = names(&lease.folder)?;
    if matches!(Serves::of_tree(names.iter().map(String::as_str)), Ok(Serves::Onnx(_))) {
        let model = lease.folder.clone();
        return Ok((lease, model));
    }
    let model = folder.work().join("model");
    copy(&lease.folder, &model).with_context(|| format!("cannot copy it to {}", model.display()))?;
    Ok((lease, model))
}

/// What lies at the top of a folder.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    Ok(entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

fn limits(link: &Link) -> Limits {
    Limits::within(link.launch.resources.memory)
}

fn options(launch: &Launch, spec: &ReplicaSpec) -> LoadOptions {
    let setting = |name: &str| launch.settings.get(name).filter(|v| !v.is_empty()).cloned();
    LoadOptions {
        threads: usize::try_from(spec.resources.cpu.milli / 1000).unwrap_or(1).max(1),
        onnxruntime: setting("onnxruntime"),
        python: setting("python"),
        workers: None,
        cache: launch.cache.clone(),
        log_bytes_max: LOG_BYTES_MAX,
    }
}

fn listen(folder: &Folder) -> anyhow::Result<Listener> {
    let path = folder.file("socket");
    match fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => bail!("cannot remove the old {}: {e}", path.display()),
        _ => {}
    }
    let (dir, short) = muonic_unit::socket_path(folder.path()).context("cannot open the unit's folder")?;
    let listener = UnixListener::bind(short).with_context(|| format!("cannot listen on {}", path.display()))?;
    drop(dir);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot protect {}", path.display()))?;
    Ok(Listener::Unix(listener))
}
