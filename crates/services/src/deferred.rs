//! Requests that are answered later: what people ask, and the runner, who asks
//! endpoints, writes the answers into buckets and tells it by callback.
//!
//! A request is tried until the endpoint answers it or refuses it, at least
//! once: who dies between the answer and its note asks again. What asks has no
//! more rights than the key that it came with.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use muonic_ports::metastore::{AsyncRecord, Tried};
use muonic_ports::object_store::{NewObject, Precondition, no_check};
use muonic_ports::routes::{Answer, Callbacks, Invocation, Invoker};
use muonic_ports::{Clock, Metastore};
use muonic_types::endpoint::{AsyncRequest, AsyncRequestList, AsyncState, NewAsyncRequest};
use muonic_types::key::Principal;
use muonic_types::{ErrorCode, Name, Timestamp};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::auth::{self, authorise};
use crate::buckets::{Action, Call, Caller, Conditions, Draft, NoFacts};
use crate::{Buckets, Error, Events, Keys, Result};

/// Of one project, waiting.
const QUEUED_MAX: u64 = 10_000;
const PAGE_MAX: u32 = 100;
/// At once, of all endpoints and of one.
const RUNNING_MAX: usize = 32;
const EACH_MAX: u32 = 4;
const INPUT_BYTES_MAX: u64 = 64 << 20;
const ANSWER_BYTES_MAX: usize = 64 << 20;
const REASON_BYTES_MAX: usize = 1024;
/// About six hours, with the pauses of [`pause`].
const TRIES_MAX: u32 = 80;
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// How long a callback is tried.
const CALLBACK_TIME: Duration = Duration::from_secs(3600);
/// How long what has ended is shown.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
const FORGET_EVERY: Duration = Duration::from_secs(3600);
/// However long the next is not due.
const LOOK_EVERY: Duration = Duration::from_secs(60);

pub struct Deferred {
    meta: Arc<dyn Metastore>,
    clock: Arc<dyn Clock>,
    events: Arc<Events>,
    keys: Arc<Keys>,
    buckets: Arc<Buckets>,
}

impl Deferred {
    pub fn new(
        meta: Arc<dyn Metastore>,
        clock: Arc<dyn Clock>,
        events: Arc<Events>,
        keys: Arc<Keys>,
        buckets: Arc<Buckets>,
    ) -> Self {
        Self { meta, clock, events, keys, buckets }
    }

    pub async fn submit(&self, caller: &Principal, endpoint: &Name, new: NewAsyncRequest) -> Result<AsyncRequest> {
        authorise(caller, auth::Action::Invoke)?;
        new.check().map_err(|why| Error::invalid(why.0))?;
        self.meta.endpoint_get(&caller.project, endpoint).await?;
        let known = Caller::Key(caller.clone());
        self.buckets
            .check(call(&known), Action::PUT, &new.output.bucket)
            .await
            .map_err(|e| e.about(&new.output.bucket))?;
        let added =
            self.meta.async_add(&caller.project, &caller.key, endpoint, &new, QUEUED_MAX, self.clock.now()).await;
        let added = added.map_err(|e| match e {
            muonic_ports::Error::Conflict(why) => Error::new(ErrorCode::TooManyRequests, why),
            other => other.into(),
        })?;
        self.events.wake_deferred();
        Ok(added)
    }

    pub async fn get(&self, caller: &Principal, endpoint: &Name, id: u64) -> Result<AsyncRequest> {
        authorise(caller, auth::Action::Invoke)?;
        Ok(self.meta.async_get(&caller.project, endpoint, id).await?)
    }

    pub async fn list(&self, caller: &Principal, endpoint: &Name, before: Option<u64>) -> Result<AsyncRequestList> {
        authorise(caller, auth::Action::Read)?;
        let requests = self.meta.async_list(&caller.project, endpoint, before, PAGE_MAX).await?;
        let next = requests.last().filter(|_| requests.len() == PAGE_MAX as usize).map(|last| last.id);
        Ok(AsyncRequestList { requests, next })
    }

