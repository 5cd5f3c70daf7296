//! `ModelStreamInfer`: a call of many messages, each answered by one, in the
//! order they came in. What is wrong with one request is said in its answer and
//! ends nothing; only what is wrong with the call ends it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::super::InFlight;
use super::frame::{self, Source};
use super::infer::{self, Infer};
use super::messages::ModelStreamInferResponse;
use super::status;
use crate::failure::Failure;
use crate::replica::Replica;

/// Requests of one call that are in the replica at once, or whose answers wait
/// to be taken. No further one is read meanwhile.
const IN_FLIGHT_MAX: usize = 16;

pub(super) fn answer(replica: Arc<Replica>, body: Source) -> Response {
    // One more is in the hands of the reader, one in those of the answer.
    let (queue, answers) = mpsc::channel(IN_FLIGHT_MAX - 2);
    let (ended, end) = oneshot::channel();
    let reader = Task(tokio::spawn(async move {
        if let Err(failure) = read(replica, body, queue).await {
            // Where nobody takes it the call is over.
            let _ = ended.send(failure);
        }
    }));
    let answers = Answers { waiting: None, current: None, answers, _reader: reader };
    status::answered_until(Body::new(answers), async { end.await.ok() })
}

/// Until the call ends, whichever side ends it.
async fn read(replica: Arc<Replica>, mut body: Source, queue: mpsc::Sender<Task<Body>>) -> Result<(), Failure> {
    while let Some(length) = body.head().await? {
        let (message, comes_back) = body.message(length);
        let replica = Arc::clone(&replica);
        let answer = Task(tokio::spawn(async move { one(&replica, message, length).await }));
        if queue.send(answer).await.is_err() {
            return Ok(());
        }
        body = match comes_back.await {
            Ok(body) => body,
            Err(_) => return Ok(()),
        };
    }
    Ok(())
}

async fn one(replica: &Arc<Replica>, message: Body, length: usize) -> Body {
    let began = Instant::now();
    let counted = InFlight::new(replica);
    let answer = infer::exchange(replica, message, length, Infer { timeout: None, in_stream: true }).await;
    let code = answer.as_ref().map_or_else(|refused| refused.code.status(), |_| 200);
    replica.metrics.answered(code, began.elapsed());
    drop(counted);
    answer.map_or_else(refusal, |answer| answer.into_body())
}

fn refusal(refused: Failure) -> Body {
    let answer = ModelStreamInferResponse { error_message: refused.message, infer_response: None };
    // It is a sentence, and within the length of a message.
    Body::from(frame::written(&answer).unwrap_or_default())
}

/// Ends with what waits for it.
struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The answers, one after the other.
struct Answers {
    waiting: Option<Task<Body>>,
    current: Option<Body>,
    answers: mpsc::Receiver<Task<Body>>,
    _reader: Task<()>,
}

impl hyper::body::Body for Answers {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        loop {
            if let Some(current) = &mut self.current {
                match ready!(Pin::new(current).poll_frame(cx)) {
                    None => self.current = None,
                    frame => return Poll::Ready(frame),
                }
            }
            if let Some(waiting) = &mut self.waiting {
                let answer = ready!(Pin::new(&mut waiting.0).poll(cx));
                self.waiting = None;
                self.current = Some(answer.unwrap_or_else(|e| {
                    tracing::error!("a request's work panicked: {e}");
                    refusal(Failure::internal())
                }));
                continue;
            }
            match ready!(self.answers.poll_recv(cx)) {
                Some(next) => self.waiting = Some(next),
                None => return Poll::Ready(None),
            }
        }
    }
}
