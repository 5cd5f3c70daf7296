//! One request's bytes, sent again and again over one connection.
//!
//! HTTP/1.1 is written and read by hand: a client that does more would take
//! the cores from the server it measures.

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::TryFutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Error;

const HEAD_BYTES_MAX: usize = 64 << 10;
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// More of an error's text tells nothing new.
const ERROR_TEXT: usize = 300;

/// What is asked, made beforehand.
pub struct Ask {
    address: String,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    grpc: bool,
}

/// One connection, or one stream at a time of a connection.
pub enum Caller {
    Plain(Plain),
    Grpc(SendRequest<Full<Bytes>>),
}

pub struct Plain {
    stream: TcpStream,
    request: Bytes,
    answer: Vec<u8>,
}

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP's, or gRPC's.
    pub status: u16,
    /// What a refusal says; empty for a success.
    pub refusal: String,
    pub retry_after: bool,
    pub bytes: u64,
    /// The server ends the connection.
    pub closed: bool,
}

impl Ask {
    pub fn new(url: &str, headers: &[String], body: Vec<u8>, grpc: bool) -> Result<Self, Error> {
        let uri: Uri = url.parse().map_err(|_| Error::Address(url.to_owned()))?;
        let address = uri.authority().filter(|_| uri.scheme_str() == Some("http"));
        let address = address.ok_or_else(|| Error::Address(url.to_owned()))?.to_string();
        let mut map = HeaderMap::new();
        for header in headers {
            let refused = || Error::Header(header.clone());
            let (name, value) = header.split_once(':').ok_or_else(refused)?;
            let name: HeaderName = name.trim().parse().map_err(|_| refused())?;
            map.append(name, HeaderValue::from_str(value.trim()).map_err(|_| refused())?);
        }
        if grpc {
            map.insert("content-type", HeaderValue::from_static("application/grpc"));
            map.insert("te", HeaderValue::from_static("trailers"));
        }
        let body = if grpc { framed(&body) } else { body.into() };
        Ok(Self { address, uri, headers: map, body, grpc })
    }

    /// `share` of gRPC streams go over one connection.
    pub async fn connect(&self, count: usize, share: usize) -> Result<Vec<Caller>, Error> {
        let mut callers = Vec::with_capacity(count);
        while callers.len() < count {
            let stream = TcpStream::connect(&self.address).await?;
            stream.set_nodelay(true)?;
            if !self.grpc {
                callers.push(Caller::Plain(Plain { stream, request: self.bytes(), answer: Vec::new() }));
                continue;
            }
            let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
            // Its end shows at the next request.
            tokio::spawn(connection.unwrap_or_else(|_| ()));
            let streams = share.max(1).min(count - callers.len());
            callers.extend((0..streams).map(|_| Caller::Grpc(sender.clone())));
        }
        Ok(callers)
    }

    pub async fn call(&self, caller: &mut Caller) -> Result<Answer, Error> {
        match caller {
            Caller::Plain(plain) => plain.call().await,
            Caller::Grpc(sender) => {
                let mut request = Request::post(self.uri.clone()).body(Full::new(self.body.clone()));
                if let Ok(request) = &mut request {
                    request.headers_mut().extend(self.headers.clone());
                }
                grpc(sender, request.map_err(|e| Error::Request(self.uri.to_string(), e))?).await
            }
        }
    }

    /// Bytes of a request over HTTP/1.1.
    fn bytes(&self) -> Bytes {
        let path = self.uri.path_and_query().map_or("/", |p| p.as_str());
        let mut bytes = BytesMut::new();
        bytes.put_slice(format!("POST {path} HTTP/1.1\r\nhost: {}\r\n", self.address).as_bytes());
        for (name, value) in &self.headers {
            bytes.put_slice(name.as_str().as_bytes());
            bytes.put_slice(b": ");
            bytes.put_slice(value.as_bytes());
            bytes.put_slice(b"\r\n");
        }
        bytes.put_slice(format!("content-length: {}\r\n\r\n", self.body.len()).as_bytes());
        bytes.put_slice(&self.body);
        bytes.freeze()
    }
}

