//! A folder of this machine as a destination. All of it is for its owner
//! alone: folders have mode 0700, files 0600.
//!
//! Invariant: a file has its name when its bytes are synced; names are durable
//! after `settle`.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt;
use muonic_mounts::Found;
use muonic_ports::blob_store::ByteStream;
use muonic_ports::{Error, Result};

use crate::copying::{self, blocking, failed};

#[derive(Clone)]
pub struct Folder {
    root: PathBuf,
    /// Folders with names that are not durable yet.
    unsettled: Arc<Mutex<HashSet<PathBuf>>>,
}

impl Folder {
    pub fn new(root: PathBuf) -> Self {
        Self { root, unsettled: Arc::default() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    fn unsettled(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub async fn put(&self, name: &str, size: u64, mut body: ByteStream) -> Result<()> {
        let path = self.root.join(name);
        let (Some(parent), Some(last)) = (path.parent().map(Path::to_owned), path.file_name()) else {
            return Err(Error::bug(format!("'{name}' is no name of a file")));
        };
        let part = parent.join(format!(".{}.part", last.to_string_lossy()));
        let (folder, making, at) = (self.clone(), parent.clone(), part.clone());
        let mut file = blocking(move || {
            folder.make(&making)?;
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&at);
            file.map_err(|e| failed("write", &at, e))
        })
        .await?;
        let mut written = 0;
        while let Some(piece) = body.next().await {
            let piece: Bytes = piece.map_err(Error::Body)?;
            written += piece.len() as u64;
            let at = part.clone();
            file = blocking(move || {
                file.write_all(&piece).map_err(|e| failed("write", &at, e))?;
                Ok(file)
            })
            .await?;
        }
        if written != size {
            return Err(Error::Body(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{written} of {size} bytes"),
            )));
        }
        let folder = self.clone();
        blocking(move || {
            file.sync_all().map_err(|e| failed("sync", &part, e))?;
            fs::rename(&part, &path).map_err(|e| failed("write", &path, e))?;
            folder.unsettled().insert(parent);
            Ok(())
        })
        .await
    }

    /// Makes all names durable.
    pub async fn settle(&self) -> Result<()> {
        let folders: Vec<PathBuf> = self.unsettled().drain().collect();
        blocking(move || folders.iter().try_for_each(|folder| sync(folder))).await
    }

    pub async fn get(&self, name: &str) -> Result<Option<(u64, ByteStream)>> {
        let path = self.root.join(name);
        let size = match tokio::fs::metadata(&path).await {
            Ok(found) => found.len(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed("read", &path, e)),
        };
        let (body, _) = copying::read(&path, size).await?;
        Ok(Some((size, Box::pin(body))))
    }

    pub async fn list(&self, folder: &str) -> Result<Vec<Found>> {
        let (root, below) = (self.root.clone(), folder.trim_end_matches('/').to_owned());
        blocking(move || {
            let mut found = Vec::new();
            let mut folders = vec![below];
            while let Some(name) = folders.pop() {
                let path = root.join(&name);
                let entries = match fs::read_dir(&path) {
                    Ok(entries) => entries,
                    Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                    Err(e) => return Err(failed("read", &path, e)),
                };
                for entry in entries {
                    let entry = entry.map_err(|e| failed("read", &path, e))?;
                    // What is no name of ours is none of our business.
                    let Ok(last) = entry.file_name().into_string() else { continue };
                    let kind = entry.metadata().map_err(|e| failed("read", &entry.path(), e))?;
                    if kind.is_dir() {
                        folders.push(format!("{name}/{last}"));
                    } else if kind.is_file() {
                        found.push(Found { name: format!("{name}/{last}"), size: kind.len() });
                    }
                }
            }
            Ok(found)
        })
        .await
    }

    pub async fn remove(&self, name: &str) -> Result<()> {
        let (folder, path) = (self.clone(), self.root.join(name));
        blocking(move || {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &path, e)),
                _ => {}
            }
            // Of a snapshot nothing is left, not even its folder; others stay.
            if let Some(parent) = path.parent() {
                if parent.starts_with(folder.root.join("snapshots")) && fs::remove_dir(parent).is_ok() {
                    folder.unsettled().remove(parent);
                    folder.unsettled().extend(parent.parent().map(Path::to_owned));
                } else {
                    folder.unsettled().insert(parent.to_owned());
                }
            }
            Ok(())
        })
        .await
    }

    /// Nothing but this destination's own files is in the folder.
    pub async fn is_empty(&self) -> Result<bool> {
        let root = self.root.clone();
        blocking(move || match fs::read_dir(&root) {
            Ok(mut entries) => Ok(entries.next().is_none()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(e) => Err(failed("read", &root, e)),
        })
        .await
    }

    /// With all above it up to what is there.
    fn make(&self, path: &Path) -> Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.make(parent)?;
            self.unsettled().insert(parent.to_owned());
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(failed("make the folder", path, e)),
            _ => Ok(()),
        }
    }
}

fn sync(folder: &Path) -> Result<()> {
    match File::open(folder) {
        // It went with the snapshot it was for.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        file => file.and_then(|file| file.sync_all()).map_err(|e| failed("sync", folder, e)),
    }
}
