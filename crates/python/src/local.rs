//! What a folder holds of its own packages. Their content counts; what is
//! elsewhere could change unseen and is refused.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use muonic_types::Hasher;

use crate::Error;

/// The place inside `folder` that `by` refers to, relative to it.
pub(crate) fn inside(folder: &Path, base: &Path, named: &str, by: &str) -> Result<PathBuf, Error> {
    let refused = |why: &str| Error::Requirements(format!("{by} asks for '{named}', {why}"));
    let outside = "which is outside of the code folder: an environment is made from that folder alone, so put it there";
    if named.split_once(':').is_some_and(|(scheme, _)| scheme.ends_with("file")) {
        return Err(refused(outside));
    }
    let whole = base.join(named);
    match (fs::canonicalize(folder.join(&whole)), fs::canonicalize(folder)) {
        (Ok(found), Ok(folder)) => found.strip_prefix(&folder).map(Path::to_owned).map_err(|_| refused(outside)),
        _ if leaves(&whole) => Err(refused(outside)),
        _ => Err(refused("which is not in the code folder")),
    }
}

/// A file or a folder of packages, by name and content.
pub(crate) fn add(folder: &Path, place: &Path, parts: &mut Vec<Vec<u8>>) -> Result<(), Error> {
    let path = folder.join(place);
    let mut files = vec![place.to_owned()];
    if path.is_dir() {
        let entries = fs::read_dir(&path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        files = entries.map_err(Error::file(&path))?.iter().map(|entry| place.join(entry.file_name())).collect();
        files.retain(|file| folder.join(file).is_file());
        files.sort();
    }
    for file in files {
        let path = folder.join(&file);
        let digest = digest(&path).map_err(Error::file(&path))?;
        parts.push(file.as_os_str().as_encoded_bytes().to_vec());
        parts.push(digest.into_bytes());
    }
    Ok(())
}

/// An archive. A folder would be installed as it is at that moment.
pub(crate) fn add_package(folder: &Path, named: &str, by: &str, parts: &mut Vec<Vec<u8>>) -> Result<(), Error> {
    let place = inside(folder, Path::new(""), named, by)?;
    if folder.join(&place).is_dir() {
        return Err(refused_folder(named, by));
    }
    add(folder, &place, parts)
}

pub(crate) fn refused_folder(named: &str, by: &str) -> Error {
    Error::Requirements(format!(
        "{by} asks for the local package '{named}', which an environment shared by hash cannot hold; the command already runs in the code folder, so import it from there, or put a wheel of it into the folder and name that"
    ))
}

/// Packages of a lock that are files or folders of this machine.
pub(crate) fn add_locked(folder: &Path, lock: &[u8], by: &str, parts: &mut Vec<Vec<u8>>) -> Result<(), Error> {
    let text = String::from_utf8_lossy(lock);
    let table: toml::Table =
        text.parse().map_err(|e: toml::de::Error| Error::Requirements(format!("{by} cannot be read: {e}")))?;
    let packages = ["package", "packages"].iter().filter_map(|key| table.get(*key)?.as_array()).flatten();
    for package in packages {
        let text = |at: &[&str]| at.iter().try_fold(package, |value, key| value.get(key)).and_then(|v| v.as_str());
        // uv names the project itself as a folder and does not install it here.
        let folders = [text(&["source", "directory"]), text(&["source", "editable"])];
        let other = folders.into_iter().flatten().find(|path| *path != ".").or(text(&["directory", "path"]));
        if let Some(other) = other {
            inside(folder, Path::new(""), other, by)?;
            return Err(refused_folder(other, by));
        }
        let wheels = package.get("wheels").and_then(|wheels| wheels.as_array()).into_iter().flatten();
        let wheels = wheels.filter_map(|wheel| wheel.get("path")?.as_str());
        let others = [text(&["source", "path"]), text(&["archive", "path"]), text(&["sdist", "path"])];
        for path in wheels.chain(others.into_iter().flatten()) {
            add_package(folder, path, by, parts)?;
        }
    }
    Ok(())
}

fn digest(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish().hex()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

fn leaves(path: &Path) -> bool {
    let mut depth = 0_i32;
    path.components().any(|part| {
        depth += match part {
            Component::Normal(_) => 1,
            Component::CurDir => 0,
            Component::ParentDir => -1,
            Component::RootDir | Component::Prefix(_) => return true,
        };
        depth < 0
    })
}
