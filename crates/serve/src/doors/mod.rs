//! The ways in: each protocol reads requests and writes answers, and nothing
//! more.

mod grpc;
mod openai;
mod protocol;
pub(crate) mod sagemaker;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request, header};
use muonic_types::ErrorCode;

use crate::failure::Failure;
use crate::replica::Replica;

pub fn router(replica: Arc<Replica>) -> Router {
    protocol::router()
        .merge(openai::router())
        .merge(sagemaker::router())
        .merge(grpc::router())
        .fallback(async |request: Request<Body>| {
            Failure::new(
                ErrorCode::NotFound,
                format!(
                    "there is nothing at {}; the Open Inference Protocol begins at /v2, SageMaker's contract is /ping and /invocations, OpenAI's API at /v1",
                    clip(request.uri().path())
                ),
            )
        })
        .method_not_allowed_fallback(async |request: Request<Body>| {
            Failure::new(
                ErrorCode::MethodNotAllowed,
                format!("{} does not take {}", clip(request.uri().path()), request.method()),
            )
        })
        .with_state(replica)
}

/// That a request means the model that is here.
fn check(replica: &Replica, model: &str, version: Option<&str>) -> Result<(), Failure> {
    if model != replica.name {
        return Err(Failure::new(
            ErrorCode::NotFound,
            format!("there is no model '{}' here; there is '{}'", clip(model), replica.name),
        ));
    }
    match version {
        Some(version) if version != replica.version => Err(Failure::new(
            ErrorCode::NotFound,
            format!("there is no version '{}' of '{}' here; there is {}", clip(version), replica.name, replica.version),
        )),
        _ => Ok(()),
    }
}

struct InFlight<'r>(&'r Replica);

impl<'r> InFlight<'r> {
    fn new(replica: &'r Replica) -> Self {
        replica.metrics.in_flight.inc();
        Self(replica)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.metrics.in_flight.dec();
    }
}

fn clip(text: &str) -> &str {
    &text[..text.floor_char_boundary(200)]
}

/// In lower case; empty where there is none.
fn content_type(headers: &HeaderMap) -> String {
    headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default().trim().to_ascii_lowercase()
}
