//! A bucket as plain files: the latest version of each object.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use futures_util::StreamExt;
use md5::{Digest, Md5};
use muonic_ports::ObjectStore;
use muonic_ports::object_store::{After, Encryption, ListQuery, ObjectVersion};

use crate::error::{Error, Result, failed};
use crate::manifest::{Entry, Known, Writer};
use crate::names;
use crate::report::Report;

const PAGE: u32 = 1000;
const PARTIAL: &str = "partial";

/// Writes the objects of a bucket into `folder`, which is made where there is
/// none. What an earlier run has copied and has not changed stays. `told` hears
/// of progress. What is encrypted with a customer's key, or damaged, is left
/// out and named.
pub async fn export(
    store: &dyn ObjectStore,
    bucket: &str,
    folder: &Path,
    told: &mut (dyn FnMut(&Report) + Send),
) -> Result<Report> {
    make_folder(folder)?;
    let mut export = Export { store, bucket, folder, known: Known::open(folder)?, report: Report::default(), told };
    let mut manifest = Writer::create(folder, bucket)?;
    let mut query = ListQuery { max: PAGE, ..ListQuery::default() };
    loop {
        let page = store.list(bucket, &query).await.map_err(Error::store(format!("the bucket '{bucket}'")))?;
        for listed in page.objects {
            export.one(&listed.key, &mut manifest).await?;
        }
        match page.next {
            Some(next) => query.after = next,
            None => break,
        }
    }
    manifest.finish()?;
    Ok(export.report)
}

struct Export<'a> {
    store: &'a dyn ObjectStore,
    bucket: &'a str,
    folder: &'a Path,
    known: Known,
    report: Report,
    told: &'a mut (dyn FnMut(&Report) + Send),
}

impl Export<'_> {
    async fn one(&mut self, key: &str, manifest: &mut Writer) -> Result<()> {
        let found =
            self.store.get(self.bucket, key, None).await.map_err(Error::store(format!("the object '{key}'")))?;
        // Nobody writes meanwhile; but a listing is no promise.
        let Some(object) = found.filter(|object| !object.is_delete_marker) else { return Ok(()) };
        let path = self.path_of(key).await?;
        let mut entry = entry_of(&object, path.clone());
        let before = self.known.of(key)?.into_iter().find(|old| is_same(old, &entry));
        if let Some(old) = before
            && fs::symlink_metadata(self.folder.join(&path)).is_ok_and(|f| f.is_file() && f.len() == old.size)
        {
            entry.md5 = old.md5;
            self.report.unchanged += 1;
            manifest.add(&entry, 0)?;
            (self.told)(&self.report);
            return Ok(());
        }
        match self.copy(&object, &path).await? {
            Ok(md5) => {
                entry.md5 = md5;
                self.report.objects += 1;
                self.report.bytes += object.size;
                manifest.add(&entry, object.size)?;
            }
            Err(why) => {
                self.report.leave_out(key, &why);
                entry.path = None;
                entry.left_out = Some(why);
                manifest.add(&entry, 0)?;
            }
        }
        (self.told)(&self.report);
        Ok(())
    }

    /// Where it goes, below the folder. A key that begins another one's path
    /// would be file and folder at once.
    async fn path_of(&self, key: &str) -> Result<String> {
        let mut plain = names::is_path(key);
        if plain {
            let below = ListQuery { prefix: format!("{key}/"), after: After::Start, max: 1, ..ListQuery::default() };
            let below = self.store.list(self.bucket, &below).await;
            plain = below.map_err(Error::store(format!("the object '{key}'")))?.objects.is_empty();
        }
        Ok(if plain { format!("objects/{key}") } else { format!("escaped/{}", names::escaped(key)) })
    }

    /// The MD5 of its bytes, or why it cannot be read.
    async fn copy(&self, object: &ObjectVersion, path: &str) -> Result<std::result::Result<String, String>> {
        if matches!(object.encryption, Encryption::Customer { .. }) {
            return Ok(Err("it is encrypted with a customer's key, which the store does not have".to_owned()));
        }
        let mut body = match self.store.read(object, None, None).await {
            Ok(body) => body,
            Err(e) => return Ok(Err(format!("it cannot be read: {e}"))),
        };
        let partial = self.folder.join(PARTIAL);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial);
        let mut file = file.map_err(failed("make", &partial))?;
        let (mut md5, mut size) = (Md5::new(), 0u64);
        while let Some(piece) = body.next().await {
            let piece = match piece {
                Ok(piece) => piece,
                Err(e) => return Ok(Err(format!("it cannot be read: {e}"))),
            };
            size += piece.len() as u64;
            md5.update(&piece);
            file.write_all(&piece).map_err(failed("write", &partial))?;
        }
        let md5 = HEXLOWER.encode(&md5.finalize());
        // That they are the right bytes is the store's promise.
        if size != object.size {
            return Ok(Err(format!("{size} bytes were read of {}", object.size)));
        }
        self.place(file, &partial, path)?;
        Ok(Ok(md5))
    }

    fn place(&self, file: File, partial: &Path, path: &str) -> Result<()> {
        drop(file);
        let target: PathBuf = self.folder.join(path);
        if let Some(parent) = target.parent() {
            make_folder(parent)?;
        }
        fs::rename(partial, &target).map_err(failed("write", &target))
    }
}

fn make_folder(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("make the folder", path))
}

fn is_same(old: &Entry, new: &Entry) -> bool {
    (&old.version, &old.etag, old.size, &old.path, old.modified_at)
        == (&new.version, &new.etag, new.size, &new.path, new.modified_at)
}

fn entry_of(object: &ObjectVersion, path: String) -> Entry {
    Entry {
        key: object.key.clone(),
        version: object.version.to_string(),
        etag: object.etag.clone(),
        size: object.size,
        md5: String::new(),
        modified_at: object.modified_at,
        path: Some(path),
        left_out: None,
        headers: object.headers.clone(),
        tags: object.tags.clone(),
        encryption_key: match &object.encryption {
            Encryption::Named(name) => Some(name.clone()),
            _ => None,
        },
    }
}
