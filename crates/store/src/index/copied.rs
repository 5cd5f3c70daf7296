//! A copy of the index that nobody writes to: which files it needs. For
//! backups, and for the check after one was restored.

use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use muonic_ports::{Error, Result};
use rusqlite::{Connection, OpenFlags};

/// A file that the index needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// From the store's folder on, such as `files/ab/<hex32>`.
    pub path: String,
    /// Bytes of it that are named. A segment may have more; the others have
    /// exactly so many.
    pub size: u64,
}

impl StoredFile {
    pub fn is_segment(&self) -> bool {
        self.path.starts_with(SEGMENTS)
    }
}

const SEGMENTS: &str = "segments/";

/// A copy of the index.
pub struct StoreCopy {
    path: PathBuf,
}

/// What nothing names any longer may be gone already.
const FILES: &str = "SELECT id, length FROM extents
    WHERE place = 2 AND (row >> 14) NOT IN (SELECT content FROM garbage) ORDER BY id";
const SEGMENT: &str = "SELECT id, used FROM segments WHERE live > 0 ORDER BY id";
const FORMAT_1: &str = "SELECT digest, length FROM extents
    WHERE place = 3 AND (row >> 14) NOT IN (SELECT content FROM garbage) ORDER BY digest";

impl StoreCopy {
    /// Opens the copy at `path`. Blocks shortly.
    pub fn open(path: &Path) -> Result<Self> {
        let copy = Self { path: path.to_owned() };
        copy.connect()?.pragma_query_value(None, "user_version", |_| Ok(())).map_err(|e| copy.failed(e))?;
        Ok(copy)
    }

    /// How many files it needs and the bytes they have. Blocks. Segments
    /// count with what is named of them.
    pub fn totals(&self, format_1: bool) -> Result<(u64, u64)> {
        let (mut files, mut bytes) = (0, 0);
        self.files(format_1, |file| {
            files += 1;
            bytes += file.size;
            Ok(())
        })?;
        Ok((files, bytes))
    }

    /// Every file it needs, by path. `format_1`: whether there may be blobs of
    /// the first format, which are found by reading all of the copy. Blocks.
    pub fn files(&self, format_1: bool, mut each: impl FnMut(StoredFile) -> Result<()>) -> Result<()> {
        let conn = self.connect()?;
        let mut all = |sql: &str, folder: &str| -> Result<()> {
            let failed = |e| self.failed(e);
            let mut found = conn.prepare(sql).map_err(failed)?;
            let mut rows = found.query([]).map_err(failed)?;
            while let Some(row) = rows.next().map_err(failed)? {
                let name = row.get_ref(0).map_err(failed)?.as_blob().map_err(|e| failed(e.into()))?;
                let name = HEXLOWER.encode(name);
                let fan = name.get(..2).unwrap_or_default();
                each(StoredFile { path: format!("{folder}/{fan}/{name}"), size: row.get(1).map_err(failed)? })?;
            }
            Ok(())
        };
        if format_1 {
            all(FORMAT_1, "blobs")?;
        }
        all(FILES, "files")?;
        let failed = |e| self.failed(e);
        let mut found = conn.prepare(SEGMENT).map_err(failed)?;
        let mut rows = found.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let number: u64 = row.get(0).map_err(failed)?;
            each(StoredFile { path: format!("{SEGMENTS}{number:016x}"), size: row.get(1).map_err(failed)? })?;
        }
        Ok(())
    }

    /// What is wrong with the copy and the files under `root`, the store's
    /// folder: a damaged database, a file that is missing or has another size.
    /// Empty where nothing is; at most 20 sentences. Blocks, and reads all of
    /// the copy.
    pub fn check(&self, root: &Path) -> Result<Vec<String>> {
        const MOST: usize = 20;
        let mut wrong = Vec::new();
        let conn = self.connect()?;
        let told = conn.pragma_query(None, "quick_check", |row| {
            let line: String = row.get(0)?;
            if line != "ok" && wrong.len() < MOST {
                wrong.push(format!("the index: {line}"));
            }
            Ok(())
        });
        told.map_err(|e| self.failed(e))?;
        self.files(root.join("blobs").is_dir(), |file| {
            let found = std::fs::metadata(root.join(&file.path)).map(|found| found.len());
            let what = match found {
                Ok(size) if size == file.size || (file.is_segment() && size >= file.size) => return Ok(()),
                Ok(size) => format!("{} has {size} bytes, the index names {}", file.path, file.size),
                Err(e) => format!("{} cannot be read: {e}", file.path),
            };
            if wrong.len() < MOST {
                wrong.push(what);
            }
            Ok(())
        })?;
        Ok(wrong)
    }

    fn connect(&self) -> Result<Connection> {
        // Immutable: no side files are made, and none is looked for.
        let path = self.path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn =
            Connection::open_with_flags(format!("file:{path}?immutable=1"), flags).map_err(|e| self.failed(e))?;
        conn.pragma_update(None, "trusted_schema", false).map_err(|e| self.failed(e))?;
        Ok(conn)
    }

    fn failed(&self, error: rusqlite::Error) -> Error {
        Error::internal(format!("the copy {} of the store's index cannot be read: {error}", self.path.display()), error)
    }
}
