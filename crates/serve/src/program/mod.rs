//! A model that is served by a program of its own: anything that listens at a
//! port, as its `serve.toml` says.
//!
//! ```text
//! supervisor thread:  spawn ─▶ wait for its health ─▶ up ─▶ (dies, or is ill) ─▶ back-off ─▶ spawn …
//! request:            up? ─▶ connection to its port ─▶ both bodies streamed as they are
//! ```
//!
//! Nothing here knows what the program speaks: every path goes to it, and while
//! it is not up every path is answered 503.

mod forward;
mod supervise;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use axum::Router;
use muonic_types::ErrorCode;
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::confined::Confined;
use crate::environment::Python;
use crate::failure::Failure;

const FILE_BYTES_MAX: u64 = 64 << 10;
/// Stands for the program's port within its words.
const PORT: &str = "$PORT";

/// `serve.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The program and its words; run in the model's folder.
    command: Vec<String>,
    /// Path that answers 2xx when requests may come.
    #[serde(default = "health")]
    health: String,
    /// How long it may take until then.
    #[serde(default = "start_seconds")]
    start_seconds: u64,
    /// For the head of an answer, and between two pieces of one.
    #[serde(default = "request_seconds")]
    request_seconds: u64,
}

fn health() -> String {
    "/health".to_owned()
}

fn start_seconds() -> u64 {
    600
}

fn request_seconds() -> u64 {
    300
}

impl Spec {
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let size = std::fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
        if size > FILE_BYTES_MAX {
            bail!("serve.toml has {size} bytes; it may have {FILE_BYTES_MAX}");
        }
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let spec: Self = toml::from_str(text).map_err(|e| anyhow!("serve.toml cannot be understood: {e}"))?;
        if spec.command.first().is_none_or(String::is_empty) {
            bail!(
                "serve.toml: 'command' is empty; give the program and its words, as [\"python\", \"app.py\", \"$PORT\"]"
            );
        }
        if spec.command.iter().any(|word| word.contains('\0')) {
            bail!("serve.toml: a word of 'command' has a NUL in it");
        }
        let is_path = |c: char| c.is_ascii_graphic();
        if !spec.health.starts_with('/') || !spec.health.chars().all(is_path) {
            bail!("serve.toml: 'health' is not a path that begins with '/': {:?}", spec.health);
        }
        for (name, seconds) in [("start_seconds", spec.start_seconds), ("request_seconds", spec.request_seconds)] {
            if !(1..=86_400).contains(&seconds) {
                bail!("serve.toml: '{name}' is {seconds}; it must be between 1 and 86400");
            }
        }
        Ok(spec)
    }

    fn words(&self, port: u16) -> impl Iterator<Item = String> {
        self.command.iter().map(move |word| word.replace(PORT, &port.to_string()))
    }
}

/// What it takes to start the program.
pub struct Settings {
    pub spec: Spec,
    pub folder: PathBuf,
    /// The environment that the folder asks for, where it asks for one.
    pub python: Option<Python>,
    /// Bytes of the program's prints that are kept.
    pub log_bytes_max: u64,
    /// Requests in it at once.
    pub requests_max: usize,
    /// The limits that it is under, where it is under any.
    pub confined: Option<Arc<Confined>>,
}

pub struct Program {
    shared: Arc<Shared>,
    requests: Arc<Semaphore>,
    requests_max: usize,
    request_time: Duration,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    Starting,
    /// It answers at this port.
    Up(u16),
    /// Why, as the rest of a sentence; it will be up again.
    Down(String),
    Stopping,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets a state unless the end has come, which is final.
    fn set(&self, state: State) {
        let mut now = self.lock();
        if *now != State::Stopping {
            *now = state;
        }
        self.changed.notify_all();
    }

    /// False where the end has come meanwhile.
    fn pause(&self, wait: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), wait, |state| *state != State::Stopping);
        *waited.unwrap_or_else(PoisonError::into_inner).0 != State::Stopping
    }
}

impl Program {
    /// Starts the program and waits until it is well.
    pub fn start(settings: Settings) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::new(State::Starting), changed: Condvar::new() });
        let (requests_max, request_time) = (settings.requests_max, Duration::from_secs(settings.spec.request_seconds));
        let (first, started) = std::sync::mpsc::sync_channel(1);
        let supervisor = {
            let shared = Arc::clone(&shared);
            let run = move || supervise::run(&settings, &shared, first);
            std::thread::Builder::new().name("program-supervisor".into()).spawn(run)?
        };
        if let Err(why) = started.recv().context("the program's supervisor ended")? {
            let _ = supervisor.join();
            bail!("the program {why}");
        }
        let requests = Arc::new(Semaphore::new(requests_max));
        Ok(Self { shared, requests, requests_max, request_time, supervisor: Mutex::new(Some(supervisor)) })
    }

    pub fn router(self: &Arc<Self>) -> Router {
        Router::new().fallback(forward::handle).with_state(Arc::clone(self))
    }

    /// Its port, or why there is none.
    fn port(&self) -> Result<u16, Failure> {
        let why = match &*self.shared.lock() {
            State::Up(port) => return Ok(*port),
            State::Starting => "is starting".to_owned(),
            State::Down(why) => why.clone(),
            State::Stopping => "is stopping".to_owned(),
        };
        Err(Failure::new(ErrorCode::Unavailable, format!("the model's program {why}")))
    }

    /// Ends the program; blocks until it has ended.
    pub fn shut_down(&self) {
        self.shared.set(State::Stopping);
        let supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(supervisor) = supervisor {
            let _ = supervisor.join();
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.shut_down();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_specification_says_little() {
        let spec = Spec::parse("command = ['vllm', '--port=$PORT', '$PORTS']").unwrap();
        assert_eq!((spec.health.as_str(), spec.start_seconds, spec.request_seconds), ("/health", 600, 300));
        assert_eq!(spec.words(80).collect::<Vec<_>>(), ["vllm", "--port=80", "80S"]);
    }

    #[test]
    fn a_wrong_specification_gets_a_sentence() {
        for (text, error) in [
            ("", "serve.toml cannot be understood: "),
            ("command = 'vllm'", "serve.toml cannot be understood: "),
            ("command = ['a']\nport = 1", "serve.toml cannot be understood: "),
            ("command = []", "serve.toml: 'command' is empty"),
            (
                "command = ['a']\nhealth = 'health'",
                "serve.toml: 'health' is not a path that begins with '/': \"health\"",
            ),
            ("command = ['a']\nhealth = \"/a\\r\\nb\"", "serve.toml: 'health' is not a path that begins with '/'"),
            ("command = ['a']\nstart_seconds = 0", "serve.toml: 'start_seconds' is 0; it must be between 1 and 86400"),
        ] {
            let said = Spec::parse(text).unwrap_err().to_string();
            assert!(said.starts_with(error), "{said}");
        }
    }
}
