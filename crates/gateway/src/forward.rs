//! One request from the door to a replica and back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use muonic_ports::routes::{Activity, Answer, Invocation, Invoker, Tally, Visit};
use muonic_types::endpoint::EndpointState;
use muonic_types::key::Principal;
use muonic_types::{ErrorCode, Name, ProjectId, ReplicaId};
use tokio::sync::OwnedSemaphorePermit;

use crate::body::{Download, Held, Upload, UploadEnd};
use crate::copied::Copied;
use crate::limits::Meter;
use crate::metrics::Observation;
use crate::pick::{Dice, Lease, is_failure, pick};
use crate::pool::{Connection, Protocol, Return};
use crate::refusal::Refusal;
use crate::shadow::Twin;
use crate::{Gateway, Shared, auth, headers, tunnel};

/// Replicas tried for one request where connections fail.
const TRIES_MAX: usize = 4;
/// Larger bodies are not kept to be sent again.
const AGAIN_BYTES_MAX: usize = 64 << 10;

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
            headers::strip_hop_by_hop(response.headers_mut());
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

fn not_found(name: &Name) -> Refusal {
    Refusal::new(ErrorCode::NotFound, format!("there is no endpoint '{name}'"))
}

/// An answer's head, with what its body will need.
struct Answered {
    response: http::Response<Incoming>,
    lease: Lease,
    connection: Return,
    visit: Visit,
    room: OwnedSemaphorePermit,
    twin: Option<Twin>,
}

/// A request whose caller and endpoint are known.
struct Call<'a> {
    shared: &'a Arc<Shared>,
    name: &'a Name,
    project: &'a ProjectId,
    dice: Dice,
    protocol: Protocol,
}

impl Call<'_> {
    async fn admitted(
        &self,
        head: Request<()>,
        body: Body,
        mut twin: Option<Twin>,
        room: Arc<tokio::sync::Semaphore>,
        activity: Arc<Activity>,
        observation: &mut Observation,
    ) -> Result<Answered, Refusal> {
        let (settings, name) = (&self.shared.settings, self.name);
        let too_large =
            || Refusal::new(ErrorCode::TooLarge, format!("the body is larger than {} bytes", settings.body_bytes_max));
        let announced = head.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|n| n > settings.body_bytes_max) {
            return Err(too_large());
        }
        let room = room.try_acquire_owned().map_err(|_| {
            Refusal::new(
                ErrorCode::TooManyRequests,
                format!(
                    "endpoint '{name}' has {} requests at once already; try again later",
                    settings.endpoint_requests_max
                ),
            )
        })?;
        let visit = activity.enter();
        let mut again = Again::of(&head);
        let copies = twin.iter().map(Twin::body).chain(again.iter().map(|again| again.body.clone())).collect();
        let (upload, end) = Upload::new(body, settings.body_bytes_max, copies);
        let mut given = Given::default();
        let sent = self.send(head.map(|()| upload), &end, &mut again, observation, &mut given);
        let answer = tokio::time::timeout(settings.request_time, sent).await;
        match answer {
            Ok(Ok((response, lease, connection))) => {
                if let Some(s) = headers::queued_s(response.headers()) {
                    activity.queued(s);
                }
                if let Some(twin) = &mut twin {
                    twin.answered(response.status(), response.headers());
                }
                Ok(Answered { response, lease, connection, visit, room, twin })
            }
            Ok(Err(_)) if end.was_too_large() => Err(too_large()),
            Ok(Err(refusal)) => Err(refusal),
            Err(_) => {
                self.judge(given, true);
                Err(Refusal::new(
                    ErrorCode::DeadlineExceeded,
                    format!("endpoint '{name}' did not answer within {} s", settings.request_time.as_secs_f64()),
                ))
            }
        }
    }

    /// Sends the request to one replica; to another where nothing of it was sent,
    /// or, once, where the first broke off before it answered and that is safe.
    async fn send(
        &self,
        mut request: Request<Upload>,
        end: &UploadEnd,
        again: &mut Option<Again>,
        observation: &mut Observation,
        given: &mut Given,
    ) -> Result<(http::Response<Incoming>, Lease, Return), Refusal> {
        let (shared, name) = (self.shared, self.name);
        let mut tried: Vec<ReplicaId> = Vec::new();
        loop {
            let lease = self.lease(&tried).await?;
            observation.revision = lease.revision;
            // A connection that was kept may have been closed at the other end;
            // then the request comes back whole and a new one is made.
            let (mut connection, kept) = match shared.pools.take(&lease.address, self.protocol) {
                Some(connection) => (connection, true),
                None => match connect(shared, &lease, self.protocol).await {
                    Some(connection) => (connection, false),
                    None => {
                        tried.push(lease.replica.clone());
                        continue;
                    }
                },
            };
            *given = Given::to(&lease);
            match connection.try_send_request(request).await {
                Ok(response) => {
                    shared.health.connected(&lease.replica);
                    self.judge(
                        std::mem::take(given),
                        is_failure(response.status()) || headers::failed_grpc(response.headers()),
                    );
                    let connection = Return {
                        shared: Arc::clone(shared),
                        address: lease.address.clone(),
                        connection: Some(connection),
                    };
                    return Ok((response, lease, connection));
                }
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => {
                        *given = Given::default();
                        request = unsent;
                        if !kept {
                            tried.push(lease.replica.clone());
                        }
                    }
                    None if end.broke_off() || end.was_too_large() => {
                        return Err(Refusal::new(ErrorCode::InvalidRequest, "the body broke off"));
                    }
                    None => {
                        self.judge(std::mem::take(given), true);
                        if let Some(whole) = again.take().and_then(Again::request) {
                            tracing::info!("replica {} broke off before it answered; another is asked", lease.replica);
                            tried.push(lease.replica.clone());
                            request = whole;
                            continue;
                        }
                        return Err(Refusal::new(
                            ErrorCode::Unavailable,
                            format!(
                                "replica {} of endpoint '{name}' closed the connection before it answered ({}); it may have begun to work on the request",
                                lease.replica,
                                failed.into_error()
                            ),
                        ));
                    }
                },
            }
        }
    }

    /// Counts how a replica did with a request that it was given.
    fn judge(&self, given: Given, failed: bool) {
        let Some((replica, tally, at)) = given.0 else { return };
        tally.count(at.elapsed(), failed);
        if failed {
            let table = Arc::clone(&self.shared.routes.borrow());
            self.shared.health.failed(&replica, &table, Instant::now());
        } else {
            self.shared.health.answered(&replica);
        }
    }
}

