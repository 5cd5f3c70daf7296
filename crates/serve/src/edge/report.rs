//! What a follower did, for who looks after many: a line each minute and with
//! each change, kept on the disk until it lies in a bucket of the server.
//!
//! ```text
//! metrics/open.jsonl       lines as they come
//! metrics/<millis>.jsonl   closed; sent oldest first, and removed then
//! ```
//!
//! Each line counts from the start of its process, so one that is lost loses
//! nothing of the sum. Beyond a number of files the oldest goes.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use anyhow::{Context, bail};
use muonic_client::Client;
use muonic_types::Timestamp;
use serde_json::json;

use super::swap::Swap;

const OPEN: &str = "open.jsonl";
/// Closed then, also where the link is down.
const OPEN_BYTES_MAX: u64 = 256 << 10;
const FILES_MAX: usize = 64;

/// `BUCKET` or `BUCKET/PREFIX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    bucket: String,
    prefix: String,
}

impl std::str::FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (bucket, prefix) = text.split_once('/').unwrap_or((text, ""));
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if bucket.is_empty() || !bucket.chars().all(fits) || prefix.chars().any(char::is_control) {
            return Err(format!("'{text}' is no place for metrics: write BUCKET or BUCKET/PREFIX"));
        }
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Self { bucket: bucket.to_owned(), prefix })
    }
}

pub struct Reporter {
    dir: PathBuf,
    place: Place,
    machine: String,
    model: String,
    started_at: Timestamp,
}

impl Reporter {
    pub fn new(dir: PathBuf, place: Place, model: String) -> anyhow::Result<Self> {
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let machine = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        let machine = machine.filter(|name| !name.is_empty()).unwrap_or_else(|| "unnamed".to_owned());
        Ok(Self { dir, place, machine, model, started_at: Timestamp::now() })
    }

    /// Writes a line on how things are.
    pub fn note(&self, swap: &Swap) -> anyhow::Result<()> {
        let count = |of: &std::sync::atomic::AtomicU64| of.load(Ordering::Relaxed);
        let line = json!({
            "at": Timestamp::now(),
            "machine": self.machine,
            "model": self.model,
            "version": swap.current().map(|current| current.version),
            "started_at": self.started_at,
            "requests_total": count(&swap.counts.requests),
            "failures_total": count(&swap.counts.failures),
            "answer_seconds_total": count(&swap.counts.micros) as f64 / 1e6,
        });
        let path = self.dir.join(OPEN);
        let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
        file.write_all(format!("{line}\n").as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
        if file.metadata()?.len() >= OPEN_BYTES_MAX {
            self.close()?;
        }
        Ok(())
    }

    /// Sends all that there is; what is not sent stays.
    pub fn send(&self, client: &Client) -> anyhow::Result<()> {
        self.close()?;
        let closed = self.closed()?;
        if closed.is_empty() {
            return Ok(());
        }
        let s3_url = door(client.url(), &client.status()?.s3_url);
        for path in closed {
            let bytes = fs::read(&path)?;
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let key = format!("{}{}/{}/{name}", self.place.prefix, self.machine, self.model);
            client.object_put(&s3_url, &self.place.bucket, &key, &bytes, Timestamp::now())?;
            fs::remove_file(&path)?;
        }
        Ok(())
    }

    fn close(&self) -> anyhow::Result<()> {
        let open = self.dir.join(OPEN);
        if !open.exists() {
            return Ok(());
        }
        let now = Timestamp::now().as_millisecond();
        let free = (now..now + 1000).map(|at| self.dir.join(format!("{at:013}.jsonl"))).find(|path| !path.exists());
        let Some(target) = free else { bail!("{} has no name for another file", self.dir.display()) };
        fs::rename(&open, target)?;
        let closed = self.closed()?;
        for old in closed.iter().take(closed.len().saturating_sub(FILES_MAX)) {
            tracing::warn!("metrics are dropped, since {FILES_MAX} files of them wait: {}", old.display());
            fs::remove_file(old)?;
        }
        Ok(())
    }

    /// Oldest first.
    fn closed(&self) -> anyhow::Result<Vec<PathBuf>> {
        let is_closed = |path: &Path| {
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            path.extension().is_some_and(|end| end == "jsonl") && stem.bytes().all(|c| c.is_ascii_digit())
        };
        let mut closed: Vec<PathBuf> = fs::read_dir(&self.dir)?.flatten().map(|entry| entry.path()).collect();
        closed.retain(|path| is_closed(path));
        closed.sort();
        Ok(closed)
    }
}

/// The S3 door as it is reached from here: a server tells the address that it
/// listens at, which may mean itself alone.
fn door(url: &str, s3_url: &str) -> String {
    let parts = |url: &str| {
        let (scheme, rest) = url.split_once("://")?;
        let rest = rest.split('/').next()?;
        let (host, port) = rest.rsplit_once(':').filter(|(_, port)| port.bytes().all(|c| c.is_ascii_digit()))?;
        Some((scheme.to_owned(), host.to_owned(), port.to_owned()))
    };
    let host_alone =
        |url: &str| url.split_once("://").and_then(|(_, rest)| rest.split(['/', ':']).next()).map(str::to_owned);
    match (parts(s3_url), parts(url).map(|(_, host, _)| host).or_else(|| host_alone(url))) {
        (Some((scheme, host, port)), Some(known))
            if ["127.0.0.1", "0.0.0.0", "localhost", "[::]", "[::1]"].contains(&host.as_str()) =>
        {
            format!("{scheme}://{known}:{port}")
        }
        _ => s3_url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_buckets_with_a_prefix() {
        let place = |text: &str| text.parse::<Place>().map(|place| (place.bucket, place.prefix));
        assert_eq!(place("edge"), Ok(("edge".into(), String::new())));
        assert_eq!(place("edge/a/b/"), Ok(("edge".into(), "a/b/".into())));
        assert!(place("").is_err() && place("Edge").is_err() && place("/x").is_err());
    }

    #[test]
    fn the_s3_door_is_beside_the_one_that_is_known() {
        assert_eq!(door("http://cloud:7070", "http://0.0.0.0:7071"), "http://cloud:7071");
        assert_eq!(door("http://[::1]:7070", "http://127.0.0.1:7071"), "http://[::1]:7071");
        assert_eq!(door("https://cloud", "http://127.0.0.1:7071"), "http://cloud:7071");
        assert_eq!(door("http://cloud:7070", "http://s3.cloud:7071"), "http://s3.cloud:7071");
    }

    #[test]
    fn what_waits_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let reporter = Reporter::new(dir.path().join("metrics"), "edge".parse().unwrap(), "m".into()).unwrap();
        let swap = Swap::new(String::new());
        for _ in 0..FILES_MAX + 5 {
            reporter.note(&swap).unwrap();
            reporter.close().unwrap();
        }
        let closed = reporter.closed().unwrap();
        assert_eq!(closed.len(), FILES_MAX);
        let line: serde_json::Value = serde_json::from_slice(&fs::read(&closed[0]).unwrap()).unwrap();
        assert_eq!((&line["requests_total"], &line["version"]), (&0.into(), &serde_json::Value::Null));
    }
}
