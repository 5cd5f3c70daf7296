//! Reading, a mebibyte at a time, one piece ahead of the consumer.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::stream;
use muonic_ports::blob_store::ByteStream;
use muonic_ports::{Error, Result};
use muonic_types::{Digest, Hasher};
use tokio::task::{JoinHandle, spawn_blocking};

use super::blocking;
use crate::gate::failed;

const PIECE_BYTES: u64 = 1 << 20;

pub(super) async fn get(path: PathBuf, digest: Digest, range: Option<Range<u64>>) -> Result<(u64, ByteStream)> {
    let (size, first) = blocking(move || {
        let file = open(&path, &digest)?;
        let size = file.metadata().map_err(|e| failed("look at", &path, e))?.len();
        let (from, end, check) = match range {
            None => (0, size, Some((digest, Hasher::new()))),
            Some(range) => (range.start.min(size), range.end.min(size), None),
        };
        // The first piece is read at once: a small blob that is damaged is
        // an error here, before a door has begun its answer.
        let first = Box::new(Reader { file, path, at: from, end, check }).next().map_err(|e| match e.kind() {
            io::ErrorKind::InvalidData => Error::Checksum(e.to_string()),
            _ => Error::internal(format!("cannot read the blob {digest}"), e),
        })?;
        Ok((size, first))
    })
    .await?;
    Ok((size, Box::pin(stream::unfold(State::Ready(Ok(first)), State::step))))
}

fn open(path: &Path, digest: &Digest) -> Result<File> {
    File::open(path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Error::NotFound(format!("there is no blob {digest}")),
        _ => failed("open", path, e),
    })
}

/// A piece and the reader of the next one; `None` at the end.
type Next = Option<(Bytes, Box<Reader>)>;

enum State {
    Ready(io::Result<Next>),
    Reading(JoinHandle<io::Result<Next>>),
}

impl State {
    async fn step(self) -> Option<(io::Result<Bytes>, Self)> {
        let next = match self {
            Self::Ready(next) => next,
            Self::Reading(task) => task.await.unwrap_or_else(|e| Err(io::Error::other(e))),
        };
        match next {
            Ok(None) => None,
            Ok(Some((piece, reader))) if reader.at == reader.end => Some((Ok(piece), Self::Ready(Ok(None)))),
            Ok(Some((piece, reader))) => Some((Ok(piece), Self::Reading(spawn_blocking(move || reader.next())))),
            Err(e) => {
                tracing::error!(error = %e, "a blob could not be read");
                Some((Err(e), Self::Ready(Ok(None))))
            }
        }
    }
}

struct Reader {
    file: File,
    path: PathBuf,
    at: u64,
    end: u64,
    /// What a whole read must come to.
    check: Option<(Digest, Hasher)>,
}

impl Reader {
    fn next(mut self: Box<Self>) -> io::Result<Next> {
        let want = self.end.saturating_sub(self.at).min(PIECE_BYTES);
        let mut piece = vec![0; want as usize];
        self.file.read_exact_at(&mut piece, self.at).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => {
                io::Error::new(io::ErrorKind::InvalidData, format!("{} has become shorter", self.path.display()))
            }
            _ => e,
        })?;
        self.at += want;
        if let Some((_, hasher)) = &mut self.check {
            hasher.update(&piece);
        }
        // The last piece leaves only after the whole has been verified.
        if self.at >= self.end
            && let Some((digest, hasher)) = self.check.take()
            && hasher.finish() != digest
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} is damaged: its content is not {digest}", self.path.display()),
            ));
        }
        Ok((want > 0).then(|| (piece.into(), self)))
    }
}