    /// Asks the endpoint and writes its answer.
    async fn ask(&self, record: &AsyncRecord, invoker: &dyn Invoker) -> Tried {
        let again = |status, reason: String| {
            let tries = record.shown.tries + 1;
            if tries >= TRIES_MAX {
                return self.ended(record, AsyncState::Failed, status, Some(reason));
            }
            let due_at = self.after(pause(tries));
            Tried { state: AsyncState::Queued, status, reason: Some(clip(reason)), due_at }
        };
        let failed = |status, reason| self.ended(record, AsyncState::Failed, status, Some(reason));
        let Some(principal) = self.keys.valid_now(&record.key) else {
            return failed(None, "the key that asked is expired or revoked".to_owned());
        };
        let caller = Caller::Key(principal.clone());
        let body = match self.body(&caller, &record.asked).await {
            Ok(body) => body,
            Err(e) if e.code == ErrorCode::Internal => return again(None, e.message),
            Err(e) => return failed(None, e.message),
        };
        let NewAsyncRequest { path, content_type, accept, .. } = record.asked.clone();
        let invocation = Invocation { path, content_type, accept, body };
        let answer = invoker.invoke(&principal, &record.shown.endpoint, invocation, ANSWER_BYTES_MAX).await;
        match answer {
            Ok(answer) if (200..300).contains(&answer.status) => {
                let status = Some(answer.status);
                match self.write(&caller, &record.asked, answer).await {
                    Ok(()) => self.ended(record, AsyncState::Done, status, None),
                    Err(e) if e.code == ErrorCode::Internal => again(status, e.message),
                    Err(e) => failed(status, e.message),
                }
            }
            Ok(answer) => {
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                let later = matches!(answer.status, 408 | 425 | 429) || answer.status >= 500 && answer.status != 501;
                if later { again(Some(answer.status), text) } else { failed(Some(answer.status), text) }
            }
            Err((code, why)) if code.is_transient() || code == ErrorCode::Internal => again(Some(code.status()), why),
            Err((code, why)) => failed(Some(code.status()), why),
        }
    }

    async fn body(&self, caller: &Caller, asked: &NewAsyncRequest) -> Result<Bytes> {
        let Some(at) = &asked.input else {
            return Ok(asked.body.as_ref().map(ToString::to_string).unwrap_or_default().into());
        };
        let about = |e: crate::buckets::Error| e.about(&at.bucket);
        let found = self.buckets.object(call(caller), (&at.bucket, &at.key), None, &Conditions::default()).await;
        let (object, _) = found.map_err(about)?;
        if object.size > INPUT_BYTES_MAX {
            return Err(Error::new(ErrorCode::TooLarge, format!("the input has more than {INPUT_BYTES_MAX} bytes")));
        }
        let stream = self.buckets.read(&object, None, None).await.map_err(about)?;
        let pieces: Vec<Bytes> = stream
            .try_collect()
            .await
            .map_err(|e| Error::new(ErrorCode::Internal, format!("the input could not be read: {e}")))?;
        Ok(pieces.concat().into())
    }

    async fn write(&self, caller: &Caller, asked: &NewAsyncRequest, answer: Answer) -> Result<()> {
        let headers = answer.content_type.map(|kind| ("content-type".to_owned(), kind)).into_iter().collect();
        let draft = Draft { new: NewObject { headers, ..NewObject::default() }, ..Draft::default() };
        let body = futures_util::stream::once(async { Ok(answer.body) }).boxed();
        let at = &asked.output;
        self.buckets
            .put_object(call(caller), (&at.bucket, &at.key), draft, Precondition::default(), body, no_check())
            .await
            .map_err(|e| e.about(&at.bucket))?;
        Ok(())
    }

    /// An end, after which a callback is due where there is one.
    fn ended(&self, record: &AsyncRecord, state: AsyncState, status: Option<u16>, reason: Option<String>) -> Tried {
        let due_at = record.asked.callback.is_some().then(|| self.clock.now());
        Tried { state, status, reason: reason.map(clip), due_at }
    }

    /// Tells that a request has ended.
    async fn tell(&self, record: &AsyncRecord, callbacks: &dyn Callbacks) -> Tried {
        let AsyncRequest { state, status, reason, ended_at, .. } = record.shown.clone();
        let over = Tried { state, status, reason: reason.clone(), due_at: None };
        let (Some(url), Ok(document)) = (&record.asked.callback, serde_json::to_string(&record.shown)) else {
            return over;
        };
        let Err(why) = callbacks.post(url, document).await else { return over };
        let since = ended_at.map_or(Duration::MAX, |at| age(at, self.clock.now()));
        if since < CALLBACK_TIME {
            return Tried { due_at: self.after((since / 2).clamp(Duration::from_secs(1), PAUSE_MAX)), ..over };
        }
        let why = format!("the callback was not taken: {why}");
        let reason = reason.map_or_else(|| why.clone(), |reason| format!("{reason}; {why}"));
        Tried { reason: Some(clip(reason)), ..over }
    }

