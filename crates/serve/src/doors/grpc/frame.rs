//! Messages in a body: each behind a byte that says whether it is compressed
//! and its length in four bytes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use muonic_types::ErrorCode;
use prost::Message;
use tokio::sync::oneshot;

use crate::failure::Failure;

const HEAD_BYTES: usize = 5;

/// A body of messages.
pub(super) struct Source {
    body: Body,
    /// What has come of it and is not used.
    rest: Bytes,
    /// Bytes of a message that nobody wants.
    skip: usize,
}

impl Source {
    pub(super) fn new(body: Body) -> Self {
        Self { body, rest: Bytes::new(), skip: 0 }
    }

    /// The length of the next message; `None` where there is none. No message
    /// is read meanwhile.
    pub(super) async fn head(&mut self) -> Result<Option<usize>, Failure> {
        let mut head = BytesMut::with_capacity(HEAD_BYTES);
        while head.len() < HEAD_BYTES {
            if self.rest.is_empty() {
                match self.body.frame().await {
                    Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
                    Some(Err(e)) => return Err(broken(&e)),
                    None if head.is_empty() && self.skip == 0 => return Ok(None),
                    None => return Err(Failure::bad("the call ended within a message")),
                }
            }
            let skipped = self.skip.min(self.rest.len());
            self.rest.advance(skipped);
            self.skip -= skipped;
            let taken = (HEAD_BYTES - head.len()).min(self.rest.len());
            head.put(self.rest.split_to(taken));
        }
        match head.get_u8() {
            0 => Ok(Some(head.get_u32() as usize)),
            1 => Err(Failure::new(ErrorCode::NotImplemented, "not implemented: compressed messages")),
            _ => Err(Failure::bad("the call's body is not made of gRPC messages")),
        }
    }

    /// The message whose length the head said. What comes after it, or what it
    /// had left unread when it was dropped, comes back through the receiver.
    pub(super) fn message(self, length: usize) -> (Body, oneshot::Receiver<Self>) {
        let (back, comes_back) = oneshot::channel();
        (Body::new(Piece { source: Some((self, back)), left: length }), comes_back)
    }
}

fn broken(why: &axum::Error) -> Failure {
    Failure::bad(format!("the body broke off: {why}"))
}

/// One message.
struct Piece {
    source: Option<(Source, oneshot::Sender<Source>)>,
    left: usize,
}

impl hyper::body::Body for Piece {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Self { source, left } = &mut *self;
        let Some((source, _)) = source.as_mut().filter(|_| *left > 0) else { return Poll::Ready(None) };
        while source.rest.is_empty() {
            match ready!(Pin::new(&mut source.body).poll_frame(cx)) {
                Some(Ok(frame)) => source.rest = frame.into_data().unwrap_or_default(),
                Some(Err(e)) => return Poll::Ready(Some(Err(e))),
                None => return Poll::Ready(Some(Err(axum::Error::new("the call ended within a message")))),
            }
        }
        let size = source.rest.len().min(*left);
        *left -= size;
        Poll::Ready(Some(Ok(Frame::data(source.rest.split_to(size)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let Some((mut source, back)) = self.source.take() {
            source.skip = self.left;
            // Where nobody takes it the call is over.
            let _ = back.send(source);
        }
    }
}

/// A message as it goes over the wire.
pub(super) fn written(message: &impl Message) -> Result<Bytes, Failure> {
    let length = message.encoded_len();
    let head = head(length)?;
    let mut bytes = Vec::with_capacity(HEAD_BYTES + length);
    bytes.extend_from_slice(&head);
    message
        .encode(&mut bytes)
        .map_err(|e| Failure::new(ErrorCode::Internal, format!("the answer cannot be written: {e}")))?;
    Ok(bytes.into())
}

fn head(length: usize) -> Result<[u8; HEAD_BYTES], Failure> {
    let length = u32::try_from(length)
        .map_err(|_| Failure::new(ErrorCode::TooLarge, "the answer is larger than the 4 GiB of a gRPC message"))?;
    let [a, b, c, d] = length.to_be_bytes();
    Ok([0, a, b, c, d])
}
