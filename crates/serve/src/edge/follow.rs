//! A replica that follows an alias at a server: it serves what the alias means
//! and goes on with what it has while the server is away.
//!
//! ```text
//! cache ─▶ serve ─▶ ask ─▶ the same? ──────────────▶ wait ─▶ ask …
//!                     └▶ another: fetch, load beside the old one, swap ─▶ wait
//! ```
//!
//! One thread does that, so there is one step at a time; if the machine dies in
//! any of them, what was recorded last is served again. A version is recorded
//! once it was loaded: one that cannot be loaded never replaces one that can.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use muonic_client::{Client, Error};
use muonic_types::{Digest, VersionRef};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::fetch::fetch;
use super::models::{Lease, Models};
use super::report::{Place, Reporter};
use super::state::{Current, State};
use super::swap::{self, Swap};
use crate::listen::{Listener, serve};
use crate::served::{Identity, Served};
use crate::standalone::{announcement, cache};
use crate::{Limits, LoadOptions, NotAModel, Terminated, async_threads};

const BACK_OFF_FIRST: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_secs(60);
/// Before a version that could not be loaded is tried again.
const BAD_FOR: Duration = Duration::from_secs(600);
/// For what a version has begun to answer, once another has taken over.
const TAKE_OVER_TIME: Duration = Duration::from_secs(300);
const NOTE_EVERY: Duration = Duration::from_secs(60);
/// Lines of metrics that go together.
const SEND_EVERY: Duration = Duration::from_secs(600);

pub struct Following {
    pub server: String,
    pub model: VersionRef,
    pub token: String,
    pub every: Duration,
    pub metrics: Option<Place>,
    pub name: String,
    pub address: SocketAddr,
    pub options: LoadOptions,
    pub limits: Limits,
}

impl Following {
    pub fn parse(server: &str, model: &str) -> Result<VersionRef, NotAModel> {
        if !server.starts_with("http://") && !server.starts_with("https://") {
            return Err(NotAModel(format!(
                "'{server}' is no address of a server: write it with its scheme and port, such as http://cloud:7070"
            )));
        }
        model.parse().map_err(|e: muonic_types::Invalid| NotAModel(e.0))
    }
}

pub fn run(following: Following) -> anyhow::Result<()> {
    let root = cache();
    let models = Models::at(root.join("models"))?;
    let Following { server, model, token, metrics, address, limits, .. } = &following;
    let (address, drain_time) = (*address, limits.drain_time);
    let state = State::at(&root.join("follow"), server, model)?;
    let reporter =
        metrics.clone().map(|place| Reporter::new(state.dir().join("metrics"), place, model.name.to_string()));
    let reporter = reporter.transpose()?;
    let swap = Swap::new(format!("no version of {model} has come from {server} yet"));
    let client = Client::new(server, token);
    let threads = async_threads()?;
    let done = threads.block_on(async {
        let mut terminated = Terminated::new()?;
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        let address = listener.local_addr().context("cannot tell the own address")?;
        let (stop, stopped) = sync_channel(1);
        let (fail, failed) = oneshot::channel();
        let follower = Follower {
            following,
            client,
            models,
            state,
            reporter,
            swap: Arc::clone(&swap),
            serves: None,
            bad: None,
            address,
            said: String::new(),
            is_lost: false,
            noted: None,
            sent: None,
        };
        let thread = std::thread::Builder::new().name("follower".into()).spawn(move || {
            if let Err(e) = follower.run(&stopped) {
                let _ = fail.send(e);
            }
        });
        thread.context("cannot start the thread that follows")?;
        let mut failure = None;
        let stopping = Arc::clone(&swap);
        let until = async {
            tokio::select! {
                () = terminated.wait() => {}
                Ok(e) = failed => failure = Some(e),
            }
            stopping.stop();
        };
        serve(Listener::Tcp(listener), swap.router(), drain_time, until).await;
        end(stop);
        tokio::task::spawn_blocking(move || swap.put(None, Duration::ZERO)).await.context("stopping panicked")?;
        failure.map_or(Ok(()), Err)
    });
    threads.shutdown_background();
    done
}

/// It may be in the middle of a download, and is not waited for.
fn end(stop: SyncSender<()>) {
    let _ = stop.try_send(());
}

struct Follower {
    following: Following,
    client: Client,
    models: Models,
    state: State,
    reporter: Option<Reporter>,
    swap: Arc<Swap>,
    /// Version and tree that are served.
    serves: Option<(u32, Digest)>,
    /// What could not be loaded, and when.
    bad: Option<(Digest, Instant)>,
    address: SocketAddr,
    /// The last trouble, which is not told twice.
    said: String,
    /// The server did not answer when it was asked last.
    is_lost: bool,
    noted: Option<Instant>,
    sent: Option<Instant>,
}

