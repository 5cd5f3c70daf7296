//! Configuration: one typed tree. Defaults are in the code; a file, then
//! environment variables, then flags lay themselves over them. A key nobody
//! knows is an error.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use muonic_types::cost::Flavor;
use muonic_types::{Cpu, Memory, Resources};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use toml::{Table, Value};
use tracing_subscriber::EnvFilter;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub struct Config {
    pub server: Server,
    pub log: Log,
    pub price: Price,
    pub resources: Machine,
    pub jobs: Jobs,
    pub python: Python,
    pub serving: Serving,
    pub store: Store,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Native API, gateway, metrics. Port 0 takes a free one.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// S3.
    #[serde(deserialize_with = "address")]
    pub s3_listen: SocketAddr,
    /// Seconds that requests under way get to finish when the server stops.
    pub drain_timeout_s: u64,
    /// Connections to each port at once.
    pub connections_max: usize,
}

fn address<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(from)?;
    let plain = text.strip_prefix("localhost:").map_or(text.clone(), |port| format!("127.0.0.1:{port}"));
    plain.parse().map_err(|_| {
        D::Error::custom(format!("'{text}' is not an address: write IP:PORT such as 127.0.0.1:7070 or [::]:0"))
    })
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    pub format: LogFormat,
    /// Such as `info` or `info,muonic_services=debug`.
    pub filter: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    Text,
    Json,
}

/// What a second of this machine costs: the flavor `local`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Price {
    pub cpu_usd_per_hour: f64,
    pub memory_gib_usd_per_hour: f64,
    pub gpu_usd_per_hour: f64,
}

/// What jobs and replicas may use together; found on the machine without.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Machine {
    pub cpu: Option<Cpu>,
    pub memory: Option<Memory>,
    pub gpu: Option<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Jobs {
    /// Kept of each attempt's log.
    pub log_bytes_max: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Python {
    /// The interpreter that environments are made with; `python3` on the path without.
    pub interpreter: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Serving {
    /// `libonnxruntime.so`; looked for beside the program without.
    pub onnxruntime: Option<PathBuf>,
    /// What is asked of `NAME.DOMAIN` is asked of the endpoint NAME.
    pub domains: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// What is stored from now on is encrypted, with the keys in `store.keys`.
    pub encrypt: bool,
    /// Off, a power loss may take what was acknowledged: for measurements.
    pub sync: bool,
    /// All that is stored is read and compared with its sums this often.
    pub scrub_every_days: u64,
    /// Read by the scrub, in bytes a second.
    pub scrub_bytes_per_s: u64,
    /// Local folders that `file:` mounts may lie in.
    pub mount_folders: Vec<PathBuf>,
}

impl Default for Store {
    fn default() -> Self {
        Self { encrypt: true, sync: true, scrub_every_days: 30, scrub_bytes_per_s: 16 << 20, mount_folders: Vec::new() }
    }
}

impl Default for Serving {
    fn default() -> Self {
        Self { onnxruntime: None, domains: vec!["localhost".into()] }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7070)),
            s3_listen: SocketAddr::from(([127, 0, 0, 1], 7071)),
            drain_timeout_s: 30,
            connections_max: 4096,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info,s3s=off".to_owned() }
    }
}

/// About what a small machine on demand costs at the large clouds.
impl Default for Price {
    fn default() -> Self {
        Self { cpu_usd_per_hour: 0.04, memory_gib_usd_per_hour: 0.005, gpu_usd_per_hour: 2.0 }
    }
}

impl Default for Jobs {
    fn default() -> Self {
        Self { log_bytes_max: 64 << 20 }
    }
}

/// What is wrong and where; the text names the key and its source.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl Error {
    /// A `--set` without a value.
    pub fn of_flag(text: &str) -> Self {
        Self(format!("--set {text}: write section.key=value"))
    }
}

/// One key's value from a flag or the environment.
pub struct Override {
    /// `server.listen`
    pub key: String,
    pub value: String,
    /// Where it came from, for messages.
    pub source: String,
}

const ENV_PREFIX: &str = "MUONIC_";
const SECTIONS: [&str; 8] = ["server", "log", "price", "resources", "jobs", "python", "serving", "store"];

