//! The manifest of an export: JSON, one object a line, by key.
//!
//! One that is being written is `manifest.jsonl.part`; an export that was cut
//! off leaves it behind as `manifest.jsonl.cut` for the next. A last line
//! that is not whole is passed over.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use muonic_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, failed};

pub(crate) const NAME: &str = "manifest.jsonl";
const PART: &str = "manifest.jsonl.part";
const CUT: &str = "manifest.jsonl.cut";
const FORMAT: u32 = 1;
const LINE_BYTES_MAX: u64 = 16 << 20;

/// The first line.
#[derive(Serialize, Deserialize)]
pub(crate) struct Head {
    pub muonic_export: u32,
    pub bucket: String,
}

/// An object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub key: String,
    pub version: String,
    pub etag: String,
    pub size: u64,
    /// Of its bytes, in hexadecimal; empty where it was left out.
    pub md5: String,
    pub modified_at: Timestamp,
    /// Below the export's folder; none where it was left out.
    pub path: Option<String>,
    /// Why it was left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// The key by name that it was encrypted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption_key: Option<String>,
}

/// Reads a manifest from its beginning.
pub(crate) struct Reader {
    path: PathBuf,
    lines: BufReader<File>,
    line: u64,
}

impl Reader {
    /// `None` where there is no such file, or it is no manifest of ours.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed("open", path)(e)),
        };
        let mut reader = Self { path: path.to_owned(), lines: BufReader::new(file), line: 0 };
        let head = reader.text()?.and_then(|text| serde_json::from_str::<Head>(&text).ok());
        match head {
            Some(head) if head.muonic_export == FORMAT => Ok(Some(reader)),
            Some(head) => {
                Err(reader.wrong(format!("its format is {}, this muonic reads {FORMAT}", head.muonic_export)))
            }
            None => Ok(None),
        }
    }

    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        let Some(text) = self.text()? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|e| self.wrong(e.to_string()))
    }

    fn text(&mut self) -> Result<Option<String>> {
        let mut text = String::new();
        let read = self.lines.by_ref().take(LINE_BYTES_MAX).read_line(&mut text);
        read.map_err(failed("read", &self.path))?;
        self.line += 1;
        if text.len() as u64 == LINE_BYTES_MAX {
            return Err(self.wrong("it is too long".to_owned()));
        }
        Ok(text.ends_with('\n').then_some(text))
    }

    fn wrong(&self, what: String) -> Error {
        Error::Manifest { path: self.path.clone(), line: self.line, what }
    }
}

/// Whether an export into the folder never came to its end.
pub(crate) fn is_cut_off(folder: &Path) -> bool {
    [PART, CUT].iter().any(|name| folder.join(name).exists()) && !folder.join(NAME).exists()
}

/// What earlier exports into the folder have copied, asked for in the order of
/// keys.
pub(crate) struct Known(Vec<(Reader, Option<Entry>)>);

impl Known {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let (part, cut) = (folder.join(PART), folder.join(CUT));
        let size = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
        // Of two that were cut off the longer one knows more.
        if size(&part) > size(&cut) {
            fs::rename(&part, &cut).map_err(failed("rename", &part))?;
        }
        let mut all = Vec::new();
        for path in [folder.join(NAME), cut] {
            if let Some(mut reader) = Reader::open(&path)? {
                let first = reader.next()?;
                all.push((reader, first));
            }
        }
        Ok(Self(all))
    }

    /// Those of this key.
    pub(crate) fn of(&mut self, key: &str) -> Result<Vec<Entry>> {
        let mut found = Vec::new();
        for (reader, next) in &mut self.0 {
            while next.as_ref().is_some_and(|entry| entry.key.as_str() < key) {
                *next = reader.next()?;
            }
            found.extend(next.clone().filter(|entry| entry.key == key));
        }
        Ok(found)
    }
}

/// Writes lines once all files before them are on the disk.
pub(crate) struct Writer {
    folder: PathBuf,
    file: File,
    waiting: Vec<u8>,
    entries: u64,
    bytes: u64,
}

/// After so many entries, or bytes of contents, they are made durable.
const BATCH_ENTRIES: u64 = 1000;
const BATCH_BYTES: u64 = 256 << 20;

impl Writer {
    pub(crate) fn create(folder: &Path, bucket: &str) -> Result<Self> {
        let path = folder.join(PART);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let file = file.map_err(failed("make", &path))?;
        let mut writer = Self { folder: folder.to_owned(), file, waiting: Vec::new(), entries: 0, bytes: 0 };
        writer.line(&Head { muonic_export: FORMAT, bucket: bucket.to_owned() })?;
        Ok(writer)
    }

    pub(crate) fn add(&mut self, entry: &Entry, copied: u64) -> Result<()> {
        self.line(entry)?;
        self.entries += 1;
        self.bytes += copied;
        if self.entries >= BATCH_ENTRIES || self.bytes >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn line(&mut self, value: &impl Serialize) -> Result<()> {
        let failed = failed("write", &self.folder.join(PART));
        serde_json::to_writer(&mut self.waiting, value).map_err(|e| failed(e.into()))?;
        self.waiting.push(b'\n');
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let part = self.folder.join(PART);
        nix::unistd::syncfs(&self.file).map_err(|e| failed("sync", &self.folder)(e.into()))?;
        self.file.write_all(&self.waiting).map_err(failed("write", &part))?;
        self.file.sync_data().map_err(failed("sync", &part))?;
        (self.entries, self.bytes) = (0, 0);
        self.waiting.clear();
        Ok(())
    }

    /// It is the manifest from now on.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.flush()?;
        let (part, path) = (self.folder.join(PART), self.folder.join(NAME));
        fs::rename(&part, &path).map_err(failed("rename", &part))?;
        match fs::remove_file(self.folder.join(CUT)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &self.folder.join(CUT))(e)),
            _ => {}
        }
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(failed("sync", &self.folder))
    }
}
