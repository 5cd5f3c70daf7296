//! The files of the repository: those that git tracks or would add, or, in a
//! copy without git, all that are not built.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A text file, with its path from the root.
pub struct Source {
    pub path: String,
    pub text: String,
}

impl Source {
    /// Line numbers, from 1, and lines for which `f` is true, as `path:number: line`.
    pub fn lines_where(&self, f: impl Fn(&str) -> bool) -> Vec<String> {
        let lines = self.text.lines().enumerate().filter(|(_, line)| f(line));
        lines.map(|(n, line)| format!("{}:{}: {}", self.path, n + 1, line.trim())).collect()
    }
}

/// All text files.
pub fn all() -> Vec<Source> {
    let root = crate::root();
    let mut paths = tracked(&root).unwrap_or_else(|| walk(&root));
    paths.sort();
    assert!(paths.iter().any(|p| p == "Cargo.toml"), "the list of files must hold Cargo.toml");
    let texts = paths.into_iter().filter_map(|path| {
        // What git knows may be gone from the folder; what is not text is not ours to read.
        let text = String::from_utf8(fs::read(root.join(&path)).ok()?).ok()?;
        Some(Source { path, text })
    });
    texts.collect()
}

/// Files that people write and read as code.
pub fn code() -> Vec<Source> {
    let mut sources = all();
    sources.retain(|s| [".rs", ".py", ".ts", ".tsx", ".js", ".sh"].iter().any(|end| s.path.ends_with(end)));
    sources
}

/// Rust files below `folder`, such as `crates/scheduler/src/`.
pub fn rust_below(folder: &str) -> Vec<Source> {
    let mut sources = all();
    sources.retain(|s| s.path.starts_with(folder) && s.path.ends_with(".rs"));
    assert!(!sources.is_empty(), "no Rust file lies below {folder}: correct the rule that names it");
    sources
}

fn tracked(root: &Path) -> Option<Vec<String>> {
    let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(arguments).current_dir(root).output().ok()?;
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success() && !list.is_empty()).then(|| list.split_terminator('\0').map(str::to_owned).collect())
}

fn walk(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("the repository can be read").flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() {
                if folder != root || !["target", "build", ".git"].iter().any(|skip| name == *skip) {
                    open.push(path);
                }
            } else if let Ok(relative) = path.strip_prefix(root) {
                found.push(relative.to_string_lossy().into_owned());
            }
        }
    }
    found
}
