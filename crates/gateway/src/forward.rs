//! One request from the door to a replica and back.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::upgrade::OnUpgrade;
use muonic_ports::routes::{Answer, Invocation, Invoker};
use muonic_types::key::Principal;
use muonic_types::{ErrorCode, Name};

use crate::body::{Download, Held};
use crate::call::{Answered, Call, not_found};
use crate::limits::Meter;
use crate::pick::Dice;
use crate::pool::Protocol;
use crate::refusal::Refusal;
use crate::shadow::Twin;
use crate::{Gateway, Shared, auth, headers, tunnel};

/// A call of gRPC, whose path is the same for every endpoint.
pub async fn grpc(State(gateway): State<Gateway>, mut request: Request<Body>) -> Response {
    let named = request.headers().get(headers::ENDPOINT).and_then(|name| name.to_str().ok()?.parse::<Name>().ok());
    let uri = named.and_then(|name| format!("/endpoints/{name}{}", request.uri().path()).parse().ok());
    match uri {
        Some(uri) => {
            *request.uri_mut() = uri;
            handle(State(gateway), request).await
        }
        None => Refusal::new(
            ErrorCode::InvalidRequest,
            "which endpoint is meant? Say it in the metadata as 'muonic-endpoint', or ask the host NAME.localhost",
        )
        .respond_grpc(),
    }
}

pub async fn handle(State(gateway): State<Gateway>, request: Request<Body>) -> Response {
    let is_grpc = headers::is_grpc(request.headers());
    let id = headers::request_id(request.headers());
    let path = request.uri().path().strip_prefix("/endpoints/").and_then(|p| p.find('/').map(|at| p[at..].to_owned()));
    let path = path.unwrap_or_default();
    let mut response = match serve(&gateway.shared, request, &id).await {
        Ok(response) => response,
        Err(refusal) if is_grpc => refusal.respond_grpc(),
        Err(refusal) => refusal.respond(&path),
    };
    response.headers_mut().insert(headers::REQUEST_ID, id);
    response
}

async fn serve(shared: &Arc<Shared>, request: Request<Body>, id: &HeaderValue) -> Result<Response, Refusal> {
    let caller = auth::caller(shared.auth.as_ref(), request.headers())?;
    serve_for(shared, &caller, request, id).await
}

/// A request of somebody who is known.
async fn serve_for(
    shared: &Arc<Shared>,
    caller: &Principal,
    request: Request<Body>,
    id: &HeaderValue,
) -> Result<Response, Refusal> {
    let (name, target) = split(request.uri())?;
    known(shared).await?;
    let (mut parts, body) = request.into_parts();
    let upgrade = if tunnel::is_asked(&parts.headers) { parts.extensions.remove::<OnUpgrade>() } else { None };
    let mut head = Request::new(());
    *head.method_mut() = parts.method;
    *head.uri_mut() = target;
    *head.headers_mut() = headers::to_replica(&parts.headers, id);
    if upgrade.is_some() {
        tunnel::mark(head.headers_mut());
    }
    let protocol = if headers::is_grpc(head.headers()) { Protocol::Http2 } else { Protocol::Http1 };
    let (room, activity, dice, twin) = {
        let table = shared.routes.borrow();
        // Of another project's endpoint not even its being there is told.
        match table.routes.get(&name) {
            Some(route) if route.project == caller.project => (
                shared.room(&name, &table),
                Arc::clone(&route.activity),
                Dice::cast(route, head.headers()),
                // A call of gRPC tells how it went after its answer, which is not compared.
                Twin::of(shared, route, &head).filter(|_| protocol == Protocol::Http1),
            ),
            _ => return Err(not_found(&name)),
        }
    };
    let mut observation = shared.metrics.begin(&name);
    if let Err(refusal) = shared.limits.take(caller, Instant::now()) {
        observation.code = refusal.code.status();
        return Err(refusal);
    }
    let call = Call { shared, name: &name, project: &caller.project, dice, protocol };
    let answer = call.admitted(head, body, twin, room, activity, &mut observation).await;
    match answer {
        Ok(Answered { mut response, lease, connection, visit, room, twin }) => {
            observation.code = response.status().as_u16();
            muonic_listen::strip_hop_by_hop(response.headers_mut());
            for (header, value) in
                [(headers::REVISION, lease.revision.to_string()), (headers::REPLICA, lease.replica.to_string())]
            {
                if let Ok(value) = HeaderValue::from_str(&value) {
                    response.headers_mut().insert(header, value);
                }
            }
            let held = Held { lease, visit, room, observation };
            if let (StatusCode::SWITCHING_PROTOCOLS, Some(client)) = (response.status(), upgrade) {
                let replica = hyper::upgrade::on(&mut response);
                tokio::spawn(tunnel::run(client, replica, shared.settings.tunnel_idle, held));
                tunnel::mark(response.headers_mut());
                return Ok(response.map(|_| Body::empty()));
            }
            let (mut parts, body) = response.into_parts();
            parts.version = Version::HTTP_11;
            let meter = Meter::of(&shared.limits, caller);
            let body = Download::new(body, connection, shared.settings.request_time, held, twin, meter);
            Ok(Response::from_parts(parts, Body::new(body)))
        }
        Err(refusal) => {
            observation.code = refusal.code.status();
            Err(refusal)
        }
    }
}

