//! A folder that is not there, or empty, and shall hold a tree as a whole.
//! Until all of it has come, it lies in one folder inside, `.muonic-part-…`:
//! what a killed program leaves is known for what it is, and the next one
//! removes it and begins anew.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{Error, Result};

const PART: &str = ".muonic-part-";
const EMPTY: &str = "name a folder that is empty or does not exist";

/// Gone again, with all that is in it, unless it is kept.
pub struct NewFolder {
    inside: Inside,
    /// Held as long as somebody writes there.
    _lock: File,
    kept: bool,
}

#[derive(Clone)]
struct Inside {
    dest: PathBuf,
    part: PathBuf,
    made: bool,
}

impl NewFolder {
    /// Takes the place; refuses a file, and a folder that holds anything but
    /// what interrupted programs left.
    pub fn at(dest: &Path) -> Result<Self> {
        let made = !clear(dest)?;
        fs::create_dir_all(dest).map_err(|e| Error::file(dest, e))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let part = dest.join(format!("{PART}{}-{now}", std::process::id()));
        let inside = Inside { dest: dest.to_owned(), part, made };
        let opened = fs::create_dir(&inside.part).and_then(|()| File::open(&inside.part));
        let lock = opened.map_err(|e| Error::file(&inside.part, e))?;
        lock.try_lock().map_err(|e| Error::file(&inside.part, e.into()))?;
        Ok(Self { inside, _lock: lock, kept: false })
    }

    /// Where to write to.
    pub fn path(&self) -> &Path {
        &self.inside.part
    }

    /// Moves what was written to its place.
    pub fn keep(mut self) -> Result<()> {
        let Inside { dest, part, .. } = &self.inside;
        for entry in fs::read_dir(part).map_err(|e| Error::file(part, e))? {
            let entry = entry.map_err(|e| Error::file(part, e))?;
            let target = dest.join(entry.file_name());
            fs::rename(entry.path(), &target).map_err(|e| Error::file(&target, e))?;
        }
        self.kept = true;
        fs::remove_dir(part).map_err(|e| Error::file(part, e))
    }

    /// Removes what was begun; for a program that ends in between.
    pub fn undo(&self) -> impl Fn() + Send + use<> {
        let inside = self.inside.clone();
        move || inside.remove()
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        if !self.kept {
            self.inside.remove();
        }
    }
}

impl Inside {
    fn remove(&self) {
        // Others may still be writing there.
        for _ in 0..10 {
            match fs::remove_dir_all(&self.part) {
                Err(e) if e.kind() == ErrorKind::DirectoryNotEmpty => {}
                _ => break,
            }
        }
        if self.made {
            let _ = fs::remove_dir(&self.dest);
        }
    }
}

/// Removes what was left there. Whether the folder is there.
fn clear(dest: &Path) -> Result<bool> {
    let mut left = Vec::new();
    let entries = match fs::read_dir(dest) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(Error::input(format!("{}: {e}", dest.display()), EMPTY)),
        Ok(entries) => entries,
    };
    for entry in entries {
        let entry = entry.map_err(|e| Error::file(dest, e))?;
        if !entry.file_name().to_str().is_some_and(is_part) {
            return Err(Error::input(format!("the folder {} is not empty", dest.display()), EMPTY));
        }
        left.push(entry.path());
    }
    for path in left {
        remove(&path, dest)?;
    }
    Ok(true)
}

fn is_part(name: &str) -> bool {
    let process = name.strip_prefix(PART).and_then(|rest| rest.split_once('-'));
    process.is_some_and(|(process, _)| !process.is_empty() && process.bytes().all(|c| c.is_ascii_digit()))
}

fn remove(path: &Path, dest: &Path) -> Result<()> {
    let failed = |e: io::Error| Error::file(path, e);
    if !fs::symlink_metadata(path).map_err(failed)?.is_dir() {
        return fs::remove_file(path).map_err(failed);
    }
    let lock = File::open(path).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => fs::remove_dir_all(path).map_err(failed),
        Err(TryLockError::WouldBlock) => {
            Err(Error::input(format!("another program is writing into {}", dest.display()), EMPTY))
        }
        Err(TryLockError::Error(e)) => Err(failed(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn only_an_empty_folder_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        assert!(NewFolder::at(&dir.path().join("a/b")).is_ok());
        assert_eq!(names(dir.path()), ["a"], "a folder that was made is gone again");
        fs::write(dir.path().join("a/f"), "x").unwrap();
        for taken in ["a", "a/f"] {
            assert!(matches!(NewFolder::at(&dir.path().join(taken)), Err(Error::Input { .. })), "{taken}");
        }
        assert_eq!(names(&dir.path().join("a")), ["f"]);
    }

    #[test]
    fn what_was_left_gives_way_and_what_is_being_written_does_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(".muonic-part-7-1/sub")).unwrap();
        fs::write(dir.path().join(".muonic-part-7-1/sub/f"), "half").unwrap();
        fs::write(dir.path().join(".muonic-part-7-2"), "half").unwrap();
        let folder = NewFolder::at(dir.path()).unwrap();
        assert_eq!(names(dir.path()), [folder.path().file_name().unwrap().to_str().unwrap()]);
        let Err(busy) = NewFolder::at(dir.path()) else { panic!("two write there") };
        assert!(busy.to_string().starts_with("another program is writing into"), "{busy}");
        fs::write(folder.path().join("f"), "whole").unwrap();
        folder.keep().unwrap();
        assert_eq!(names(dir.path()), ["f"]);
    }

    #[test]
    fn files_of_the_user_are_never_taken_for_leftovers() {
        for name in ["f", ".muonic-part-", ".muonic-part-x-1", ".muonic-part-7"] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(".muonic-part-7-1"), "half").unwrap();
            fs::write(dir.path().join(name), "mine").unwrap();
            assert!(NewFolder::at(dir.path()).is_err(), "{name}");
            assert_eq!(names(dir.path()).len(), 2, "nothing is removed");
        }
    }
}