impl Follower {
    /// An error is a reason why nothing will ever be served.
    fn run(mut self, stopped: &Receiver<()>) -> anyhow::Result<()> {
        if let Err(e) = self.serve_cached() {
            tracing::warn!("what the cache has cannot be served: {e:#}");
        }
        let mut wait = BACK_OFF_FIRST;
        loop {
            let before = self.serves;
            let (pause, is_lost) = match self.look() {
                Ok(()) => {
                    wait = BACK_OFF_FIRST;
                    (self.following.every, false)
                }
                Err(e) if self.serves.is_none() && is_final(&e) => return Err(e),
                Err(e) => {
                    self.tell(&format!("{e:#}"));
                    let pause = wait.max(self.following.every.min(BACK_OFF_MAX));
                    wait = (wait * 2).min(BACK_OFF_MAX);
                    (pause, true)
                }
            };
            let has_changed = before != self.serves || is_lost != self.is_lost;
            if self.is_lost && !is_lost {
                self.said.clear();
                tracing::info!("{} answers again", self.following.server);
            }
            self.is_lost = is_lost;
            self.report(has_changed);
            match stopped.recv_timeout(spread(pause)) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    fn serve_cached(&mut self) -> anyhow::Result<()> {
        let Some(current) = self.state.read()? else { return Ok(()) };
        let Some(lease) = self.models.find(&current.tree)? else {
            bail!("version {} is not there whole", current.version);
        };
        self.put(current.version, current.tree, lease)
    }

    /// Asks what the alias means now, and sees that it is served.
    fn look(&mut self) -> anyhow::Result<()> {
        let version = self.client.model_version(&self.following.model)?;
        let (number, tree) = (version.version, version.tree.digest);
        if self.serves == Some((number, tree)) {
            return Ok(());
        }
        if self.bad.is_some_and(|(bad, since)| bad == tree && since.elapsed() < BAD_FOR) {
            return Ok(());
        }
        tracing::info!("{} is version {number} now", self.following.model);
        let lease = fetch(&self.client, &self.models, &tree, &self.state.wanted())?;
        if let Err(e) = self.put(number, tree, lease) {
            self.bad = Some((tree, Instant::now()));
            let goes_on = self.serves.map_or_else(String::new, |(old, _)| format!("; version {old} goes on"));
            tracing::error!("version {number} cannot be served: {e:#}{goes_on}");
        }
        Ok(())
    }

    /// Loads a version beside the one that is served, and lets it take over.
    fn put(&mut self, number: u32, tree: Digest, lease: Lease) -> anyhow::Result<()> {
        let Following { server, model, name, options, limits, .. } = &self.following;
        let identity = Identity { name: name.clone(), version: number.to_string() };
        let served = Served::open(&lease.folder, identity, options, *limits, || Ok(None))?;
        let line = announcement(&served, name, self.address);
        self.state.write(&Current::new(server, model, number, tree))?;
        let is_first = self.serves.replace((number, tree)).is_none();
        tracing::info!("serving version {number} of {model}");
        if is_first {
            let _ = writeln!(std::io::stdout(), "{line}, following {model} of {server}");
        }
        self.swap.put(Some(swap::Current::new(number, served, lease)), TAKE_OVER_TIME);
        Ok(())
    }

    /// Nothing of it is worth more than serving: what fails is told, and tried
    /// again with the next.
    fn report(&mut self, has_changed: bool) {
        let Some(reporter) = &self.reporter else { return };
        let now = Instant::now();
        let mut reported = Ok(());
        if has_changed || self.noted.is_none_or(|noted| now - noted >= NOTE_EVERY) {
            self.noted = Some(now);
            reported = reporter.note(&self.swap);
        }
        let is_due = has_changed || self.sent.is_none_or(|sent| now - sent >= SEND_EVERY);
        if reported.is_ok() && is_due && !self.is_lost {
            self.sent = Some(now);
            reported = reporter.send(&self.client);
        }
        if let Err(e) = reported {
            tracing::warn!("metrics wait on this machine: {e:#}");
        }
    }

    fn tell(&mut self, trouble: &str) {
        if self.said != trouble {
            let goes_on = self.serves.map_or_else(String::new, |(old, _)| format!("; version {old} goes on"));
            tracing::warn!("{} cannot be followed now: {trouble}{goes_on}", self.following.model);
            trouble.clone_into(&mut self.said);
        }
    }
}

/// Trying again will not help: the key, the model or the address is wrong.
fn is_final(e: &anyhow::Error) -> bool {
    e.downcast_ref::<Error>().is_some_and(|e| matches!(e, Error::Api { .. } | Error::Input { .. }) && !e.is_transient())
}

/// Within a tenth, so that many followers do not ask at the same moment.
fn spread(wait: Duration) -> Duration {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
    wait.mul_f64(0.9 + f64::from(nanos % 1000) / 5000.0)
}
