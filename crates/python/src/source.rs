//! What a folder asks for, and the bytes that its hash covers.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::conda::pip_packages;
use crate::requirements::{Reference, local_package, references};
use crate::{Error, local};

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
    /// `conda.yaml` of a model that MLflow has saved: what it asks of pip.
    Conda { dependencies: Vec<String> },
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

/// By what the folder asks for packages; `None` where it asks for none.
pub(crate) fn kind(folder: &Path) -> Result<Option<Kind>, Error> {
    let has = |name: &str| {
        let path = folder.join(name);
        path.try_exists().map_err(Error::file(&path))
    };
    if has("requirements.txt")? {
        return Ok(Some(Kind::Requirements));
    }
    if has("pylock.toml")? {
        return Ok(Some(Kind::PyLock));
    }
    let Some(project) = read(&folder.join("pyproject.toml"))? else {
        // As old versions of MLflow left it, without requirements.txt.
        let text = if has("MLmodel")? { read(&folder.join("conda.yaml"))? } else { None };
        return text.map(|text| Ok(Kind::Conda { dependencies: pip_packages(&text)? })).transpose();
    };
    let dependencies = dependencies(&project)?;
    if has("uv.lock")? {
        return Ok(Some(Kind::UvLock));
    }
    Ok((!dependencies.is_empty()).then_some(Kind::Project { dependencies }))
}

/// With all that decides what is installed, which may be long to read.
pub(crate) fn find(folder: &Path) -> Result<Option<Source>, Error> {
    let Some(kind) = kind(folder)? else { return Ok(None) };
    let text = |name: &str| Ok(read(&folder.join(name))?.unwrap_or_default());
    let mut parts = Vec::new();
    match &kind {
        Kind::Requirements => {
            parts.push(b"requirements".to_vec());
            let name = "requirements.txt";
            include(folder, Path::new(name), text(name)?, &mut parts, &mut BTreeSet::new())?;
        }
        Kind::PyLock => {
            let lock = text("pylock.toml")?;
            local::add_locked(folder, &lock, "pylock.toml", &mut parts)?;
            parts.extend([b"pylock".to_vec(), lock]);
        }
        Kind::UvLock => {
            let lock = text("uv.lock")?;
            local::add_locked(folder, &lock, "uv.lock", &mut parts)?;
            parts.extend([b"uv-lock".to_vec(), lock, text("pyproject.toml")?]);
        }
        Kind::Project { dependencies } => add_named(folder, "project", dependencies, "pyproject.toml", &mut parts)?,
        Kind::Conda { dependencies } => add_named(folder, "conda", dependencies, "conda.yaml", &mut parts)?,
    }
    Ok(Some(Source { kind, parts }))
}

fn add_named(
    folder: &Path,
    kind: &str,
    dependencies: &[String],
    by: &str,
    parts: &mut Vec<Vec<u8>>,
) -> Result<(), Error> {
    parts.push(kind.as_bytes().to_vec());
    for dependency in dependencies {
        parts.push(dependency.as_bytes().to_vec());
        if let Some(place) = local_package(dependency) {
            local::add_package(folder, place, by, parts)?;
        }
    }
    Ok(())
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

/// Adds a requirements file and all that it refers to.
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
    let references = references(&String::from_utf8_lossy(&text));
    parts.push(name.as_os_str().as_encoded_bytes().to_vec());
    parts.push(text);
    let (here, by) = (name.parent().unwrap_or(Path::new("")), name.display().to_string());
    for reference in references {
        match reference {
            Reference::Include(file) => {
                let path = local::inside(folder, here, &file, &by)?;
                if let Some(text) = read(&folder.join(&path))? {
                    include(folder, &path, text, parts, seen)?;
                }
            }
            // pip looks beside the file first, then where it runs.
            Reference::Links(place) => {
                let base = if folder.join(here).join(&place).exists() { here } else { Path::new("") };
                local::add(folder, &local::inside(folder, base, &place, &by)?, parts)?;
            }
            Reference::Package(place) => local::add_package(folder, &place, &by, parts)?,
            Reference::Editable(place) => {
                local::inside(folder, Path::new(""), &place, &by)?;
                return Err(local::refused_folder(&place, &by));
            }
        }
    }
    Ok(())
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
        let conda = [("conda.yaml", "dependencies:\n- pip:\n  - a"), ("MLmodel", "")];
        assert_eq!(of(&conda).unwrap().kind, Kind::Conda { dependencies: vec!["a".into()] });
        assert_eq!(of(&conda[..1]), None);
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
        for line in [".", "-e .", "--editable=./pkg", "./pkg", "./pkg[extra]"] {
            let dir = folder(&[("requirements.txt", line), ("pkg/pyproject.toml", "")]);
            assert!(find(dir.path()).unwrap_err().to_string().contains("local package"), "{line}");
        }
    }

    #[test]
    fn what_a_folder_holds_counts_by_content() {
        for line in ["./w/x-1-py3-none-any.whl", "w/x-1-py3-none-any.whl ; python_version > '3'", "-f w\nx"] {
            let of = |wheel| of(&[("requirements.txt", line), ("w/x-1-py3-none-any.whl", wheel)]).unwrap();
            assert_eq!(of("a"), of("a"), "{line}");
            assert_ne!(of("a"), of("b"), "{line}");
        }
        let lock =
            "[[package]]\nname = 'p'\nsource = { virtual = '.' }\n[[package]]\nname = 'x'\nsource = { path = 'x.whl' }";
        let of = |wheel| of(&[("pyproject.toml", "[project]"), ("uv.lock", lock), ("x.whl", wheel)]).unwrap();
        assert_ne!(of("a"), of("b"));
    }

    #[test]
    fn what_is_outside_or_missing_is_refused() {
        let outside = tempfile::tempdir().unwrap();
        let wheel = outside.path().join("x-1-py3-none-any.whl");
        fs::write(&wheel, "").unwrap();
        let absolute = wheel.display().to_string();
        let url = format!("x @ file://{absolute}");
        for line in [&*absolute, &*url, "../x.whl", "-r ../a.txt", "-c /etc/hostname", "-e ..", "-f ../w", "link.whl"] {
            let dir = folder(&[("requirements.txt", line)]);
            std::os::unix::fs::symlink(&wheel, dir.path().join("link.whl")).unwrap();
            let error = find(dir.path()).unwrap_err().to_string();
            assert!(error.contains("outside of the code folder"), "{line}: {error}");
        }
        let dir = folder(&[("requirements.txt", "-r a.txt")]);
        let error = find(dir.path()).unwrap_err().to_string();
        assert_eq!(error, "requirements.txt asks for 'a.txt', which is not in the code folder");
        let project = format!("[project]\ndependencies = ['{url}']");
        let dir = folder(&[("pyproject.toml", &project)]);
        assert!(find(dir.path()).unwrap_err().to_string().starts_with("pyproject.toml asks for 'file:"));
    }

    #[test]
    fn broken_projects_are_told() {
        let dir = folder(&[("pyproject.toml", "[project")]);
        assert!(find(dir.path()).unwrap_err().to_string().contains("pyproject.toml cannot be read"));
    }
}
