//! Removing what a program left, whatever it left.
//!
//! Programs may nest folders deeper than any path or stack is long and take
//! away the rights to them. So nothing here walks down: subfolders are moved
//! up into the root of the tree, where every path is short and one folder is
//! open at a time.

use std::fs::{self, DirEntry, ReadDir};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Beginning of the names that moved folders get.
const MOVED: &str = ".removed-";

/// Removes a folder and all below it, also where a program took away the
/// rights to its folders. What is not there is no error. Nothing else may
/// write there meanwhile.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
        Ok(about) if !about.is_dir() => return gone(fs::remove_file(path)),
        Ok(_) => (),
    }
    let mut tree = Tree { root: path, moved: 0 };
    // Each pass takes one level off every branch.
    while tree.pass()? {}
    gone(fs::remove_dir(path))
}

struct Tree<'a> {
    root: &'a Path,
    moved: u64,
}

impl Tree<'_> {
    /// Removes all files and folders of the root; what was below those
    /// folders is in the root then. False where there was nothing.
    fn pass(&mut self) -> io::Result<bool> {
        let mut any = false;
        for entry in open(self.root)? {
            let entry = entry?;
            any = true;
            if !is_dir(&entry)? {
                gone(fs::remove_file(entry.path()))?;
            } else if fs::remove_dir(entry.path()).is_err() {
                self.lift(&entry.path())?;
                gone(fs::remove_dir(entry.path()))?;
            }
        }
        Ok(any)
    }

    /// Empties a folder of the root.
    fn lift(&mut self, folder: &Path) -> io::Result<()> {
        for entry in open(folder)? {
            let entry = entry?;
            if !is_dir(&entry)? {
                gone(fs::remove_file(entry.path()))?;
            } else if fs::remove_dir(entry.path()).is_err() {
                // Its link to the parent changes, which takes rights to it.
                make_ours(&entry.path());
                self.move_up(&entry.path())?;
            }
        }
        Ok(())
    }

    fn move_up(&mut self, folder: &Path) -> io::Result<()> {
        loop {
            let to = self.free_name();
            match fs::rename(folder, to) {
                // An interrupted removal, or the program, had that name.
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory
                    ) => {}
                other => return other,
            }
        }
    }

    fn free_name(&mut self) -> PathBuf {
        self.moved += 1;
        self.root.join(format!("{MOVED}{}", self.moved))
    }
}

fn open(folder: &Path) -> io::Result<ReadDir> {
    make_ours(folder);
    fs::read_dir(folder)
}

/// Lets us read, enter and change the folder, where it is ours to say.
fn make_ours(folder: &Path) {
    if fs::symlink_metadata(folder).is_ok_and(|m| m.permissions().mode() & 0o700 != 0o700) {
        let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
    }
}

fn is_dir(entry: &DirEntry) -> io::Result<bool> {
    match entry.file_type() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        other => Ok(other?.is_dir()),
    }
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chain of folders, made from its end: no path to that end is short
    /// enough for the system.
    fn chain(root: &Path, depth: usize) {
        let (done, next) = (root.join("a"), root.join("b"));
        fs::create_dir(&done).unwrap();
        fs::write(done.join("leaf"), "").unwrap();
        for _ in 1..depth {
            fs::create_dir(&next).unwrap();
            fs::rename(&done, next.join("a")).unwrap();
            fs::rename(&next, &done).unwrap();
        }
    }

    #[test]
    fn what_is_not_there_and_what_is_no_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        remove_tree(&path).unwrap();
        std::os::unix::fs::symlink(dir.path(), &path).unwrap();
        remove_tree(&path).unwrap();
        assert!(dir.path().exists() && fs::symlink_metadata(&path).is_err());
    }

    #[test]
    fn a_tree_deeper_than_any_path_goes() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        fs::create_dir(&root).unwrap();
        chain(&root, 5_000);
        fs::create_dir(root.join("wide")).unwrap();
        (0..300).for_each(|n| fs::create_dir_all(root.join(format!("wide/{n}/x/y"))).unwrap());
        // Small, so that a walk that recurses does not pass by luck.
        let thread = std::thread::Builder::new().stack_size(128 << 10);
        let removed = root.clone();
        thread.spawn(move || remove_tree(&removed)).unwrap().join().unwrap().unwrap();
        assert!(!root.exists());
    }

    #[test]
    fn names_that_moved_folders_would_get_may_be_taken() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        fs::create_dir_all(root.join("z/deep/er")).unwrap();
        fs::create_dir_all(root.join(format!("{MOVED}1/full"))).unwrap();
        fs::write(root.join(format!("{MOVED}2")), "").unwrap();
        remove_tree(&root).unwrap();
        assert!(!root.exists());
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (root, kept) = (dir.path().join("tree"), dir.path().join("kept"));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "").unwrap();
        for link in ["l", "a/l", "a/b/l"] {
            std::os::unix::fs::symlink(&kept, root.join(link)).unwrap();
        }
        remove_tree(&root).unwrap();
        assert!(!root.exists() && kept.join("file").exists());
    }

    #[test]
    fn folders_without_rights_go() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        fs::write(root.join("a/b/c/file"), "").unwrap();
        for folder in ["a/b/c", "a/b", "a", ""] {
            fs::set_permissions(root.join(folder), fs::Permissions::from_mode(0o000)).unwrap();
        }
        remove_tree(&root).unwrap();
        assert!(!root.exists());
    }
}
