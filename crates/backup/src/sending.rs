//! Sends the data files that the destination lacks, and writes the list of all.
//!
//! A file is looked for at the destination by name, one folder at a time; its
//! hash is taken over from the newest snapshot where that has the same file,
//! and is computed on the way otherwise.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{TryStreamExt, stream};
use muonic_ports::backup::OnProgress;
use muonic_ports::{Error, Result};
use muonic_store::StoreCopy;
use muonic_types::Timestamp;
use muonic_types::backup::{BackupProgress, BackupStage};
use tokio::sync::mpsc;

use crate::copying::{self, failed};
use crate::destination::Destination;
use crate::list::{Entry, Reader, Writer, shelf, stored, stored_log};
use crate::manifest::Hashed;

/// Files on their way at the same time.
const AT_ONCE: usize = 8;
const QUEUE: usize = 1024;
/// A clock of a file system may lag behind.
const SLACK: Duration = Duration::from_secs(60);

/// A file that the snapshot needs.
struct Wanted {
    /// As in [`Entry`].
    path: String,
    at: PathBuf,
    size: u64,
    modified: Option<SystemTime>,
}

pub struct Job {
    pub copy: Arc<StoreCopy>,
    /// The data folder.
    pub data: PathBuf,
    pub to: Arc<Destination>,
    pub progress: OnProgress,
    /// The newest snapshot's list, and its time.
    pub earlier: Option<(Reader, Timestamp)>,
    pub list: PathBuf,
}

pub struct Sent {
    pub list: Hashed,
    pub progress: BackupProgress,
}

struct State {
    wanted: mpsc::Receiver<Result<Wanted>>,
    earlier: Option<(Reader, Timestamp)>,
    shelf: (String, Arc<HashMap<String, u64>>),
}

/// What is known of a file before it is sent.
struct Task {
    wanted: Wanted,
    carried: Option<String>,
    shelf: Arc<HashMap<String, u64>>,
}

pub async fn all(job: Job) -> Result<Sent> {
    let Job { copy, data, to, progress, earlier, list } = job;
    let format_1 = data.join("store/blobs").is_dir();
    let counting = copy.clone();
    let (files, bytes) = copying::blocking(move || counting.totals(format_1)).await?;
    let mut now = BackupProgress { stage: BackupStage::Sending, files, bytes, ..BackupProgress::default() };
    let (sender, wanted) = mpsc::channel(QUEUE);
    let producer = tokio::task::spawn_blocking(move || {
        if let Err(error) = produce(&copy, &data, format_1, &sender) {
            let _ = sender.blocking_send(Err(error));
        }
    });
    let looking = to.clone();
    let state = State { wanted, earlier, shelf: Default::default() };
    let tasks = stream::try_unfold(state, move |state| next(state, looking.clone()));
    let mut entries = std::pin::pin!(tasks.map_ok(move |task| one(task, to.clone())).try_buffered(AT_ONCE));
    let mut writer = Writer::create(&list)?;
    while let Some((entry, sent)) = entries.try_next().await? {
        now.files_done += 1;
        now.bytes_done += entry.size;
        // Logs, and the unnamed rest of segments, were not counted before.
        now.files = now.files.max(now.files_done);
        now.bytes = now.bytes.max(now.bytes_done);
        if sent {
            now.files_sent += 1;
            now.bytes_sent += entry.size;
        }
        writer.push(&entry)?;
        progress(now);
    }
    producer.await.map_err(|e| Error::internal("the files of a backup could not be listed", e))?;
    (now.files, now.bytes) = (now.files_done, now.bytes_done);
    Ok(Sent { list: writer.finish()?, progress: now })
}

/// By path: blobs and files, logs, segments.
fn produce(copy: &StoreCopy, data: &std::path::Path, format_1: bool, to: &mpsc::Sender<Result<Wanted>>) -> Result<()> {
    let send = |wanted| to.blocking_send(Ok(wanted)).map_err(|_| Error::bug("nobody takes the files of a backup"));
    let mut logs = Some(logs(data)?);
    copy.files(format_1, |file| {
        let at = data.join("store").join(&file.path);
        let mut size = file.size;
        if file.is_segment() {
            logs.take().into_iter().flatten().try_for_each(send)?;
            size = std::fs::metadata(&at).map_err(|e| failed("read", &at, e))?.len();
            if size < file.size {
                return Err(Error::Conflict(format!(
                    "{} has {size} bytes, and the index names {} of them: it is damaged; 'muonic store scrub' says what is lost",
                    at.display(),
                    file.size
                )));
            }
        }
        send(Wanted { path: file.path, at, size, modified: None })
    })?;
    logs.into_iter().flatten().try_for_each(send)
}

