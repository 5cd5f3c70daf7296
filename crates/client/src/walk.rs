//! Which files of a folder belong to a tree.
//!
//! Code leaves out what `.gitignore` and `.muonicignore` inside the folder
//! name, and what no program needs from its author ([`NEVER_CODE`]). Data and
//! outputs are taken whole. In both a symbolic link to a file of the same
//! folder counts as that file; anything else that is not a plain file is
//! refused with a sentence, since a tree that silently lacks a file would
//! train or serve something else than what lies on the disk.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use ignore::WalkBuilder;
use muonic_types::{FilePath, Tree};

use crate::{Error, Result};

/// What a walk takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadRules {
    /// A code folder: ignore files count.
    Code,
    /// Data, models and outputs: every file.
    Everything,
}

/// Names never taken into a code snapshot, at any depth.
pub const NEVER_CODE: [&str; 12] = [
    ".git",
    ".hg",
    ".svn",
    "__pycache__",
    ".venv",
    "node_modules",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".tox",
    ".ipynb_checkpoints",
    ".DS_Store",
];

/// A file that belongs to the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub path: FilePath,
    /// Where its bytes lie; for a symbolic link the file it points to.
    pub source: PathBuf,
    /// Bytes when it was found.
    pub size: u64,
    pub executable: bool,
}

/// The files below `root`, or `root` itself where it is a file, in byte order of paths.
pub(crate) fn walk(root: &Path, rules: UploadRules) -> Result<Vec<Found>> {
    let real = fs::canonicalize(root).map_err(|e| Error::file(root, e))?;
    let meta = fs::metadata(&real).map_err(|e| Error::file(root, e))?;
    if meta.is_file() {
        let name = root.file_name().or(real.file_name()).unwrap_or(OsStr::new("file"));
        return Ok(vec![found(file_path(root, Path::new(name))?, real, &meta)]);
    }
    if !meta.is_dir() {
        return Err(Error::input(
            format!("'{}' is neither a folder nor a plain file", root.display()),
            "give a folder or a file",
        ));
    }
    let mut files = Vec::new();
    for entry in builder(&real, rules).build() {
        let entry = entry.map_err(|e| walk_error(root, e))?;
        if let Some(problem) = entry.error() {
            return Err(Error::input(
                format!("an ignore file below '{}' cannot be read: {problem}", root.display()),
                "correct the pattern that it names",
            ));
        }
        let Some(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            continue;
        }
        let shown = root.join(relative(&real, entry.path()));
        let source = if kind.is_symlink() { inside(&real, entry.path(), &shown)? } else { entry.path().to_owned() };
        let meta = fs::metadata(&source).map_err(|e| Error::file(&shown, e))?;
        if !meta.is_file() {
            return Err(Error::input(
                format!("'{}' is a {}, not a plain file", shown.display(), kind_of(&meta)),
                "remove it, move it out of the folder, or replace it by a plain file",
            ));
        }
        if files.len() >= Tree::FILES_MAX {
            return Err(Error::input(
                format!("'{}' holds more than {} files", root.display(), Tree::FILES_MAX),
                "pack small files together, or split the folder",
            ));
        }
        files.push(found(file_path(&shown, relative(&real, entry.path()))?, source, &meta));
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn builder(real: &Path, rules: UploadRules) -> WalkBuilder {
    let mut builder = WalkBuilder::new(real);
    builder.standard_filters(false).follow_links(false);
    if rules == UploadRules::Code {
        // Only files inside the folder count, so that the same folder makes
        // the same snapshot wherever it lies.
        builder.git_ignore(true).require_git(false).parents(false).add_custom_ignore_filename(".muonicignore");
        builder.filter_entry(|entry| {
            let name = entry.file_name();
            let compiled = Path::new(name).extension().is_some_and(|e| e == "pyc" || e == "pyo");
            entry.depth() == 0 || !(compiled || NEVER_CODE.iter().any(|never| name == OsStr::new(never)))
        });
    }
    builder
}

fn found(path: FilePath, source: PathBuf, meta: &fs::Metadata) -> Found {
    use std::os::unix::fs::PermissionsExt;
    Found { path, source, size: meta.len(), executable: meta.permissions().mode() & 0o100 != 0 }
}

fn relative<'a>(real: &Path, path: &'a Path) -> &'a Path {
    path.strip_prefix(real).unwrap_or(path)
}

/// The file a link points to, where that is in the same folder.
fn inside(real: &Path, link: &Path, shown: &Path) -> Result<PathBuf> {
    let target = fs::canonicalize(link).map_err(|e| {
        Error::input(
            format!("'{}' is a symbolic link that leads nowhere: {e}", shown.display()),
            "remove the link or restore its target",
        )
    })?;
    if !target.starts_with(real) {
        return Err(Error::input(
            format!("'{}' is a symbolic link that leaves the folder, to '{}'", shown.display(), target.display()),
            "copy the file into the folder, or remove the link",
        ));
    }
    if target.is_dir() {
        return Err(Error::input(
            format!("'{}' is a symbolic link to a folder", shown.display()),
            "replace it by a copy of the folder, or remove the link",
        ));
    }
    Ok(target)
}

