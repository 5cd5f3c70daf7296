//! The output that is kept: the head as it comes and, where there is more
//! than may be kept, a note and the tail at the end. The file is exactly what
//! the server gets, so an offset in it is an offset there.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const TAIL_BYTES_MAX: u64 = 64 << 10;
/// Kept free for the two notes.
const NOTES_BYTES: u64 = 256;
/// Enough for the last lines that a report quotes.
const RECENT_BYTES: usize = 4096;

/// Decides which bytes are kept. Never more than `max` in all.
#[derive(Debug)]
struct Bounded {
    head_left: u64,
    tail_max: usize,
    tail: VecDeque<u8>,
    cut: u64,
}

impl Bounded {
    fn new(max: u64) -> Self {
        let room = max.saturating_sub(NOTES_BYTES);
        let tail_max = TAIL_BYTES_MAX.min(room / 2);
        Self { head_left: room - tail_max, tail_max: tail_max as usize, tail: VecDeque::new(), cut: 0 }
    }

    fn push(&mut self, bytes: &[u8], out: &mut dyn FnMut(&[u8])) {
        let (head, rest) = bytes.split_at(bytes.len().min(usize::try_from(self.head_left).unwrap_or(usize::MAX)));
        if !head.is_empty() {
            out(head);
            self.head_left -= head.len() as u64;
        }
        let over = (self.tail.len() + rest.len()).saturating_sub(self.tail_max);
        if over > 0 && self.cut == 0 {
            out(b"\n[muonic] the log is full; what follows is left out, except for its end\n");
        }
        self.cut += over as u64;
        let from_tail = over.min(self.tail.len());
        self.tail.drain(..from_tail);
        self.tail.extend(&rest[over - from_tail..]);
    }

    fn finish(&mut self, out: &mut dyn FnMut(&[u8])) {
        let mut tail: Vec<u8> = std::mem::take(&mut self.tail).into();
        if self.cut > 0 {
            // Begin with a whole line where there is one.
            let start = tail.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1).min(tail.len());
            self.cut += start as u64;
            tail.drain(..start);
            out(format!("[muonic] {} bytes were left out here\n", self.cut).as_bytes());
        }
        if !tail.is_empty() {
            out(&tail);
        }
    }
}

struct State {
    bounded: Bounded,
    len: u64,
    recent: VecDeque<u8>,
    finished: bool,
    /// Why bytes could not be written; then no more are.
    broken: Option<String>,
}

pub struct Log {
    file: File,
    state: Mutex<State>,
    grown: Condvar,
}