impl Plain {
    async fn call(&mut self) -> Result<Answer, Error> {
        self.stream.write_all(&self.request).await?;
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
            if let Some(answer) = whole(&self.answer)? {
                return Ok(answer);
            }
        }
    }
}

/// An answer over HTTP/1.1, once all of it is there.
fn whole(bytes: &[u8]) -> Result<Option<Answer>, Error> {
    let refused = || Error::NotHttp(text(bytes));
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        return if bytes.len() < HEAD_BYTES_MAX { Ok(None) } else { Err(refused()) };
    };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| refused())?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|l| l.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()).ok_or_else(refused)?;
    let (mut length, mut retry_after, mut closed) = (None, false, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse::<usize>().ok().filter(|l| *l <= ANSWER_BYTES_MAX);
        } else if name.eq_ignore_ascii_case("retry-after") {
            retry_after = true;
        } else if name.eq_ignore_ascii_case("connection") {
            closed = value.trim().eq_ignore_ascii_case("close");
        }
    }
    let body = &bytes[end + 4..];
    if body.len() < length.ok_or_else(refused)? {
        return Ok(None);
    }
    let refusal = if status < 300 { String::new() } else { text(body) };
    Ok(Some(Answer { status, refusal, retry_after, bytes: body.len() as u64, closed }))
}

async fn grpc(sender: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> Result<Answer, Error> {
    sender.ready().await?;
    let (head, mut body) = sender.send_request(request).await?.into_parts();
    let mut bytes = 0;
    let mut last = head.headers;
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => bytes += data.len() as u64,
            Err(frame) => last.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    let value = |name: &str| last.get(name).and_then(|v| v.to_str().ok());
    let status = value("grpc-status").and_then(|s| s.parse().ok());
    Ok(Answer {
        status: status.ok_or(Error::Answer("the call", "a grpc-status"))?,
        refusal: value("grpc-message").unwrap_or_default().to_owned(),
        retry_after: last.contains_key("retry-after"),
        bytes,
        closed: false,
    })
}

/// A message as gRPC frames it, not compressed.
fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(message.len() + 5);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    bytes.put_slice(message);
    bytes.freeze()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(ERROR_TEXT)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_known_once_it_is_whole() {
        let all =
            b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 4\r\nconnection: close\r\n\r\nbusy";
        for cut in 0..all.len() {
            assert!(whole(&all[..cut]).unwrap().is_none(), "{cut}");
        }
        let refusal = "busy".to_owned();
        let expected = Answer { status: 429, refusal, retry_after: true, bytes: 4, closed: true };
        assert_eq!(whole(all).unwrap(), Some(expected));
    }

    #[test]
    fn what_has_no_length_is_refused() {
        for answer in ["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "ICY 200 OK\r\n\r\n"] {
            assert!(matches!(whole(answer.as_bytes()), Err(Error::NotHttp(_))), "{answer}");
        }
        assert!(whole(&[b'x'; HEAD_BYTES_MAX]).is_err());
    }

    #[test]
    fn requests_are_written_as_they_are_said() {
        let ask = Ask::new("http://a:1/b?c", &["X-Key: v: w".into()], b"body".to_vec(), false).unwrap();
        assert_eq!(ask.bytes(), "POST /b?c HTTP/1.1\r\nhost: a:1\r\nx-key: v: w\r\ncontent-length: 4\r\n\r\nbody");
        assert_eq!(framed(b"ab"), &b"\0\0\0\0\x02ab"[..]);
        assert!(matches!(Ask::new("https://a/", &[], vec![], false), Err(Error::Address(_))));
        assert!(matches!(Ask::new("http://a/", &["none".into()], vec![], false), Err(Error::Header(_))));
    }
}
