//! What handlers take from a request, with errors that say what was wrong,
//! where, and what to do.

use std::time::Duration;

use axum::body::HttpBody;
use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use muonic_ports::blob_store::ByteStream;
use muonic_services::Error;
use muonic_types::key::Principal;
use muonic_types::{ErrorCode, Object};
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;

use crate::limits::Bodies;
use crate::render::Failure;

/// Largest JSON body, unless the handler says otherwise.
const JSON_MAX: usize = 2 << 20;
/// Larger ones are parsed beside the event loop.
const PARSED_HERE_MAX: usize = 256 << 10;
/// A body that brings nothing for this long is given up.
const BODY_IDLE: Duration = Duration::from_secs(60);
/// So is one that is to be read whole and is not there by then.
const BODY_TOTAL: Duration = Duration::from_secs(900);

/// The authenticated caller.
pub(crate) struct Caller(pub Principal);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let principal = parts.extensions.get::<Principal>().cloned();
        principal.map(Self).ok_or_else(|| Failure(Error::new(ErrorCode::Unauthenticated, "this needs a key")))
    }
}

/// Path parameters.
pub(crate) struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(e) => Err(Failure(Error::invalid(path_problem(&e)))),
        }
    }
}

fn path_problem(e: &PathRejection) -> String {
    match e {
        PathRejection::FailedToDeserializePathParams(inner) => match inner.kind() {
            ErrorKind::DeserializeError { key, message, .. } => format!("{key} in the path: {message}"),
            ErrorKind::InvalidUtf8InPathParam { key } => format!("{key} in the path is not UTF-8"),
            ErrorKind::Message(message) => format!("the path: {message}"),
            other => format!("the path: {other}"),
        },
        other => other.to_string(),
    }
}

/// Query parameters; unknown ones are refused where the type says so.
pub(crate) struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        match axum::extract::Query::<T>::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(e) => Err(Failure(Error::invalid(format!("the query: {}", source_text(&e))))),
        }
    }
}

/// The innermost cause says it best.
fn source_text(e: &dyn std::error::Error) -> String {
    let mut last = e;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// A JSON body of at most `MAX` bytes.
pub(crate) struct JsonBody<T, const MAX: usize = JSON_MAX>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send + 'static, const MAX: usize> FromRequest<S> for JsonBody<T, MAX> {
    type Rejection = Failure;
    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        Ok(Self(read_json(request, MAX).await?))
    }
}

/// A request whose large body is read once the caller is known to be allowed.
pub(crate) struct LargeBody(Request);

impl<S: Send + Sync> FromRequest<S> for LargeBody {
    type Rejection = Failure;
    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        Ok(Self(request))
    }
}

impl LargeBody {
    /// JSON of at most `max` bytes.
    pub(crate) async fn json<T: DeserializeOwned + Send + 'static>(self, max: usize) -> Result<T, Failure> {
        read_json(self.0, max).await
    }
}

async fn read_json<T: DeserializeOwned + Send + 'static>(request: Request, max: usize) -> Result<T, Failure> {
    if !is_json(request.headers()) {
        let e = Error::new(ErrorCode::UnsupportedMediaType, "the body must be JSON");
        return Err(Failure(e.hint("send 'Content-Type: application/json'")));
    }
    let body = read_all(request, max).await?;
    if body.bytes.len() <= PARSED_HERE_MAX {
        return parse(&body.bytes);
    }
    let turn = match &body.bodies {
        Some(bodies) => Some(bodies.turn().await?),
        None => None,
    };
    let parsed = tokio::task::spawn_blocking(move || {
        let parsed = parse(&body.bytes);
        drop(turn);
        parsed
    });
    let parsed = parsed.await;
    parsed.unwrap_or_else(|e| Err(Failure(muonic_ports::Error::internal("a body could not be parsed", e).into())))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let Object(value) = serde_path_to_error::deserialize(&mut json).map_err(|e| {
        let place = e.path().to_string();
        let problem = e.into_inner();
        let text = match place.as_str() {
            "." => format!("the body: {problem}"),
            place => format!("{place} in the body: {problem}"),
        };
        Error::invalid(text)
    })?;
    json.end().map_err(|e| Error::invalid(format!("the body: {e}")))?;
    Ok(value)
}

fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let essence = media_type.split(';').next().unwrap_or("").trim();
    essence.eq_ignore_ascii_case("application/json") || essence.to_ascii_lowercase().ends_with("+json")
}

/// Raw bytes, at most `MAX`.
pub(crate) struct RawBody<const MAX: usize>(pub Bytes);

impl<S: Send + Sync, const MAX: usize> FromRequest<S> for RawBody<MAX> {
    type Rejection = Failure;
    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        Ok(Self(read_all(request, MAX).await?.bytes))
    }
}

/// A body in memory, with its room there.
struct Read {
    bytes: Bytes,
    bodies: Option<Bodies>,
    _room: Option<OwnedSemaphorePermit>,
}

async fn read_all(request: Request, max: usize) -> Result<Read, Failure> {
    let too_large = || Failure(Error::new(ErrorCode::TooLarge, format!("the body is larger than {max} bytes")));
    let announced =
        request.body().size_hint().exact().map_or(max, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    if announced > max {
        return Err(too_large());
    }
    let bodies = request.extensions().get::<Bodies>().cloned();
    let room = bodies.as_ref().map(|bodies| bodies.room(announced)).transpose()?;
    let mut pieces = request.into_body().into_data_stream();
    let until = tokio::time::Instant::now() + BODY_TOTAL;
    let mut bytes = BytesMut::new();
    loop {
        let within = until.min(tokio::time::Instant::now() + BODY_IDLE);
        match tokio::time::timeout_at(within, pieces.next()).await {
            Ok(None) => return Ok(Read { bytes: bytes.freeze(), bodies, _room: room }),
            Ok(Some(Ok(piece))) if bytes.len() + piece.len() > max => return Err(too_large()),
            Ok(Some(Ok(piece))) => bytes.extend_from_slice(&piece),
            Ok(Some(Err(e))) => return Err(Failure(Error::invalid(format!("the body ended early: {e}")))),
            Err(_) => return Err(Failure(Error::invalid("the body did not arrive in time"))),
        }
    }
}

/// A body of any length, as it arrives.
pub(crate) struct StreamBody(pub ByteStream);

impl<S: Send + Sync> FromRequest<S> for StreamBody {
    type Rejection = Failure;
    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let pieces = request.into_body().into_data_stream().map(|piece| piece.map_err(std::io::Error::other));
        let timed = futures_util::stream::unfold(Some(pieces), |pieces| async move {
            let mut pieces = pieces?;
            match tokio::time::timeout(BODY_IDLE, pieces.next()).await {
                Ok(Some(piece)) => Some((piece, Some(pieces))),
                Ok(None) => None,
                Err(_) => Some((Err(std::io::Error::other("nothing arrived for a minute")), None)),
            }
        });
        Ok(Self(Box::pin(timed)))
    }
}

#[cfg(test)]
mod tests {
    use muonic_types::task::NewMetricPoints;

    use super::parse;

    #[test]
    fn a_body_is_an_object_with_names() {
        let point = r#"{"name": "a", "step": 0, "value": 1, "at": "2026-01-01T00:00:00Z"}"#;
        assert!(parse::<NewMetricPoints>(format!(r#"{{"first": 0, "points": [{point}]}}"#).as_bytes()).is_ok());
        for (body, place) in [
            (format!("[0, [{point}]]"), "the body: "),
            (r#"{"first": 0, "points": [["a", 0, 1, "2026-01-01T00:00:00Z"]]}"#.to_owned(), "points[0] in the body: "),
        ] {
            let refused = parse::<NewMetricPoints>(body.as_bytes()).expect_err("a refusal").0;
            assert_eq!(refused.code.status(), 400);
            let wanted = format!("{place}invalid type: sequence, expected an object");
            assert!(refused.message.starts_with(&wanted), "{}", refused.message);
        }
    }
}
