//! What a mount is told: the URL of the store and its options, parsed once.
//!
//! Invariants: an option that is not known is refused, so a misspelt one is
//! never without effect. Credentials come from the options alone, never from
//! this machine's environment, files or metadata service. Secrets do not show
//! in `Debug`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use data_encoding::BASE64;
use url::Url;

/// A sentence that says which part is wrong and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidMount(pub String);

type Result<T, E = InvalidMount> = std::result::Result<T, E>;

pub(crate) fn invalid<T>(sentence: impl Into<String>) -> Result<T> {
    Err(InvalidMount(sentence.into()))
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Options whose values are secrets.
const SECRETS: &[&str] =
    &["secret_access_key", "session_token", "service_account_key", "access_key", "sas_token", "client_secret"];

/// A store to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSpec {
    /// As it was given, without a trailing slash.
    url: String,
    pub(crate) store: Store,
    /// Where keys begin in the store: empty, or ends in `/`.
    pub(crate) prefix: String,
    plain: BTreeMap<String, String>,
    secret: BTreeMap<String, Secret>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Store {
    S3(S3),
    Gcs(Gcs),
    Azure(Azure),
    Hdfs(Hdfs),
    File(PathBuf),
}

/// What stores that are reached over HTTP have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Http {
    pub endpoint: Option<String>,
    pub allow_http: bool,
    /// PEM, beside those of the system.
    pub ca_certificate: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct S3 {
    pub bucket: String,
    pub http: Http,
    pub region: String,
    /// `None` is anonymous.
    pub key: Option<(String, Secret)>,
    pub session_token: Option<Secret>,
    pub virtual_hosted_style: bool,
    /// Whether the store keeps `If-Match` and `If-None-Match` on writes;
    /// `None` where nobody said.
    pub conditional_put: Option<bool>,
    /// Whether it lists keys in the order of their bytes.
    pub lists_by_bytes: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gcs {
    pub bucket: String,
    pub http: Http,
    /// JSON; `None` is anonymous.
    pub service_account_key: Option<Secret>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Azure {
    pub container: String,
    pub account: String,
    pub http: Http,
    pub access: AzureAccess,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AzureAccess {
    Anonymous,
    Key(Secret),
    Sas(Secret),
    Client { tenant: String, id: String, secret: Secret },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hdfs {
    /// `hdfs://host:port`.
    pub server: String,
    /// Settings of Hadoop, by their names there.
    pub settings: BTreeMap<String, String>,
}

impl MountSpec {
    /// `url` is `s3://bucket/prefix`, `gs://bucket/prefix`,
    /// `az://container/prefix`, `abfss://container@account.dfs.core.windows.net/prefix`,
    /// `hdfs://host:port/path` or `file:///folder`. The options:
    ///
    /// - of all that are reached over HTTP: `endpoint`, `allow_http`,
    ///   `ca_certificate` (PEM), `anonymous`;
    /// - S3: `region`, `access_key_id`, `secret_access_key`, `session_token`,
    ///   `virtual_hosted_style` (then the endpoint names the bucket),
    ///   `conditional_put` (`etag`, `disabled`), `listing_order` (`bytes`,
    ///   `folders`);
    /// - Google: `service_account_key` (the JSON of the key file);
    /// - Azure: `account`, and `access_key`, `sas_token`, or `tenant_id` with
    ///   `client_id` and `client_secret`;
    /// - HDFS: settings of Hadoop that begin with `dfs.` or `fs.`.
    pub fn parse(url: &str, options: &BTreeMap<String, String>) -> Result<Self> {
        let kept = url.trim_end_matches('/');
        if kept != kept.trim() || kept.contains(|c: char| c.is_control()) {
            return invalid(
                "the URL of a mount has no spaces at its ends and no control characters: write %20 for a space",
            );
        }
        let parsed = Url::parse(url).map_err(|e| InvalidMount(format!("'{}' is not a URL: {e}", no_query(url))))?;
        if parsed.password().is_some() || parsed.query().is_some() || parsed.fragment().is_some() {
            return invalid("the URL of a mount has no password, '?' or '#': give credentials as options");
        }
        let mut given = Given { scheme: parsed.scheme().to_owned(), left: options.clone() };
        let store = match parsed.scheme() {
            "s3" | "s3a" => Store::S3(s3(&parsed, &mut given)?),
            "gs" => Store::Gcs(gcs(&parsed, &mut given)?),
            "az" | "azure" | "adl" | "abfs" | "abfss" => Store::Azure(azure(&parsed, &mut given)?),
            "hdfs" => Store::Hdfs(hdfs(&parsed, &mut given)?),
            "file" => Store::File(folder(&parsed)?),
            other => {
                return invalid(format!(
                    "there are no mounts of '{other}:' URLs; they begin with s3, gs, az, abfss, hdfs or file"
                ));
            }
        };
        given.end()?;
        let prefix = match &store {
            Store::File(_) => String::new(),
            _ => prefix(&parsed)?,
        };
        let mut spec = Self { url: kept.to_owned(), store, prefix, plain: options.clone(), secret: BTreeMap::new() };
        for name in SECRETS {
            if let Some(value) = spec.plain.remove(*name) {
                spec.secret.insert((*name).to_owned(), Secret(value));
            }
        }
        Ok(spec)
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The options that are no secrets.
    pub fn plain_options(&self) -> &BTreeMap<String, String> {
        &self.plain
    }

    pub(crate) fn secrets(&self) -> &BTreeMap<String, Secret> {
        &self.secret
    }

    /// Whether something is to be found out about the store when it is mounted.
    pub(crate) fn is_open(&self) -> bool {
        matches!(&self.store, Store::S3(s3) if s3.conditional_put.is_none() || s3.lists_by_bytes.is_none())
    }

    /// Settles what was not said.
    pub(crate) fn settle(&mut self, conditional_put: bool, lists_by_bytes: bool) {
        let Store::S3(s3) = &mut self.store else { return };
        let mut set = |slot: &mut Option<bool>, name: &str, found: bool, words: [&str; 2]| {
            if slot.is_none() {
                *slot = Some(found);
                self.plain.insert(name.to_owned(), words[usize::from(!found)].to_owned());
            }
        };
        set(&mut s3.conditional_put, "conditional_put", conditional_put, ["etag", "disabled"]);
        set(&mut s3.lists_by_bytes, "listing_order", lists_by_bytes, ["bytes", "folders"]);
    }
}

fn no_query(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

/// The options, from which each is taken once.
struct Given {
    scheme: String,
    left: BTreeMap<String, String>,
}

impl Given {
    fn take(&mut self, name: &str) -> Option<String> {
        self.left.remove(name)
    }

    fn secret(&mut self, name: &str) -> Option<Secret> {
        self.take(name).map(Secret)
    }

    fn flag(&mut self, name: &str) -> Result<bool> {
        match self.take(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => invalid(format!("the option '{name}' is 'true' or 'false', not '{other}'")),
        }
    }

    /// `Some(true)` for the first word, `Some(false)` for the second.
    fn either(&mut self, name: &str, words: [&str; 2]) -> Result<Option<bool>> {
        match self.take(name) {
            None => Ok(None),
            Some(word) if word == words[0] => Ok(Some(true)),
            Some(word) if word == words[1] => Ok(Some(false)),
            Some(other) => invalid(format!("the option '{name}' is '{}' or '{}', not '{other}'", words[0], words[1])),
        }
    }

    fn http(&mut self) -> Result<Http> {
        let http = Http {
            endpoint: self.take("endpoint"),
            allow_http: self.flag("allow_http")?,
            ca_certificate: self.take("ca_certificate"),
        };
        if let Some(endpoint) = &http.endpoint {
            let url = Url::parse(endpoint).ok().filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
            let Some(url) = url else {
                return invalid("the option 'endpoint' is a URL such as https://s3.example.org");
            };
            if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
                return invalid(
                    "the option 'endpoint' has no credentials and no '?': give them as options of their own",
                );
            }
            if url.scheme() == "http" && !http.allow_http {
                return invalid("the endpoint is not encrypted: use https, or set the option 'allow_http' to 'true'");
            }
        }
        Ok(http)
    }

    fn end(self) -> Result<()> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(name) => invalid(format!("'{name}' is no option of a mount of '{}:'", self.scheme)),
        }
    }
}

fn host(url: &Url, what: &str) -> Result<String> {
    match url.host_str() {
        Some(host) if !host.is_empty() => Ok(host.to_owned()),
        _ => invalid(format!("the URL names no {what}: it begins with {}://{}/", url.scheme(), what.to_uppercase())),
    }
}

fn s3(url: &Url, given: &mut Given) -> Result<S3> {
    let bucket = host(url, "bucket")?;
    let http = given.http()?;
    let anonymous = given.flag("anonymous")?;
    let key = match (given.take("access_key_id"), given.secret("secret_access_key")) {
        (Some(id), Some(secret)) if !anonymous => Some((id, secret)),
        (None, None) if anonymous => None,
        (None, None) => {
            return invalid("give the options 'access_key_id' and 'secret_access_key', or 'anonymous' as 'true'");
        }
        _ if anonymous => return invalid("an anonymous mount has no 'access_key_id' and no 'secret_access_key'"),
        _ => return invalid("the options 'access_key_id' and 'secret_access_key' go together"),
    };
    // Amazon's own does both; of others nothing is known.
    let amazons = http.endpoint.is_none().then_some(true);
    let conditional_put = given.either("conditional_put", ["etag", "disabled"])?.or(amazons);
    let lists_by_bytes = given.either("listing_order", ["bytes", "folders"])?.or(amazons);
    Ok(S3 {
        bucket,
        region: given.take("region").unwrap_or_else(|| "us-east-1".to_owned()),
        key,
        session_token: given.secret("session_token"),
        virtual_hosted_style: given.flag("virtual_hosted_style")?,
        http,
        conditional_put,
        lists_by_bytes,
    })
}

fn gcs(url: &Url, given: &mut Given) -> Result<Gcs> {
    let bucket = host(url, "bucket")?;
    let http = given.http()?;
    let service_account_key = match (given.secret("service_account_key"), given.flag("anonymous")?) {
        (Some(_), true) => return invalid("an anonymous mount has no 'service_account_key'"),
        (None, false) => {
            return invalid("give the option 'service_account_key' (the key file's JSON), or 'anonymous' as 'true'");
        }
        (Some(key), false) if !is_key_file(&key.0) => {
            return invalid("the option 'service_account_key' is what the JSON file of a service account's key holds");
        }
        (key, _) => key,
    };
    Ok(Gcs { bucket, http, service_account_key })
}

fn is_key_file(text: &str) -> bool {
    let file: Option<BTreeMap<String, serde_json::Value>> = serde_json::from_str(text).ok();
    file.is_some_and(|file| {
        ["client_email", "private_key", "private_key_id"].iter().all(|name| file.contains_key(*name))
    })
}

fn azure(url: &Url, given: &mut Given) -> Result<Azure> {
    let http = given.http()?;
    let host = host(url, "container")?;
    let (container, account) = match url.username() {
        "" => (host, given.take("account")),
        container => {
            let known = [".dfs.core.windows.net", ".blob.core.windows.net"];
            let Some(account) = known.iter().find_map(|end| host.strip_suffix(end)) else {
                return invalid(
                    "after '@' the URL names ACCOUNT.dfs.core.windows.net; for other hosts use az://CONTAINER/ with the options 'account' and 'endpoint'",
                );
            };
            (container.to_owned(), Some(account.to_owned()))
        }
    };
    let Some(account) = account else { return invalid("give the storage account as the option 'account'") };
    let client = (given.take("tenant_id"), given.take("client_id"), given.secret("client_secret"));
    let access = match (given.secret("access_key"), given.secret("sas_token"), client, given.flag("anonymous")?) {
        (Some(key), None, (None, None, None), false) => {
            if BASE64.decode(key.0.as_bytes()).is_err() {
                return invalid("the option 'access_key' is no key of a storage account: those are base64");
            }
            AzureAccess::Key(key)
        }
        (None, Some(sas), (None, None, None), false) => AzureAccess::Sas(sas),
        (None, None, (Some(tenant), Some(id), Some(secret)), false) => AzureAccess::Client { tenant, id, secret },
        (None, None, (None, None, None), true) => AzureAccess::Anonymous,
        _ => {
            return invalid(
                "give exactly one: 'access_key'; 'sas_token'; 'tenant_id', 'client_id' and 'client_secret'; or 'anonymous' as 'true'",
            );
        }
    };
    Ok(Azure { container, account, http, access })
}

fn hdfs(url: &Url, given: &mut Given) -> Result<Hdfs> {
    let host = host(url, "namenode")?;
    let server = match url.port() {
        Some(port) => format!("hdfs://{host}:{port}"),
        None => format!("hdfs://{host}"),
    };
    let names: Vec<String> =
        given.left.keys().filter(|k| k.starts_with("dfs.") || k.starts_with("fs.")).cloned().collect();
    let settings = names.into_iter().filter_map(|name| given.left.remove_entry(&name)).collect();
    Ok(Hdfs { server, settings })
}

fn folder(url: &Url) -> Result<PathBuf> {
    match url.to_file_path() {
        Ok(path) if path.parent().is_some() => Ok(path),
        Ok(_) => invalid("the root folder cannot be mounted: name a folder below it"),
        Err(()) => invalid("a folder's URL has three slashes and an absolute path: file:///folder"),
    }
}

/// The path of the URL as the prefix of all keys.
fn prefix(url: &Url) -> Result<String> {
    let path = object_store::path::Path::from_url_path(url.path());
    let path = path.map_err(|e| InvalidMount(format!("the path of the URL is no prefix of keys: {e}")))?;
    Ok(if path.is_root() { String::new() } else { format!("{path}/") })
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