/// `MUONIC_SERVER__LISTEN` is `server.listen`; a single underscore names other
/// things (`MUONIC_DATA`, `MUONIC_TOKEN`).
pub fn from_environment(vars: impl Iterator<Item = (OsString, OsString)>) -> Result<Vec<Override>, Error> {
    let nested = |(name, value): (OsString, OsString)| {
        let name = name.into_string().ok()?;
        let rest = name.strip_prefix(ENV_PREFIX)?;
        let Some((section, key)) = rest.split_once("__") else {
            // One underscore short of a setting, it would be passed over in silence.
            let (section, key) = rest.split_once('_')?;
            let known = SECTIONS.iter().any(|s| s.eq_ignore_ascii_case(section));
            return known.then(|| Err(Error(format!("{name}: did you mean {ENV_PREFIX}{section}__{key}?"))));
        };
        let key = format!("{}.{}", section.to_lowercase(), key.to_lowercase());
        let value = value.into_string().map_err(|_| Error(format!("{name}: {key}: is not UTF-8")));
        Some(value.map(|value| Override { key, value, source: name }))
    };
    vars.filter_map(nested).collect()
}

impl Config {
    /// `file`: read if given, an error if it is missing then.
    pub fn load(file: Option<&Path>, overrides: &[Override]) -> Result<Self, Error> {
        let mut table = match file {
            Some(path) => read(path)?,
            None => Table::new(),
        };
        for o in overrides {
            lay(&mut table, o)?;
        }
        let config: Self = serde_path_to_error::deserialize(table).map_err(|e| {
            let key = e.path().to_string();
            let from = overrides.iter().rev().find(|o| o.key == key).map(|o| o.source.clone());
            let from = from
                .or_else(|| file.map(|f| f.display().to_string()))
                .unwrap_or_else(|| "the configuration".to_owned());
            Error(format!("{from}: {key}: {}", e.inner().message()))
        })?;
        config.check()
    }

    fn check(self) -> Result<Self, Error> {
        let prices = [self.price.cpu_usd_per_hour, self.price.memory_gib_usd_per_hour, self.price.gpu_usd_per_hour];
        if prices.iter().any(|p| !(0.0..=1e6).contains(p)) {
            return Err(Error("price: prices must be between 0 and 1000000 USD per hour".to_owned()));
        }
        if !(1..=1 << 20).contains(&self.server.connections_max) {
            return Err(Error("server.connections_max: must be between 1 and 1048576".to_owned()));
        }
        if self.server.drain_timeout_s > 24 * 3600 {
            return Err(Error("server.drain_timeout_s: must be at most 86400".to_owned()));
        }
        if let Err(e) = EnvFilter::try_new(&self.log.filter) {
            return Err(Error(format!("log.filter: {e}")));
        }
        if let Some(path) = self.serving.onnxruntime.as_ref().filter(|p| !p.is_file()) {
            return Err(Error(format!("serving.onnxruntime: there is no file {}", path.display())));
        }
        let is_domain =
            |d: &String| !d.is_empty() && d.bytes().all(|c| c.is_ascii_alphanumeric() || b"-.".contains(&c));
        if let Some(domain) = self.serving.domains.iter().find(|d| !is_domain(d)) {
            return Err(Error(format!("serving.domains: '{}' is no name of a domain", domain.escape_debug())));
        }
        if let Some(folder) = self.store.mount_folders.iter().find(|folder| !folder.is_absolute() || !folder.is_dir()) {
            return Err(Error(format!(
                "store.mount_folders: there is no folder {} (write absolute paths)",
                folder.display()
            )));
        }
        if !(1 << 16..=1 << 40).contains(&self.jobs.log_bytes_max) {
            return Err(Error("jobs.log_bytes_max: must be between 65536 and 2^40".to_owned()));
        }
        Ok(self)
    }

    pub fn flavor(&self) -> Flavor {
        Flavor {
            name: "local".to_owned(),
            cpu_usd_per_hour: self.price.cpu_usd_per_hour,
            memory_gib_usd_per_hour: self.price.memory_gib_usd_per_hour,
            gpu_usd_per_hour: self.price.gpu_usd_per_hour,
        }
    }

    /// What the machine has, with what was set laid over it.
    pub fn capacity(&self, found: Resources) -> Resources {
        Resources {
            cpu: self.resources.cpu.unwrap_or(found.cpu),
            memory: self.resources.memory.unwrap_or(found.memory),
            gpu: self.resources.gpu.unwrap_or(found.gpu),
        }
    }
}

fn read(path: &Path) -> Result<Table, Error> {
    let text = std::fs::read_to_string(path).map_err(|e| Error(format!("{}: {e}", path.display())))?;
    text.parse::<Table>().map_err(|e| Error(format!("{}: {}", path.display(), e.message())))
}

