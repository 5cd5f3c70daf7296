//! The one who appends to segments: a thread that takes all who wait, writes
//! their records, syncs once, and answers all.
//!
//! A segment is appended to only by the process that made it. After a write
//! that failed it is left as it is and another one is begun; a failed sync
//! ends all writing.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use muonic_ports::{Error, Result};
use tokio::sync::{mpsc, oneshot};

use super::Disk;
use super::held::Guard;
use super::segment::{self, RECORD_HEADER_BYTES, align_up};
use crate::content::{ExtentId, Place};
use crate::gate::{failed, is_full};
use crate::keys::random;

/// Who waits for a place in the queue holds its bytes itself.
const QUEUE: usize = 1024;
/// Records are taken together up to so many bytes.
const GROUP_BYTES: usize = 4 << 20;

pub(super) struct Record {
    pub id: ExtentId,
    pub stored: Bytes,
}

type Answer = Result<Vec<(Place, Guard)>>;

pub(super) struct Job {
    records: Vec<Record>,
    answer: oneshot::Sender<Answer>,
}

pub(super) enum Order {
    Append(Job),
    /// Close the open segment; what is appended next goes to another one.
    Roll(oneshot::Sender<()>),
}

pub(super) type Sender = mpsc::Sender<Order>;

/// Durable when it returns; all of the records or none.
pub(super) async fn append(sender: &Sender, records: Vec<Record>) -> Answer {
    let (answer, wait) = oneshot::channel();
    sender.send(Order::Append(Job { records, answer })).await.map_err(|_| gone())?;
    wait.await.map_err(|_| gone())?
}

/// Returns once all that was appended before lies in segments that get no more.
pub(super) async fn roll(sender: &Sender) -> Result<()> {
    let (answer, wait) = oneshot::channel();
    sender.send(Order::Roll(answer)).await.map_err(|_| gone())?;
    wait.await.map_err(|_| gone())
}

fn gone() -> Error {
    Error::bug("the thread that appends to segments has ended; restart the server")
}

pub(super) fn start(disk: Arc<Disk>) -> Result<(Sender, std::thread::JoinHandle<()>)> {
    let (sender, jobs) = mpsc::channel(QUEUE);
    let thread = std::thread::Builder::new()
        .name("segments".to_owned())
        .spawn(move || Appender { disk, open: None }.run(jobs))
        .map_err(|e| Error::internal("the thread that appends to segments could not be started", e))?;
    Ok((sender, thread))
}

struct Appender {
    disk: Arc<Disk>,
    open: Option<Open>,
}

/// The segment that is appended to.
struct Open {
    number: u64,
    path: PathBuf,
    file: Arc<File>,
    /// What has been synced ends here.
    used: u64,
    /// Up to here there are zeros, or more.
    filled: u64,
}

