//! The client of a mounted store, made from its spec. Nothing is asked of the
//! store here.
//!
//! Invariant: every request is bounded: 5 seconds to connect, 30 without a
//! byte, a few tries within 30 seconds.

use std::path::PathBuf;
use std::sync::{Arc, Once};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::azure::{MicrosoftAzureBuilder, split_sas};
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::list::PaginatedListStore;
use object_store::local::LocalFileSystem;
use object_store::multipart::MultipartStore;
use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig, StaticCredentialProvider};

use crate::blocks::Blocks;
use crate::failure::Voice;
use crate::options::{AzureAccess, Http, InvalidMount, MountSpec, Store};
use crate::transport::Lenient;

const CONNECT: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_secs(30);
const TRIES_AFTER_FIRST: usize = 3;
const TRYING: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    S3,
    Gcs,
    Azure,
    Hdfs,
    File,
}

impl Kind {
    /// Keeps content headers and user metadata.
    pub fn keeps_headers(self) -> bool {
        matches!(self, Self::S3 | Self::Gcs | Self::Azure)
    }

    /// Most keys in one request to delete.
    pub fn delete_batch(self) -> usize {
        match self {
            Self::S3 => 1000,
            Self::Azure => 256,
            Self::Gcs | Self::Hdfs | Self::File => 100,
        }
    }

    pub fn copies(self) -> bool {
        matches!(self, Self::S3 | Self::Gcs | Self::Azure)
    }
}

pub(crate) struct Backend {
    pub kind: Kind,
    pub store: Arc<dyn ObjectStore>,
    /// Uploads whose parts the client sends.
    pub multipart: Option<Arc<dyn MultipartStore>>,
    /// Listings in pages by prefix of keys; others are walked by folder.
    pub pages: Option<Arc<dyn PaginatedListStore>>,
    /// Where a mounted folder lies.
    pub folder: Option<PathBuf>,
    /// What keys begin with in the store: empty, or ends in `/`.
    pub prefix: String,
    /// Conditions on writes hold.
    pub conditions: bool,
    /// Pages come in the order of bytes.
    pub ordered: bool,
    pub voice: Voice,
}

impl Backend {
    pub fn open(spec: &MountSpec) -> Result<Self, InvalidMount> {
        use_ring();
        let voice = Voice {
            place: spec.url().to_owned(),
            secrets: spec.secrets().values().map(|secret| secret.0.clone()).collect(),
        };
        let wrong =
            |e: object_store::Error| InvalidMount(format!("the mount's options are refused: {}", voice.detail(&e)));
        let made = match &spec.store {
            Store::S3(s3) => {
                let put = if s3.conditional_put == Some(true) {
                    S3ConditionalPut::ETagMatch
                } else {
                    S3ConditionalPut::Disabled
                };
                let mut builder = AmazonS3Builder::new()
                    .with_bucket_name(&s3.bucket)
                    .with_region(&s3.region)
                    .with_virtual_hosted_style_request(s3.virtual_hosted_style)
                    .with_conditional_put(put)
                    .with_disable_tagging(true)
                    .with_skip_signature(s3.key.is_none())
                    .with_http_connector(Lenient)
                    .with_retry(retry())
                    .with_client_options(client(&s3.http)?);
                if let Some(endpoint) = &s3.http.endpoint {
                    builder = builder.with_endpoint(endpoint);
                }
                if let Some((id, secret)) = &s3.key {
                    builder = builder.with_access_key_id(id).with_secret_access_key(&secret.0);
                }
                if let Some(token) = &s3.session_token {
                    builder = builder.with_token(&token.0);
                }
                Self {
                    conditions: s3.conditional_put == Some(true),
                    ordered: s3.lists_by_bytes == Some(true),
                    ..Self::cloud(Kind::S3, Arc::new(builder.build().map_err(wrong)?))
                }
            }
            Store::Gcs(gcs) => {
                let mut builder = GoogleCloudStorageBuilder::new()
                    .with_bucket_name(&gcs.bucket)
                    .with_retry(retry())
                    .with_client_options(client(&gcs.http)?);
                if let Some(endpoint) = &gcs.http.endpoint {
                    builder = builder.with_base_url(endpoint);
                }
                builder = match &gcs.service_account_key {
                    Some(key) => builder.with_service_account_key(&key.0),
                    // Credentials that are given keep it from looking for others.
                    None => builder.with_skip_signature(true).with_credentials(Arc::new(
                        StaticCredentialProvider::new(GcpCredential { bearer: String::new() }),
                    )),
                };
                Self::cloud(Kind::Gcs, Arc::new(builder.build().map_err(wrong)?))
            }
            Store::Azure(azure) => {
                let options = client(&azure.http)?;
                let mut builder = MicrosoftAzureBuilder::new()
                    .with_account(&azure.account)
                    .with_container_name(&azure.container)
                    .with_disable_tagging(true)
                    .with_retry(retry())
                    .with_client_options(options.clone());
                if let Some(endpoint) = &azure.http.endpoint {
                    builder = builder.with_endpoint(endpoint.clone());
                }
                builder = match &azure.access {
                    AzureAccess::Anonymous => builder.with_skip_signature(true),
                    AzureAccess::Key(key) => builder.with_access_key(&key.0),
                    AzureAccess::Sas(sas) => builder.with_sas_authorization(split_sas(&sas.0).map_err(wrong)?),
                    AzureAccess::Client { tenant, id, secret } => {
                        builder.with_client_secret_authorization(id, &secret.0, tenant)
                    }
                };
                let store = Arc::new(builder.build().map_err(wrong)?);
                let blocks = Blocks::new(store.clone(), azure, &options).map_err(wrong)?;
                Self { multipart: Some(Arc::new(blocks)), ..Self::cloud(Kind::Azure, store) }
            }
            Store::Hdfs(hdfs) => Self::folders(
                Kind::Hdfs,
                hdfs_client(hdfs).map_err(|e| match e {
                    Ok(e) => wrong(e),
                    Err(invalid) => invalid,
                })?,
            ),
            Store::File(folder) => {
                let canonical = folder.canonicalize().ok().filter(|path| path.is_dir());
                let Some(canonical) = canonical else {
                    return Err(InvalidMount(format!("'{}' is no folder that can be read", folder.display())));
                };
                let store = LocalFileSystem::new_with_prefix(&canonical).map_err(wrong)?;
                let store = store.with_automatic_cleanup(true).with_fsync(true);
                Self { folder: Some(canonical), ..Self::folders(Kind::File, Arc::new(store)) }
            }
        };
        Ok(Self { prefix: spec.prefix.clone(), voice, ..made })
    }

