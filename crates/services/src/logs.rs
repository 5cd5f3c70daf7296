//! Reading a unit's log as it grows.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muonic_ports::Logs;
use muonic_ports::blob_store::ByteStream;
use muonic_types::UnitId;

use crate::Events;

/// One piece of a log in an answer.
const PIECE: usize = 256 << 10;
/// A follower looks again after this long even if nothing woke it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Answers whether the unit may still write.
pub(crate) type StillWriting = Arc<dyn Fn() -> futures_util::future::BoxFuture<'static, bool> + Send + Sync>;

struct Reader {
    logs: Arc<dyn Logs>,
    events: Arc<Events>,
    unit: UnitId,
    offset: u64,
    /// `None`: stop at the present end.
    follow: Option<StillWriting>,
}

/// The log from `offset`; with `follow`, until the unit has ended and all of
/// it was read.
pub(crate) fn stream(
    logs: Arc<dyn Logs>,
    events: Arc<Events>,
    unit: UnitId,
    offset: u64,
    follow: Option<StillWriting>,
) -> ByteStream {
    let reader = Reader { logs, events, unit, offset, follow };
    Box::pin(futures_util::stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        match reader.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(reader))),
            Ok(None) => None,
            Err(e) => Some((Err(std::io::Error::other(e)), None)),
        }
    }))
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Bytes>, muonic_ports::Error> {
        let mut listener = self.events.log_listener();
        loop {
            // Asked before reading: what is written before the end is read.
            let more_may_come = match &self.follow {
                Some(writing) => writing().await,
                None => false,
            };
            let bytes = self.logs.read(&self.unit, self.offset, PIECE).await?;
            if !bytes.is_empty() {
                self.offset += bytes.len() as u64;
                return Ok(Some(bytes));
            }
            if !more_may_come || self.events.is_closing() {
                return Ok(None);
            }
            listener.changed(&self.unit, LOOK_AGAIN).await;
        }
    }
}
