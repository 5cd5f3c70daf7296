//! The Open Inference Protocol over gRPC: the service
//! `inference.GRPCInferenceService`, with Triton's extensions of it.
//!
//! Calls are plain HTTP/2 requests to a path for each method. Messages are
//! taken apart here and not by a framework, which would hold each whole before
//! anybody could refuse it: this way they take their room as they come, like
//! all bodies.
//!
//! Sources: "Open Inference Protocol: gRPC" (KServe), "gRPC over HTTP2" (gRPC).

mod about;
mod frame;
mod infer;
mod messages;
mod status;
mod stream;
mod weight;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::post;
use http::{HeaderMap, Request, Version};
use muonic_types::ErrorCode;

use self::frame::Source;
use super::{InFlight, clip, content_type};
use crate::failure::Failure;
use crate::replica::Replica;

/// For the first bytes of a message that is due.
const HEAD_TIME: Duration = Duration::from_secs(20);

/// Methods that are not there, and why.
const MISSING: [(&str, &str); 10] = [
    ("RepositoryModelLoad", super::protocol::LOADING),
    ("RepositoryModelUnload", super::protocol::LOADING),
    ("SystemSharedMemoryStatus", super::protocol::SHARED_MEMORY),
    ("SystemSharedMemoryRegister", super::protocol::SHARED_MEMORY),
    ("SystemSharedMemoryUnregister", super::protocol::SHARED_MEMORY),
    ("CudaSharedMemoryStatus", super::protocol::SHARED_MEMORY),
    ("CudaSharedMemoryRegister", super::protocol::SHARED_MEMORY),
    ("CudaSharedMemoryUnregister", super::protocol::SHARED_MEMORY),
    ("TraceSetting", "the trace extension"),
    ("LogSettings", "the logging extension"),
];

pub(super) fn router() -> Router<Arc<Replica>> {
    Router::new().route("/inference.GRPCInferenceService/{method}", post(call))
}

async fn call(State(replica): State<Arc<Replica>>, Path(method): Path<String>, request: Request<Body>) -> Response {
    let began = Instant::now();
    let (head, body) = request.into_parts();
    if head.version != Version::HTTP_2 || !content_type(&head.headers).starts_with("application/grpc") {
        return axum::response::IntoResponse::into_response(Failure::new(
            ErrorCode::UnsupportedMediaType,
            "this path takes gRPC calls: HTTP/2 with the content type application/grpc",
        ));
    }
    let asked = match Terms::of(&head.headers) {
        Ok(terms) => terms,
        Err(refused) => return status::failed(&refused),
    };
    let body = Source::new(body);
    match method.as_str() {
        "ModelInfer" => {
            let counted = InFlight::new(&replica);
            let answer = infer::unary(&replica, body, asked.timeout).await;
            let code = answer.as_ref().map_or_else(|refused| refused.code.status(), |_| 200);
            replica.metrics.answered(code, began.elapsed());
            drop(counted);
            answer.unwrap_or_else(|refused| status::failed(&refused))
        }
        "ModelStreamInfer" => stream::answer(replica, body),
        method => about::answer(&replica, method, body).await.unwrap_or_else(|refused| status::failed(&refused)),
    }
}

/// What the head of a call says about it.
struct Terms {
    timeout: Option<Duration>,
}

impl Terms {
    fn of(headers: &HeaderMap) -> Result<Self, Failure> {
        if headers.get("grpc-encoding").is_some_and(|v| v.as_bytes() != b"identity") {
            return Err(Failure::new(ErrorCode::NotImplemented, "not implemented: compressed messages"));
        }
        let timeout = headers.get("grpc-timeout").map(|v| v.to_str().ok().and_then(timeout));
        match timeout {
            Some(None) => Err(Failure::bad("the header grpc-timeout is no time, such as 500m")),
            timeout => Ok(Self { timeout: timeout.flatten() }),
        }
    }
}

/// Up to eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// The one message of a call.
async fn head(body: &mut Source) -> Result<usize, Failure> {
    let length = tokio::time::timeout(HEAD_TIME, body.head())
        .await
        .map_err(|_| Failure::bad(format!("no message came for {} s", HEAD_TIME.as_secs())))??;
    length.ok_or_else(|| Failure::bad("the call has no message"))
}

fn missing(method: &str) -> Failure {
    let why = MISSING.iter().find(|(name, _)| *name == method);
    Failure::new(
        ErrorCode::NotImplemented,
        match why {
            Some((name, what)) => format!("not implemented: {name}: {what}"),
            None => format!("the service has no method '{}'", clip(method)),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read() {
        assert_eq!(timeout("500m"), Some(Duration::from_millis(500)));
        assert_eq!(timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in ["", "m", "5", "5x", "-5m", "123456789m", "5é"] {
            assert_eq!(timeout(bad), None, "{bad}");
        }
    }
}
