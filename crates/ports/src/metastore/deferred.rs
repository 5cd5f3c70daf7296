use async_trait::async_trait;
use muonic_types::endpoint::{AsyncRequest, AsyncState, NewAsyncRequest};
use muonic_types::{KeyId, Name, ProjectId, Timestamp};

use crate::Result;

/// A request that is answered later, with what is needed to ask it.
#[derive(Debug, Clone, PartialEq)]
pub struct AsyncRecord {
    pub project: ProjectId,
    pub key: KeyId,
    pub asked: NewAsyncRequest,
    pub shown: AsyncRequest,
}

/// How a try went.
#[derive(Debug, Clone, PartialEq)]
pub struct Tried {
    pub state: AsyncState,
    pub status: Option<u16>,
    pub reason: Option<String>,
    /// When it, or its callback, is tried next; none where nothing is left to do.
    pub due_at: Option<Timestamp>,
}

#[async_trait]
pub trait Deferred {
    /// Queues a request, due at once. `Conflict` where the project has `queued_max` queued already.
    async fn async_add(
        &self,
        project: &ProjectId,
        key: &KeyId,
        endpoint: &Name,
        new: &NewAsyncRequest,
        queued_max: u64,
        at: Timestamp,
    ) -> Result<AsyncRequest>;
    async fn async_get(&self, project: &ProjectId, endpoint: &Name, id: u64) -> Result<AsyncRequest>;
    /// Newest first, with smaller ids than `before`.
    async fn async_list(
        &self,
        project: &ProjectId,
        endpoint: &Name,
        before: Option<u64>,
        max: u32,
    ) -> Result<Vec<AsyncRequest>>;
    /// What is due now, of any project, the longest due first: of each endpoint
    /// at most `each`, those of `except` among them, which are left out.
    async fn async_due(&self, now: Timestamp, except: &[u64], each: u32, max: u32) -> Result<Vec<AsyncRecord>>;
    /// When the next is due.
    async fn async_next_due(&self) -> Result<Option<Timestamp>>;
    /// Notes a try of the request, which counts it and sets its end where the
    /// state is final; or, where it had ended, one of its callback.
    async fn async_tried(&self, id: u64, tried: &Tried, at: Timestamp) -> Result<()>;
    /// Forgets what ended before this and has nothing left to do.
    async fn async_forget(&self, before: Timestamp) -> Result<u64>;
}