    fn after(&self, wait: Duration) -> Option<Timestamp> {
        self.clock.now().checked_add(wait).ok()
    }
}

fn call(caller: &Caller) -> Call<'_> {
    Call { caller, facts: &NoFacts, expected_owner: None }
}

fn clip(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(REASON_BYTES_MAX));
    text
}

fn age(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

/// Before the next try: twice as long each time.
fn pause(tries: u32) -> Duration {
    Duration::from_secs(1 << tries.saturating_sub(1).min(16)).min(PAUSE_MAX)
}

/// Asks what is due.
pub struct DeferredRunner {
    service: Arc<Deferred>,
    invoker: Arc<dyn Invoker>,
    callbacks: Arc<dyn Callbacks>,
}

impl DeferredRunner {
    pub fn new(service: Arc<Deferred>, invoker: Arc<dyn Invoker>, callbacks: Arc<dyn Callbacks>) -> Self {
        Self { service, invoker, callbacks }
    }

    /// Until it is told to stop; what it asks then is asked again after a start.
    pub async fn run(self, stop: CancellationToken) {
        let mut under_way = JoinSet::new();
        let mut running: HashMap<tokio::task::Id, u64> = HashMap::new();
        let mut forgot: Option<tokio::time::Instant> = None;
        loop {
            let wait = match self.begin(&mut under_way, &mut running).await {
                Ok(wait) => wait,
                Err(e) => {
                    tracing::error!(error = %e, "requests that are answered later could not be read; it is tried again");
                    Duration::from_secs(1)
                }
            };
            if forgot.is_none_or(|at| at.elapsed() > FORGET_EVERY) {
                forgot = Some(tokio::time::Instant::now());
                self.forget().await;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.service.events.deferred_woken() => {}
                Some(ended) = under_way.join_next_with_id() => {
                    let id = match ended {
                        Ok((id, ())) => id,
                        Err(e) => {
                            tracing::error!(error = %e, "a request that is answered later ended badly");
                            e.id()
                        }
                    };
                    running.remove(&id);
                }
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Begins what is due, and says how long to wait for more.
    async fn begin(
        &self,
        under_way: &mut JoinSet<()>,
        running: &mut HashMap<tokio::task::Id, u64>,
    ) -> Result<Duration> {
        let Deferred { meta, clock, .. } = &*self.service;
        if running.len() < RUNNING_MAX {
            let except: Vec<u64> = running.values().copied().collect();
            let room = (RUNNING_MAX - running.len()) as u32;
            for record in meta.async_due(clock.now(), &except, EACH_MAX, room).await? {
                let id = record.shown.id;
                let (service, invoker, callbacks) =
                    (self.service.clone(), self.invoker.clone(), self.callbacks.clone());
                let task = under_way.spawn(async move {
                    let tried = match record.shown.state {
                        AsyncState::Queued => service.ask(&record, invoker.as_ref()).await,
                        AsyncState::Done | AsyncState::Failed => service.tell(&record, callbacks.as_ref()).await,
                    };
                    if let Err(e) = service.meta.async_tried(id, &tried, service.clock.now()).await {
                        tracing::error!(request = id, error = %e, "how a request went could not be noted; it is asked again");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                });
                running.insert(task.id(), id);
            }
        }
        if !running.is_empty() {
            return Ok(LOOK_EVERY);
        }
        let next = meta.async_next_due().await?;
        let until = |at: Timestamp| Duration::try_from(at.duration_since(clock.now())).unwrap_or_default();
        Ok(next.map_or(LOOK_EVERY, until).clamp(Duration::from_millis(10), LOOK_EVERY))
    }

    async fn forget(&self) {
        let Deferred { meta, clock, .. } = &*self.service;
        let Ok(before) = clock.now().checked_sub(KEPT) else { return };
        if let Err(e) = meta.async_forget(before).await {
            tracing::warn!(error = %e, "requests that ended long ago could not be forgotten");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_take_hours_in_all() {
        assert_eq!((pause(1), pause(2), pause(100)), (Duration::from_secs(1), Duration::from_secs(2), PAUSE_MAX));
        let all: Duration = (1..TRIES_MAX).map(pause).sum();
        assert!((5..7).contains(&(all.as_secs() / 3600)), "{all:?}");
    }
}
