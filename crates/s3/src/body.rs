//! A request's body as a stream that does not wait for ever.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use s3s::{Body, StdError};

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