fn file_path(shown: &Path, relative: &Path) -> Result<FilePath> {
    let text = relative
        .to_str()
        .ok_or_else(|| Error::input(format!("the name of '{}' is not UTF-8", shown.display()), "rename the file"))?;
    text.parse().map_err(|invalid: muonic_types::Invalid| Error::input(invalid.0, "rename the file"))
}

fn walk_error(root: &Path, error: ignore::Error) -> Error {
    let path = match &error {
        ignore::Error::WithPath { path, .. } => path.clone(),
        ignore::Error::WithDepth { err, .. } => match &**err {
            ignore::Error::WithPath { path, .. } => path.clone(),
            _ => root.to_owned(),
        },
        _ => root.to_owned(),
    };
    let text = error.to_string();
    let source = error.into_io_error().unwrap_or_else(|| std::io::Error::other(text));
    Error::file(&path, source)
}

fn kind_of(meta: &fs::Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    let kind = meta.file_type();
    if kind.is_fifo() {
        "named pipe"
    } else if kind.is_socket() {
        "socket"
    } else if kind.is_block_device() || kind.is_char_device() {
        "device"
    } else {
        "special file"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn names(root: &Path, rules: UploadRules) -> Vec<String> {
        walk(root, rules).unwrap().into_iter().map(|f| f.path.to_string()).collect()
    }

    fn refusal(root: &Path) -> String {
        match walk(root, UploadRules::Everything) {
            Err(Error::Input { message, .. }) => message,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    #[test]
    fn code_leaves_out_what_ignore_files_name() {
        let dir = folder(&[
            ("train.py", "x"),
            (".gitignore", "*.log\nout/\n"),
            (".muonicignore", "big.bin\n"),
            ("a.log", "x"),
            ("out/model", "x"),
            ("big.bin", "x"),
            (".hidden", "x"),
            (".git/config", "x"),
            ("pkg/__pycache__/m.cpython-312.pyc", "x"),
            ("pkg/m.pyc", "x"),
            ("pkg/m.py", "x"),
            ("pkg/.gitignore", "local\n"),
            ("pkg/local", "x"),
            (".venv/bin/python", "x"),
            ("web/node_modules/a.js", "x"),
        ]);
        assert_eq!(
            names(dir.path(), UploadRules::Code),
            [".gitignore", ".hidden", ".muonicignore", "pkg/.gitignore", "pkg/m.py", "train.py"]
        );
        assert_eq!(names(dir.path(), UploadRules::Everything).len(), 15);
    }

    #[test]
    fn code_may_lie_in_a_folder_with_an_ignored_name() {
        let dir = folder(&[("node_modules/train.py", "x")]);
        assert_eq!(names(&dir.path().join("node_modules"), UploadRules::Code), ["train.py"]);
    }

    #[test]
    fn a_file_is_a_tree_of_one() {
        let dir = folder(&[("digits.csv", "1,2")]);
        assert_eq!(names(&dir.path().join("digits.csv"), UploadRules::Everything), ["digits.csv"]);
    }

    #[test]
    fn keeps_the_executable_bit_and_follows_links_inside() {
        let dir = folder(&[("run.sh", "x"), ("d/plain", "abc")]);
        fs::set_permissions(dir.path().join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("d/plain", dir.path().join("link")).unwrap();
        let files = walk(dir.path(), UploadRules::Everything).unwrap();
        let seen: Vec<_> = files.iter().map(|f| (f.path.as_str(), f.size, f.executable)).collect();
        assert_eq!(seen, [("d/plain", 3, false), ("link", 3, false), ("run.sh", 1, true)]);
    }

    #[test]
    fn refuses_with_a_sentence_what_is_not_a_plain_file_inside() {
        let dir = folder(&[("d/f", "x")]);
        symlink("/etc/hostname", dir.path().join("l")).unwrap();
        assert!(refusal(dir.path()).contains("leaves the folder"));
        fs::remove_file(dir.path().join("l")).unwrap();
        symlink("d", dir.path().join("l")).unwrap();
        assert!(refusal(dir.path()).contains("link to a folder"));
        fs::remove_file(dir.path().join("l")).unwrap();
        symlink("nothing", dir.path().join("l")).unwrap();
        assert!(refusal(dir.path()).contains("leads nowhere"));
        fs::remove_file(dir.path().join("l")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
        assert!(refusal(dir.path()).contains("is a socket"));
    }

    #[test]
    fn names_that_a_tree_cannot_hold_are_refused() {
        use std::os::unix::ffi::OsStrExt;
        let dir = folder(&[]);
        let bad = dir.path().join(OsStr::from_bytes(b"a\xff"));
        fs::write(&bad, "x").unwrap();
        assert!(refusal(dir.path()).contains("not UTF-8"));
        fs::remove_file(bad).unwrap();
        fs::write(dir.path().join("a\nb"), "x").unwrap();
        assert!(refusal(dir.path()).contains("is not a file path"));
    }

    #[test]
    fn what_does_not_exist_is_named() {
        let error = walk(Path::new("/nowhere/at/all"), UploadRules::Code).unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/at/all: "), "{error}");
    }

    #[test]
    fn an_empty_folder_is_an_empty_tree() {
        assert!(names(folder(&[]).path(), UploadRules::Code).is_empty());
    }
}
