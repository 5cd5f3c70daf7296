//! Who is calling? Asked before anything else of a request is read.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use muonic_ports::routes::Authenticator;
use muonic_services::Error;
use muonic_types::ErrorCode;

use crate::render::Failure;

/// Puts the caller's [`muonic_types::key::Principal`] into the request, or
/// refuses it.
pub(crate) async fn authenticate(
    State(auth): State<Arc<dyn Authenticator>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let token = bearer(request.headers())?;
    let principal = auth.authenticate(token).map_err(|(code, message)| {
        Error::new(code, message).hint("use a valid one: each start of 'muonic up' writes one into DATA/local.json")
    })?;
    request.extensions_mut().insert(principal);
    Ok(next.run(request).await)
}

fn bearer(headers: &HeaderMap) -> Result<&str, Error> {
    let missing = || {
        Error::new(ErrorCode::Unauthenticated, "this needs a key")
            .hint("send 'Authorization: Bearer <key id>.<secret>'")
    };
    let value = headers.get(header::AUTHORIZATION).ok_or_else(missing)?;
    let text = value.to_str().map_err(|_| missing())?;
    let (scheme, token) = text.split_once(' ').ok_or_else(missing)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(missing()) }
}
