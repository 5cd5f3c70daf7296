//! Uploads in parts to Azure that keep their headers: the client's own commit
//! a list of blocks without any.
//!
//! Azure has no uploads as such. Blocks wait under the blob's name until a
//! list of them is committed, and headers go with that list; so they are
//! carried in the upload's id. A commit, and any other write of the blob,
//! drops the blocks that wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use data_encoding::BASE64;
use futures_util::StreamExt;
use http::header::{CONTENT_LENGTH, ETAG};
use http::{Method, StatusCode};
use object_store::azure::{AzureAuthorizer, MicrosoftAzure};
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpResponse, ReqwestConnector};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{ClientOptions, Error, MultipartId, PutMultipartOptions, PutPayload, PutResult, Result};
use url::Url;

use crate::headers::{META, headers};
use crate::options::{Azure, AzureAccess};

/// Of an answer that is an error.
const TEXT_MAX: usize = 16 << 10;
/// Before each try but the first.
const PAUSES: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(300), Duration::from_millis(900)];

type Headers = BTreeMap<String, String>;

pub(crate) struct Blocks {
    store: Arc<MicrosoftAzure>,
    client: HttpClient,
    container: Url,
    account: String,
    anonymous: bool,
}

fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic { store: "MicrosoftAzure", source: source.into() }
}

impl Blocks {
    pub fn new(store: Arc<MicrosoftAzure>, azure: &Azure, options: &ClientOptions) -> Result<Self> {
        let given = azure.http.endpoint.clone();
        let endpoint = given.unwrap_or_else(|| format!("https://{}.blob.core.windows.net", azure.account));
        let mut container = Url::parse(&endpoint).map_err(failed)?;
        let mut parts = container.path_segments_mut().map_err(|()| failed("the endpoint has no path"))?;
        parts.pop_if_empty().push(&azure.container);
        drop(parts);
        Ok(Self {
            store,
            client: ReqwestConnector::default().connect(options)?,
            container,
            account: azure.account.clone(),
            anonymous: azure.access == AzureAccess::Anonymous,
        })
    }

    async fn commit(&self, path: &Path, list: &str, headers: &Headers) -> Result<HttpResponse> {
        let mut url = self.container.clone();
        url.path_segments_mut().map_err(|()| failed("the endpoint has no path"))?.extend(path.parts());
        url.query_pairs_mut().append_pair("comp", "blocklist");
        let mut request = HttpRequest::new(list.to_owned().into());
        *request.method_mut() = Method::PUT;
        *request.uri_mut() = url.as_str().parse().map_err(failed)?;
        request.headers_mut().insert(CONTENT_LENGTH, list.len().into());
        for (name, value) in headers {
            let name = match name.strip_prefix(META) {
                Some(key) => format!("x-ms-meta-{key}"),
                None => format!("x-ms-blob-{name}"),
            };
            let name = http::HeaderName::try_from(name).map_err(failed)?;
            request.headers_mut().insert(name, value.parse().map_err(failed)?);
        }
        if !self.anonymous {
            let credential = self.store.credentials().get_credential().await?;
            AzureAuthorizer::new(&credential, &self.account).try_authorize(&mut request)?;
        }
        self.client.execute(request).await.map_err(failed)
    }
}

#[async_trait]
impl MultipartStore for Blocks {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        self.create_multipart_opts(path, PutMultipartOptions::default()).await
    }

    async fn create_multipart_opts(&self, _: &Path, options: PutMultipartOptions) -> Result<MultipartId> {
        serde_json::to_string(&headers(&options.attributes)).map_err(failed)
    }

    async fn put_part(&self, path: &Path, id: &MultipartId, index: usize, data: PutPayload) -> Result<PartId> {
        self.store.put_part(path, id, index, data).await
    }

    /// `NotFound` where the blocks are no longer there.
    async fn complete_multipart(&self, path: &Path, id: &MultipartId, parts: Vec<PartId>) -> Result<PutResult> {
        let headers: Headers = serde_json::from_str(id).map_err(failed)?;
        // The latest of a name is the committed one where an answer was lost
        // and the list is sent again.
        let blocks = parts.iter().map(|part| format!("<Latest>{}</Latest>", BASE64.encode(part.content_id.as_bytes())));
        let list =
            format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>{}</BlockList>", blocks.collect::<String>());
        let mut pauses = PAUSES.iter();
        loop {
            let answer = self.commit(path, &list, &headers).await;
            let again = match &answer {
                Ok(answer) => answer.status().is_server_error() || answer.status() == StatusCode::TOO_MANY_REQUESTS,
                Err(_) => true,
            };
            match (again, pauses.next()) {
                (true, Some(pause)) => tokio::time::sleep(*pause).await,
                _ => return result(path, answer?).await,
            }
        }
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        self.store.abort_multipart(path, id).await
    }
}

async fn result(path: &Path, answer: HttpResponse) -> Result<PutResult> {
    let (parts, body) = answer.into_parts();
    if parts.status.is_success() {
        let e_tag = parts.headers.get(ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        return Ok(PutResult { e_tag, version: None, extensions: Default::default() });
    }
    let mut text = BytesMut::new();
    let mut pieces = body.bytes_stream();
    while let Some(Ok(piece)) = pieces.next().await {
        text.extend_from_slice(&piece);
        if text.len() > TEXT_MAX {
            break;
        }
    }
    let text = String::from_utf8_lossy(&text);
    let said = format!("status code: {}: {text}", parts.status);
    if parts.status == StatusCode::NOT_FOUND || text.contains("InvalidBlockList") {
        return Err(Error::NotFound { path: path.to_string(), source: said.into() });
    }
    Err(failed(said))
}