/// A request that may be sent once more: one for the answer of a model, which
/// changes nothing there. A program of somebody's own is not asked twice.
struct Again {
    head: Request<()>,
    body: Copied,
}

impl Again {
    fn of(head: &Request<()>) -> Option<Self> {
        let path = head.uri().path();
        let is_inference = path == "/invocations"
            || path.starts_with("/v2/") && path.ends_with("/infer")
            || path == "/v1/embeddings"
            || path == "/inference.GRPCInferenceService/ModelInfer";
        (is_inference || head.method().is_safe())
            .then(|| Self { head: head.clone(), body: Copied::up_to(AGAIN_BYTES_MAX) })
    }

    /// Whole, if all of it has come.
    fn request(self) -> Option<Request<Upload>> {
        let body = self.body.whole()?;
        Some(self.head.map(|()| Upload::new(Body::from(body), AGAIN_BYTES_MAX as u64, Vec::new()).0))
    }
}

/// The replica that has a request now, and since when.
#[derive(Default)]
struct Given(Option<(ReplicaId, Arc<Tally>, Instant)>);

impl Given {
    fn to(lease: &Lease) -> Self {
        Self(Some((lease.replica.clone(), Arc::clone(&lease.tally), Instant::now())))
    }
}

async fn connect(shared: &Shared, lease: &Lease, protocol: Protocol) -> Option<Connection> {
    match shared.pools.connect(&lease.address, protocol).await {
        Ok(connection) => {
            shared.health.connected(&lease.replica);
            Some(connection)
        }
        Err(e) => {
            tracing::warn!("replica {} takes no connection: {e}", lease.replica);
            let table = Arc::clone(&shared.routes.borrow());
            shared.health.refused(&lease.replica, &table, Instant::now());
            shared.pools.prune(&table);
            None
        }
    }
}

/// What the table says to a request.
enum Verdict {
    Leased(Lease),
    Refused(Refusal),
    /// One is on its way: the first, or one in place of another that died.
    Wait(Duration, Arc<Activity>),
}

impl Call<'_> {
    /// A replica for the request. Waits where one is on its way.
    async fn lease(&self, tried: &[ReplicaId]) -> Result<Lease, Refusal> {
        let Self { shared, name, project, dice, .. } = *self;
        let mut routes = shared.routes.clone();
        let (mut held, mut waiting) = (None, None);
        let began = tokio::time::Instant::now();
        loop {
            let verdict = {
                // The lease is counted before this borrow ends.
                let table = routes.borrow_and_update();
                match table.routes.get(name).filter(|r| r.project == *project) {
                    None => Verdict::Refused(not_found(name)),
                    Some(route) if tried.len() < TRIES_MAX => {
                        match pick(route, dice, tried, &shared.health, Instant::now()) {
                            Some(lease) => Verdict::Leased(lease),
                            None => match route.state {
                                EndpointState::Deploying
                                | EndpointState::Releasing
                                | EndpointState::Sleeping
                                | EndpointState::Waking => {
                                    Verdict::Wait(shared.settings.hold_time, route.activity.clone())
                                }
                                EndpointState::Deleting => Verdict::Refused(no_replica(name, "it is being deleted")),
                                EndpointState::Failed => {
                                    Verdict::Refused(no_replica(name, "its first revision could not be started"))
                                }
                                EndpointState::Ready | EndpointState::Unavailable => {
                                    let patience = shared.settings.replace_time.min(shared.settings.hold_time);
                                    Verdict::Wait(patience, route.activity.clone())
                                }
                            },
                        }
                    }
                    Some(_) => Verdict::Refused(none_connects(name)),
                }
            };
            let (patience, activity) = match verdict {
                Verdict::Leased(lease) => return Ok(lease),
                Verdict::Refused(refusal) => return Err(refusal),
                Verdict::Wait(patience, activity) => (patience, activity),
            };
            if held.is_none() {
                held = Arc::clone(&shared.held).try_acquire_owned().ok();
                if held.is_none() {
                    return Err(Refusal::new(
                        ErrorCode::TooManyRequests,
                        format!("too many requests wait for a replica of endpoint '{name}' and others"),
                    ));
                }
            }
            waiting.get_or_insert_with(|| activity.wait());
            match tokio::time::timeout_at(began + patience, routes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Refusal::new(ErrorCode::Unavailable, "the server is stopping")),
                Err(_) if !tried.is_empty() => return Err(none_connects(name)),
                Err(_) => {
                    return Err(no_replica(name, &format!("none became ready within {} s", patience.as_secs_f64())));
                }
            }
        }
    }
}

fn no_replica(name: &Name, why: &str) -> Refusal {
    Refusal::new(ErrorCode::NoReplica, format!("endpoint '{name}' has no replica: {why}"))
}

fn none_connects(name: &Name) -> Refusal {
    no_replica(name, "none of those it has takes connections")
}