fn logs(data: &std::path::Path) -> Result<Vec<Wanted>> {
    let folder = data.join("logs");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed("read", &folder, e)),
    };
    let mut logs = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| failed("read", &folder, e))?;
        let Some(name) = entry.file_name().into_string().ok().filter(|name| name.ends_with(".log")) else { continue };
        // A log that has gone meanwhile belongs to nothing any more.
        let Ok(found) = entry.metadata() else { continue };
        let (at, size) = (entry.path(), found.len());
        logs.push(Wanted { path: format!("logs/{name}"), at, size, modified: found.modified().ok() });
    }
    logs.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(logs)
}

async fn next(mut state: State, to: Arc<Destination>) -> Result<Option<(Task, State)>> {
    let Some(wanted) = state.wanted.recv().await.transpose()? else { return Ok(None) };
    let is_log = wanted.path.starts_with("logs/");
    let carried = match &mut state.earlier {
        None => None,
        Some((list, at)) => {
            let same = list.seek(&wanted.path)?.filter(|entry| entry.size == wanted.size);
            let unchanged = !is_log
                || wanted.modified.is_some_and(|time| Timestamp::try_from(time + SLACK).is_ok_and(|time| time < *at));
            same.filter(|_| unchanged).map(|entry| entry.sha256.clone())
        }
    };
    let name = if is_log { stored_log("") } else { stored(&wanted.path, wanted.size) };
    if shelf(&name) != state.shelf.0 {
        let folder = shelf(&name).to_owned();
        let found = to.list(&format!("{folder}/")).await?;
        state.shelf = (folder, Arc::new(found.into_iter().map(|found| (found.name, found.size)).collect()));
    }
    let shelf = state.shelf.1.clone();
    Ok(Some((Task { wanted, carried, shelf }, state)))
}

/// The entry of a file that is at the destination now, and whether it was sent.
async fn one(task: Task, to: Arc<Destination>) -> Result<(Entry, bool)> {
    let Task { wanted: Wanted { path, at, size, .. }, carried, shelf } = task;
    let has = |name: &str| shelf.get(name) == Some(&size);
    if path.starts_with("logs/") {
        let sha256 = match carried {
            Some(sha256) => sha256,
            None => copying::hash(&at, size).await?,
        };
        let name = stored_log(&sha256);
        let sent = !has(&name);
        if sent && send(&to, &name, &at, size).await? != sha256 {
            to.remove(&name).await?;
            return Err(Error::Unavailable(format!("{} was replaced while it was copied", at.display())));
        }
        return Ok((Entry { path, size, sha256 }, sent));
    }
    let name = stored(&path, size);
    match (has(&name), carried) {
        (true, Some(sha256)) => Ok((Entry { path, size, sha256 }, false)),
        // Of a backup that was interrupted.
        (true, None) => Ok((Entry { sha256: copying::hash(&at, size).await?, path, size }, false)),
        (false, _) => {
            let found = tokio::fs::metadata(&at).await.map_err(|e| failed("read", &at, e))?.len();
            if found != size {
                return Err(Error::Conflict(format!(
                    "{} has {found} bytes, the index names {size}: it is damaged; 'muonic store scrub' says what is lost",
                    at.display()
                )));
            }
            let sha256 = send(&to, &name, &at, size).await?;
            Ok((Entry { path, size, sha256 }, true))
        }
    }
}

/// Sends a file; answers its hash.
pub async fn send(to: &Destination, name: &str, at: &std::path::Path, size: u64) -> Result<String> {
    let (body, sum) = copying::read(at, size).await?;
    to.put(name, size, Box::pin(body)).await.map_err(|error| match error {
        Error::Body(e) => failed("read", at, e),
        error => error,
    })?;
    match sum.finish() {
        (sha256, length) if length == size => Ok(sha256),
        (_, length) => Err(Error::bug(format!("{} bytes of {size} of {} were sent", length, at.display()))),
    }
}
