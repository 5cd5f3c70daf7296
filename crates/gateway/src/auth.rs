//! Who may call an endpoint. Asked before anything of the body is read.

use http::{HeaderMap, header};
use muonic_ports::routes::Authenticator;
use muonic_types::ErrorCode;
use muonic_types::key::{Principal, Role};

use crate::refusal::Refusal;

pub fn caller(auth: &dyn Authenticator, headers: &HeaderMap) -> Result<Principal, Refusal> {
    let refuse = |text: &str| Refusal::new(ErrorCode::Unauthenticated, text);
    let value = headers
        .get(header::AUTHORIZATION)
        .ok_or_else(|| refuse("no key was given; send it as 'Authorization: Bearer <key id>.<secret>'"))?;
    let token = value
        .to_str()
        .ok()
        .and_then(|v| v.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(|| refuse("the Authorization header is not 'Bearer <key id>.<secret>'"))?;
    let principal = auth.authenticate(token).map_err(|(code, text)| Refusal::new(code, text))?;
    match principal.role {
        Role::Admin | Role::Member | Role::Viewer | Role::Invoker | Role::Task => Ok(principal),
        Role::Replica => Err(Refusal::new(ErrorCode::Forbidden, "a replica's key may not call endpoints")),
    }
}
