//! Listings of stores that have folders: local ones, HDFS, and those S3
//! servers that answer in the order of folders rather than of bytes. Folders
//! are walked in the byte order of the keys below them, and only as far as
//! the page needs.
//!
//! Invariants: of a folder only as many names are kept as the page may need
//! (but of HDFS all, since its client gives them at once). No folder outside
//! of the mount is read, whatever the prefix: `..` is no folder, and symbolic
//! links are left out.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use muonic_ports::object_store::Result;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta, ObjectStore};

use super::{Page, Wanted};
use crate::failure::Voice;

/// Pages of the store that one folder may take.
const PAGES_MAX: usize = 20_000;
/// Deeper folders are not walked.
const DEPTH_MAX: usize = 2048;
/// For the names of one folder of HDFS.
const ANSWER: Duration = Duration::from_secs(60);

pub(crate) struct Tree<'a> {
    pub store: &'a Arc<dyn ObjectStore>,
    /// Where it lies, if it is local.
    pub folder: Option<&'a FsPath>,
    /// Gives the names of a folder in pages.
    pub pages: Option<&'a dyn PaginatedListStore>,
    /// What all keys of the mount begin with in the store.
    pub root: &'a str,
    pub voice: &'a Voice,
}

/// Names, those of folders with a slash at the end, and what is known of files.
type Names = BTreeMap<String, Option<ObjectMeta>>;

/// A folder that is being walked.
struct Open {
    /// Its key: empty, or ends in `/`.
    key: String,
    children: VecDeque<(String, Option<ObjectMeta>)>,
    /// The last name that was read, if there may be more.
    next: Option<String>,
}

impl Tree<'_> {
    pub async fn list(&self, wanted: &Wanted) -> Result<Page> {
        let mut page = Page::default();
        let start = wanted.prefix.rfind('/').map_or("", |at| &wanted.prefix[..=at]);
        // No key that could be put lies below any other.
        if let Some(folder) = start.strip_suffix('/')
            && (folder.is_empty() || Path::parse(folder).map_or(true, |path| path.as_ref() != folder))
        {
            return Ok(page);
        }
        let mut open = vec![Open { key: start.to_owned(), children: VecDeque::new(), next: Some(String::new()) }];
        while let Some(folder) = open.last_mut() {
            if page.is_full(wanted) {
                break;
            }
            let Some((name, meta)) = folder.children.pop_front() else {
                match folder.next.take() {
                    Some(after) => self.read(folder, &after, wanted).await?,
                    None => drop(open.pop()),
                }
                continue;
            };
            let full = format!("{}{name}", folder.key);
            if !name.ends_with('/') {
                // It may be gone again.
                if let Some(meta) = self.known(&full, meta).await? {
                    page.enter(wanted, &full, meta);
                }
            } else if let Some(prefix) = wanted.rolled(&full) {
                if wanted.reaches(prefix) && self.holds_any(&full, wanted).await? {
                    page.enter_prefix(wanted, prefix);
                }
            } else if open.len() < DEPTH_MAX {
                open.push(Open { key: full, children: VecDeque::new(), next: Some(String::new()) });
            }
        }
        Ok(page.cut(wanted))
    }

    /// Whether a folder holds any file that comes after where the page begins.
    async fn holds_any(&self, key: &str, wanted: &Wanted) -> Result<bool> {
        let any = Wanted { prefix: key.to_owned(), delimiter: None, after: wanted.after.clone(), max: 0 };
        let page = Box::pin(self.list(&any)).await?;
        Ok(page.more)
    }

    async fn known(&self, key: &str, meta: Option<ObjectMeta>) -> Result<Option<ObjectMeta>> {
        if meta.is_some() {
            return Ok(meta);
        }
        let Ok(path) = Path::parse(format!("{}{key}", self.root)) else { return Ok(None) };
        match self.store.get_opts(&path, GetOptions::new().with_head(true)).await {
            Ok(found) => Ok(Some(found.meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.voice.error(e)),
        }
    }

    /// The next names of a folder that the page may need.
    async fn read(&self, folder: &mut Open, after: &str, wanted: &Wanted) -> Result<()> {
        let need = Need { folder: folder.key.clone(), after: after.to_owned(), wanted: wanted.clone() };
        let names = match (self.folder, self.pages) {
            (Some(root), _) => {
                let root = root.to_owned();
                let reading = tokio::task::spawn_blocking(move || read_local(root, &need));
                let read = reading.await.map_err(|_| self.voice.unavailable("is not asked: the server is stopping"))?;
                read.map_err(|e| self.voice.error(generic(e)))?
            }
            (None, Some(pages)) => self.read_pages(pages, &need).await?,
            (None, None) => return self.read_remote(folder, &need).await,
        };
        folder.next = if names.len() >= keep(wanted) { names.keys().next_back().cloned() } else { None };
        folder.children = names.into_iter().collect();
        Ok(())
    }

    async fn read_pages(&self, pages: &dyn PaginatedListStore, need: &Need) -> Result<Names> {
        let prefix = format!("{}{}", self.root, need.folder);
        let mut names = Names::new();
        let mut token = None;
        for _ in 0..PAGES_MAX {
            let options =
                PaginatedListOptions { delimiter: Some("/".into()), page_token: token.take(), ..Default::default() };
            let given = Some(prefix.as_str()).filter(|p| !p.is_empty());
            let answer = pages.list_paginated(given, options).await.map_err(|e| self.voice.error(e))?;
            let objects = answer.result.objects.into_iter().map(|o| (o.location.as_ref().to_owned(), Some(o)));
            let prefixes = answer.result.common_prefixes.iter().map(|p| (format!("{p}/"), None));
            for (key, meta) in objects.chain(prefixes) {
                if let Some(name) = key.strip_prefix(&prefix).filter(|name| need.may(name)) {
                    names.insert(name.to_owned(), meta);
                    if names.len() > keep(&need.wanted) {
                        names.pop_last();
                    }
                }
            }
            token = answer.page_token;
            if token.is_none() {
                return Ok(names);
            }
        }
        Err(self.voice.unavailable("has a folder with too many keys to be listed"))
    }

    /// The folder that is mounted. The client lists one that is not there as
    /// an empty one.
    async fn must_be_there(&self, path: &Path) -> Result<()> {
        let parts: Vec<_> = path.parts().collect();
        let Some((_, above)) = parts.split_last() else { return Ok(()) };
        let above = Path::from_iter(above.iter().cloned());
        let asked = self.store.list_with_delimiter(Some(&above).filter(|p| !p.is_root()));
        match tokio::time::timeout(ANSWER, asked).await {
            Ok(Ok(found)) if found.common_prefixes.contains(path) => Ok(()),
            Ok(Ok(_)) => {
                let error = std::io::Error::new(std::io::ErrorKind::NotFound, format!("there is no folder '{path}'"));
                Err(self.voice.error(generic(error)))
            }
            Ok(Err(e)) => Err(self.voice.error(e)),
            Err(_) => Err(self.voice.unavailable("did not answer in time")),
        }
    }

    async fn read_remote(&self, folder: &mut Open, need: &Need) -> Result<()> {
        let key = format!("{}{}", self.root, need.folder);
        let Ok(path) = Path::parse(key) else { return Ok(()) };
        let asked = self.store.list_with_delimiter(Some(&path).filter(|p| !p.is_root()));
        let found = match tokio::time::timeout(ANSWER, asked).await {
            Ok(Ok(found)) => found,
            Ok(Err(e)) => return Err(self.voice.error(e)),
            Err(_) => return Err(self.voice.unavailable("did not answer in time")),
        };
        if need.folder.is_empty() && found.common_prefixes.is_empty() && found.objects.is_empty() {
            self.must_be_there(&path).await?;
        }
        let mut names = Names::new();
        for prefix in found.common_prefixes {
            names.extend(prefix.filename().map(|name| (format!("{name}/"), None)));
        }
        for object in found.objects {
            let name = object.location.filename().map(str::to_owned);
            names.extend(name.filter(|n| !is_temporary(n)).map(|name| (name, Some(object))));
        }
        folder.children = names.into_iter().filter(|(name, _)| need.may(name)).collect();
        Ok(())
    }
}

