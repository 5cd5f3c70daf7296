//! One connection pool, one way to send, one way to read errors.

use std::io::Read;
use std::time::Duration;

use muonic_types::system::SERVER_HEADER;
use muonic_types::{ErrorBody, ErrorCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// Longest wait for an answer to begin, beyond what a call asks for itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence in the middle of a body, in either direction. A followed
/// log may be silent for longer: its reader reconnects at its offset.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(120);
/// Largest answer in JSON: a tree of a million long paths.
const JSON_BYTES_MAX: u64 = 2 << 30;
const ERROR_BYTES_MAX: u64 = 1 << 20;

/// A handle to one server with one key; cheap to clone, usable from many threads.
#[derive(Clone)]
pub struct Client {
    pub(crate) agent: ureq::Agent,
    url: String,
    pub(crate) token: String,
    /// What the server must call itself.
    server_id: Option<String>,
}

impl Client {
    /// `url` such as `http://127.0.0.1:7070`, `token` as `<key id>.<secret>`.
    pub fn new(url: &str, token: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .timeout_per_read(Some(SILENCE_TIMEOUT))
            .timeout_per_write(Some(SILENCE_TIMEOUT))
            .max_redirects(0)
            .user_agent(concat!("muonic/", env!("CARGO_PKG_VERSION")))
            .proxy(None)
            .build();
        Self {
            agent: config.new_agent(),
            url: url.trim_end_matches('/').to_owned(),
            token: token.to_owned(),
            server_id: None,
        }
    }

    /// Takes answers from the server of this name alone. Another one, which
    /// has the port of a server that is away, counts as no server.
    pub fn expecting(self, server_id: Option<String>) -> Self {
        Self { server_id, ..self }
    }

    pub fn expects(&self) -> Option<&str> {
        self.server_id.as_deref()
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The id of the key that it calls with.
    pub fn key_id(&self) -> &str {
        self.token.split_once('.').map_or("", |(id, _)| id)
    }

    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.json(self.send("GET", path, None)?)
    }

    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.json(self.send("POST", path, Some(Body::json(body)?))?)
    }

    pub fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.json(self.send("PUT", path, Some(Body::json(body)?))?)
    }

    pub fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.json(self.send("DELETE", path, None)?)
    }

    /// Sends raw bytes.
    pub fn post_bytes<T: DeserializeOwned>(&self, path: &str, media_type: &str, bytes: &[u8]) -> Result<T> {
        self.json(self.send("POST", path, Some(Body::Bytes(media_type, bytes.to_vec())))?)
    }

    /// Sends a stream of unknown length.
    pub fn post_stream<T: DeserializeOwned>(&self, path: &str, media_type: &str, mut body: impl Read) -> Result<T> {
        self.json(self.send("POST", path, Some(Body::Stream(media_type, &mut body)))?)
    }

    /// The answer's body as it comes; for logs, blobs and packs.
    pub fn read(&self, method: &str, path: &str, body: Option<Body<'_>>) -> Result<impl Read + Send + use<>> {
        Ok(self.send(method, path, body)?.into_body().into_reader())
    }

    /// What comes of a body after its first `from` bytes.
    pub(crate) fn read_from(&self, path: &str, from: u64) -> Result<impl Read + Send + use<>> {
        let range = (from > 0).then(|| format!("bytes={from}-"));
        let response = self.send_for("GET", path, None, range)?;
        if from > 0 && response.status().as_u16() != 206 {
            let reason = "it sent all of a body of which a part was asked for".to_owned();
            return Err(Error::Protocol { url: self.url.clone(), reason });
        }
        Ok(response.into_body().into_reader())
    }

    fn send(&self, method: &str, path: &str, body: Option<Body<'_>>) -> Result<Response> {
        self.send_for(method, path, body, None)
    }

    fn send_for(&self, method: &str, path: &str, body: Option<Body<'_>>, range: Option<String>) -> Result<Response> {
        let url = format!("{}{path}", self.url);
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(&url)
            .header("authorization", format!("Bearer {}", self.token));
        if let Some(range) = range {
            request = request.header("range", range);
        }
        let broken = |e: &dyn std::fmt::Display| Error::Connection { url: self.url.clone(), reason: e.to_string() };
        let sent = match body {
            None => self.agent.run(request.body(()).map_err(|e| broken(&e))?),
            Some(Body::Bytes(media_type, bytes)) => {
                self.agent.run(request.header("content-type", media_type).body(bytes).map_err(|e| broken(&e))?)
            }
            Some(Body::Stream(media_type, reader)) => {
                let body = ureq::SendBody::from_reader(reader);
                self.agent.run(request.header("content-type", media_type).body(body).map_err(|e| broken(&e))?)
            }
        };
        let mut response = sent.map_err(|e| broken(&e))?;
        if let Some(expected) = &self.server_id
            && response.headers().get(SERVER_HEADER).is_none_or(|id| id.as_bytes() != expected.as_bytes())
        {
            return Err(broken(&"another server answers there"));
        }
        let status = response.status().as_u16();
        if !response.headers().contains_key(SERVER_HEADER) {
            return Err(Error::NotMuonic { url: self.url.clone(), status });
        }
        if (200..300).contains(&status) {
            return Ok(response);
        }
        let code = response.headers().get(CODE_HEADER).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let text = response.body_mut().with_config().limit(ERROR_BYTES_MAX).read_to_string().unwrap_or_default();
        let body = error_body(status, code.as_deref(), &text, || format!("{method} {path}"));
        Err(Error::Api { status, body })
    }

    fn json<T: DeserializeOwned>(&self, response: Response) -> Result<T> {
        let reader = std::io::BufReader::new(response.into_body().into_reader().take(JSON_BYTES_MAX));
        serde_json::from_reader(reader).map_err(|e| {
            // It may quote what came.
            let (url, reason) = (self.url.clone(), e.to_string().chars().take(200).collect());
            // An answer that broke off may come whole the next time.
            if e.is_io() || e.is_eof() { Error::Connection { url, reason } } else { Error::Protocol { url, reason } }
        })
    }
}

