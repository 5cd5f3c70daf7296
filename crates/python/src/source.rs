//! What a folder asks for, and the bytes that its hash covers.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::Error;

/// How packages are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `requirements.txt`.
    Requirements,
    /// `pylock.toml`: exact versions with hashes.
    PyLock,
    /// `pyproject.toml` with `uv.lock`.
    UvLock,
    /// `pyproject.toml` alone: the dependencies it names.
    Project { dependencies: Vec<String> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub kind: Kind,
    /// Everything that decides what is installed.
    pub parts: Vec<Vec<u8>>,
}

/// Most files that requirements may include one another by.
const INCLUDES_MAX: usize = 100;
const FILE_BYTES_MAX: u64 = 16 << 20;

/// `None` where the folder asks for nothing.
pub(crate) fn find(folder: &Path) -> Result<Option<Source>, Error> {
    let part = |kind: &str, bytes: Vec<u8>| vec![kind.as_bytes().to_vec(), bytes];
    if let Some(text) = read(&folder.join("requirements.txt"))? {
        let mut parts = vec![b"requirements".to_vec()];
        include(folder, Path::new("requirements.txt"), text, &mut parts, &mut BTreeSet::new())?;
        return Ok(Some(Source { kind: Kind::Requirements, parts }));
    }
    if let Some(lock) = read(&folder.join("pylock.toml"))? {
        return Ok(Some(Source { kind: Kind::PyLock, parts: part("pylock", lock) }));
    }
    let Some(project) = read(&folder.join("pyproject.toml"))? else { return Ok(None) };
    let dependencies = dependencies(&project)?;
    if let Some(lock) = read(&folder.join("uv.lock"))? {
        let mut parts = part("uv-lock", lock);
        parts.push(project);
        return Ok(Some(Source { kind: Kind::UvLock, parts }));
    }
    if dependencies.is_empty() {
        return Ok(None);
    }
    let mut parts = vec![b"project".to_vec()];
    parts.extend(dependencies.iter().map(|d| d.as_bytes().to_vec()));
    Ok(Some(Source { kind: Kind::Project { dependencies }, parts }))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::file(path)(e)),
        Ok(about) if about.len() > FILE_BYTES_MAX => {
            Err(Error::Requirements(format!("{} is larger than {FILE_BYTES_MAX} bytes", path.display())))
        }
        Ok(_) => fs::read(path).map(Some).map_err(Error::file(path)),
    }
}