/// Which names of a folder matter.
struct Need {
    folder: String,
    /// Names up to this were read before.
    after: String,
    wanted: Wanted,
}

impl Need {
    fn may(&self, name: &str) -> bool {
        let full = format!("{}{name}", self.folder);
        if name <= self.after.as_str() && !self.after.is_empty() {
            return false;
        }
        if name.ends_with('/') {
            let on_the_way = full.starts_with(&self.wanted.prefix) || self.wanted.prefix.starts_with(&full);
            // What is after the folder's own name is below it.
            on_the_way && (self.wanted.reaches(&full) || full == self.wanted.after)
        } else {
            full.starts_with(&self.wanted.prefix) && full > self.wanted.after
        }
    }
}

/// How many names of a folder are kept at a time; some may turn out to be
/// empty folders.
fn keep(wanted: &Wanted) -> usize {
    (wanted.max + 1).max(64)
}

/// The first names that matter.
fn read_local(root: PathBuf, need: &Need) -> std::io::Result<Names> {
    let mut names = Names::new();
    let mut path = root;
    for part in need.folder.split_terminator('/') {
        path.push(part);
        if !path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            return Ok(names);
        }
    }
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            // The mounted folder itself must be there.
            return if need.folder.is_empty() { Err(e) } else { Ok(names) };
        }
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        let Ok(mut name) = entry.file_name().into_string() else { continue };
        let kind = match entry.file_type() {
            Ok(kind) => kind,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        if name.bytes().any(|b| b.is_ascii_control()) {
            continue;
        }
        if kind.is_dir() {
            name.push('/');
        } else if !kind.is_file() || is_staged(&name) {
            continue;
        }
        if need.may(&name) {
            names.insert(name, None);
            if names.len() > keep(&need.wanted) {
                names.pop_last();
            }
        }
    }
    Ok(names)
}

fn generic(error: std::io::Error) -> object_store::Error {
    match error.kind() {
        std::io::ErrorKind::NotFound => object_store::Error::NotFound { path: String::new(), source: Box::new(error) },
        _ => object_store::Error::Generic { store: "folder", source: Box::new(error) },
    }
}

/// A file that is not complete yet, as the local client names them.
pub(crate) fn is_staged(name: &str) -> bool {
    name.split_once('#').is_some_and(|(_, end)| !end.is_empty() && end.bytes().all(|b| b.is_ascii_digit()))
}

/// The same, as the HDFS client names them.
pub(crate) fn is_temporary(name: &str) -> bool {
    let number = name.strip_prefix('.').and_then(|name| name.rsplit_once(".tmp.")).map(|(_, number)| number);
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}
