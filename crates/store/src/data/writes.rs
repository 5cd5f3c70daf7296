//! Writes that are under way, from before their data key is wrapped until a
//! row names them. Who has given a key a new version waits for those that began
//! before: from then on nothing new is wrapped with the old one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

/// Held as long as the write is under way.
#[derive(Clone)]
pub(super) struct Writing {
    _held: mpsc::Sender<()>,
}

pub(super) struct Writes {
    /// Of those that begin now; it is exhausted once none of them is left.
    current: Mutex<(mpsc::Sender<()>, mpsc::Receiver<()>)>,
}

impl Default for Writes {
    fn default() -> Self {
        Self { current: Mutex::new(mpsc::channel(1)) }
    }
}

impl Writes {
    // Every change replaces the whole: a panic leaves nothing half done.
    fn current(&self) -> MutexGuard<'_, (mpsc::Sender<()>, mpsc::Receiver<()>)> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self) -> Writing {
        Writing { _held: self.current().0.clone() }
    }

    /// Waits until all that have begun before now have ended.
    pub(super) async fn drained(&self) {
        let (sender, mut receiver) = std::mem::replace(&mut *self.current(), mpsc::channel(1));
        drop(sender);
        // Nothing is ever sent: this ends when the last sender is gone.
        receiver.recv().await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn only_earlier_writes_are_waited_for() {
        let writes = Writes::default();
        writes.drained().await;
        let earlier = writes.begin();
        let shared = earlier.clone();
        let mut waiting = std::pin::pin!(writes.drained());
        assert!((&mut waiting).now_or_never().is_none());
        let _later = writes.begin();
        drop(earlier);
        assert!((&mut waiting).now_or_never().is_none());
        drop(shared);
        waiting.await;
    }
}