/// Values are TOML where they parse as TOML (numbers, true, quoted text, lists), else text.
fn lay(table: &mut Table, o: &Override) -> Result<(), Error> {
    let (section, key) = o
        .key
        .split_once('.')
        .ok_or_else(|| Error(format!("{}: '{}' is not a key: write section.key=value", o.source, o.key)))?;
    let parsed = format!("v = {}", o.value).parse::<Table>().ok().and_then(|mut t| t.remove("v"));
    let value = match parsed {
        Some(v @ (Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::String(_) | Value::Array(_))) => v,
        _ => Value::String(o.value.clone()),
    };
    let entry = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    match entry {
        Value::Table(inner) => {
            inner.insert(key.to_owned(), value);
            Ok(())
        }
        _ => Err(Error(format!("{}: {section} is not a section", o.source))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn set(key: &str, value: &str) -> Override {
        Override { key: key.into(), value: value.into(), source: format!("--set {key}") }
    }

    #[test]
    fn later_layers_win() {
        let dir = std::env::temp_dir().join(format!("muonic-config-{}", std::process::id()));
        std::fs::write(&dir, "[server]\nlisten = \"127.0.0.1:1\"\ns3_listen = \"127.0.0.1:2\"\n").unwrap();
        let config =
            Config::load(Some(&dir), &[set("server.listen", "127.0.0.1:3"), set("resources.cpu", "1.5")]).unwrap();
        assert_eq!(config.resources.cpu, Some(Cpu::milli(1500)));
        assert_eq!((config.server.listen.port(), config.server.s3_listen.port()), (3, 2));
        std::fs::remove_file(&dir).unwrap();
    }

    #[test]
    fn addresses_are_understood_or_explained() {
        let config = Config::load(None, &[set("server.listen", "localhost:0")]).unwrap();
        assert_eq!(config.server.listen.to_string(), "127.0.0.1:0");
        let e = Config::load(None, &[set("server.listen", "example:0")]).unwrap_err().to_string();
        assert!(e.contains("IP:PORT"), "{e}");
    }

    #[test]
    fn unknown_keys_are_named_with_their_source() {
        let e = Config::load(None, &[set("server.lissten", "x")]).unwrap_err().to_string();
        assert!(e.contains("lissten"), "{e}");
        let e = Config::load(None, &[set("server.drain_timeout_s", "soon")]).unwrap_err().to_string();
        assert!(e.contains("--set server.drain_timeout_s"), "{e}");
        let bad = [
            ("log.filter", "info=[="),
            ("server.connections_max", "4611686018427387904"),
            ("price.cpu_usd_per_hour", "-1"),
            ("serving.onnxruntime", "/nowhere.so"),
            ("store.mount_folders", "[\"/nowhere\"]"),
            ("serving.domains", "[\"a b\"]"),
        ];
        for (key, value) in bad {
            let e = Config::load(None, &[set(key, value)]).err().map(|e| e.to_string());
            assert!(e.as_ref().is_some_and(|e| e.contains(key.split('.').next().unwrap())), "{key}: {e:?}");
        }
    }

    #[test]
    fn the_environment_nests_by_two_underscores() {
        let vars = [("MUONIC_SERVER__LISTEN", "127.0.0.1:0"), ("MUONIC_DATA", "/x"), ("OTHER__X", "1")];
        let found = from_environment(vars.iter().map(|(k, v)| (OsString::from(k), OsString::from(v)))).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].key, "server.listen");
        let near = [("MUONIC_PRICE_CPU_USD_PER_HOUR", "1")].map(|(k, v)| (OsString::from(k), OsString::from(v)));
        let e = from_environment(near.into_iter()).err().unwrap().to_string();
        assert!(e.contains("MUONIC_PRICE__CPU_USD_PER_HOUR"), "{e}");
        // Other programs' variables may hold anything; ours are told by name.
        let odd = |name: &str| (OsString::from(name), OsString::from_vec(vec![0xff]));
        assert!(from_environment([odd("OTHER")].into_iter()).unwrap().is_empty());
        let e = from_environment([odd("MUONIC_LOG__FILTER")].into_iter()).err().unwrap();
        assert!(e.to_string().contains("MUONIC_LOG__FILTER: log.filter"), "{e}");
    }

    /// `docs/configuration.md` holds the whole tree: its keys are known, its
    /// values are the defaults, and no key is left out.
    #[test]
    fn the_document_shows_the_tree_as_it_is() {
        let text =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md")).unwrap();
        let (_, rest) = text.split_once("```toml\n").unwrap();
        let (block, _) = rest.split_once("```").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let load = |text: &str| {
            let file = dir.path().join("config.toml");
            std::fs::write(&file, text).unwrap();
            Config::load(Some(&file), &[]).unwrap()
        };
        assert_eq!(format!("{:?}", load(block)), format!("{:?}", Config::default()));
        let there = dir.path().join("config.toml");
        let block = block.replace("\n# ", "\n").replace("/usr/lib/libonnxruntime.so", there.to_str().unwrap());
        let all = format!("{:?}", load(&block));
        assert!(!all.contains("None"), "{all}");
    }
}