impl Appender {
    fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        while let Some(order) = orders.blocking_recv() {
            let first = match order {
                Order::Append(job) => job,
                Order::Roll(answer) => {
                    self.close();
                    let _ = answer.send(());
                    continue;
                }
            };
            let size = |job: &Job| job.records.iter().map(|r| r.stored.len() + RECORD_HEADER_BYTES).sum::<usize>();
            let mut bytes = size(&first);
            let (mut group, mut roll) = (vec![first], None);
            while bytes < GROUP_BYTES
                && let Ok(next) = orders.try_recv()
            {
                match next {
                    Order::Append(next) => {
                        bytes += size(&next);
                        group.push(next);
                    }
                    Order::Roll(answer) => {
                        roll = Some(answer);
                        break;
                    }
                }
            }
            match self.commit(&group, bytes) {
                Ok((segment, offsets)) => answer(&self.disk, group, segment, offsets),
                Err(e) => group.into_iter().for_each(|job| drop(job.answer.send(Err(again(&e))))),
            }
            if let Some(answer) = roll {
                self.close();
                let _ = answer.send(());
            }
        }
        self.close();
    }

    /// Writes and syncs; answers where each record's bytes begin.
    fn commit(&mut self, group: &[Job], bytes: usize) -> Result<(u64, Vec<u64>)> {
        self.disk.gate.check()?;
        if self.open.as_ref().is_some_and(|open| open.used >= self.disk.settings.segment_bytes) {
            self.close();
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.create()?,
        };
        let begin = align_up(open.used);
        let mut buffer = Vec::with_capacity(bytes);
        let mut offsets = Vec::new();
        for record in group.iter().flat_map(|job| &job.records) {
            offsets.push(begin + (buffer.len() + RECORD_HEADER_BYTES) as u64);
            segment::put_record(&mut buffer, &record.id, &record.stored);
        }
        let end = begin + buffer.len() as u64;
        if let Err(e) = self.disk.files.write_at(&open.file, &open.path, &buffer, begin) {
            let error = failed("write", &open.path, e);
            self.leave(&open);
            return Err(error);
        }
        self.fill(&mut open, end);
        if let Err(e) = self.disk.files.sync_file(&open.file, &open.path) {
            if is_full(&e) {
                self.leave(&open);
                return Err(Error::DiskFull);
            }
            return Err(self.disk.gate.sync_failed(&open.path, &e));
        }
        open.used = end;
        let number = open.number;
        self.open = Some(open);
        Ok((number, offsets))
    }

    /// A new segment, durable by name.
    fn create(&self) -> Result<Open> {
        // A number never comes back: a row about a segment that went must not
        // come to mean another one. Positive as SQLite's integers.
        let number = u64::from_le_bytes(random()?) >> 1;
        let Disk { files, gate, layout, held, .. } = &*self.disk;
        let path = layout.segment(number);
        held.set_open(Some(number));
        let file = files.create(&path, 0o600).map_err(|e| failed("create", &path, e))?;
        let header = segment::header(number);
        let used = header.len() as u64;
        let mut open = Open { number, path, file: Arc::new(file), used, filled: 0 };
        let ready = files.write_at(&open.file, &open.path, &header, 0);
        let ready = ready.map_err(|e| failed("write", &open.path, e)).and_then(|()| {
            self.fill(&mut open, used);
            files.sync_file(&open.file, &open.path).map_err(|e| match is_full(&e) {
                true => Error::DiskFull,
                false => gate.sync_failed(&open.path, &e),
            })?;
            files.sync_folder(layout.segments()).map_err(|e| gate.sync_failed(layout.segments(), &e))
        });
        if let Err(e) = ready {
            held.set_open(None);
            if let Err(error) = files.unlink(&open.path) {
                tracing::warn!(path = %open.path.display(), %error, "a segment without extents stays");
            }
            return Err(e);
        }
        self.disk.handles.put(number, open.file.clone());
        Ok(open)
    }

    /// Zeros for those who come next, where `end` has come to the last ones.
    /// A disk without space for them may still have some for extents.
    fn fill(&self, open: &mut Open, end: u64) {
        if end <= open.filled {
            return;
        }
        let until = align_up(end + self.disk.settings.fill_bytes);
        let zeros = vec![0; (until - end).min(1 << 20) as usize];
        let mut at = end;
        while at < until {
            let piece = &zeros[..(until - at).min(zeros.len() as u64) as usize];
            if self.disk.files.write_at(&open.file, &open.path, piece, at).is_err() {
                self.trim(open, end);
                open.filled = u64::MAX;
                return;
            }
            at += piece.len() as u64;
        }
        open.filled = until;
    }

    /// No more is appended to the open segment.
    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.leave(&open);
        }
    }

    fn leave(&self, open: &Open) {
        self.trim(open, open.used);
        self.disk.held.set_open(None);
    }

    /// Gives space back. What is synced lies before `end`.
    fn trim(&self, open: &Open, end: u64) {
        if self.disk.gate.check().is_ok()
            && let Err(error) = self.disk.files.truncate(&open.file, &open.path, end)
        {
            tracing::warn!(path = %open.path.display(), %error, "the unused end of a segment stays until the next start");
        }
    }
}

fn answer(disk: &Disk, group: Vec<Job>, segment: u64, offsets: Vec<u64>) {
    let mut offsets = offsets.into_iter();
    for job in group {
        let places = job.records.iter().zip(&mut offsets).map(|(record, offset)| {
            let place = Place::Segment { segment, offset, length: record.stored.len() as u64 };
            (place, disk.held.segment(segment))
        });
        // Who has gone leaves bytes that nobody names.
        let _ = job.answer.send(Ok(places.collect()));
    }
}

/// One failure is the answer to many.
fn again(error: &Error) -> Error {
    match error {
        Error::DiskFull => Error::DiskFull,
        Error::ReadOnly(what) => Error::ReadOnly(what.clone()),
        Error::Unavailable(what) => Error::Unavailable(what.clone()),
        other => Error::bug(other.to_string()),
    }
}