    fn cloud<T: ObjectStore + MultipartStore + PaginatedListStore>(kind: Kind, store: Arc<T>) -> Self {
        Self {
            multipart: Some(store.clone()),
            pages: Some(store.clone()),
            conditions: true,
            ordered: true,
            ..Self::folders(kind, store)
        }
    }

    fn folders(kind: Kind, store: Arc<dyn ObjectStore>) -> Self {
        Self {
            kind,
            store,
            multipart: None,
            pages: None,
            folder: None,
            prefix: String::new(),
            conditions: false,
            ordered: false,
            voice: Voice { place: String::new(), secrets: Vec::new() },
        }
    }
}

fn retry() -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(5), base: 3.0 };
    RetryConfig { backoff, max_retries: TRIES_AFTER_FIRST, retry_timeout: TRYING }
}

fn client(http: &Http) -> Result<ClientOptions, InvalidMount> {
    // A limit on the whole of a request would end long bodies that flow well.
    let mut options = ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(CONNECT)
        .with_read_timeout(SILENCE)
        .with_allow_http(http.allow_http);
    if let Some(pem) = &http.ca_certificate {
        let certificate = Certificate::from_pem(pem.as_bytes());
        let certificate =
            certificate.map_err(|_| InvalidMount("the option 'ca_certificate' is no certificate in PEM".to_owned()))?;
        options = options.with_root_certificate(certificate);
    }
    Ok(options)
}

/// The HTTP client asks for the provider of this process; ours is ring.
fn use_ring() {
    static ONCE: Once = Once::new();
    // An error says that one is chosen already, by the composition root.
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

type HdfsError = Result<object_store::Error, InvalidMount>;

#[cfg(feature = "hdfs")]
fn hdfs_client(hdfs: &crate::options::Hdfs) -> Result<Arc<dyn ObjectStore>, HdfsError> {
    let mut settings = hdfs.settings.clone();
    // By itself it asks a namenode that is not there for minutes.
    settings
        .entry("dfs.client.failover.max.attempts".to_owned())
        .or_insert_with(|| (TRIES_AFTER_FIRST + 1).to_string());
    let builder = hdfs_native_object_store::HdfsObjectStoreBuilder::new().with_url(&hdfs.server).with_config(settings);
    Ok(Arc::new(builder.build().map_err(Ok)?))
}

#[cfg(not(feature = "hdfs"))]
fn hdfs_client(hdfs: &crate::options::Hdfs) -> Result<Arc<dyn ObjectStore>, HdfsError> {
    let (server, settings) = (&hdfs.server, hdfs.settings.len());
    Err(Err(InvalidMount(format!(
        "not implemented: hdfs mounts ({server}, {settings} settings): this program was built without the feature 'hdfs'"
    ))))
}