/// A request's body.
pub enum Body<'a> {
    Bytes(&'a str, Vec<u8>),
    Stream(&'a str, &'a mut dyn Read),
}

impl Body<'_> {
    pub fn json(value: &impl Serialize) -> Result<Body<'static>> {
        let bytes =
            serde_json::to_vec(value).map_err(|e| Error::Protocol { url: String::new(), reason: e.to_string() })?;
        Ok(Body::Bytes("application/json", bytes))
    }
}

type Response = ureq::http::Response<ureq::Body>;

/// The code of an error whose body has no room for it.
const CODE_HEADER: &str = "x-muonic-error";

/// The error in an answer. A replica speaks the Open Inference Protocol,
/// `{"error": "…"}` with the code in a header. Anything else is not shown: it
/// was not written to be read here.
fn error_body(status: u16, named: Option<&str>, text: &str, what: impl Fn() -> String) -> ErrorBody {
    #[derive(serde::Deserialize)]
    struct Plain {
        error: String,
    }
    if let Ok(body) = serde_json::from_str::<ErrorBody>(text) {
        return body;
    }
    let named = named.and_then(|name| serde_json::from_value(name.into()).ok());
    let code = named.unwrap_or(match status {
        400 => ErrorCode::InvalidRequest,
        401 => ErrorCode::Unauthenticated,
        403 => ErrorCode::Forbidden,
        404 => ErrorCode::NotFound,
        405 => ErrorCode::MethodNotAllowed,
        409 => ErrorCode::Conflict,
        413 => ErrorCode::TooLarge,
        422 => ErrorCode::InvalidInput,
        429 => ErrorCode::TooManyRequests,
        501 => ErrorCode::NotImplemented,
        502 | 503 => ErrorCode::Unavailable,
        504 => ErrorCode::DeadlineExceeded,
        507 => ErrorCode::DiskFull,
        _ => ErrorCode::Internal,
    });
    match serde_json::from_str::<Plain>(text) {
        Ok(plain) => ErrorBody::new(code, plain.error),
        Err(_) => ErrorBody::new(code, format!("{} answered {status} and no reason", what())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_answer_becomes_a_sentence() {
        let of = |status, text: &str| {
            let body = error_body(status, None, text, || "GET /x".into());
            (body.error.code, body.error.message)
        };
        let ours = r#"{"error":{"code":"not_found","message":"there is no job 'x-1'"}}"#;
        assert_eq!(of(404, ours), (ErrorCode::NotFound, "there is no job 'x-1'".into()));
        assert_eq!(of(400, r#"{"error":"shape [3]"}"#), (ErrorCode::InvalidRequest, "shape [3]".into()));
        assert_eq!(of(502, "<html>"), (ErrorCode::Unavailable, "GET /x answered 502 and no reason".into()));
        assert_eq!(of(500, ""), (ErrorCode::Internal, "GET /x answered 500 and no reason".into()));
    }
}
