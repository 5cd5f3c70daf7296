//! The list of a snapshot's data files: JSON lines by path, so that lists are
//! compared side by side without being held in memory.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use muonic_ports::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::copying::{Sum, failed};
use crate::destination::Destination;
use crate::manifest::{FILES, Hashed, Manifest, in_snapshot};

/// Longer lines are not ours.
const LINE_BYTES_MAX: u64 = 4096;

/// A data file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// `files/..`, `segments/..` and `blobs/..` in the store's folder,
    /// `logs/..` beside it.
    pub path: String,
    pub size: u64,
    pub sha256: String,
}

impl Entry {
    /// Its name at the destination.
    pub fn stored(&self) -> String {
        match self.path.starts_with("logs/") {
            true => stored_log(&self.sha256),
            false => stored(&self.path, self.size),
        }
    }

    /// Where it lies in a data folder.
    pub fn restored(&self) -> String {
        if self.path.starts_with("logs/") { self.path.clone() } else { format!("store/{}", self.path) }
    }

    /// Whether it is a path that a backup writes down; all others are refused,
    /// so that no list can name a file outside of the data folder.
    fn is_sound(&self) -> bool {
        let parts: Vec<&str> = self.path.split('/').collect();
        let hex = |text: &str| text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
        let plain = |text: &str| !text.is_empty() && !text.starts_with('.') && !text.contains('\0');
        let sound = match parts.as_slice() {
            ["files", fan, name] => name.len() == 32 && hex(name) && name.starts_with(fan) && fan.len() == 2,
            ["blobs", fan, name] => name.len() == 64 && hex(name) && name.starts_with(fan) && fan.len() == 2,
            ["segments", name] => name.len() == 16 && hex(name),
            ["logs", name] => plain(name),
            _ => false,
        };
        sound && self.sha256.len() == 64 && hex(&self.sha256)
    }
}

/// The name at the destination of a file that never changes.
pub fn stored(path: &str, size: u64) -> String {
    format!("data/{path}.{size}")
}

/// Of a log, which grows: by content.
pub fn stored_log(sha256: &str) -> String {
    format!("data/logs/{sha256}")
}

/// Those of one folder are listed together.
pub fn shelf(stored: &str) -> &str {
    stored.rsplit_once('/').map_or("", |(shelf, _)| shelf)
}

pub struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
    sum: Sum,
}

impl Writer {
    pub fn create(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = BufWriter::new(file.map_err(|e| failed("create", path, e))?);
        Ok(Self { path: path.to_owned(), file, sum: Sum::new() })
    }

    pub fn push(&mut self, entry: &Entry) -> Result<()> {
        let mut line = serde_json::to_vec(entry).map_err(|e| Error::internal("a data file is no JSON", e))?;
        line.push(b'\n');
        self.sum.update(&line);
        self.file.write_all(&line).map_err(|e| failed("write", &self.path, e))
    }

    pub fn finish(mut self) -> Result<Hashed> {
        self.file.flush().map_err(|e| failed("write", &self.path, e))?;
        let (sha256, size) = self.sum.finish();
        Ok(Hashed { size, sha256 })
    }
}

pub struct Reader {
    shown: String,
    file: BufReader<File>,
    line: u64,
    next: Option<Entry>,
}

impl Reader {
    pub fn open(path: &Path, shown: String) -> Result<Self> {
        let file = BufReader::new(File::open(path).map_err(|e| failed("open", path, e))?);
        let mut reader = Self { shown, file, line: 0, next: None };
        reader.advance()?;
        Ok(reader)
    }

    pub fn peek(&self) -> Option<&Entry> {
        self.next.as_ref()
    }

    pub fn take(&mut self) -> Result<Option<Entry>> {
        let entry = self.next.take();
        if entry.is_some() {
            self.advance()?;
        }
        Ok(entry)
    }

    /// The entry of this path; those before it are passed by.
    pub fn seek(&mut self, path: &str) -> Result<Option<&Entry>> {
        while self.next.as_ref().is_some_and(|entry| entry.path.as_str() < path) {
            self.advance()?;
        }
        Ok(self.next.as_ref().filter(|entry| entry.path == path))
    }

    fn advance(&mut self) -> Result<()> {
        let mut line = String::new();
        self.line += 1;
        let wrong = |at: u64, shown: &str| Error::Conflict(format!("line {at} of the list of {shown} is damaged"));
        let read = std::io::Read::take(&mut self.file, LINE_BYTES_MAX).read_line(&mut line);
        read.map_err(|_| wrong(self.line, &self.shown))?;
        self.next = match line.is_empty() {
            true => None,
            false => {
                let entry: Option<Entry> = serde_json::from_str(&line).ok().filter(Entry::is_sound);
                Some(entry.ok_or_else(|| wrong(self.line, &self.shown))?)
            }
        };
        Ok(())
    }
}

/// The list of a snapshot, brought to `to` and verified.
pub async fn fetch(at: &Destination, manifest: &Manifest, to: &Path) -> Result<Reader> {
    let name = in_snapshot(&manifest.name, FILES);
    let missing = || Error::Conflict(format!("{name} is missing in {}", at.shown()));
    let (_, mut body) = at.get(&name).await?.ok_or_else(missing)?;
    let sum = Sum::new();
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to);
    let mut file = BufWriter::new(file.map_err(|e| failed("create", to, e))?);
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(Error::Body)?;
        sum.update(&piece);
        file.write_all(&piece).map_err(|e| failed("write", to, e))?;
    }
    file.flush().map_err(|e| failed("write", to, e))?;
    let (sha256, size) = sum.finish();
    if (Hashed { size, sha256 }) != manifest.list {
        return Err(Error::Checksum(format!("{name} in {} is damaged: it is not what was written", at.shown())));
    }
    Reader::open(to, manifest.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_a_store_are_taken() {
        let entry = |path: &str| Entry { path: path.to_owned(), size: 1, sha256: "0".repeat(64) };
        let good = [format!("files/0a/0a{}", "1".repeat(30)), format!("segments/{}", "f".repeat(16))];
        good.iter().for_each(|path| assert!(entry(path).is_sound(), "{path}"));
        assert!(entry("logs/train-1.1.log").is_sound());
        for bad in ["", "../x", "logs/../master.key", "logs/.hidden", "files/ab/../../x", "segments/zz", "/etc/passwd"]
        {
            assert!(!entry(bad).is_sound(), "{bad}");
        }
    }
}
