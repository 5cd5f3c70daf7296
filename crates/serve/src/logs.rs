//! Sends what the replica and its worker print (`output.log`) to the server,
//! in the background. While there is no server the file keeps it.
//!
//! The file is bounded by who writes to it (the worker's prints have a
//! budget); memory by one chunk; the end by a time limit.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use muonic_client::Error;
use muonic_types::ErrorCode;

use crate::link::{Link, is_unwanted};

const CHUNK_BYTES: usize = 512 << 10;
/// Soon after something was printed, more rarely while nothing is.
const LOOK_SOON: Duration = Duration::from_millis(20);
const LOOK_EVERY: Duration = Duration::from_millis(300);
const WAIT_MAX: Duration = Duration::from_secs(10);
/// After so many chunks that the server did not keep, its log is full.
const STUCK_MAX: u32 = 5;

pub struct Shipper {
    stop: SyncSender<()>,
    ended: Receiver<()>,
    _thread: JoinHandle<()>,
}

impl Shipper {
    pub fn start(link: Link, file: PathBuf) -> io::Result<Self> {
        let (stop, stopped) = sync_channel(1);
        let (end, ended) = sync_channel(1);
        let thread = std::thread::Builder::new().name("log".into()).spawn(move || {
            ship(&link, &file, &stopped);
            let _ = end.send(());
        })?;
        Ok(Self { stop, ended, _thread: thread })
    }

    /// Sends what is left, for at most `limit`.
    pub fn finish(self, limit: Duration) {
        let _ = self.stop.try_send(());
        let _ = self.ended.recv_timeout(limit);
    }
}

fn ship(link: &Link, path: &PathBuf, stopped: &Receiver<()>) {
    let Ok(file) = File::open(path) else { return };
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut offset = 0;
    let mut wait = LOOK_SOON;
    let mut stuck = 0;
    let mut stopping = false;
    loop {
        let read = file.read_at(&mut chunk, offset).unwrap_or(0);
        if read > 0 {
            match link.client().and_then(|c| c.replica_log(&link.id, offset, &chunk[..read])) {
                Ok(answer) if answer.next_offset == offset => {
                    stuck += 1;
                    if stuck == STUCK_MAX {
                        return;
                    }
                }
                Ok(answer) => {
                    // The server's word counts: it may have lost a tail.
                    offset = answer.next_offset;
                    stuck = 0;
                    wait = LOOK_SOON;
                    continue;
                }
                Err(e) if is_unwanted(&e) || is_refused(&e) => return,
                Err(_) => wait = (wait * 2).clamp(LOOK_EVERY, WAIT_MAX),
            }
        } else {
            wait = (wait * 2).min(LOOK_EVERY);
        }
        if stopping && (read == 0 || stuck > 0) {
            return;
        }
        match stopped.recv_timeout(if stopping { LOOK_EVERY } else { wait }) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => stopping = true,
        }
    }
}

/// The same chunk would be refused again; anything else may pass.
fn is_refused(e: &Error) -> bool {
    matches!(e.code(), Some(ErrorCode::TooLarge | ErrorCode::InvalidRequest))
}
