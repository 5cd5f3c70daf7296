//! One server, and keep-alive connections to it.

use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue};
use http::{Method, Request, Response, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::Error;
use crate::body::Stamped;
use crate::sign::{self, Signer};

/// More of an error's text tells nothing new.
const ERROR_TEXT: usize = 300;

pub struct Target {
    address: String,
    pub bucket: String,
    date: HeaderValue,
    host: HeaderValue,
    signer: Option<Signer>,
}

/// All of a request but its body, made beforehand.
#[derive(Clone)]
pub struct Prepared {
    method: Method,
    uri: Uri,
    payload: HeaderValue,
    authorization: Option<HeaderValue>,
}

impl Target {
    pub fn new(endpoint: String, bucket: String, key_id: Option<String>, secret: String) -> Result<Self, Error> {
        let Some(address) = endpoint.strip_prefix("http://").map(|a| a.trim_end_matches('/').to_owned()) else {
            return Err(Error::Address(endpoint));
        };
        let date = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let signer = key_id.map(|id| Signer::new(&id, &secret, &address, &date));
        let host = HeaderValue::from_str(&address).map_err(|_| Error::Address(endpoint))?;
        let date = HeaderValue::from_str(&date).map_err(|e| Error::Request(date, e.into()))?;
        Ok(Self { address, bucket, date, host, signer })
    }

    /// A request for `key` of the bucket, or for the bucket itself where it is empty.
    pub fn prepare(&self, method: Method, key: &str, query: &str, body: Option<&Stamped>) -> Result<Prepared, Error> {
        let slash = if key.is_empty() { "" } else { "/" };
        let path = format!("/{}{slash}{}", self.bucket, sign::encode(key, true));
        let payload = body.map_or_else(|| sign::UNSIGNED.to_owned(), |b| HEXLOWER.encode(b.sha256().as_ref()));
        let text = if query.is_empty() { path.clone() } else { format!("{path}?{query}") };
        let authorization = self.signer.as_ref().map(|s| s.authorization(method.as_str(), &path, query, &payload));
        let refused = |e: http::Error| Error::Request(text.clone(), e);
        Ok(Prepared {
            method,
            uri: text.parse::<Uri>().map_err(|e| refused(e.into()))?,
            payload: HeaderValue::from_str(&payload).map_err(|e| refused(e.into()))?,
            authorization: match authorization {
                Some(header) => Some(HeaderValue::from_str(&header).map_err(|e| refused(e.into()))?),
                None => None,
            },
        })
    }

    pub async fn connect(&self) -> Result<Connection<'_>, Error> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Its end shows at the next request.
        tokio::spawn(connection);
        Ok(Connection { target: self, sender })
    }
}

pub struct Connection<'a> {
    target: &'a Target,
    sender: SendRequest<Stamped>,
}

impl Connection<'_> {
    /// Sends one request and waits for the answer's headers.
    async fn send(&mut self, prepared: &Prepared, body: Stamped) -> Result<Response<Incoming>, Error> {
        self.sender.ready().await?;
        let mut request = Request::new(body);
        *request.method_mut() = prepared.method.clone();
        *request.uri_mut() = prepared.uri.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.target.host.clone());
        if let Some(authorization) = &prepared.authorization {
            headers.insert(HeaderName::from_static("x-amz-date"), self.target.date.clone());
            headers.insert(HeaderName::from_static("x-amz-content-sha256"), prepared.payload.clone());
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        Ok(self.sender.send_request(request).await?)
    }

    /// One request; its answer's body is read and dropped. Answers the bytes that it had.
    pub async fn drop_answer(&mut self, what: &'static str, prepared: &Prepared, body: Stamped) -> Result<u64, Error> {
        let response = self.send(prepared, body).await?;
        if !response.status().is_success() {
            return Err(failed(what, response).await);
        }
        let mut body = response.into_body();
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            bytes += frame?.data_ref().map_or(0, |data| data.len() as u64);
        }
        Ok(bytes)
    }

    /// One request with a small answer: its ETag and its body.
    pub async fn answer(
        &mut self,
        what: &'static str,
        prepared: &Prepared,
        body: Stamped,
    ) -> Result<(Option<String>, Bytes), Error> {
        let response = self.send(prepared, body).await?;
        if !response.status().is_success() {
            return Err(failed(what, response).await);
        }
        let etag = response.headers().get(http::header::ETAG).and_then(|v| v.to_str().ok()).map(str::to_owned);
        Ok((etag, response.into_body().collect().await?.to_bytes()))
    }
}

async fn failed(what: &'static str, response: Response<Incoming>) -> Error {
    let status = response.status().as_u16();
    let text = match response.into_body().collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).chars().take(ERROR_TEXT).collect(),
        Err(error) => error.to_string(),
    };
    Error::Status { what, status, text }
}
