//! One request of a known caller: its place, its replica, its answer's head.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use http::{Request, header};
use hyper::body::Incoming;
use muonic_ports::routes::{Activity, Tally, Visit};
use muonic_types::endpoint::EndpointState;
use muonic_types::{ErrorCode, Name, ProjectId, ReplicaId};
use tokio::sync::OwnedSemaphorePermit;

use crate::body::{Upload, UploadEnd};
use crate::copied::Copied;
use crate::metrics::Observation;
use crate::pick::{Dice, Lease, is_failure, pick};
use crate::pool::{Connection, Protocol, Return};
use crate::refusal::Refusal;
use crate::shadow::Twin;
use crate::{Shared, headers};

/// Replicas tried for one request where connections fail.
const TRIES_MAX: usize = 4;
/// Larger bodies are not kept to be sent again.
const AGAIN_BYTES_MAX: usize = 64 << 10;

pub fn not_found(name: &Name) -> Refusal {
    Refusal::new(ErrorCode::NotFound, format!("there is no endpoint '{name}'"))
}

/// An answer's head, with what its body will need.
pub struct Answered {
    pub response: http::Response<Incoming>,
    pub lease: Lease,
    pub connection: Return,
    pub visit: Visit,
    pub room: OwnedSemaphorePermit,
    pub twin: Option<Twin>,
}

/// A request whose caller and endpoint are known.
pub struct Call<'a> {
    pub shared: &'a Arc<Shared>,
    pub name: &'a Name,
    pub project: &'a ProjectId,
    pub dice: Dice,
    pub protocol: Protocol,
}

impl Call<'_> {
    pub async fn admitted(
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
