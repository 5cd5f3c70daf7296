//! Copies of requests for a revision in the shadow. A copy is sent when the
//! answer of the live one has gone out, so that nobody waits for it; the two
//! answers are compared and the second is dropped.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use muonic_ports::routes::{Route, Share};
use muonic_types::Name;
use muonic_types::endpoint::Comparison;

use crate::body::Upload;
use crate::copied::Copied;
use crate::pick::{Dice, Lease, is_failure, pick_of};
use crate::pool::Protocol;
use crate::{Shared, compare};

/// Larger bodies are not copied, larger answers not compared.
const COPIED_MAX: usize = 1 << 20;

/// The second life of a request.
pub struct Twin {
    shared: Arc<Shared>,
    endpoint: Name,
    compared: Arc<Mutex<Comparison>>,
    head: Head,
    body: Copied,
    pub answer: Copied,
    live: Option<(StatusCode, HeaderMap)>,
}

struct Head {
    method: Method,
    target: Uri,
    headers: HeaderMap,
}

impl Twin {
    /// Where the route has a shadow and the request is one that is copied.
    pub fn of(shared: &Arc<Shared>, route: &Route, request: &Request<()>) -> Option<Self> {
        let Some((_, Share::Copies { percent, compared })) = &route.target else { return None };
        if Dice::cast(route, request.headers()).0 >= *percent {
            return None;
        }
        Some(Self {
            shared: Arc::clone(shared),
            endpoint: route.endpoint.clone(),
            compared: Arc::clone(compared),
            head: Head {
                method: request.method().clone(),
                target: request.uri().clone(),
                headers: request.headers().clone(),
            },
            body: Copied::up_to(COPIED_MAX),
            answer: Copied::up_to(COPIED_MAX),
            live: None,
        })
    }

    /// What the live request's body is to be given to as it passes.
    pub fn body(&self) -> Copied {
        self.body.clone()
    }

    /// The live request has an answer.
    pub fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.live = Some((status, headers.clone()));
    }

    fn note(&self, change: impl FnOnce(&mut Comparison)) {
        change(&mut self.compared.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Sends the copy, where the shadow has room.
    pub fn send(self) {
        let (Some(body), Some((status, headers))) = (self.body.whole(), self.live.clone()) else {
            return self.note(|compared| compared.not_compared += 1);
        };
        let Ok(room) = Arc::clone(&self.shared.shadows).try_acquire_owned() else {
            return self.note(|compared| compared.left_out += 1);
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let (limit, live) = (self.shared.settings.request_time, self.answer.whole());
            let answer = tokio::time::timeout(limit, self.ask(body)).await.ok().flatten();
            let Some((lease, took, answer)) = answer else {
                return self.note(|compared| compared.left_out += 1);
            };
            lease.tally.count(took, answer.as_ref().is_none_or(|(status, ..)| is_failure(*status)));
            match (live, answer) {
                (Some(live), Some((its_status, its_headers, Some(its_body)))) => {
                    let one = compare::Answer { status, headers: &headers, body: &live };
                    let two = compare::Answer { status: its_status, headers: &its_headers, body: &its_body };
                    let (likeness, difference) = compare::compare(&one, &two);
                    self.note(|compared| {
                        compared.answered += 1;
                        match likeness {
                            compare::Likeness::Same => compared.same += 1,
                            compare::Likeness::Close => compared.close += 1,
                            compare::Likeness::Different => compared.different += 1,
                        }
                        compared.difference_max = compared.difference_max.max(difference);
                    });
                }
                _ => self.note(|compared| compared.not_compared += 1),
            }
            drop(room);
        });
    }

    /// The shadow's answer, without its body where that is too large; the
    /// answer is none where it broke off. None where there is no shadow any more.
    #[allow(clippy::type_complexity)]
    async fn ask(
        &self,
        body: Bytes,
    ) -> Option<(Lease, std::time::Duration, Option<(StatusCode, HeaderMap, Option<Bytes>)>)> {
        let lease = {
            let table = self.shared.routes.borrow();
            let route = table.routes.get(&self.endpoint)?;
            let Some((arm, Share::Copies { .. })) = &route.target else { return None };
            pick_of(arm, &[], &self.shared.health, Instant::now())?
        };
        let began = Instant::now();
        let mut request = Request::new(Upload::new(Body::from(body), COPIED_MAX as u64, Vec::new()).0);
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = self.head.target.clone();
        *request.headers_mut() = self.head.headers.clone();
        // The copy's body has a length, whatever the live one's had.
        request.headers_mut().remove(header::TRANSFER_ENCODING);
        let answer = async {
            let mut connection = match self.shared.pools.take(&lease.address, Protocol::Http1) {
                Some(connection) => connection,
                None => self.shared.pools.connect(&lease.address, Protocol::Http1).await.ok()?,
            };
            let answer = connection.try_send_request(request).await.ok()?;
            let took = began.elapsed();
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, COPIED_MAX).collect().await.ok().map(|body| body.to_bytes());
            if body.is_some() {
                self.shared.give_back(&lease.address, connection);
            }
            Some((took, (parts.status, parts.headers, body)))
        };
        match answer.await {
            Some((took, answer)) => Some((lease, took, Some(answer))),
            None => Some((lease, began.elapsed(), None)),
        }
    }
}
