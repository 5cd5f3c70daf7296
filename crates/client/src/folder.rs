//! The folder that a tree is written into. A file bears its own name only
//! once it is whole: until then it has a name that no file of the tree has,
//! and what it will replace stays as it is. Nothing is written through a
//! symbolic link: parents are real folders, each file is made anew, and what
//! takes its name's place is the name, not what a link there leads to.
//!
//! A program that is killed leaves at most the files under way, as
//! `.muonic-part-…`.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use muonic_types::{Entry, Tree};

use crate::{Error, Result};

/// Names tried for one file, where killed programs of the same number have left theirs.
const NAMES_MAX: usize = 1_000;

pub(crate) struct Folder<'a> {
    path: &'a Path,
    /// How names of files under way begin; it stands in no path of the tree.
    stem: String,
    next: AtomicU64,
}

impl<'a> Folder<'a> {
    /// Makes the folder and those of all files; refuses one that is a link or a file.
    pub(crate) fn make(path: &'a Path, tree: &Tree) -> Result<Self> {
        fs::create_dir_all(path).map_err(|e| Error::file(path, e))?;
        make_folders(tree, path)?;
        Ok(Self { path, stem: stem(tree), next: AtomicU64::new(0) })
    }

    /// A file under way to its place.
    pub(crate) fn create(&self, entry: &Entry) -> Result<Part> {
        let target = self.place(entry);
        let mode = if entry.executable { 0o777 } else { 0o666 };
        let mut tries = 0;
        loop {
            let path = target.with_file_name(format!("{}{}", self.stem, self.next.fetch_add(1, Ordering::Relaxed)));
            match OpenOptions::new().write(true).create_new(true).mode(mode).open(&path) {
                Ok(file) => return Ok(Part { path, target, file, kept: false }),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && tries < NAMES_MAX => tries += 1,
                Err(e) => return Err(Error::file(&target, e)),
            }
        }
    }

    /// The same content a second time.
    pub(crate) fn copy(&self, from: &Entry, to: &Entry) -> Result<()> {
        let from = self.place(from);
        let mut source = File::open(&from).map_err(|e| Error::file(&from, e))?;
        let mut part = self.create(to)?;
        io::copy(&mut source, &mut part.file).map_err(|e| Error::file(&part.target, e))?;
        part.keep()
    }

    fn place(&self, entry: &Entry) -> PathBuf {
        self.path.join(entry.path.as_str())
    }
}

/// A file that is gone again unless it is kept.
pub(crate) struct Part {
    path: PathBuf,
    target: PathBuf,
    file: File,
    kept: bool,
}

impl Part {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::file(&self.target, e))
    }

    /// Puts it in its place; what was there is replaced in the same moment.
    pub(crate) fn keep(mut self) -> Result<()> {
        fs::rename(&self.path, &self.target).map_err(|e| Error::file(&self.target, e))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn stem(tree: &Tree) -> String {
    let mut stem = format!(".muonic-part-{}-", std::process::id());
    while tree.entries().iter().any(|entry| entry.path.as_str().contains(&stem)) {
        stem.push('-');
    }
    stem
}

fn make_folders(tree: &Tree, dest: &Path) -> Result<()> {
    let mut made: HashSet<&str> = HashSet::new();
    for entry in tree.entries() {
        let path = entry.path.as_str();
        for (at, _) in path.match_indices('/') {
            let folder = &path[..at];
            if !made.insert(folder) {
                continue;
            }
            let folder = dest.join(folder);
            match fs::DirBuilder::new().mode(0o777).create(&folder) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    let meta = fs::symlink_metadata(&folder).map_err(|e| Error::file(&folder, e))?;
                    if !meta.is_dir() {
                        return Err(Error::input(
                            format!("'{}' is in the way: the tree has a folder there", folder.display()),
                            "remove it, or fetch into an empty folder",
                        ));
                    }
                }
                Err(e) => return Err(Error::file(&folder, e)),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use muonic_types::Digest;

    fn tree(paths: &[&str]) -> Tree {
        let entry =
            |path: &&str| Entry { path: path.parse().unwrap(), size: 0, digest: Digest::of(b""), executable: false };
        Tree::new(paths.iter().map(entry).collect()).unwrap()
    }

    #[test]
    fn a_file_under_way_has_no_name_of_the_tree() {
        let plain = stem(&tree(&["a"]));
        let taken = [format!("{plain}0"), format!("d/{plain}-1")];
        let other = stem(&tree(&[&taken[0], &taken[1]]));
        assert_eq!(other, format!("{plain}--"));
    }

    #[test]
    fn what_another_left_is_neither_used_nor_removed() {
        let dir = tempfile::tempdir().unwrap();
        let tree = tree(&["a"]);
        let left = dir.path().join(format!("{}0", stem(&tree)));
        fs::write(&left, "left").unwrap();
        let folder = Folder::make(dir.path(), &tree).unwrap();
        let mut part = folder.create(&tree.entries()[0]).unwrap();
        part.write(b"new").unwrap();
        assert!(!dir.path().join("a").exists());
        part.keep().unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "new");
        assert_eq!(fs::read_to_string(left).unwrap(), "left");
    }
}
