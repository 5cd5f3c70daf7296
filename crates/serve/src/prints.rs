//! What workers and programs print, into our own log: up to a total, so that one
//! that prints for ever cannot fill the disk.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A line without end comes in pieces of this size.
const PIECE_BYTES: u64 = 64 << 10;

pub struct LogBudget(AtomicU64);

impl LogBudget {
    pub fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(bytes)))
    }

    /// In a thread of its own, which ends when nobody can print there any more.
    pub fn copy(self: &Arc<Self>, from: impl Read + Send + 'static) -> io::Result<()> {
        let budget = Arc::clone(self);
        std::thread::Builder::new().name("model-log".into()).spawn(move || budget.pump(from)).map(drop)
    }

    fn pump(&self, from: impl Read) {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while matches!(from.by_ref().take(PIECE_BYTES).read_until(b'\n', &mut line), Ok(1..)) {
            let size = line.len() as u64;
            let take = |left: u64| Some(left.saturating_sub(size));
            let left = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).unwrap_or(0);
            let printed = match left {
                0 => &b""[..],
                left if left >= size => &line,
                _ => b"muonic: the log is full; what the model prints from here on is dropped\n",
            };
            let _ = io::stderr().lock().write_all(printed);
            line.clear();
        }
    }
}
