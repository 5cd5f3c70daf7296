//! Bodies on their way through: uploads with a limit, answers that hold what
//! must live as long as they do.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use muonic_ports::routes::Visit;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

use crate::copied::Copied;
use crate::limits::Meter;
use crate::metrics::Observation;
use crate::pick::Lease;
use crate::pool::Return;
use crate::shadow::Twin;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why an upload ended early; read after the send has failed.
#[derive(Clone, Default)]
pub struct UploadEnd(Arc<AtomicU8>);

const TOO_LARGE: u8 = 1;
const BROKE_OFF: u8 = 2;

impl UploadEnd {
    pub fn was_too_large(&self) -> bool {
        self.0.load(Ordering::SeqCst) == TOO_LARGE
    }

    pub fn broke_off(&self) -> bool {
        self.0.load(Ordering::SeqCst) == BROKE_OFF
    }
}

/// A request's body that ends with an error beyond its limit.
pub struct Upload {
    inner: Body,
    left: u64,
    end: UploadEnd,
    copies: Vec<Copied>,
}

impl Upload {
    /// `copies` get what passes.
    pub fn new(inner: Body, bytes_max: u64, copies: Vec<Copied>) -> (Self, UploadEnd) {
        let end = UploadEnd::default();
        if inner.is_end_stream() {
            copies.iter().for_each(Copied::end);
        }
        (Self { inner, left: bytes_max, end: end.clone(), copies }, end)
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let size = frame.data_ref().map_or(0, Bytes::len) as u64;
                match self.left.checked_sub(size) {
                    Some(left) => {
                        self.left = left;
                        if let Some(bytes) = frame.data_ref() {
                            self.copies.iter().for_each(|copy| copy.add(bytes));
                        }
                        if self.inner.is_end_stream() {
                            self.copies.iter().for_each(Copied::end);
                        }
                    }
                    None => {
                        self.end.0.store(TOO_LARGE, Ordering::SeqCst);
                        return Poll::Ready(Some(Err("the body is too large".into())));
                    }
                }
            }
            Poll::Ready(Some(Err(_))) => self.end.0.store(BROKE_OFF, Ordering::SeqCst),
            Poll::Ready(None) => self.copies.iter().for_each(Copied::end),
            Poll::Pending => {}
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body with all that its request holds. The order of fields is
/// the order of dropping: the connection goes back first, the counts last.
pub struct Download {
    inner: Incoming,
    ended: bool,
    connection: Return,
    /// The answer breaks off where nothing comes for so long.
    patience: Duration,
    silence: Pin<Box<Sleep>>,
    twin: Option<Twin>,
    meter: Option<Meter>,
    _held: Held,
}

/// What a request has until its answer has been sent. The order of fields is
/// the order of dropping.
#[expect(dead_code, reason = "kept to be dropped")]
pub struct Held {
    pub lease: Lease,
    pub visit: Visit,
    pub room: OwnedSemaphorePermit,
    pub observation: Observation,
}

impl Download {
    /// `twin`: the copy of its request that a shadow gets.
    pub fn new(
        inner: Incoming,
        connection: Return,
        patience: Duration,
        held: Held,
        twin: Option<Twin>,
        meter: Option<Meter>,
    ) -> Self {
        let silence = Box::pin(tokio::time::sleep(patience));
        Self { inner, ended: false, connection, patience, silence, twin, meter, _held: held }
    }
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(frame) => {
                match &frame {
                    None => self.ended = true,
                    Some(Ok(frame)) => {
                        if let Some(bytes) = frame.data_ref() {
                            if let Some(twin) = &self.twin {
                                twin.answer.add(bytes);
                            }
                            if let Some(meter) = &mut self.meter {
                                meter.pass(bytes);
                            }
                        }
                    }
                    Some(Err(_)) => self.twin = None,
                }
                let patience = self.patience;
                self.silence.as_mut().reset(Instant::now() + patience);
                Poll::Ready(frame.map(|f| f.map_err(Into::into)))
            }
            Poll::Pending => match self.silence.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(Some(Err("the replica fell silent within its answer".into()))),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // A body of known length is not polled again after its last byte.
        if self.ended || self.inner.is_end_stream() {
            self.connection.now();
            if let Some(twin) = self.twin.take() {
                twin.answer.end();
                twin.send();
            }
        }
    }
}
