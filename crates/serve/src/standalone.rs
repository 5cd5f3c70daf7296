//! A model served on an address, with no server around it: a file, a folder or
//! a bundle.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::net::TcpListener;

use crate::edge::bundle::Bundle;
use crate::edge::models::Models;
use crate::listen::{Listener, serve};
use crate::served::{Identity, Served};
use crate::{Args, LOG_BYTES_MAX, Limits, LoadOptions, NotAModel, Terminated, async_threads};

pub fn run(path: &Path, args: &Args) -> anyhow::Result<()> {
    let bundle = Bundle::find(path).map_err(|e| NotAModel(format!("{e:#}")))?;
    let identity = match &bundle {
        Some(bundle) => {
            let version = bundle.version();
            Identity { name: version.name.to_string(), version: version.version.to_string() }
        }
        None => {
            crate::model::find(path).map_err(|e| NotAModel(format!("{e:#}")))?;
            Identity { name: default_name(path)?, version: "1".into() }
        }
    };
    let identity = Identity { name: args.name.clone().unwrap_or(identity.name), ..identity };
    let name = identity.name.clone();
    let options = options(args);
    let limits = Limits::default();
    let threads = async_threads()?;
    let done = threads.block_on(async {
        let mut terminated = Terminated::new()?;
        let address = SocketAddr::new(args.host, args.port);
        // Bound before the model is loaded: a taken port is told at once.
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        let address = listener.local_addr().context("cannot tell the own address")?;
        let path = path.to_owned();
        let open = move || {
            let lease = bundle.map(|bundle| bundle.open(&Models::at(options.cache.join("models"))?)).transpose()?;
            let path = lease.as_ref().map_or(&path, |lease| &lease.folder);
            let served = Served::open(path, identity, &options, limits, || Ok(None))?;
            Ok::<_, anyhow::Error>((served, lease))
        };
        let (served, _lease) = tokio::select! {
            opened = tokio::task::spawn_blocking(open) => opened.context("loading the model panicked")??,
            () = terminated.wait() => return Ok(()),
        };
        let _ = writeln!(std::io::stdout(), "{}", announcement(&served, &name, address));
        let stopping = served.clone();
        let stop = async move {
            terminated.wait().await;
            stopping.stop();
        };
        serve(Listener::Tcp(listener), served.router(), limits.drain_time, stop).await;
        tokio::task::spawn_blocking(move || served.shut_down()).await.context("stopping the model panicked")?;
        Ok(())
    });
    threads.shutdown_background();
    done
}

pub fn options(args: &Args) -> LoadOptions {
    LoadOptions {
        threads: args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        onnxruntime: args.onnxruntime.clone(),
        python: args.python.clone(),
        workers: args.workers,
        cache: cache(),
        log_bytes_max: LOG_BYTES_MAX,
    }
}

pub fn announcement(served: &Served, name: &str, address: SocketAddr) -> String {
    match served {
        Served::Model(_) => {
            format!("serving '{name}' at http://{address}/v2/models/{name}, and over gRPC at {address}")
        }
        Served::Program(_) => format!("serving '{name}' at http://{address}, as its program does"),
    }
}

fn default_name(path: &Path) -> anyhow::Result<String> {
    let full = std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()))?;
    let name = if full.is_file() { full.file_stem() } else { full.file_name() };
    Ok(name.map_or_else(|| "model".to_owned(), |n| n.to_string_lossy().into_owned()))
}

pub fn cache() -> PathBuf {
    let home = |variable: &str| std::env::var_os(variable).filter(|v| !v.is_empty()).map(PathBuf::from);
    home("XDG_CACHE_HOME")
        .or_else(|| home("HOME").map(|h| h.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("muonic")
}
