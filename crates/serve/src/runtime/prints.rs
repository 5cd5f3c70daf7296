//! What workers print goes to our own stderr, up to a total, so that one that
//! prints for ever cannot fill the disk.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Longest piece that is passed on at once; a longer line comes in several.
const PIECE_BYTES_MAX: u64 = 64 << 10;

pub struct LogBudget {
    left: AtomicU64,
}

impl LogBudget {
    pub fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(bytes) })
    }

    /// Until nobody prints to it any more.
    pub fn pump(&self, from: impl Read) {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        loop {
            line.clear();
            match from.by_ref().take(PIECE_BYTES_MAX).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(n) => {
                    let n = n as u64;
                    let before = self
                        .left
                        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| Some(left.saturating_sub(n)))
                        .unwrap_or(0);
                    if before >= n {
                        let _ = io::stderr().lock().write_all(&line);
                    } else if before > 0 {
                        let _ = io::stderr()
                            .lock()
                            .write_all(b"muonic: the log is full; what the model prints from here on is dropped\n");
                    }
                }
            }
        }
    }
}
