//! A model served on an address, with no server around it.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;

use crate::listen::{Listener, serve};
use crate::{Args, LOG_BYTES_MAX, Limits, LoadOptions, NotAModel, Replica, Terminated, async_threads, load, router};

pub fn run(path: &Path, args: &Args) -> anyhow::Result<()> {
    crate::model::find(path).map_err(|e| NotAModel(format!("{e:#}")))?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => default_name(path)?,
    };
    let options = LoadOptions {
        threads: args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        onnxruntime: args.onnxruntime.clone(),
        python: args.python.clone(),
        cache: cache(),
        log_bytes_max: LOG_BYTES_MAX,
    };
    let limits = Limits::default();
    let threads = async_threads()?;
    let done = threads.block_on(async {
        let mut terminated = Terminated::new()?;
        let address = SocketAddr::new(args.host, args.port);
        // Bound before the model is loaded: a taken port is told at once.
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        let address = listener.local_addr().context("cannot tell the own address")?;
        let path = path.to_owned();
        let model = tokio::select! {
            loaded = tokio::task::spawn_blocking(move || load(&path, &options)) => loaded.context("loading the model panicked")??,
            () = terminated.wait() => return Ok(()),
        };
        let runtime = Arc::clone(&model.runtime);
        let replica = Replica::new(name.clone(), "1".into(), model, limits).context("cannot start the threads that run the model")?;
        let _ = writeln!(std::io::stdout(), "serving '{name}' at http://{address}/v2/models/{name}, and over gRPC at {address}");
        let stopping = replica.clone();
        let stop = async move {
            terminated.wait().await;
            stopping.stop();
        };
        serve(Listener::Tcp(listener), router(replica), limits.drain_time, stop).await;
        runtime.shut_down();
        Ok(())
    });
    threads.shutdown_background();
    done
}

fn default_name(path: &Path) -> anyhow::Result<String> {
    let full = std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()))?;
    let name = if full.is_file() { full.file_stem() } else { full.file_name() };
    Ok(name.map_or_else(|| "model".to_owned(), |n| n.to_string_lossy().into_owned()))
}

fn cache() -> PathBuf {
    let home = |variable: &str| std::env::var_os(variable).filter(|v| !v.is_empty()).map(PathBuf::from);
    home("XDG_CACHE_HOME")
        .or_else(|| home("HOME").map(|h| h.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("muonic")
}
