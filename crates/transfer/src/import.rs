//! Plain files as objects of a bucket: those of an export, with all that its
//! manifest says of them, or those of any folder, by their paths.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use futures_util::StreamExt;
use md5::{Digest, Md5};
use muonic_ports::ObjectStore;
use muonic_ports::object_store::{Error as StoreError, NewEncryption, NewObject, Precondition, Target};
use muonic_types::Timestamp;
use nix::fcntl::OFlag;
use tokio_util::io::ReaderStream;

use crate::error::{Error, Result, failed};
use crate::manifest::{self, Entry};
use crate::names;
use crate::report::Report;

const KEY_BYTES_MAX: usize = 1024;
const PIECE_BYTES: usize = 1 << 20;

/// Puts the files of `from` into a bucket that is there, as objects of this
/// owner. What the bucket has already, equal in bytes and headers, stays.
/// Links, and files whose names can be no keys, are left out and named.
pub async fn import(
    store: &dyn ObjectStore,
    bucket: &str,
    owner: &str,
    from: &Path,
    told: &mut (dyn FnMut(&Report) + Send),
) -> Result<Report> {
    let mut import = Import { store, bucket, owner, report: Report::default(), told };
    match manifest::Reader::open(&from.join(manifest::NAME))? {
        Some(mut lines) => {
            while let Some(entry) = lines.next()? {
                import.entry(from, entry).await?;
            }
        }
        None if manifest::is_cut_off(from) => {
            let (path, what) = (from.join(manifest::NAME), "the export into this folder was cut off: run it again");
            return Err(Error::Manifest { path, line: 0, what: what.to_owned() });
        }
        None => import.folder(from).await?,
    }
    Ok(import.report)
}

struct Import<'a> {
    store: &'a dyn ObjectStore,
    bucket: &'a str,
    owner: &'a str,
    report: Report,
    told: &'a mut (dyn FnMut(&Report) + Send),
}

/// A file, and the object that it is to be.
struct Item {
    path: PathBuf,
    key: String,
    new: NewObject,
    /// What its bytes must be.
    md5: Option<String>,
}

impl Import<'_> {
    async fn entry(&mut self, from: &Path, entry: Entry) -> Result<()> {
        let Some(path) = entry.path else {
            let why = entry.left_out.unwrap_or_default();
            self.report.leave_out(entry.key, format!("the export has left it out: {why}"));
            return Ok(());
        };
        // A manifest is a file like any other: it must not lead elsewhere.
        if !names::is_path(&path) || leads_out(from, &from.join(&path)) {
            self.report.leave_out(entry.key, "the manifest's path for it leads out of the folder");
            return Ok(());
        }
        let encryption = match entry.encryption_key {
            Some(name) => NewEncryption::Named(Some(name)),
            None => NewEncryption::Store,
        };
        let new = NewObject {
            headers: entry.headers,
            tags: entry.tags,
            owner: self.owner.to_owned(),
            encryption,
            ..NewObject::default()
        };
        self.item(Item { path: from.join(path), key: entry.key, new, md5: Some(entry.md5) }).await
    }

    /// All files below it, folder by folder.
    async fn folder(&mut self, from: &Path) -> Result<()> {
        let mut folders = vec![from.to_owned()];
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder).map_err(failed("read", &folder))?;
            let mut entries = entries.collect::<io::Result<Vec<_>>>().map_err(failed("read", &folder))?;
            entries.sort_by_key(|entry| entry.file_name());
            for entry in entries {
                let path = entry.path();
                let kind = entry.file_type().map_err(failed("look at", &path))?;
                if kind.is_dir() {
                    folders.push(path);
                    continue;
                }
                let key = path.strip_prefix(from).ok().and_then(Path::to_str).map(str::to_owned);
                match key {
                    _ if !kind.is_file() => self.report.leave_out(path.display().to_string(), "it is no file"),
                    None => self.report.leave_out(path.display().to_string(), "its name is not UTF-8"),
                    Some(key) => {
                        let new = NewObject { owner: self.owner.to_owned(), ..NewObject::default() };
                        self.item(Item { path, key, new, md5: None }).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn item(&mut self, item: Item) -> Result<()> {
        if item.key.is_empty() || item.key.len() > KEY_BYTES_MAX {
            let why = format!("a key has 1 to {KEY_BYTES_MAX} bytes");
            self.report.leave_out(item.path.display().to_string(), why);
            return Ok(());
        }
        let file = match open(&item.path) {
            Ok(file) => file,
            Err(e) => {
                self.report.leave_out(item.path.display().to_string(), format!("it cannot be read: {e}"));
                return Ok(());
            }
        };
        let size = file.metadata().map_err(failed("look at", &item.path))?.len();
        if self.is_there(&item, &file, size).await? {
            self.report.unchanged += 1;
        } else {
            self.put(item, file).await?;
        }
        (self.told)(&self.report);
        Ok(())
    }

    async fn is_there(&self, item: &Item, file: &File, size: u64) -> Result<bool> {
        let found = self.store.get(self.bucket, &item.key, None).await;
        let found = found.map_err(Error::store(format!("the object '{}'", item.key)))?;
        let Some(found) = found.filter(|found| !found.is_delete_marker && found.size == size) else {
            return Ok(false);
        };
        if item.md5.is_some() && (found.headers != item.new.headers || found.tags != item.new.tags) {
            return Ok(false);
        }
        match &item.md5 {
            Some(md5) => Ok(*md5 == found.etag),
            None => Ok(md5_of(file).map_err(failed("read", &item.path))? == found.etag),
        }
    }

    async fn put(&mut self, item: Item, file: File) -> Result<()> {
        let Item { path, key, new, md5: expected } = item;
        // Read anew from its beginning.
        drop(file);
        let file = open(&path).map_err(failed("open", &path))?;
        let body = ReaderStream::with_capacity(tokio::fs::File::from_std(file), PIECE_BYTES).boxed();
        let target = Target {
            bucket: self.bucket.to_owned(),
            key: key.clone(),
            condition: Precondition::default(),
            at: Timestamp::now(),
        };
        let verify = Box::new(move |sums: &muonic_ports::object_store::Sums| {
            let md5 = HEXLOWER.encode(&sums.md5);
            match expected {
                Some(expected) if expected != md5 => {
                    Err(StoreError::Checksum(format!("its MD5 is {md5}, and the manifest says {expected}")))
                }
                _ => Ok(()),
            }
        });
        match self.store.put(target, new, body, verify).await {
            Ok(object) => {
                self.report.objects += 1;
                self.report.bytes += object.size;
                Ok(())
            }
            Err(StoreError::Checksum(why)) => {
                self.report.leave_out(path.display().to_string(), why);
                Ok(())
            }
            Err(StoreError::Store(muonic_ports::Error::Body(e))) => {
                self.report.leave_out(path.display().to_string(), format!("it cannot be read: {e}"));
                Ok(())
            }
            Err(source) => Err(Error::Store { what: format!("the object '{key}'"), source }),
        }
    }
}

/// By links. What is not there leads nowhere.
fn leads_out(folder: &Path, path: &Path) -> bool {
    match (folder.canonicalize(), path.canonicalize()) {
        (Ok(folder), Ok(path)) => !path.starts_with(folder),
        _ => false,
    }
}

/// Follows no link in its last part, and waits for no pipe.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no file")),
    }
}

fn md5_of(mut file: &File) -> io::Result<String> {
    let (mut md5, mut piece) = (Md5::new(), vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(HEXLOWER.encode(&md5.finalize())),
            n => md5.update(&piece[..n]),
        }
    }
}