impl Log {
    pub fn create(path: &Path, max: u64) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let state =
            State { bounded: Bounded::new(max), len: 0, recent: VecDeque::new(), finished: false, broken: None };
        Ok(Self { file, state: Mutex::new(state), grown: Condvar::new() })
    }

    pub fn push(&self, bytes: &[u8]) {
        let mut state = self.state();
        if state.finished {
            return;
        }
        let fresh = &bytes[bytes.len().saturating_sub(RECENT_BYTES)..];
        let over = (state.recent.len() + fresh.len()).saturating_sub(RECENT_BYTES);
        state.recent.drain(..over);
        state.recent.extend(fresh);
        self.change(&mut state, |bounded, out| bounded.push(bytes, out));
    }

    /// A line of our own.
    pub fn note(&self, text: &str) {
        self.push(format!("[muonic] {text}\n").as_bytes());
    }

    /// No bytes follow.
    pub fn finish(&self) {
        let mut state = self.state();
        if !state.finished {
            self.change(&mut state, |bounded, out| bounded.finish(out));
            state.finished = true;
        }
        self.grown.notify_all();
    }

    fn change(&self, state: &mut State, change: impl FnOnce(&mut Bounded, &mut dyn FnMut(&[u8]))) {
        let State { bounded, len, broken, .. } = state;
        let mut out = |bytes: &[u8]| {
            if broken.is_none() {
                match (&self.file).write_all(bytes) {
                    Ok(()) => *len += bytes.len() as u64,
                    // The program must not suffer from a full disk here.
                    Err(e) => *broken = Some(e.to_string()),
                }
            }
        };
        change(bounded, &mut out);
        self.grown.notify_all();
    }

    /// Wakes who waits in [`Log::wait`].
    pub fn nudge(&self) {
        // Under the lock, so that it is not lost between a look and a sleep.
        let _state = self.state();
        self.grown.notify_all();
    }

    /// Length and whether it is final; waits while there is nothing after
    /// `sent` and `idle` says so, until the instant that is asked for again
    /// after each nudge.
    pub fn wait(&self, sent: u64, idle: impl Fn() -> bool, until: impl Fn() -> Instant) -> (u64, bool) {
        let mut state = self.state();
        while state.len <= sent && !state.finished && idle() {
            let left = until().saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                break;
            }
            state = self.grown.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        (state.len, state.finished)
    }

    /// Waits for so long, or until the log is finished.
    pub fn rest(&self, time: Duration) {
        let waited = self.grown.wait_timeout_while(self.state(), time, |state| !state.finished);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    /// Why the log could not be kept whole on this machine.
    pub fn broken(&self) -> Option<String> {
        self.state().broken.clone()
    }

    /// The last lines, for a report.
    pub fn last_lines(&self, lines: usize) -> String {
        let recent: Vec<u8> = self.state().recent.iter().copied().collect();
        let text = String::from_utf8_lossy(&recent);
        let all: Vec<&str> = text.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect();
        let printable = |c: char| if c.is_control() && c != '\t' { '\u{fffd}' } else { c };
        let clip = |line: &&str| line.chars().take(400).map(printable).collect::<String>();
        all[all.len().saturating_sub(lines)..].iter().map(clip).collect::<Vec<_>>().join("\n")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(max: u64, chunks: &[Vec<u8>]) -> Vec<u8> {
        let mut kept = Vec::new();
        let mut bounded = Bounded::new(max);
        for chunk in chunks {
            bounded.push(chunk, &mut |b: &[u8]| kept.extend_from_slice(b));
        }
        bounded.finish(&mut |b: &[u8]| kept.extend_from_slice(b));
        kept
    }

    proptest! {
        #[test]
        fn what_fits_is_kept_as_it_is_and_no_more_than_the_bound(
            max in 0u64..3000,
            chunks in prop::collection::vec(prop::collection::vec(prop::sample::select(vec![b'a', b'\n', 0u8, 255]), 0..300), 0..20),
        ) {
            let all: Vec<u8> = chunks.concat();
            let kept = kept(max, &chunks);
            prop_assert!(kept.len() as u64 <= max.max(NOTES_BYTES));
            if all.len() as u64 + NOTES_BYTES <= max {
                prop_assert_eq!(&kept, &all);
            }
        }
    }

    #[test]
    fn head_and_tail_are_kept_with_the_count_between() {
        let lines: Vec<Vec<u8>> = (0..1000).map(|n| format!("line {n}\n").into_bytes()).collect();
        let text = String::from_utf8(kept(1000, &lines)).unwrap();
        assert!(text.starts_with("line 0\nline 1\n") && text.ends_with("line 998\nline 999\n"), "{text}");
        assert!(text.contains("the log is full") && text.contains("bytes were left out here\nline "), "{text}");
    }

    #[test]
    fn the_file_is_what_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::create(&dir.path().join("log"), 1 << 20).unwrap();
        log.push(b"one\n\xff\x00two\n");
        log.note("three");
        log.finish();
        log.push(b"late");
        let (len, finished) = log.wait(0, || true, Instant::now);
        let mut buffer = [0; 100];
        assert_eq!((log.read(0, &mut buffer).unwrap() as u64, finished), (len, true));
        assert!(buffer.starts_with(b"one\n\xff\x00two\n[muonic] three\n"));
        assert!(log.last_lines(2).starts_with('\u{fffd}'));
    }
}