/// Adds a requirements file and those it includes from inside the folder.
fn include(
    folder: &Path,
    name: &Path,
    text: Vec<u8>,
    parts: &mut Vec<Vec<u8>>,
    seen: &mut BTreeSet<PathBuf>,
) -> Result<(), Error> {
    if !seen.insert(name.to_owned()) {
        return Ok(());
    }
    if seen.len() > INCLUDES_MAX {
        return Err(Error::Requirements(format!("requirements.txt includes more than {INCLUDES_MAX} files")));
    }
    let lines = String::from_utf8_lossy(&text).into_owned();
    parts.push(name.as_os_str().as_encoded_bytes().to_vec());
    parts.push(text);
    for line in lines.lines() {
        match directive(line) {
            Directive::Include(path) => {
                let path = normal(&name.parent().unwrap_or(Path::new("")).join(path));
                if let Some(path) = path
                    && let Some(text) = read(&folder.join(&path))?
                {
                    include(folder, &path, text, parts, seen)?;
                }
            }
            Directive::Local(what) => {
                return Err(Error::Requirements(format!(
                    "{} asks for the local package '{what}', which an environment shared by hash cannot hold; the command already runs in the code folder, so import it from there, or publish it as a wheel",
                    name.display()
                )));
            }
            Directive::Other => (),
        }
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Directive<'a> {
    /// Another file of requirements or constraints.
    Include(&'a str),
    /// A package by its path on this machine.
    Local(&'a str),
    Other,
}

fn directive(line: &str) -> Directive<'_> {
    let line = line.split(" #").next().unwrap_or("").trim();
    for flag in ["-r", "--requirement", "-c", "--constraint"] {
        if let Some(rest) = line.strip_prefix(flag)
            && (flag.len() == 2 || rest.starts_with(['=', ' ', '\t']))
        {
            return Directive::Include(rest.trim_start_matches(['=', ' ', '\t']));
        }
    }
    let package = ["--editable", "-e"].iter().find_map(|flag| line.strip_prefix(flag));
    let path = package.unwrap_or(line).trim_start_matches(['=', ' ', '\t']);
    let is_path = path.starts_with("file:")
        || path.starts_with("./")
        || path.starts_with("../")
        || path == "."
        || path.starts_with('/');
    // A wheel by its full path is as immutable as its name says.
    if (is_path && !path.ends_with(".whl")) || (package.is_some() && !path.contains("://")) {
        Directive::Local(path)
    } else {
        Directive::Other
    }
}

/// A path without `.` and `..`; `None` where it leaves its folder.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::CurDir => (),
            Component::ParentDir => {
                if !out.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(out)
}

/// `[project] dependencies` of a `pyproject.toml`.
fn dependencies(text: &[u8]) -> Result<Vec<String>, Error> {
    let bad = |why: String| Error::Requirements(format!("pyproject.toml cannot be read: {why}"));
    let text = std::str::from_utf8(text).map_err(|e| bad(e.to_string()))?;
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| bad(e.to_string()))?;
    let Some(list) = table.get("project").and_then(|p| p.get("dependencies")) else { return Ok(Vec::new()) };
    let list = list.as_array().ok_or_else(|| bad("project.dependencies is not a list".into()))?;
    list.iter()
        .map(|d| {
            d.as_str()
                .map(str::to_owned)
                .ok_or_else(|| bad("project.dependencies holds something that is not text".into()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn of(files: &[(&str, &str)]) -> Option<Source> {
        find(folder(files).path()).unwrap()
    }

    #[test]
    fn each_kind_is_recognised() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("pyproject.toml", "[tool.ruff]\nline-length = 100")]), None);
        assert_eq!(of(&[("requirements.txt", "")]).unwrap().kind, Kind::Requirements);
        let project = "[project]\nname = 'x'\ndependencies = ['numpy>=1']";
        assert_eq!(
            of(&[("pyproject.toml", project)]).unwrap().kind,
            Kind::Project { dependencies: vec!["numpy>=1".into()] }
        );
        assert_eq!(of(&[("pyproject.toml", project), ("uv.lock", "version = 1")]).unwrap().kind, Kind::UvLock);
        assert_eq!(
            of(&[("pyproject.toml", project), ("pylock.toml", "lock-version = '1.0'")]).unwrap().kind,
            Kind::PyLock
        );
    }

    #[test]
    fn included_files_count_and_others_do_not() {
        let files = [
            ("requirements.txt", "-r more/a.txt\nnumpy"),
            ("more/a.txt", "-c ../b.txt\n-r a.txt"),
            ("b.txt", "scipy<2"),
        ];
        let one = of(&files).unwrap();
        assert_eq!(one.parts.len(), 1 + 3 * 2);
        let mut other = files;
        other[2].1 = "scipy<3";
        assert_ne!(of(&other).unwrap(), one);
        let unrelated = of(&[files[0], files[1], files[2], ("train.py", "1")]).unwrap();
        assert_eq!(unrelated, one);
    }

    #[test]
    fn local_packages_are_refused_in_a_sentence() {
        for line in [".", "-e .", "--editable=./pkg", "../lib", "file:///tmp/x"] {
            let dir = folder(&[("requirements.txt", line)]);
            assert!(find(dir.path()).unwrap_err().to_string().contains("local package"), "{line}");
        }
        for line in [
            "numpy",
            "-e git+https://example.org/x.git",
            "/opt/w/x-1-py3-none-any.whl",
            "# ./x",
            "--extra-index-url https://e",
        ] {
            assert!(find(folder(&[("requirements.txt", line)]).path()).is_ok(), "{line}");
        }
    }

    #[test]
    fn broken_projects_are_told() {
        let dir = folder(&[("pyproject.toml", "[project")]);
        assert!(find(dir.path()).unwrap_err().to_string().contains("pyproject.toml cannot be read"));
    }

    proptest! {
        #[test]
        fn no_line_panics_and_no_path_escapes(line in "\\PC{0,60}") {
            if let Directive::Include(path) = directive(&line)
                && let Some(inside) = normal(Path::new(path))
            {
                prop_assert!(inside.components().all(|c| matches!(c, Component::Normal(_))));
            }
        }
    }
}