/// Waits until it is known which endpoints there are: a moment after a start.
async fn known(shared: &Shared) -> Result<(), Refusal> {
    if shared.routes.borrow().known {
        return Ok(());
    }
    let mut routes = shared.routes.clone();
    let known = tokio::time::timeout(shared.settings.replace_time, routes.wait_for(|table| table.known)).await;
    match known {
        Ok(Ok(_)) => Ok(()),
        _ => Err(Refusal::new(ErrorCode::Unavailable, "the server is starting; try again in a moment")),
    }
}

#[async_trait]
impl Invoker for Gateway {
    async fn invoke(
        &self,
        caller: &Principal,
        endpoint: &Name,
        invocation: Invocation,
        answer_bytes_max: usize,
    ) -> Result<Answer, (ErrorCode, String)> {
        let Invocation { path, content_type, accept, body } = invocation;
        let mut request = Request::post(format!("/endpoints/{endpoint}{path}"))
            .header(header::CONTENT_TYPE, content_type)
            .header(header::CONTENT_LENGTH, body.len());
        if let Some(accept) = accept {
            request = request.header(header::ACCEPT, accept);
        }
        let request = request.body(Body::from(body)).map_err(|e| (ErrorCode::InvalidRequest, e.to_string()))?;
        let id = headers::request_id(request.headers());
        let answer = serve_for(&self.shared, caller, request, &id).await.map_err(|r| (r.code, r.message))?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, answer_bytes_max).collect().await.map_err(|e| {
            let large = e.is::<LengthLimitError>();
            let code = if large { ErrorCode::TooLarge } else { ErrorCode::Unavailable };
            let why = format!("the answer has more than {answer_bytes_max} bytes");
            (code, if large { why } else { format!("the answer broke off: {e}") })
        })?;
        let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(str::to_owned);
        Ok(Answer { status: parts.status.as_u16(), content_type, body: body.to_bytes() })
    }
}

/// The endpoint's name, and the path and query below it as they came.
pub(crate) fn split(uri: &Uri) -> Result<(Name, Uri), Refusal> {
    let rest = uri.path().strip_prefix("/endpoints/").unwrap_or_default();
    let (name, _) = rest.split_once('/').unwrap_or((rest, ""));
    let nothing = || {
        Refusal::new(ErrorCode::NotFound, format!("there is no endpoint '{}'", &name[..name.floor_char_boundary(100)]))
    };
    let parsed: Name = name.parse().map_err(|_| nothing())?;
    let whole = uri.path_and_query().map_or("", PathAndQuery::as_str);
    let target = whole.get("/endpoints/".len() + name.len()..).and_then(|t| t.parse().ok()).ok_or_else(nothing)?;
    Ok((parsed, target))
}
