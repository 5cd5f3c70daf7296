//! A request's body as a stream that does not wait for ever.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use muonic_ports::object_store::ByteStream;
use s3s::dto::StreamingBlob;
use s3s::{Body, S3Error, StdError, s3_error};

use crate::errors::custom;
use crate::post::refused;

/// A client that sends nothing for this long is given up.
const IDLE: Duration = Duration::from_secs(60);

pub(crate) type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, StdError>> + Send>>;

pub(crate) fn pieces(incoming: Incoming) -> Pieces {
    Box::pin(stream::unfold(Some(incoming), |incoming| async {
        let mut incoming = incoming?;
        loop {
            return match tokio::time::timeout(IDLE, incoming.frame()).await {
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => Some((Ok(bytes), Some(incoming))),
                    // HTTP's own trailers carry nothing for us.
                    Err(_) => continue,
                },
                Ok(Some(Err(e))) => Some((Err(e.into()), None)),
                Ok(None) => None,
                Err(_) => {
                    Some((Err(io::Error::new(io::ErrorKind::TimedOut, "no bytes came for a minute").into()), None))
                }
            };
        }
    }))
}

pub(crate) fn to_s3s<S, E>(pieces: S) -> Body
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Into<StdError> + 'static,
{
    Body::http_body_unsync(StreamBody::new(pieces.map(|piece| piece.map(Frame::data).map_err(Failure::new))))
}

/// The body for s3s; an empty one stays known to be empty.
pub(crate) fn guarded(incoming: Incoming) -> Body {
    if incoming.is_end_stream() { Body::empty() } else { to_s3s(pieces(incoming)) }
}

/// The body of a request, for the store.
pub(crate) fn for_store(body: Option<StreamingBlob>) -> ByteStream {
    match body {
        Some(body) => Box::pin(body.map(|piece| piece.map_err(io::Error::other))),
        None => Box::pin(stream::empty()),
    }
}

/// What a body that ended in an error means. The error types of s3s cannot be
/// named from outside, their texts can; tests hold them fast.
pub(crate) fn broken(error: &(dyn std::error::Error + 'static)) -> S3Error {
    let mut texts = vec![error.to_string()];
    let mut source = Some(error);
    while let Some(e) = source {
        if e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::TimedOut) {
            return s3_error!(RequestTimeout, "no bytes came for a minute");
        }
        if let Some(refused) = refused(e) {
            return refused;
        }
        texts.push(e.to_string());
        // The source of an `io::Error` made of another is that one's source.
        source = match e.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => e.source(),
        };
    }
    let says = |what: &str| texts.iter().any(|text| text.contains(what));
    if says("no bytes came for a minute") {
        s3_error!(RequestTimeout, "no bytes came for a minute")
    } else if says("Sha256Mismatch") {
        let what = "the SHA-256 of the bytes received is not that of x-amz-content-sha256";
        custom("XAmzContentSHA256Mismatch", http::StatusCode::BAD_REQUEST, what)
    } else if says("SignatureMismatch") {
        s3_error!(SignatureDoesNotMatch, "the signature of a chunk of the body does not match")
    } else if says("FormatError") || says("TooLarge") || says("TooMany") {
        s3_error!(InvalidRequest, "the body is not well-formed aws-chunked")
    } else {
        s3_error!(IncompleteBody, "the body ended before it was complete")
    }
}

/// A boxed error as an error type of its own, which s3s asks for.
#[derive(Debug)]
struct Failure(StdError);

impl Failure {
    fn new(error: impl Into<StdError>) -> Self {
        Self(error.into())
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}
